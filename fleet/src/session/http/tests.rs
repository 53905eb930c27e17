//! The session against a server that answers what a test wants.

use std::sync::LazyLock;

use super::*;

static PATHS: LazyLock<Paths> = LazyLock::new(|| {
    let path = |text| Template::parse(text, "pump", &[]).unwrap();
    Paths {
        samples: path("/devices/{device_id}"),
        commands: path("/devices/{device_id}/commands"),
        replies: path("/devices/{device_id}/replies"),
    }
});

fn to() -> Endpoint<'static> {
    Endpoint {
        host: "127.0.0.1:8080",
        paths: &PATHS,
        id: "pump-0001",
        authorization: None,
        seed: 7,
    }
}

const OK: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

fn seconds(n: u64) -> Time {
    Time::ZERO + Duration::from_secs(n)
}

fn up(options: &Options) -> (Client, Output) {
    let (mut client, mut out) = (Client::default(), Output::default());
    client.open(options, &to(), Time::ZERO, &mut out);
    (client, out)
}

fn publish(client: &mut Client, options: &Options, tag: u64, out: &mut Output) {
    let body = format!("{{\"n\":{tag}}}");
    client
        .publish(options, &to(), (body.as_bytes(), tag), Time::ZERO, out)
        .unwrap();
}

fn answer(client: &mut Client, options: &Options, bytes: &[u8], now: Time, out: &mut Output) {
    client.received(options, &to(), bytes, now, out);
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
    client.expire(&options, &to(), seconds(2), &mut out);
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
        client.expire(&options, &to(), at, &mut out);
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
    client.peer_closed(&options, &to(), Time::ZERO, &mut out);
    assert_eq!(out.ended.take(), Some(Ended::ByServer));
    client.open(&options, &to(), seconds(1), &mut out);
    let at = client.deadline(&options).unwrap();
    client.expire(&options, &to(), at.max(seconds(1)), &mut out);
    assert_eq!(out.bytes, first);
}

#[test]
fn a_silent_server_is_given_up() {
    let options = Options::default();
    let (mut client, mut out) = up(&options);
    publish(&mut client, &options, 0, &mut out);
    assert_eq!(client.deadline(&options), Some(seconds(20)));
    client.expire(&options, &to(), seconds(20), &mut out);
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
    client.peer_closed(&options, &to(), Time::ZERO, &mut out);
    assert_eq!(out.events, [Event::Delivered { tag: 0 }]);
}

fn polling(seconds: u64) -> Options {
    Options {
        poll_interval: Duration::from_secs(seconds),
        ..Options::default()
    }
}

/// Lets the next poll go, and returns when.
fn poll(client: &mut Client, options: &Options, out: &mut Output) -> Time {
    let at = client.deadline(options).unwrap();
    client.expire(options, &to(), at, out);
    let get = b"GET /devices/pump-0001/commands HTTP/1.1\r\n";
    assert!(std::mem::take(&mut out.bytes).starts_with(get));
    at
}

#[test]
fn polls_bring_commands_and_replies_go_before_anything_else() {
    let options = polling(30);
    let (mut client, mut out) = up(&options);
    let at = poll(&mut client, &options, &mut out);
    assert!(at < seconds(30), "the first poll is drawn");
    let command = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nreset";
    answer(&mut client, &options, command, at, &mut out);
    assert_eq!(out.events, [Event::Message(b"reset".as_slice().into())]);
    assert!(out.bytes.starts_with(b"GET "), "there may be more");
    out.bytes.clear();
    publish(&mut client, &options, 0, &mut out);
    client
        .reply(&options, &to(), b"done", at, &mut out)
        .unwrap();
    answer(&mut client, &options, OK, at, &mut out);
    let reply = b"POST /devices/pump-0001/replies HTTP/1.1\r\n";
    assert!(out.bytes.starts_with(reply) && out.bytes.ends_with(b"\r\n\r\ndone"));
    out.bytes.clear();
    answer(&mut client, &options, OK, at, &mut out);
    assert!(out.bytes.ends_with(b"{\"n\":0}"));
    answer(&mut client, &options, OK, at, &mut out);
    assert_eq!(client.deadline(&options), Some(at + options.poll_interval));
    assert_eq!(out.events.pop(), Some(Event::Delivered { tag: 0 }));
}

#[test]
fn a_server_that_cannot_say_whether_there_is_a_command_is_left_alone_for_a_while() {
    let options = polling(1);
    let (mut client, mut out) = up(&options);
    let mut at = poll(&mut client, &options, &mut out);
    for _ in 0..6 {
        let refusal = b"HTTP/1.1 503 Later\r\ncontent-length: 0\r\n\r\n";
        answer(&mut client, &options, refusal, at, &mut out);
        assert!(out.bytes.is_empty());
        let next = poll(&mut client, &options, &mut out);
        assert!(next > at, "not at once");
        at = next;
    }
    assert!(at > seconds(16), "later each time");
}

#[test]
fn a_server_that_always_has_a_command_is_not_asked_for_ever() {
    let options = polling(30);
    let (mut client, mut out) = up(&options);
    let at = poll(&mut client, &options, &mut out);
    let page = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nindex";
    let mut asked = 1;
    loop {
        answer(&mut client, &options, page, at, &mut out);
        if std::mem::take(&mut out.bytes).is_empty() {
            break;
        }
        asked += 1;
    }
    assert_eq!(asked, COMMANDS_IN_A_ROW_MAX);
    assert_eq!(client.deadline(&options), Some(at + options.poll_interval));
}

#[test]
fn replies_wait_within_their_bound() {
    let options = Options::default();
    let (mut client, mut out) = (Client::default(), Output::default());
    for _ in 0..REPLIES_MAX {
        client
            .reply(&options, &to(), b"{}", Time::ZERO, &mut out)
            .unwrap();
    }
    assert_eq!(
        client.reply(&options, &to(), b"{}", Time::ZERO, &mut out),
        Err(Full)
    );
}

#[test]
fn an_idle_connection_that_its_server_closes_is_made_again_at_once() {
    let options = Options::default();
    let (mut client, mut out) = up(&options);
    client.peer_closed(&options, &to(), Time::ZERO, &mut out);
    assert_eq!(out.ended.take(), Some(Ended::ByServer), "it has not served");
    client.open(&options, &to(), Time::ZERO, &mut out);
    publish(&mut client, &options, 0, &mut out);
    answer(&mut client, &options, OK, Time::ZERO, &mut out);
    client.peer_closed(&options, &to(), Time::ZERO, &mut out);
    assert_eq!(out.ended.take(), Some(Ended::Idle));
}

#[test]
fn bytes_cut_anywhere_say_the_same() {
    let options = polling(30);
    let bytes = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for cut in 0..bytes.len() {
        let (mut client, mut out) = up(&options);
        let at = poll(&mut client, &options, &mut out);
        answer(&mut client, &options, &bytes[..cut], at, &mut out);
        assert!(out.events.is_empty(), "cut at {cut}");
        answer(&mut client, &options, &bytes[cut..], at, &mut out);
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
        ..to()
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
        client.peer_closed(&options, &to(), Time::ZERO, &mut out);
        proptest::prop_assert!(out.ended.is_some());
    }
}

#[test]
fn an_answer_that_is_too_much_is_refused_whether_it_comes_at_once_or_in_pieces() {
    let options = Options {
        response_max: 1_000,
        ..Options::default()
    };
    let chunk = "64\r\n".to_owned() + &"x".repeat(100) + "\r\n";
    let long = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
    let body = long.clone() + &chunk.repeat(20) + "0\r\n\r\n";
    let line = long + "1;" + &"y".repeat(200) + "\r\nz\r\n0\r\n\r\n";
    let head = "HTTP/1.1 204 No\r\nx: ".to_owned() + &"h".repeat(HEAD_BYTES_MAX) + "\r\n\r\n";
    for (text, why) in [
        (&body, Malformed::TooLarge { most: 1_000 }),
        (&line, Malformed::Length),
        (&head, Malformed::HeadTooLong),
    ] {
        for piece in [usize::MAX, 700, 33] {
            let (mut client, mut out) = up(&options);
            publish(&mut client, &options, 0, &mut out);
            for bytes in text.as_bytes().chunks(piece.min(text.len())) {
                answer(&mut client, &options, bytes, Time::ZERO, &mut out);
            }
            assert_eq!(
                out.ended,
                Some(Ended::Malformed(why)),
                "in pieces of {piece}"
            );
            assert_eq!((out.events.len(), client.waiting()), (0, 1));
        }
    }
}
