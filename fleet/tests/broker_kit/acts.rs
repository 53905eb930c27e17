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
const HALF_SUBACK: &[u8] = &[0x90, 0x03, 0x00];
const OTHER_SUBACK: &[u8] = &[0x90, 0x03, 0x7f, 0x7f, 0x01];
const SUBACK_OF_NOTHING: &[u8] = &[0x90, 0x02, 0xff, 0xff];
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
        Act::AnswerSubscribe(b""),
        Act::AnswerSubscribe(HALF_SUBACK),
        Act::AnswerSubscribe(OTHER_SUBACK),
        Act::AnswerSubscribe(SUBACK_OF_NOTHING),
        Act::AnswerPublish(b""),
        Act::AnswerPublish(OTHER_ID),
        Act::AnswerPublish(OTHER_STEP),
        Act::AnswerPublish(NO_PACKET),
        Act::AnswerPublish(HUGE),
        Act::Deaf,
    ];
    // CONNACK, SUBACK and the first PUBACK of MQTT 5 have 16 bytes; a TLS server's first flight
    // has about 900
    acts.extend((0..16).chain((100..=1_300).step_by(200)).map(Act::Cut));
    acts
}
