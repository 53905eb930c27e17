//! A device's HTTP session against a server that says anything in pieces cut anywhere, answers as
//! it should, is silent, hangs up.
//!
//! What must hold: however bytes are cut, the session does the same; what it writes are requests;
//! each sample that it took is delivered, refused, given up or still waiting, once; it holds no
//! more than its bounds; a deadline that has passed leads somewhere; and at an honest server it
//! gets rid of all that waits.

use std::collections::BTreeSet;
use std::time::Duration;

use actorsim_actors::Time;
use actorsim_fleet::session::http::{Batch, Client, Endpoint, Event, Options, Output, Paths};

use super::{Target, path};
use crate::script::{Script, Steps, pieces};

pub(crate) const TARGET: Target = Target {
    name: "http",
    about: "HTTP sessions against any server",
    run,
    seeds,
    words: &[
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 204 No Content\r\n",
        "content-length: ",
        "transfer-encoding: chunked\r\n",
        "connection: close\r\n",
        "connection: keep-alive\r\n",
        "retry-after: ",
        "\r\n\r\n",
        "0\r\n\r\n",
    ],
    len_max: 4_096,
    heap_max: 4 << 20,
};

/// Exchanges until everything that waits must be gone: one sample each at least.
const ROUNDS_MAX: usize = 256;

/// Answers of an honest server.
const ANSWERS: [&[u8]; 10] = [
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;x=y\r\n{}\r\n0\r\nt: u\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 429 Slow\r\nretry-after: 18446744073709551615\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\nno\n",
    b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nto the end",
    b"HTTP/1.1 408 Late\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
];
const WELL: u8 = 0;

/// Two sessions that are told the same: one hears whole, the other in pieces.
struct Run {
    options: Options,
    paths: Paths,
    whole: Client,
    cut: Client,
    now: Time,
    next: u64,
    open: BTreeSet<u64>,
    /// Requests that have no answer yet.
    asked: usize,
}

fn paths() -> Paths {
    Paths {
        samples: path("/devices/{device_id}/telemetry"),
        commands: path("/devices/{device_id}/commands"),
        replies: path("/devices/{device_id}/replies"),
    }
}

impl Run {
    fn new(of: u8) -> Self {
        let batch_wait = if of & 2 == 0 { 0 } else { 5 };
        let poll = if of & 4 == 0 { 0 } else { 10 };
        let options = Options {
            batch_max: if of & 1 == 0 { 1 } else { 5 },
            batch: if of & 8 == 0 {
                Batch::JsonArray
            } else {
                Batch::Concatenated
            },
            batch_wait: Duration::from_secs(batch_wait),
            poll_interval: Duration::from_secs(poll),
            outbox_max: if of & 16 == 0 { 64 } else { 3 },
            response_max: if of & 32 == 0 { 4_096 } else { 100 },
            ..Options::default()
        };
        Self {
            options,
            paths: paths(),
            whole: Client::default(),
            cut: Client::default(),
            now: Time::ZERO + Duration::from_secs(1),
            next: 0,
            open: BTreeSet::new(),
            asked: 0,
        }
    }

    /// Does something to both, each in its way, and compares.
    fn both<T: PartialEq + std::fmt::Debug>(
        &mut self,
        mut act: impl FnMut(&mut Client, bool, (&Options, &Endpoint<'_>, Time), &mut Output) -> T,
    ) -> T {
        let to = Endpoint {
            host: "server:80",
            paths: &self.paths,
            id: "pump-0001",
            authorization: None,
            seed: 7,
        };
        let terms = (&self.options, &to, self.now);
        let (mut out, mut other) = (Output::default(), Output::default());
        let told = act(&mut self.whole, false, terms, &mut out);
        let other_told = act(&mut self.cut, true, terms, &mut other);
        assert_eq!(told, other_told);
        self.settle(&out, &other);
        told
    }

    fn settle(&mut self, out: &Output, other: &Output) {
        assert_eq!(out.bytes, other.bytes, "cut otherwise, it writes otherwise");
        assert_eq!(
            out.events, other.events,
            "cut otherwise, it tells otherwise"
        );
        assert_eq!(out.ended.is_some(), other.ended.is_some());
        assert_eq!(self.whole.is_busy(), self.cut.is_busy());
        if out.ended.is_some() {
            self.asked = 0;
            assert!(!self.whole.is_busy());
        }
        let mut bytes = &out.bytes[..];
        while !bytes.is_empty() {
            bytes = &bytes[request(bytes)..];
            self.asked += usize::from(out.ended.is_none());
        }
        for event in &out.events {
            let (Event::Delivered { tag } | Event::Refused { tag, .. }) = event else {
                continue;
            };
            assert!(self.open.remove(tag), "sample {tag} ended twice");
        }
        assert_eq!(
            self.open.len(),
            self.whole.waiting(),
            "the books do not balance"
        );
        assert!(self.whole.waiting() <= usize::from(self.options.outbox_max));
    }

    fn open(&mut self) {
        self.both(|client, _, _, _| client.lost());
        self.asked = 0;
        self.both(|client, _, (options, to, now), out| client.open(options, to, now, out));
    }

    fn heard(&mut self, bytes: &[u8], cut: u8) {
        self.both(|client, is_cut, (options, to, now), out| {
            for piece in pieces(bytes, if is_cut { cut } else { 0 }) {
                client.received(options, to, piece, now, out);
            }
        });
    }

    fn publish(&mut self, len: u16) {
        let tag = self.next;
        self.next += 1;
        self.open.insert(tag);
        let body = vec![b'1'; usize::from(len % 600)];
        // what is not taken is not open; a sample never ends before it was taken
        let full = self.whole.waiting() >= usize::from(self.options.outbox_max);
        if full {
            self.open.remove(&tag);
        }
        let taken = self.both(|client, _, (options, to, now), out| {
            client.publish(options, to, (&body, tag), now, out)
        });
        assert_eq!(taken.is_err(), full);
    }

    fn give_up(&mut self) {
        let given_up = self.whole.drop_oldest();
        assert_eq!(given_up, self.cut.drop_oldest());
        if let Some(tag) = given_up {
            assert!(self.open.remove(&tag), "sample {tag} ended twice");
        }
    }

    /// Time passes; what is due is done.
    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        if self
            .whole
            .deadline(&self.options)
            .is_none_or(|due| due > self.now)
        {
            return;
        }
        self.both(|client, _, (options, to, now), out| client.expire(options, to, now, out));
        let due = self.whole.deadline(&self.options);
        assert!(due.is_none_or(|due| due > self.now), "it expires for ever");
    }

    fn answer(&mut self, with: u8, cut: u8) {
        if self.asked > 0 {
            self.asked -= 1;
            self.heard(ANSWERS[usize::from(with) % ANSWERS.len()], cut);
        }
    }

    fn peer_closed(&mut self) {
        self.both(|client, _, (options, to, now), out| {
            client.peer_closed(options, to, now, out);
        });
        assert!(!self.whole.is_busy());
    }

    /// The server is honest from now on: all ends well.
    fn recovers(&mut self) {
        self.options.response_max = 4_096;
        self.open();
        let minute = self.options.retry.max;
        for _ in 0..ROUNDS_MAX {
            while self.asked > 0 {
                self.answer(WELL, 0);
            }
            self.pass(minute);
            if self.whole.waiting() == 0 {
                return;
            }
            if self.whole.deadline(&self.options).is_none() {
                self.open();
            }
        }
        panic!("it does not get rid of what waits");
    }
}

/// The request at the front; returns its bytes.
fn request(bytes: &[u8]) -> usize {
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut head = httparse::Request::new(&mut headers);
    let parsed = head.parse(bytes).expect("a session writes requests");
    let httparse::Status::Complete(len) = parsed else {
        panic!("half a request was written");
    };
    let body = head
        .headers
        .iter()
        .find(|header| header.name == "content-length");
    let body = body.map_or(0, |header| {
        let text = std::str::from_utf8(header.value).expect("digits");
        text.parse().expect("digits")
    });
    assert!(len + body <= bytes.len(), "half a body was written");
    len + body
}

fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let mut run = Run::new(script.byte());
    run.open();
    while let Some(step) = script.step() {
        match step % 9 {
            0 | 1 => {
                let cut = script.byte();
                run.heard(script.bytes(), cut);
            }
            2 | 3 => {
                let (with, cut) = (script.byte(), script.byte());
                run.answer(with, cut);
            }
            4 => run.pass(Duration::from_millis(u64::from(script.number()) * 10)),
            5 => run.publish(script.number()),
            6 => run.give_up(),
            7 => {
                let reply = script.bytes();
                let _ = run.both(|client, _, (options, to, now), out| {
                    client.reply(options, to, reply, now, out)
                });
            }
            _ => match script.byte() % 3 {
                0 => run.open(),
                1 => run.peer_closed(),
                _ => run.both(|client, _, _, out| client.close(out)),
            },
        }
    }
    run.recovers();
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for of in [0, 1, 7, 13] {
        let mut calm = Steps::new().byte(of);
        for with in 0..ANSWERS.len() as u8 {
            calm = calm.byte(5).number(20).step(&[2, with, with]);
            calm = calm.byte(4).number(1_000).step(&[8, 0]);
        }
        seeds.push(
            calm.byte(7)
                .bytes(b"{\"status\":\"executed\"}")
                .step(&[2, 0])
                .done(),
        );
        for answer in ANSWERS {
            let asked = Steps::new().step(&[of, 5]).number(30).byte(5).number(9);
            seeds.push(asked.step(&[0, 1]).bytes(answer).step(&[8, 1]).done());
        }
    }
    seeds
}
