//! The session against a broker that does what a test wants.

use std::time::Duration;

use actorsim_actors::Time;
use proptest::prelude::*;

use super::client::{Client, Message};
use super::output::{Ended, Event, Output, PublishError};
use super::packet::{Filters, Packet, Qos, Step, Version, Will};
use super::read::frame;
use super::{Login, Options};

mod broker;

use broker::Broker;

const LOGIN: Login<'_> = Login {
    client_id: "pump-0001",
    will: None,
    username: None,
    password: None,
};

const VERSIONS: [Version; 2] = [Version::V311, Version::V5];

fn options(version: Version) -> Options {
    Options {
        version,
        ..Options::default()
    }
}

fn message(tag: u64, qos: Qos, payload: &[u8]) -> Message<'_> {
    Message {
        topic: "devices/pump-0001/telemetry",
        payload,
        qos,
        retain: false,
        tag,
    }
}

fn seconds(n: u64) -> Time {
    Time::ZERO + Duration::from_secs(n)
}

/// A session that is up, and its broker.
fn up(options: &Options) -> (Client, Broker, Output) {
    let (mut client, mut broker) = (Client::default(), Broker::new(options.version));
    let mut out = Output::default();
    client.open(options, &LOGIN, Time::ZERO, &mut out);
    let answer = broker.take(&std::mem::take(&mut out.bytes));
    client.received(options, &answer, Time::ZERO, &mut out);
    assert_eq!(out.events.remove(0), Event::Up { resumed: false });
    client.go_on(options, Time::ZERO, &mut out);
    assert!(client.is_up() && out.ended.is_none());
    (client, broker, out)
}

/// One way and back.
fn exchange(options: &Options, client: &mut Client, broker: &mut Broker, out: &mut Output) {
    let answer = broker.take(&std::mem::take(&mut out.bytes));
    client.received(options, &answer, Time::ZERO, out);
    client.go_on(options, Time::ZERO, out);
}

/// Bytes go to and fro until both are silent.
fn settle(options: &Options, client: &mut Client, broker: &mut Broker, out: &mut Output) {
    while !out.bytes.is_empty() {
        exchange(options, client, broker, out);
    }
}

#[test]
fn a_message_of_each_quality_arrives_and_is_told() {
    for version in VERSIONS {
        let options = options(version);
        let (mut client, mut broker, mut out) = up(&options);
        let all = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];
        for (tag, qos) in (0..).zip(all) {
            let message = message(tag, qos, b"21.5");
            client
                .publish(&options, &message, Time::ZERO, &mut out)
                .unwrap();
        }
        settle(&options, &mut client, &mut broker, &mut out);
        assert_eq!(broker.published.len(), 3);
        let told: Vec<_> = (0..3).map(|tag| Event::Delivered { tag }).collect();
        assert_eq!(out.events, told);
        assert_eq!(
            (client.waiting(), client.in_flight(), out.strays),
            (0, 0, 0)
        );
    }
}

#[test]
fn a_full_outbox_gives_its_oldest_unsent_message_up() {
    let options = Options {
        outbox_max: 3,
        in_flight_max: 1,
        ..Options::default()
    };
    let (mut client, _, mut out) = up(&options);
    for tag in 0..3 {
        let message = message(tag, Qos::AtLeastOnce, b"x");
        client
            .publish(&options, &message, Time::ZERO, &mut out)
            .unwrap();
    }
    let fourth = message(3, Qos::AtLeastOnce, b"x");
    let full = client.publish(&options, &fourth, Time::ZERO, &mut out);
    assert_eq!(full, Err(PublishError::Full));
    assert_eq!(client.drop_oldest(), Some(1), "the one in flight stays");
    client
        .publish(&options, &fourth, Time::ZERO, &mut out)
        .unwrap();
    assert_eq!((client.waiting(), client.in_flight()), (3, 1));
}

#[test]
fn what_its_owner_says_first_goes_before_all_that_waits_however_much_that_is() {
    let options = Options {
        outbox_max: 3,
        in_flight_max: 1,
        ..Options::default()
    };
    let (mut client, mut broker, mut out) = up(&options);
    let samples: Vec<_> = (0..3).map(|tag: u64| tag.to_be_bytes()).collect();
    for (tag, payload) in (0..).zip(&samples) {
        let sample = message(tag, Qos::AtLeastOnce, payload);
        client
            .publish(&options, &sample, Time::ZERO, &mut out)
            .unwrap();
    }
    out.bytes.clear();
    for keeps in [true, false] {
        broker.lost(keeps);
        client.open(&options, &LOGIN, Time::ZERO, &mut out);
        let answer = broker.take(&std::mem::take(&mut out.bytes));
        client.received(&options, &answer, Time::ZERO, &mut out);
        assert_eq!(out.events, [Event::Up { resumed: keeps }]);
        assert!(out.bytes.is_empty(), "nothing goes before");
        out.events.clear();
        let birth = message(0, Qos::AtMostOnce, b"online");
        client
            .announce(&options, &birth, Time::ZERO, &mut out)
            .unwrap();
        client.go_on(&options, Time::ZERO, &mut out);
        broker.published.clear();
        broker.take(&std::mem::take(&mut out.bytes));
        assert_eq!(broker.published, [&b"online"[..], &samples[0]]);
    }
    // the last word, too
    let end = message(0, Qos::AtMostOnce, b"offline");
    client
        .announce(&options, &end, Time::ZERO, &mut out)
        .unwrap();
    client.close(&options, &mut out);
    broker.take(&out.bytes);
    assert_eq!(broker.published.last().unwrap(), b"offline");
    assert!(broker.goodbye);
}

#[test]
fn nothing_is_said_to_a_broker_that_accepts_the_session_and_breaks_the_protocol_at_once() {
    let options = options(Version::V311);
    let (mut client, mut out) = (Client::default(), Output::default());
    client.open(&options, &LOGIN, Time::ZERO, &mut out);
    out.bytes.clear();
    let both = [0x20, 0x02, 0x00, 0x00, 0xf7, 0x01, 0x00];
    client.received(&options, &both, Time::ZERO, &mut out);
    assert_eq!(out.events, [Event::Up { resumed: false }]);
    assert!(out.ended.is_some() && !client.is_up());
    let birth = message(0, Qos::AtMostOnce, b"online");
    client
        .announce(&options, &birth, Time::ZERO, &mut out)
        .unwrap();
    client.go_on(&options, Time::ZERO, &mut out);
    assert!(out.bytes.is_empty() && client.waiting() == 0);
}

#[test]
fn the_broker_sets_window_packet_size_and_keep_alive() {
    let options = options(Version::V5);
    let mut client = Client::default();
    let mut out = Output::default();
    client.open(&options, &LOGIN, Time::ZERO, &mut out);
    let answer = Packet::ConnAck {
        session_present: false,
        code: 0,
        properties: super::property::Properties {
            receive_max: Some(2),
            packet_max: Some(64),
            keep_alive_s: Some(10),
            ..Default::default()
        },
    };
    let mut bytes = Vec::new();
    answer.write(Version::V5, &mut bytes).unwrap();
    client.received(&options, &bytes, Time::ZERO, &mut out);
    client.go_on(&options, Time::ZERO, &mut out);
    for tag in 0..5 {
        let message = message(tag, Qos::AtLeastOnce, b"x");
        client
            .publish(&options, &message, Time::ZERO, &mut out)
            .unwrap();
    }
    assert_eq!((client.waiting(), client.in_flight()), (5, 2));
    let large = message(9, Qos::AtLeastOnce, &[0; 64]);
    let refused = client.publish(&options, &large, Time::ZERO, &mut out);
    assert!(matches!(
        refused,
        Err(PublishError::TooLarge { most: 64, .. })
    ));
    assert_eq!(client.deadline(&options), Some(seconds(10)));
}

#[test]
fn a_silent_connection_is_pinged_and_then_given_up() {
    let options = Options::default();
    let (mut client, mut broker, mut out) = up(&options);
    assert_eq!(client.deadline(&options), Some(seconds(60)));
    client.expire(&options, seconds(60), &mut out);
    assert_eq!(out.bytes, [0xc0, 0x00]);
    let pong = broker.take(&std::mem::take(&mut out.bytes));
    client.received(&options, &pong, seconds(61), &mut out);
    assert_eq!(client.deadline(&options), Some(seconds(120)));
    client.expire(&options, seconds(120), &mut out);
    client.expire(&options, seconds(139), &mut out);
    assert_eq!(out.ended, None);
    client.expire(&options, seconds(140), &mut out);
    assert_eq!(out.ended, Some(Ended::Silent("answer to a ping")));
}

#[test]
fn a_broker_that_never_answers_is_given_up() {
    let options = Options::default();
    let mut client = Client::default();
    let mut out = Output::default();
    client.open(&options, &LOGIN, seconds(5), &mut out);
    assert_eq!(client.deadline(&options), Some(seconds(25)));
    client.expire(&options, seconds(25), &mut out);
    assert_eq!(out.ended.take(), Some(Ended::Silent("answer to CONNECT")));

    let (mut client, _, mut out) = up(&options);
    let unheard = message(1, Qos::AtLeastOnce, b"x");
    client
        .publish(&options, &unheard, seconds(1), &mut out)
        .unwrap();
    client.expire(&options, seconds(21), &mut out);
    assert_eq!(out.ended, Some(Ended::Silent("acknowledgement")));
    assert_eq!(client.waiting(), 1, "it is not lost with its connection");
}

#[test]
fn a_refused_session_says_why() {
    let options = options(Version::V5);
    let mut client = Client::default();
    let mut out = Output::default();
    client.open(&options, &LOGIN, Time::ZERO, &mut out);
    let mut bytes = Vec::new();
    let refusal = Packet::ConnAck {
        session_present: false,
        code: 0x87,
        properties: super::property::Properties {
            reason: Some("who are you?"),
            ..Default::default()
        },
    };
    refusal.write(Version::V5, &mut bytes).unwrap();
    client.received(&options, &bytes, Time::ZERO, &mut out);
    let said = out.ended.unwrap().to_string();
    assert_eq!(
        said,
        "the broker refused the session with code 135: who are you?"
    );
}

#[test]
fn what_may_not_come_ends_the_session() {
    let early = [0xd0, 0x00];
    let twice = [0x20, 0x02, 0x00, 0x00];
    let client_only = [0xc0, 0x00];
    let alias = [0x30, 0x06, 0x00, 0x00, 0x03, 0x23, 0x00, 0x01];
    for (bytes, opened) in [
        (&early[..], false),
        (&twice[..], true),
        (&client_only[..], true),
        (&alias[..], true),
    ] {
        let options = options(match bytes == alias {
            true => Version::V5,
            false => Version::V311,
        });
        let (mut client, mut out) = match opened {
            true => {
                let (client, _, out) = up(&options);
                (client, out)
            }
            false => {
                let (mut client, mut out) = (Client::default(), Output::default());
                client.open(&options, &LOGIN, Time::ZERO, &mut out);
                (client, out)
            }
        };
        client.received(&options, bytes, Time::ZERO, &mut out);
        assert!(matches!(out.ended, Some(Ended::Protocol(_))), "{bytes:?}");
        assert!(!client.is_up());
    }
}

#[test]
fn wrong_acknowledgements_are_counted_and_change_nothing() {
    let options = Options::default();
    let (mut client, mut broker, mut out) = up(&options);
    let honest = message(1, Qos::AtLeastOnce, b"x");
    client
        .publish(&options, &honest, Time::ZERO, &mut out)
        .unwrap();
    let sent = std::mem::take(&mut out.bytes);
    // another identifier; the wrong kind of answer, twice; an answer to no subscription
    let lies = [
        [0x40, 0x02, 0x00, 0x09].as_slice(),
        &[0x50, 0x02, 0x00, 0x01],
        &[0x70, 0x02, 0x00, 0x01],
        &[0x90, 0x03, 0x00, 0x07, 0x00],
    ];
    client.received(&options, &lies.concat(), Time::ZERO, &mut out);
    assert_eq!((out.strays, client.in_flight()), (4, 1));
    assert!(out.events.is_empty() && out.bytes.is_empty());
    let answer = broker.take(&sent);
    client.received(&options, &answer, Time::ZERO, &mut out);
    assert_eq!(out.events, [Event::Delivered { tag: 1 }]);
}

#[test]
fn commands_come_once_and_are_acknowledged() {
    for version in VERSIONS {
        let options = options(version);
        let (mut client, mut broker, mut out) = up(&options);
        let wish = Qos::ExactlyOnce;
        client
            .subscribe(
                &options,
                "devices/pump-0001/commands",
                wish,
                Time::ZERO,
                &mut out,
            )
            .unwrap();
        settle(&options, &mut client, &mut broker, &mut out);
        let granted = Some(Qos::ExactlyOnce);
        assert_eq!(out.events.remove(0), Event::Subscribed { granted });
        for (id, qos) in [
            (1, Qos::AtLeastOnce),
            (2, Qos::ExactlyOnce),
            (2, Qos::ExactlyOnce),
        ] {
            let command = broker.command(id, qos, b"{\"relay\":0}");
            client.received(&options, &command, Time::ZERO, &mut out);
        }
        settle(&options, &mut client, &mut broker, &mut out);
        let commands = out
            .events
            .iter()
            .filter(|event| matches!(event, Event::Message(_)));
        assert_eq!(commands.count(), 2, "the repeated one is not told again");
        broker.commanded.dedup();
        assert_eq!(broker.commanded, [1, 2], "both are finished");
    }
}

#[test]
fn a_goodbye_is_said_and_no_will_follows() {
    let options = Options::default();
    let (mut client, mut broker, mut out) = up(&options);
    client.close(&options, &mut out);
    assert_eq!(out.ended, Some(Ended::Closed));
    broker.take(&out.bytes);
    assert!(broker.goodbye);
}

#[test]
fn secrets_are_not_shown() {
    let login = Login {
        password: Some(b"hunter2"),
        ..LOGIN
    };
    assert!(!format!("{login:?}").contains("hunter2"));
    assert!(!format!("{login:?}").contains("104"));
}

#[test]
fn every_packet_reads_as_it_was_written() {
    let mut filters = Vec::new();
    Filters::append(&mut filters, "a/#", Qos::AtLeastOnce).unwrap();
    let will = Will {
        topic: "status/pump-0001",
        payload: b"offline",
        qos: Qos::AtLeastOnce,
        retain: true,
    };
    for version in VERSIONS {
        let connect = super::packet::Connect {
            version,
            clean_start: true,
            keep_alive_s: 30,
            client_id: "pump-0001",
            will: Some(will),
            username: Some("u"),
            password: Some(b"p"),
            properties: Default::default(),
        };
        for packet in [
            Packet::Connect(connect),
            Packet::SubAck {
                id: 7,
                codes: &[1, 0x80],
            },
            Packet::Subscribe {
                id: 7,
                filters: Filters::new(&filters).unwrap(),
            },
            Packet::Step {
                step: Step::Rel,
                id: 9,
                code: 0,
            },
            Packet::PingResp,
            Packet::Disconnect { code: 0 },
        ] {
            let mut bytes = Vec::new();
            packet.write(version, &mut bytes).unwrap();
            let whole = frame(&bytes, 1_024).unwrap().unwrap();
            assert_eq!(whole.len, bytes.len());
            assert_eq!(Packet::read(whole, version), Ok(packet));
        }
    }
}

fn any_version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V311), Just(Version::V5)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn garbage_ends_a_session_or_waits_and_never_panics(
        version in any_version(),
        opened: bool,
        garbage in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let options = Options { packet_max: 128, ..options(version) };
        let (mut client, mut out) = match opened {
            true => { let (client, _, out) = up(&options); (client, out) }
            false => (Client::default(), Output::default()),
        };
        if !opened {
            client.open(&options, &LOGIN, Time::ZERO, &mut out);
        }
        for part in garbage.chunks(7) {
            client.received(&options, part, Time::ZERO, &mut out);
        }
        let answers = out.events.len() * 8 + out.strays as usize * 8 + 400;
        prop_assert!(out.bytes.len() <= answers);
    }

    #[test]
    fn bytes_cut_anywhere_say_the_same(
        version in any_version(),
        cuts in proptest::collection::vec(1usize..9, 1..60),
    ) {
        let options = options(version);
        let mut broker = Broker::new(version);
        let mut script = Vec::new();
        for id in 1..6 {
            script.extend(broker.command(id, Qos::from_number(id as u8 % 3).unwrap(), b"command"));
        }
        let (mut whole, _, mut all) = up(&options);
        whole.received(&options, &script, Time::ZERO, &mut all);
        let (mut parts, _, mut out) = up(&options);
        let mut rest = script.as_slice();
        for cut in cuts.iter().cycle() {
            let (part, after) = rest.split_at((*cut).min(rest.len()));
            parts.received(&options, part, Time::ZERO, &mut out);
            rest = after;
            if rest.is_empty() { break; }
        }
        prop_assert_eq!((&out.bytes, &out.events), (&all.bytes, &all.events));
        prop_assert!(out.ended.is_none());
    }

    #[test]
    fn messages_outlive_their_connections_in_order(
        version in any_version(),
        keeps in proptest::bool::weighted(0.7),
        steps in proptest::collection::vec((0u8..8, 0u8..3), 1..120),
    ) {
        storm(version, keeps, &steps)?;
    }
}

/// Publishes, loses bytes and connections, and compares what the broker has with what was told.
fn storm(version: Version, keeps: bool, steps: &[(u8, u8)]) -> Result<(), TestCaseError> {
    let options = Options {
        in_flight_max: 4,
        clean_start: !keeps,
        ..options(version)
    };
    let (mut client, mut broker, mut out) = up(&options);
    let mut given = Vec::new();
    for (what, qos) in steps {
        match what {
            // a message
            0..=3 => {
                let (tag, qos) = (given.len() as u64, Qos::from_number(*qos).unwrap());
                let payload = tag.to_be_bytes();
                let taken =
                    client.publish(&options, &message(tag, qos, &payload), Time::ZERO, &mut out);
                prop_assert!(taken.is_ok());
                given.push(qos);
            }
            // one way and back
            4 | 5 => exchange(&options, &mut client, &mut broker, &mut out),
            // the connection goes: before the broker, or after it with its answers
            _ => {
                let sent = std::mem::take(&mut out.bytes);
                let heard = if *what == 6 { 0 } else { sent.len() / 2 };
                broker.take(&sent[..heard]);
                broker.lost(keeps);
                client.open(&options, &LOGIN, Time::ZERO, &mut out);
            }
        }
    }
    settle(&options, &mut client, &mut broker, &mut out);
    prop_assert_eq!(&out.ended, &None);
    prop_assert_eq!((client.waiting(), out.strays), (0, 0));
    check(&given, keeps, &broker, &out)
}

fn check(given: &[Qos], keeps: bool, broker: &Broker, out: &Output) -> Result<(), TestCaseError> {
    let mut firsts = Vec::new();
    for payload in &broker.published {
        let tag = u64::from_be_bytes(payload.as_slice().try_into().unwrap());
        let again = firsts.contains(&tag);
        prop_assert!(
            !again || given[tag as usize] == Qos::AtLeastOnce || !keeps,
            "{}",
            tag
        );
        if !again {
            firsts.push(tag);
        }
    }
    prop_assert!(firsts.is_sorted(), "order: {:?}", firsts);
    for (tag, qos) in (0u64..).zip(given) {
        let told = |event: &&Event| match event {
            Event::Delivered { tag: of } | Event::Uncertain { tag: of } => *of == tag,
            _ => false,
        };
        prop_assert_eq!(out.events.iter().filter(told).count(), 1, "message {}", tag);
        if *qos != Qos::AtMostOnce && keeps {
            prop_assert!(firsts.contains(&tag), "message {} is lost", tag);
        }
    }
    Ok(())
}
