//! What a hostile broker does to a connection: all of it, for tests of whatever calls it.

use super::kit::Act;

/// A garbled answer is as good as none; what is half a packet never ends.
const HALF: &[u8] = &[0x20, 0x02, 0x00];
const HUGE: &[u8] = &[0x20, 0xff, 0xff, 0xff, 0x7f];
const REFUSED: &[u8] = &[0x20, 0x02, 0x00, 0x05];
const EARLY: &[u8] = &[0x40, 0x02, 0x00, 0x01];
const OTHER_ID: &[u8] = &[0x40, 0x02, 0x7f, 0x7f];
const OTHER_STEP: &[u8] = &[0x50, 0x02, 0x00, 0x01];
const ACCEPTED_THEN_NONE: &[u8] = &[0x20, 0x02, 0x00, 0x00, 0xf7, 0x03, 0x01, 0x02, 0x03];
const NO_PACKET: &[u8] = &[0xf7, 0x03, 0x01, 0x02, 0x03];

/// What can be done to any connection.
pub(crate) fn acts() -> Vec<Act> {
    let mut acts = vec![
        Act::CloseAtOnce,
        Act::ResetAtOnce,
        Act::CloseAtFirst,
        Act::ResetAtFirst,
        Act::Mute,
        Act::Say(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        Act::Say(NO_PACKET),
        Act::Answer(HALF),
        Act::Answer(HUGE),
        Act::Answer(REFUSED),
        Act::Answer(EARLY),
        Act::Answer(NO_PACKET),
        Act::Answer(ACCEPTED_THEN_NONE),
        Act::CloseAfterConnAck,
        Act::AnswerPublish(b""),
        Act::AnswerPublish(OTHER_ID),
        Act::AnswerPublish(OTHER_STEP),
        Act::AnswerPublish(NO_PACKET),
        Act::AnswerPublish(HUGE),
        Act::Deaf,
    ];
    // a TLS server's first flight has about 900 bytes, a CONNACK four
    acts.extend([0, 1, 3, 4, 9, 100, 200, 400, 800, 1_000, 1_300].map(Act::Cut));
    acts
}
