//! The session against a server that answers what a test wants.

use super::*;

const TO: Endpoint<'_> = Endpoint {
    host: "127.0.0.1:8080",
    path: "/devices/pump-0001",
    authorization: None,
    seed: 7,
};

const OK: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

fn seconds(n: u64) -> Time {
    Time::ZERO + Duration::from_secs(n)
}

fn up(options: &Options) -> (Client, Output) {
    let (mut client, mut out) = (Client::default(), Output::default());
    client.open(options, &TO, Time::ZERO, &mut out);
    (client, out)
}

fn publish(client: &mut Client, options: &Options, tag: u64, out: &mut Output) {
    let body = format!("{{\"n\":{tag}}}");
    client
        .publish(options, &TO, (body.as_bytes(), tag), Time::ZERO, out)
        .unwrap();
}

fn answer(client: &mut Client, options: &Options, bytes: &[u8], now: Time, out: &mut Output) {
    client.received(options, &TO, bytes, now, out);
}

#[test]
fn samples_go_one_by_one_over_a_kept_connection() {
    let options = Options::default();
    let (mut client, mut out) = up(&options);
    for tag in 0..3 {
        publish(&mut client, &options, tag, &mut out);
    }
    for tag in 0..3 {
        let sent = String::from_utf8(std::mem::take(&mut out.bytes)).unwrap();
        let wanted = format!(
            "POST /devices/pump-0001 HTTP/1.1\r\nhost: 127.0.0.1:8080\r\n\
             content-type: application/json\r\ncontent-length: 7\r\n\r\n{{\"n\":{tag}}}"
        );
        assert_eq!(sent, wanted);
        answer(&mut client, &options, OK, Time::ZERO, &mut out);
        assert_eq!(out.events.pop(), Some(Event::Delivered { tag }));
    }
    assert!(!client.is_busy() && client.waiting() == 0 && out.bytes.is_empty());
}

#[test]
fn samples_wait_for_company_and_share_a_body() {
    let options = Options {
        batch_max: 3,
        batch_wait: Duration::from_secs(2),
        ..Options::default()
    };
    let (mut client, mut out) = up(&options);
    publish(&mut client, &options, 0, &mut out);
    publish(&mut client, &options, 1, &mut out);
    assert!(out.bytes.is_empty());
    assert_eq!(client.deadline(&options), Some(seconds(2)));
    client.expire(&options, &TO, seconds(2), &mut out);
    assert!(
        out.bytes
            .ends_with(b"content-length: 17\r\n\r\n[{\"n\":0},{\"n\":1}]")
    );
    out.bytes.clear();
    for tag in 2..6 {
        publish(&mut client, &options, tag, &mut out);
    }
    answer(&mut client, &options, OK, seconds(2), &mut out);
    assert!(
        out.bytes.ends_with(b"[{\"n\":2},{\"n\":3},{\"n\":4}]"),
        "full, so at once"
    );
}

#[test]
fn what_a_server_cannot_take_now_is_sent_again_later() {
    let options = Options::default();
    for status in ["500", "503", "408", "429"] {
        let (mut client, mut out) = up(&options);
        publish(&mut client, &options, 0, &mut out);
        let refusal = format!("HTTP/1.1 {status} Later\r\ncontent-length: 2\r\n\r\nno");
        answer(
            &mut client,
            &options,
            refusal.as_bytes(),
            Time::ZERO,
            &mut out,
        );
        let at = client.deadline(&options).unwrap();
        let status = status.parse().unwrap();
        assert_eq!(out.events, [Event::Retries { status, at }]);
        assert!(at > Time::ZERO && at <= seconds(1));
        let first = std::mem::take(&mut out.bytes);
        client.expire(&options, &TO, at, &mut out);
        assert_eq!(out.bytes, first);
        answer(&mut client, &options, OK, at, &mut out);
        assert_eq!(out.events.pop(), Some(Event::Delivered { tag: 0 }));
    }
}

#[test]
fn a_server_may_say_how_long_to_wait_within_bounds() {
    let options = Options::default();
    for (asked, waits) in [("5", 5), ("86400", 60)] {
        let (mut client, mut out) = up(&options);
        publish(&mut client, &options, 0, &mut out);
        let refusal =
            format!("HTTP/1.1 503 Later\r\nretry-after: {asked}\r\ncontent-length: 0\r\n\r\n");
        answer(
            &mut client,
            &options,
            refusal.as_bytes(),
            Time::ZERO,
            &mut out,
        );
        assert_eq!(client.deadline(&options), Some(seconds(waits)));
    }
}

#[test]
fn what_a_server_refuses_is_told_and_gone() {
    let options = Options::default();
    let (mut client, mut out) = up(&options);
    publish(&mut client, &options, 0, &mut out);
    let refusal =
        b"HTTP/1.1 400 Bad\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nbad\r\n0\r\na: b\r\n\r\n";
    answer(&mut client, &options, refusal, Time::ZERO, &mut out);
    assert_eq!(
        out.events,
        [Event::Refused {
            tag: 0,
            status: 400
        }]
    );
    assert_eq!((client.waiting(), &out.ended), (0, &None));
}

#[test]
fn a_request_outlives_its_connection() {
    let options = Options::default();
    let (mut client, mut out) = up(&options);
    publish(&mut client, &options, 0, &mut out);
    let first = std::mem::take(&mut out.bytes);
    client.peer_closed(&options, &TO, Time::ZERO, &mut out);
    assert_eq!(out.ended.take(), Some(Ended::ByServer));
    client.open(&options, &TO, seconds(1), &mut out);
    let at = client.deadline(&options).unwrap();
    client.expire(&options, &TO, at.max(seconds(1)), &mut out);
    assert_eq!(out.bytes, first);
}

#[test]
fn a_silent_server_is_given_up() {
    let options = Options::default();
    let (mut client, mut out) = up(&options);
    publish(&mut client, &options, 0, &mut out);
    assert_eq!(client.deadline(&options), Some(seconds(20)));
    client.expire(&options, &TO, seconds(20), &mut out);
    assert_eq!(out.ended, Some(Ended::Silent));
    assert_eq!(client.waiting(), 1);
}

#[test]
fn a_connection_that_is_not_kept_ends_after_its_answer() {
    for head in ["HTTP/1.0 200 OK", "HTTP/1.1 200 OK\r\nconnection: close"] {
        let options = Options::default();
        let (mut client, mut out) = up(&options);
        publish(&mut client, &options, 0, &mut out);
        let bytes = format!("{head}\r\ncontent-length: 0\r\n\r\n");
        answer(
            &mut client,
            &options,
            bytes.as_bytes(),
            Time::ZERO,
            &mut out,
        );
        assert_eq!(out.events, [Event::Delivered { tag: 0 }]);
        assert_eq!(out.ended, Some(Ended::NotKept));
    }
    let options = Options::default();
    let (mut client, mut out) = up(&options);
    publish(&mut client, &options, 0, &mut out);
    answer(
        &mut client,
        &options,
        b"HTTP/1.1 200 OK\r\n\r\nto the e",
        Time::ZERO,
        &mut out,
    );
    answer(&mut client, &options, b"nd", Time::ZERO, &mut out);
    assert!(out.events.is_empty());
    client.peer_closed(&options, &TO, Time::ZERO, &mut out);
    assert_eq!(out.events, [Event::Delivered { tag: 0 }]);
}

#[test]
fn a_poll_brings_a_command_if_there_is_one() {
    let options = Options::default();
    let (mut client, mut out) = up(&options);
    client.poll(&options, &TO, Time::ZERO, &mut out);
    assert!(
        out.bytes
            .starts_with(b"GET /devices/pump-0001 HTTP/1.1\r\n")
    );
    let command = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nreset";
    answer(&mut client, &options, command, Time::ZERO, &mut out);
    assert_eq!(out.events, [Event::Message(b"reset".as_slice().into())]);
    client.poll(&options, &TO, Time::ZERO, &mut out);
    answer(&mut client, &options, OK, Time::ZERO, &mut out);
    assert_eq!(out.events.len(), 1);
}

#[test]
fn bytes_cut_anywhere_say_the_same() {
    let options = Options::default();
    let bytes = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for cut in 0..bytes.len() {
        let (mut client, mut out) = up(&options);
        client.poll(&options, &TO, Time::ZERO, &mut out);
        answer(&mut client, &options, &bytes[..cut], Time::ZERO, &mut out);
        assert!(out.events.is_empty(), "cut at {cut}");
        answer(&mut client, &options, &bytes[cut..], Time::ZERO, &mut out);
        assert_eq!(
            out.events,
            [Event::Message(b"hello".as_slice().into())],
            "cut at {cut}"
        );
    }
}

#[test]
fn what_is_no_answer_ends_the_connection() {
    let endless = [
        b"HTTP/1.1 200 OK\r\n".as_slice(),
        &b"a: b\r\n".repeat(4_000),
    ]
    .concat();
    let drip = [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &[b'y'; 20_000]].concat();
    for bytes in [
        b"MQTT?\r\n\r\n".as_slice(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n+5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhelloXX",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        &endless,
        &drip,
    ] {
        let options = Options::default();
        let (mut client, mut out) = up(&options);
        publish(&mut client, &options, 0, &mut out);
        answer(&mut client, &options, bytes, Time::ZERO, &mut out);
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]);
        assert!(matches!(out.ended, Some(Ended::Malformed(_))), "{shown}");
    }
}

#[test]
fn secrets_are_sent_and_never_shown() {
    let options = Options::default();
    let secret = Secret("Bearer hunter2".to_owned());
    let to = Endpoint {
        authorization: Some(&secret),
        ..TO
    };
    let (mut client, mut out) = up(&options);
    client
        .publish(&options, &to, (b"{}", 0), Time::ZERO, &mut out)
        .unwrap();
    let sent = String::from_utf8_lossy(&out.bytes);
    assert!(sent.contains("authorization: Bearer hunter2\r\n"));
    assert!(!format!("{to:?}").contains("hunter2"));
}

proptest::proptest! {
    #[test]
    fn garbage_never_panics(
        garbage in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        honest: bool,
    ) {
        let options = Options { response_max: 128, ..Options::default() };
        let (mut client, mut out) = up(&options);
        publish(&mut client, &options, 0, &mut out);
        if honest {
            let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            answer(&mut client, &options, head, Time::ZERO, &mut out);
        }
        for part in garbage.chunks(9) {
            answer(&mut client, &options, part, Time::ZERO, &mut out);
        }
        client.peer_closed(&options, &TO, Time::ZERO, &mut out);
        proptest::prop_assert!(out.ended.is_some());
    }
}
