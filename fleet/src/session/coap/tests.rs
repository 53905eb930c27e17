//! The session against a server that answers what a test wants.

use std::sync::LazyLock;

use actorsim_actors::Time;

use super::packet::{Block, Code, Kind, Packet, Writer, option};
use super::*;

static PATHS: LazyLock<Paths> = LazyLock::new(|| {
    let path = |text| Template::parse(text, "pump", &[]).unwrap();
    Paths {
        samples: path("devices/{device_id}/telemetry"),
        commands: path("devices/{device_id}/commands"),
        replies: path("/devices/{device_id}/replies"),
    }
});

fn to() -> Endpoint<'static> {
    Endpoint {
        paths: &PATHS,
        id: "pump-0001",
        seed: 7,
    }
}

fn quiet() -> Options {
    Options {
        observe: false,
        ..Options::default()
    }
}

/// A session, its output, and what a server may do with both.
struct Rig {
    options: Options,
    client: Client,
    out: Output,
    now: Time,
}

/// A message of the session, taken apart.
#[derive(Clone, Debug, PartialEq)]
struct Sent {
    kind: Kind,
    code: Code,
    id: u16,
    token: Vec<u8>,
    path: String,
    observe: Option<u32>,
    block1: Option<Block>,
    block2: Option<Block>,
    payload: Vec<u8>,
}

impl Rig {
    fn new(options: Options) -> Self {
        let mut rig = Self {
            options,
            client: Client::default(),
            out: Output::default(),
            now: Time::ZERO,
        };
        rig.client.open(&options, &to(), rig.now, &mut rig.out);
        rig
    }

    fn publish(&mut self, body: &[u8], tag: u64) {
        let sample = (body, tag);
        self.client
            .publish(&self.options, &to(), sample, self.now, &mut self.out)
            .unwrap();
    }

    /// The only datagram since the last look.
    fn sent(&mut self) -> Sent {
        let mut all = self.all_sent();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    fn all_sent(&mut self) -> Vec<Sent> {
        let all = self.out.datagrams().map(|bytes| {
            let packet = Packet::read(bytes).unwrap();
            let path = packet.options().filter(|(n, _)| *n == option::URI_PATH);
            let path: Vec<_> = path.map(|(_, s)| String::from_utf8_lossy(s)).collect();
            Sent {
                kind: packet.kind,
                code: packet.code,
                id: packet.id,
                token: packet.token.into(),
                path: path.join("/"),
                observe: packet.number(option::OBSERVE),
                block1: packet.number(option::BLOCK1).and_then(Block::of),
                block2: packet.number(option::BLOCK2).and_then(Block::of),
                payload: packet.payload.into(),
            }
        });
        let all = all.collect();
        self.out.sent();
        all
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.client
            .received(&self.options, &to(), bytes, self.now, &mut self.out);
    }

    /// A message of the server.
    fn say(
        &mut self,
        (kind, code, id, token): (Kind, Code, u16, &[u8]),
        options: &[(u16, u32)],
        payload: &[u8],
    ) {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, kind, code, id, token);
        for (option, value) in options {
            writer = writer.number(*option, *value);
        }
        writer.payload(payload);
        self.hear(&bytes);
    }

    /// The answer in the acknowledgement.
    fn answer(&mut self, to: &Sent, code: Code) {
        self.say((Kind::Acknowledgement, code, to.id, &to.token), &[], &[]);
    }

    /// Lets time pass up to the next deadline.
    fn wait(&mut self) -> Time {
        self.now = self.client.deadline(&self.options).unwrap();
        self.client
            .expire(&self.options, &to(), self.now, &mut self.out);
        self.now
    }

    fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.out.events)
    }
}

#[test]
fn samples_go_one_after_another_each_when_the_last_is_acknowledged() {
    let mut rig = Rig::new(quiet());
    for tag in 0..3 {
        rig.publish(format!("{{\"n\":{tag}}}").as_bytes(), tag);
    }
    for tag in 0..3 {
        let sent = rig.sent();
        assert_eq!((sent.kind, sent.code), (Kind::Confirmable, Code::PUT));
        assert_eq!(sent.path, "devices/pump-0001/telemetry");
        assert_eq!(sent.payload, format!("{{\"n\":{tag}}}").into_bytes());
        rig.answer(&sent, Code::CHANGED);
        assert_eq!(rig.events(), [Event::Delivered { tag }]);
    }
    assert_eq!((rig.client.waiting(), rig.out.ends.len()), (0, 0));
}

#[test]
fn a_message_is_sent_again_four_times_each_after_twice_the_wait() {
    let mut rig = Rig::new(quiet());
    rig.publish(b"{}", 0);
    let first = rig.sent();
    let mut at = vec![Time::ZERO];
    for _ in 0..4 {
        at.push(rig.wait());
        assert_eq!(
            rig.sent(),
            first,
            "the same message, number and token included"
        );
    }
    let waits: Vec<f64> = at
        .windows(2)
        .map(|two| two[1].since(two[0]).as_secs_f64())
        .collect();
    assert!((2.0..=3.0).contains(&waits[0]), "{waits:?}");
    for two in waits.windows(2) {
        assert!((two[1] / two[0] - 2.0).abs() < 1e-6, "{waits:?}");
    }
    rig.wait();
    assert_eq!(rig.out.ended.take(), Some(Ended::Silent));
    assert_eq!(rig.client.waiting(), 1, "kept for the next socket");
    rig.client.open(&rig.options, &to(), rig.now, &mut rig.out);
    rig.wait();
    let again = rig.sent();
    assert!(again.id != first.id && again.payload == first.payload);
}

#[test]
fn an_answer_may_come_later_than_its_acknowledgement_and_before_it() {
    for acknowledged in [true, false] {
        let mut rig = Rig::new(quiet());
        rig.publish(b"{}", 0);
        let sent = rig.sent();
        if acknowledged {
            rig.say((Kind::Acknowledgement, Code::EMPTY, sent.id, &[]), &[], &[]);
            let patience = rig.client.deadline(&rig.options);
            assert_eq!(patience, Some(Time::ZERO + rig.options.answer_timeout));
        }
        rig.say(
            (Kind::Confirmable, Code::CHANGED, 900, &sent.token),
            &[],
            &[],
        );
        let ack = rig.sent();
        assert_eq!((ack.kind, ack.id), (Kind::Acknowledgement, 900));
        assert_eq!(rig.events(), [Event::Delivered { tag: 0 }]);
    }
}

#[test]
fn samples_of_quality_0_go_once_and_wait_for_nothing() {
    let mut rig = Rig::new(Options {
        confirmable: false,
        ..quiet()
    });
    rig.publish(b"a", 0);
    rig.publish(b"b", 1);
    let all = rig.all_sent();
    assert!(all.iter().all(|sent| sent.kind == Kind::NonConfirmable));
    assert_eq!(
        rig.events(),
        [Event::Delivered { tag: 0 }, Event::Delivered { tag: 1 }]
    );
    assert_eq!(rig.client.deadline(&rig.options), None);
}

#[test]
fn refusals_are_told_and_failures_tried_again_later() {
    let mut rig = Rig::new(quiet());
    rig.publish(b"{}", 0);
    let sent = rig.sent();
    rig.answer(&sent, Code::NOT_FOUND);
    let code = Code::NOT_FOUND;
    assert_eq!(rig.events(), [Event::Refused { tag: 0, code }]);
    rig.publish(b"{}", 1);
    for code in [Code(0xa3), Code::TOO_MANY] {
        let sent = rig.sent();
        let before = rig.now;
        rig.answer(&sent, code);
        assert_eq!(rig.events(), [Event::Retries { code }]);
        assert!(rig.wait() > before);
    }
    let sent = rig.sent();
    rig.say((Kind::Reset, Code::EMPTY, sent.id, &[]), &[], &[]);
    let code = Code::EMPTY;
    assert_eq!(rig.events(), [Event::Refused { tag: 1, code }]);
}

#[test]
fn a_body_longer_than_a_block_goes_in_several_as_small_as_the_server_asks() {
    let body: Vec<u8> = (0..2_500u32).map(|n| n as u8).collect();
    let mut rig = Rig::new(quiet());
    rig.publish(&body, 0);
    let mut heard = Vec::new();
    for number in 0.. {
        let sent = rig.sent();
        let block = sent.block1.unwrap();
        heard.extend_from_slice(&sent.payload);
        if !block.more {
            rig.answer(&sent, Code::CHANGED);
            break;
        }
        // after the first, blocks of 512
        assert_eq!(block.number, if number == 0 { 0 } else { number + 1 });
        let asked = Block {
            exponent: 5,
            ..block
        };
        let ack = (Kind::Acknowledgement, Code::CONTINUE, sent.id, &*sent.token);
        rig.say(ack, &[(option::BLOCK1, asked.value())], &[]);
    }
    assert_eq!(heard, body);
    assert_eq!(rig.events(), [Event::Delivered { tag: 0 }]);
}

/// Observes from the first message on; returns the registration.
fn observed(rig: &mut Rig) -> Sent {
    let sent = rig.sent();
    assert_eq!((sent.code, sent.observe), (Code::GET, Some(0)));
    assert_eq!(sent.path, "devices/pump-0001/commands");
    let ack = (Kind::Acknowledgement, Code::CONTENT, sent.id, &*sent.token);
    rig.say(ack, &[(option::OBSERVE, 10)], &[]);
    sent
}

fn message(payload: &[u8]) -> Event {
    let put = false;
    let payload = payload.into();
    Event::Message { payload, put }
}

#[test]
fn notifications_are_commands_in_the_order_of_their_numbers() {
    let mut rig = Rig::new(Options::default());
    let token = observed(&mut rig).token;
    for (id, number, payload, told) in [
        (1, 11, "a", true),
        (2, 13, "c", true),
        (3, 12, "b", false),
        (4, 14, "c", true),
    ] {
        let note = (Kind::Confirmable, Code::CONTENT, id, &*token);
        rig.say(note, &[(option::OBSERVE, number)], payload.as_bytes());
        assert_eq!(rig.sent().kind, Kind::Acknowledgement);
        let wanted = told.then(|| message(payload.as_bytes()));
        assert_eq!(rig.events(), Vec::from_iter(wanted), "{payload}");
    }
    let stranger = (Kind::Confirmable, Code::CONTENT, 5, &b"????"[..]);
    rig.say(stranger, &[(option::OBSERVE, 15)], b"x");
    assert_eq!(rig.sent().kind, Kind::Reset);
    rig.client.close(&to(), &mut rig.out);
    let last = rig.sent();
    assert_eq!((last.observe, last.token), (Some(1), token));
}

#[test]
fn an_observer_registers_again_and_the_same_command_is_not_told_twice() {
    let mut rig = Rig::new(Options::default());
    let first = rig.sent();
    let ack = (
        Kind::Acknowledgement,
        Code::CONTENT,
        first.id,
        &*first.token,
    );
    rig.say(ack, &[(option::OBSERVE, 1)], b"go");
    assert_eq!(rig.events(), [message(b"go")]);
    let at = rig.wait();
    assert!((60..=75).contains(&(at.0 / 1_000_000_000)), "{at:?}");
    let again = rig.sent();
    assert_eq!(again.observe, Some(0));
    let ack = (
        Kind::Acknowledgement,
        Code::CONTENT,
        again.id,
        &*again.token,
    );
    rig.say(ack, &[(option::OBSERVE, 2)], b"go");
    assert_eq!(rig.events(), []);
}

#[test]
fn a_command_in_blocks_is_told_when_it_is_whole() {
    let mut rig = Rig::new(Options::default());
    let mut sent = rig.sent();
    for (number, part) in ["0123456789abcdef", "0123456789ABCDEF", "end"]
        .iter()
        .enumerate()
    {
        let number = number as u32;
        assert_eq!(sent.block2.map_or(0, |block| block.number), number);
        let block = Block {
            number,
            more: number < 2,
            exponent: 0,
        };
        let mut options = vec![(option::BLOCK2, block.value())];
        if number == 0 {
            options.insert(0, (option::OBSERVE, 1));
        }
        let ack = (
            Kind::Acknowledgement,
            Code::CONTENT,
            sent.id,
            &*sent.token.clone(),
        );
        rig.say(ack, &options, part.as_bytes());
        if number < 2 {
            sent = rig.sent();
        }
    }
    assert_eq!(
        rig.events(),
        [message(b"0123456789abcdef0123456789ABCDEFend")]
    );
}

#[test]
fn a_command_may_be_put_to_the_device_and_is_answered_once() {
    let mut rig = Rig::new(quiet());
    let put = |kind, code, id, path: &str, payload: &[u8]| {
        let mut bytes = Vec::new();
        Writer::new(&mut bytes, kind, code, id, b"tk")
            .path(path)
            .payload(payload);
        bytes
    };
    let path = "devices/pump-0001/commands";
    let command = put(Kind::Confirmable, Code::PUT, 77, path, b"{}");
    rig.hear(&command);
    let payload: Box<[u8]> = b"{}".as_slice().into();
    assert_eq!(rig.events(), [Event::Message { payload, put: true }]);
    rig.client
        .reply(&rig.options, &to(), (b"done", true), rig.now, &mut rig.out)
        .unwrap();
    let reply = rig.sent();
    assert_eq!(
        (reply.kind, reply.code, reply.id),
        (Kind::Acknowledgement, Code::CHANGED, 77)
    );
    assert_eq!((&*reply.token, &*reply.payload), (&b"tk"[..], &b"done"[..]));
    rig.hear(&command);
    assert_eq!(
        (rig.events(), rig.sent()),
        (vec![], reply),
        "the same again"
    );
    for (id, (code, path), answer) in [
        (1, (Code::GET, path), Code::METHOD_NOT_ALLOWED),
        (
            2,
            (Code::PUT, "devices/pump-0002/commands"),
            Code::NOT_FOUND,
        ),
    ] {
        rig.hear(&put(Kind::NonConfirmable, code, id, path, b""));
        let sent = rig.sent();
        assert_eq!((sent.kind, sent.code), (Kind::NonConfirmable, answer));
    }
    rig.say((Kind::Confirmable, Code::EMPTY, 5, &[]), &[], &[]);
    let pong = rig.sent();
    assert_eq!((pong.kind, pong.id), (Kind::Reset, 5));
}

#[test]
fn another_codec_reads_what_is_written_and_writes_what_is_read() {
    let mut rig = Rig::new(Options::default());
    let bytes = rig.out.bytes.clone();
    let read = coap_lite::Packet::from_bytes(&bytes).unwrap();
    let own = rig.sent();
    assert_eq!(
        (read.header.message_id, read.get_token()),
        (own.id, &*own.token)
    );
    assert_eq!(read.get_observe_value(), Some(Ok(0)));
    let path = read.get_option(coap_lite::CoapOption::UriPath).unwrap();
    let path: Vec<_> = path.iter().map(|s| String::from_utf8_lossy(s)).collect();
    assert_eq!(path.join("/"), own.path);
    let mut answer = coap_lite::Packet::new();
    answer
        .header
        .set_type(coap_lite::MessageType::Acknowledgement);
    answer.header.code = 0x45.into();
    answer.header.message_id = own.id;
    answer.set_token(own.token);
    answer.set_observe_value(7);
    answer.add_option(coap_lite::CoapOption::Unknown(65_000), vec![1; 300]);
    answer.payload = b"go".to_vec();
    rig.hear(&answer.to_bytes().unwrap());
    assert_eq!(rig.events(), [message(b"go")]);
}

proptest::proptest! {
    #[test]
    fn garbage_never_panics_and_ends_nothing(
        garbage in proptest::collection::vec(
            proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60), 0..20),
        cut in 0usize..40,
        flip: u8,
    ) {
        let mut rig = Rig::new(Options::default());
        let first = rig.sent();
        rig.publish(b"{}", 0);
        let mut real = Vec::new();
        let ack = Kind::Acknowledgement;
        Writer::new(&mut real, ack, Code::CONTENT, first.id, &first.token)
            .number(option::OBSERVE, 3)
            .number(option::BLOCK2, 9)
            .payload(b"half a command, or all of it");
        let at = cut % real.len();
        real[at] ^= flip;
        for bytes in garbage.iter().chain([&real, &real[..at].to_vec()]) {
            let head = [&[0x40 | (flip & 0x3f)], bytes.as_slice()].concat();
            rig.hear(bytes);
            rig.hear(&head);
            rig.out.sent();
        }
        proptest::prop_assert_eq!(rig.out.ended, None);
    }
}

#[test]
fn a_command_in_blocks_that_are_not_full_is_given_up_and_samples_go_on() {
    let mut rig = Rig::new(Options::default());
    let watch = rig.sent();
    rig.publish(b"{}", 0);
    let part = |number, more| {
        let block = Block {
            number,
            more,
            exponent: 0,
        };
        (option::BLOCK2, block.value())
    };
    let ack = Kind::Acknowledgement;
    let said = (ack, Code::CONTENT, watch.id, &watch.token[..]);
    rig.say(said, &[(option::OBSERVE, 1), part(0, true)], &[b'x'; 16]);
    let rest = rig.sent();
    assert_eq!(rest.block2.map(|block| block.number), Some(1));
    let said = (ack, Code::CONTENT, rest.id, &rest.token[..]);
    rig.say(said, &[part(1, true)], b"");
    let sample = rig.sent();
    assert_eq!((&*sample.payload, rig.events()), (&b"{}"[..], vec![]));
}
