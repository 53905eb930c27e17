//! A device's CoAP session against a server, or anybody, whose datagrams say anything.
//!
//! What must hold: what the session sends are messages; each sample that it took is delivered,
//! refused, given up or still waiting, once; it holds no more than its bounds; a deadline that has
//! passed leads somewhere; and at an honest server it gets rid of all that waits.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use actorsim_actors::Time;
use actorsim_fleet::session::coap::client::Client;
use actorsim_fleet::session::coap::packet::{Block, Code, Kind, Packet, Writer, option};
use actorsim_fleet::session::coap::{Endpoint, Event, Method, Options, Output, Paths};

use super::{Target, path};
use crate::script::{Script, Steps};

pub(crate) const TARGET: Target = Target {
    name: "coap",
    about: "CoAP sessions against any server",
    run,
    seeds,
    words: &[],
    len_max: 4_096,
    heap_max: 2 << 20,
};

/// Requests of a session that a server here remembers.
const REMEMBERED: usize = 16;
/// Exchanges until everything that waits must be gone: 64 samples of up to 160 blocks.
const ROUNDS_MAX: usize = 64 * 170;

/// A request as a server has it.
#[derive(Clone, Debug)]
struct Asked {
    kind: Kind,
    id: u16,
    token: Vec<u8>,
    observes: bool,
    block1: Option<Block>,
}

struct Run {
    options: Options,
    paths: Paths,
    client: Client,
    now: Time,
    next: u64,
    open: BTreeSet<u64>,
    asked: VecDeque<Asked>,
    /// Token of the last observation.
    watch: Vec<u8>,
    number: u32,
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
        let options = Options {
            confirmable: of & 1 == 0,
            method: if of & 2 == 0 {
                Method::Put
            } else {
                Method::Post
            },
            observe: of & 4 == 0,
            block_exponent: if of & 8 == 0 { 6 } else { 0 },
            outbox_max: if of & 16 == 0 { 64 } else { 3 },
            ..Options::default()
        };
        Self {
            options,
            paths: paths(),
            client: Client::default(),
            now: Time::ZERO + Duration::from_secs(1),
            next: 0,
            open: BTreeSet::new(),
            asked: VecDeque::new(),
            watch: Vec::new(),
            number: 1,
        }
    }

    fn act<T>(
        &mut self,
        act: impl FnOnce(&mut Client, (&Options, &Endpoint<'_>, Time), &mut Output) -> T,
    ) -> T {
        let to = Endpoint {
            paths: &self.paths,
            id: "pump-0001",
            seed: 7,
        };
        let mut out = Output::default();
        let told = act(&mut self.client, (&self.options, &to, self.now), &mut out);
        for datagram in out.datagrams() {
            let packet = Packet::read(datagram).expect("a session sends messages");
            if packet.code.class() == 0 && packet.code != Code::EMPTY {
                self.asked.push_back(asked(&packet));
                if self.asked.len() > REMEMBERED {
                    self.asked.pop_front();
                }
            }
        }
        for event in &out.events {
            let (Event::Delivered { tag } | Event::Refused { tag, .. }) = event else {
                continue;
            };
            assert!(self.open.remove(tag), "sample {tag} ended twice");
        }
        assert_eq!(
            self.open.len(),
            self.client.waiting(),
            "the books do not balance"
        );
        assert!(self.client.waiting() <= usize::from(self.options.outbox_max));
        told
    }

    fn open(&mut self) {
        self.asked.clear();
        self.act(|client, (options, to, now), out| client.open(options, to, now, out));
    }

    fn heard(&mut self, datagram: &[u8]) {
        self.act(|client, (options, to, now), out| {
            client.received(options, to, datagram, now, out);
        });
    }

    fn publish(&mut self, len: u16) {
        let tag = self.next;
        self.next += 1;
        let full = self.client.waiting() >= usize::from(self.options.outbox_max);
        if !full {
            self.open.insert(tag);
        }
        let body = vec![b'1'; usize::from(len % 2_600)];
        let taken = self.act(|client, (options, to, now), out| {
            client.publish(options, to, (&body, tag), now, out)
        });
        assert_eq!(taken.is_err(), full);
    }

    fn give_up(&mut self) {
        if let Some(tag) = self.client.drop_oldest() {
            assert!(self.open.remove(&tag), "sample {tag} ended twice");
        }
    }

    /// Time passes; what is due is done.
    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        if self
            .client
            .deadline(&self.options)
            .is_none_or(|due| due > self.now)
        {
            return;
        }
        self.act(|client, (options, to, now), out| client.expire(options, to, now, out));
        let due = self.client.deadline(&self.options);
        assert!(due.is_none_or(|due| due > self.now), "it expires for ever");
    }

    /// Answers the oldest request, in one of the ways that there are.
    fn answer(&mut self, code: u8, how: u8, payload: &[u8]) {
        let Some(asked) = self.asked.pop_front() else {
            return;
        };
        let kind = match how & 3 {
            0 | 1 => Kind::Acknowledgement,
            2 => Kind::Confirmable,
            _ => Kind::NonConfirmable,
        };
        let code = match code {
            0 => Code::CHANGED,
            1 => Code::CONTENT,
            2 => Code::CONTINUE,
            3 => Code::TOO_LARGE,
            4 => Code::TOO_MANY,
            5 => Code::NOT_FOUND,
            6 => Code(0xa3), // 5.03
            other => Code(other),
        };
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, kind, code, asked.id, &asked.token);
        if asked.observes && how & 4 == 0 {
            writer = writer.number(option::OBSERVE, self.number);
            self.watch.clone_from(&asked.token);
        }
        if how & 8 != 0 {
            writer = writer.number(option::MAX_AGE, u32::from(how));
        }
        if how & 16 != 0 {
            let more = how & 32 != 0;
            writer = writer.number(option::BLOCK2, part(0, more, how >> 6));
        }
        if let Some(block) = asked.block1 {
            writer = writer.number(option::BLOCK1, part(block.number, block.more, how >> 6));
        }
        writer.payload(payload);
        self.heard(&bytes);
    }

    fn notify(&mut self, by: u8, payload: &[u8]) {
        self.number = self.number.wrapping_add(u32::from(by)) & 0x00ff_ffff;
        let mut bytes = Vec::new();
        let kind = [Kind::NonConfirmable, Kind::Confirmable][usize::from(by & 1)];
        let writer = Writer::new(&mut bytes, kind, Code::CONTENT, u16::from(by), &self.watch);
        writer.number(option::OBSERVE, self.number).payload(payload);
        self.heard(&bytes);
    }

    /// Somebody puts a command to the device.
    fn put(&mut self, id: u8, payload: &[u8]) {
        let mut bytes = Vec::new();
        let writer = Writer::new(&mut bytes, Kind::Confirmable, Code::PUT, id.into(), b"t");
        writer.path("/devices/pump-0001/commands").payload(payload);
        self.heard(&bytes);
    }

    /// The server is honest from now on: all ends well.
    fn recovers(&mut self) {
        self.open();
        for _ in 0..ROUNDS_MAX {
            while let Some(asked) = self.asked.front() {
                let more = asked.block1.is_some_and(|block| block.more);
                // 2.31 while blocks follow, of the size that they have
                let exponent = asked.block1.map_or(0, |block| block.exponent);
                self.well(more, exponent);
            }
            self.pass(Duration::from_secs(60));
            if self.client.waiting() == 0 {
                return;
            }
            if self.client.deadline(&self.options).is_none() {
                self.open();
            }
        }
        panic!("it does not get rid of what waits");
    }

    fn well(&mut self, more: bool, exponent: u8) {
        let Some(asked) = self.asked.pop_front() else {
            return;
        };
        if asked.kind != Kind::Confirmable {
            return;
        }
        let code = if more { Code::CONTINUE } else { Code::CHANGED };
        let kind = Kind::Acknowledgement;
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, kind, code, asked.id, &asked.token);
        if let Some(block) = asked.block1 {
            writer = writer.number(option::BLOCK1, part(block.number, block.more, exponent));
        }
        writer.payload(&[]);
        self.heard(&bytes);
    }
}

fn asked(packet: &Packet<'_>) -> Asked {
    Asked {
        kind: packet.kind,
        id: packet.id,
        token: packet.token.to_vec(),
        observes: packet.number(option::OBSERVE) == Some(0),
        block1: packet.number(option::BLOCK1).and_then(Block::of),
    }
}

fn part(number: u32, more: bool, exponent: u8) -> u32 {
    Block {
        number,
        more,
        exponent: exponent.min(6),
    }
    .value()
}

fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let mut run = Run::new(script.byte());
    run.open();
    while let Some(step) = script.step() {
        match step % 11 {
            0 | 1 => run.heard(script.bytes()),
            2 | 3 => {
                let (code, how) = (script.byte(), script.byte());
                run.answer(code, how, script.bytes());
            }
            4 => run.pass(Duration::from_millis(u64::from(script.number()) * 10)),
            5 => run.publish(script.number()),
            6 => run.give_up(),
            7 => {
                let (body, put) = (script.bytes(), script.byte() & 1 == 0);
                let _ = run.act(|client, (options, to, now), out| {
                    client.reply(options, to, (body, put), now, out)
                });
            }
            8 => {
                let by = script.byte();
                run.notify(by, script.bytes());
            }
            9 => {
                let id = script.byte();
                run.put(id, script.bytes());
            }
            _ if script.byte() & 1 == 0 => run.open(),
            _ => run.act(|client, (_, to, _), out| client.close(to, out)),
        }
    }
    run.recovers();
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for of in [0, 1, 8, 10, 24] {
        let mut steps = Steps::new().byte(of);
        for code in 0..7 {
            steps = steps.byte(5).number(20).step(&[2, code, 0x40]).bytes(b"{}");
        }
        seeds.push(steps.byte(4).number(6_000).byte(4).number(1_000).done());
        let mut parts = Steps::new().step(&[of, 2, 1, 0x30]).bytes(&[b'x'; 16]);
        parts = parts.step(&[2, 1, 0x30]).bytes(&[b'x'; 16]);
        parts = parts
            .step(&[8, 1])
            .bytes(b"{\"set\":{}}")
            .step(&[9, 3])
            .bytes(b"{}");
        seeds.push(
            parts
                .byte(7)
                .bytes(b"{}")
                .step(&[0, 5])
                .number(2_000)
                .done(),
        );
        let mut bytes = Vec::new();
        let writer = Writer::new(&mut bytes, Kind::Confirmable, Code::GET, 9, &[1; 8]);
        writer
            .option(3, b"host")
            .path("/a/b")
            .number(60, 1 << 20)
            .payload(b"p");
        seeds.push(Steps::new().step(&[of, 0]).bytes(&bytes).done());
    }
    seeds
}
