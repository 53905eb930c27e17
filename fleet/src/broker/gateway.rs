//! One connection of a pool: an actor that speaks MQTT for the devices on it.
//!
//! The session is [`crate::session::mqtt`], driven here by tokio (`channel`: the connection, and
//! TLS on it). To the broker it is one client, with a will of its own; for its devices it publishes
//! what waits in their relay, subscribes to their commands and tells their statuses, on every
//! connection anew. A device is said to be there once its commands are subscribed to, and speaks
//! after that: what waits since the connection before goes when all is told. What was sent and not
//! acknowledged belongs to the place of the connection, not to the actor: one that was killed is
//! followed by one that goes on with it. Bounds: [`IN_FLIGHT_MAX`], [`BATCH`], [`WIRE_MAX`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::{ActorPath, Addr, Clock, Fault, Flow, MailboxSpec, Overflow};
use actorsim_actors::{TaskActor, TaskContext, Time};
use actorsim_supervision::ChildSpec;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use self::channel::Channel;
use super::plan::Credentials;
use super::pool::{News, Pool, Seat};
use super::publisher::{FAREWELL, LOOK, PublisherMessage, stopped};
use super::relay::{Letter, Relay};
use super::session::OWN;
use super::stats::PublishTally;
use crate::fleet::FleetDownlink;
use crate::session::backoff::Backoff;
use crate::session::mqtt::client::Message;
use crate::session::mqtt::output::Inbound;
use crate::session::mqtt::packet::Filters;
use crate::session::mqtt::{Client, Ended, Event, Login, Options, Output, Qos, Will};
use crate::session::tls::Terms;

mod channel;

/// Messages of QoS 1 and 2 on their way at a time: 5,000 a second at a round trip of 50 ms.
pub const IN_FLIGHT_MAX: u16 = 256;
/// Messages and statuses that are handed to the session at once, and so filters of a subscription:
/// 16 KB as a rule.
pub const BATCH: usize = 256;
/// Bytes for the broker from which on no more are made: it reads slower than we write.
pub const WIRE_MAX: usize = 256 << 10;

/// Commands come to topics between these.
const COMMANDS: (&str, &str) = ("devices/", "/commands");

/// What the connections of a pool are made of.
#[derive(Debug)]
pub struct GatewaySpec {
    /// Where the broker is.
    pub address: SocketAddr,
    /// TLS, if it is called so; a certificate of its own is made for the client id.
    pub tls: Option<Terms>,
    /// How sessions are; how much is in flight and waits is up to the pool.
    pub options: Options,
    /// Who logs in.
    pub credentials: Credentials,
    /// Client ids are this, `-pool-` and a number.
    pub name: String,
    /// When to connect again.
    pub backoff: Backoff,
    /// The devices.
    pub pool: Pool,
    /// Takes commands to them.
    pub downlink: Arc<FleetDownlink>,
    /// Differs between nodes, so that they do not connect again at once.
    pub seed: u64,
}

/// The connections as children of the supervisor at `parent`: `mqtt-0` and so on.
#[must_use]
pub fn gateway_children(parent: &ActorPath, spec: GatewaySpec) -> Vec<ChildSpec> {
    let spec = Arc::new(spec);
    let child = |lane: usize| {
        let name = format!("mqtt-{lane}");
        let mailbox = MailboxSpec::new(1, Overflow::Reject);
        let addr: Addr<PublisherMessage> = Addr::new(parent.join(&name), mailbox);
        let (spec, kept) = (Arc::clone(&spec), Arc::<Mutex<Kept>>::default());
        ChildSpec::task(&name, &addr, move || Gateway {
            spec: Arc::clone(&spec),
            lane,
            kept: Arc::clone(&kept),
            stop: watch::Sender::new(false),
            done: Arc::new(Notify::new()),
        })
    };
    (0..spec.pool.connections()).map(child).collect()
}

/// What outlives an incarnation.
#[derive(Debug, Default)]
struct Kept {
    client: Client,
    /// Samples in its outbox.
    samples: u64,
}

struct Gateway {
    spec: Arc<GatewaySpec>,
    lane: usize,
    kept: Arc<Mutex<Kept>>,
    stop: watch::Sender<bool>,
    done: Arc<Notify>,
}

impl TaskActor for Gateway {
    type Msg = PublisherMessage;

    async fn started(&mut self, cx: &mut TaskContext<PublisherMessage>) -> Result<(), Fault> {
        let mut run = Run {
            spec: Arc::clone(&self.spec),
            id: format!("{}-pool-{}", self.spec.name, self.lane),
            lane: self.lane,
            own: std::mem::take(&mut *self.kept.lock()),
            kept: Arc::clone(&self.kept),
            out: Output::default(),
            topic: String::new(),
            up: false,
            told: 0,
            sound: false,
            clock: cx.clock().clone(),
            stop: self.stop.subscribe(),
        };
        let done = Arc::clone(&self.done);
        cx.pump(async move {
            run.forever().await;
            run.give_up();
            drop(run);
            done.notify_one();
            Ok(())
        });
        Ok(())
    }

    async fn handle(
        &mut self,
        message: PublisherMessage,
        _: &mut TaskContext<PublisherMessage>,
    ) -> Result<Flow, Fault> {
        match message {}
    }

    /// Publishes what waits, as long as the broker takes it, and says goodbye.
    async fn stopping(&mut self, _: &mut TaskContext<PublisherMessage>) {
        self.stop.send_replace(true);
        let _ = tokio::time::timeout(FAREWELL + 2 * LOOK, self.done.notified()).await;
        self.spec.pool.relay(self.lane).give_up();
        self.spec.pool.give_up(self.lane);
    }
}

/// The life of one connection.
struct Run {
    spec: Arc<GatewaySpec>,
    id: String,
    lane: usize,
    own: Kept,
    /// Where that goes when this ends, however it does.
    kept: Arc<Mutex<Kept>>,
    out: Output,
    topic: String,
    up: bool,
    /// Devices that the broker believes there.
    told: u64,
    /// The broker has shown that it works.
    sound: bool,
    clock: Clock,
    stop: watch::Receiver<bool>,
}

impl Drop for Run {
    fn drop(&mut self) {
        self.down();
        *self.kept.lock() = std::mem::take(&mut self.own);
    }
}

impl Run {
    /// Connects, publishes, and connects again, until it is stopped.
    async fn forever(&mut self) {
        let mut attempt = 0;
        let mut stop = self.stop.clone();
        while !*self.stop.borrow() {
            let served = tokio::select! {
                biased;
                served = self.serve() => served,
                () = stopped(&mut stop, FAREWELL) => Ok(()),
            };
            self.down();
            let Err(why) = served else { return };
            tracing::warn!("mqtt: connection {}: {why}", self.id);
            self.count(|tally| tally.errors += 1);
            attempt = match std::mem::take(&mut self.sound) {
                true => 0,
                false => attempt + 1,
            };
            let seed = self.spec.seed ^ self.lane as u64;
            tokio::select! {
                biased;
                () = stopped(&mut stop, Duration::ZERO) => return,
                () = tokio::time::sleep(self.spec.backoff.wait(seed, attempt)) => {}
            }
        }
    }

    fn relay(&self) -> &Relay {
        self.spec.pool.relay(self.lane)
    }

    fn count(&self, note: impl FnOnce(&mut PublishTally)) {
        let mut tally = PublishTally::default();
        note(&mut tally);
        self.spec.pool.stats().take(&mut tally);
    }

    fn options(&self) -> Options {
        Options {
            in_flight_max: IN_FLIGHT_MAX,
            outbox_max: IN_FLIGHT_MAX,
            ..self.spec.options
        }
    }

    /// The connection is gone, and with it what the broker believed.
    fn down(&mut self) {
        self.up = false;
        self.own.client.lost();
        let told = std::mem::take(&mut self.told);
        self.count(|tally| tally.connected -= i64::try_from(told).unwrap_or(i64::MAX));
    }

    /// What was not acknowledged never will be.
    fn give_up(&mut self) {
        let samples = std::mem::take(&mut self.own).samples;
        self.count(|tally| tally.abandon(samples));
        self.spec.pool.give_up(self.lane);
    }

    /// One connection, up to its end: in order if it was stopped.
    async fn serve(&mut self) -> Result<(), String> {
        let options = self.options();
        let mut channel = self.connect(&options).await?;
        self.open(&options);
        loop {
            let more = self.advance(&options, &mut channel)?;
            if let Some(ended) = self.out.ended.take() {
                if ended != Ended::Closed {
                    return Err(ended.to_string());
                }
                channel.finish(LOOK).await;
                return Ok(());
            }
            let now = self.clock.monotonic();
            let due = self.own.client.deadline(&options);
            let stuck = channel.stuck_since().map(|at| at + options.answer_timeout);
            if stuck.is_some_and(|at| at <= now) {
                return Err("the broker does not read".to_owned());
            }
            let wait = due.into_iter().chain(stuck).min();
            let wait = wait.map_or(LOOK, |at| at.since(now).min(LOOK));
            let relay = self.spec.pool.relay(self.lane);
            tokio::select! {
                biased;
                _ = self.stop.changed() => {}
                moved = channel.turn(now) => moved?,
                () = relay.stirred(), if self.up && !more => {}
                () = tokio::time::sleep(wait), if !more => {}
                () = tokio::task::yield_now(), if more => {}
            }
        }
    }

    async fn connect(&self, options: &Options) -> Result<Channel, String> {
        let began = self.clock.monotonic();
        let opening = async {
            let mut channel = Channel::connect(self.spec.address).await?;
            if let Some(terms) = &self.spec.tls {
                let secured = channel.secure(terms, &self.id).await;
                secured.inspect_err(|_| self.count(|tally| tally.insecure += 1))?;
                let took = self.clock.monotonic().since(began).as_micros();
                self.count(|tally| {
                    tally.handshakes += 1;
                    let took = u32::try_from(took).unwrap_or(u32::MAX);
                    tally.handshakes_us.push(took);
                });
            }
            Ok(channel)
        };
        let opened = tokio::time::timeout(options.answer_timeout, opening).await;
        opened.unwrap_or_else(|_| Err("no connection in time".to_owned()))
    }

    fn open(&mut self, options: &Options) {
        let topic = self.own_status();
        let Credentials { username, password } = &self.spec.credentials;
        let login = Login {
            client_id: &self.id,
            will: Some(Will {
                topic: &topic,
                payload: b"lost",
                qos: Qos::AtLeastOnce,
                retain: true,
            }),
            username: username.as_deref(),
            password: password.as_deref(),
        };
        let now = self.clock.monotonic();
        self.own.client.open(options, &login, now, &mut self.out);
    }

    fn own_status(&self) -> String {
        format!("gateways/{}/status", self.id)
    }

    /// Takes what came, hands over what waits. True: there is more to hand over at once.
    fn advance(&mut self, options: &Options, channel: &mut Channel) -> Result<bool, String> {
        let now = self.clock.monotonic();
        let heard = channel.take();
        self.own
            .client
            .received(options, &heard, now, &mut self.out);
        if channel.is_ended() && self.out.ended.is_none() {
            return Err("the broker closed the connection".to_owned());
        }
        self.own.client.expire(options, now, &mut self.out);
        self.settle(options, now);
        let mut more = false;
        if self.up && self.out.ended.is_none() {
            more = self.feed(options, channel.waiting(), now);
            self.settle(options, now);
            if *self.stop.borrow() && !more && self.is_done() {
                self.say(options, &self.own_status(), b"offline", now);
                self.own.client.close(options, &mut self.out);
            }
        }
        channel.write(&mut self.out.bytes)?;
        Ok(more)
    }

    /// Whether all that there was has gone, and was acknowledged.
    fn is_done(&self) -> bool {
        let nothing_waits = self.relay().waiting() == 0 && !self.spec.pool.has_news(self.lane);
        nothing_waits && self.own.client.waiting() == 0
    }

    /// Events to counters and devices.
    fn settle(&mut self, options: &Options, now: Time) {
        let mut tally = PublishTally::default();
        for event in std::mem::take(&mut self.out.events) {
            match event {
                Event::Up { .. } => {
                    tally.connects += 1;
                    self.up = true;
                    self.say(options, &self.own_status(), b"online", now);
                    self.spec.pool.renew(self.lane);
                }
                Event::Delivered { tag: OWN } => {}
                Event::Delivered { tag } => {
                    self.sound = true;
                    self.own.samples = self.own.samples.saturating_sub(1);
                    tally.acked += 1;
                    let us = now.since(Time(tag)).as_micros();
                    tally.latencies.push(u32::try_from(us).unwrap_or(u32::MAX));
                }
                Event::Refused { tag: OWN, .. } | Event::Uncertain { tag: OWN } => {
                    tally.errors += 1;
                }
                Event::Refused { .. } | Event::Uncertain { .. } => {
                    self.own.samples = self.own.samples.saturating_sub(1);
                    tally.refused += 1;
                }
                Event::Subscribed { granted } => tally.errors += u64::from(granted.is_none()),
                Event::Message(inbound) => self.command(*inbound),
            }
        }
        self.spec.pool.stats().take(&mut tally);
    }

    /// A command goes to the device whose id its topic has. One that it cannot take now is gone:
    /// its sender hears no reply.
    fn command(&self, inbound: Inbound) {
        let id = inbound.topic.strip_prefix(COMMANDS.0);
        if let Some(id) = id.and_then(|id| id.strip_suffix(COMMANDS.1)) {
            let reply_to = inbound.response_topic;
            let _ = self.spec.downlink.tell(id, inbound.payload, reply_to);
        }
    }

    /// Hands statuses, subscriptions and messages to the session, as long as there is room. While
    /// there is something to tell no message goes: it may be of one that is not there yet. True:
    /// there is more, and room for it.
    fn feed(&mut self, options: &Options, on_the_wire: usize, now: Time) -> bool {
        let (mut batch, mut births) = (BATCH, Vec::new());
        while batch > 0
            && !self.own.client.is_subscribing()
            && self.is_read(on_the_wire)
            && let Some(seat) = self.spec.pool.next(self.lane)
        {
            batch -= 1;
            if self.tell(options, &seat, now).up {
                births.push(seat);
            }
        }
        self.bear(options, &births, now);
        if !self.spec.pool.has_news(self.lane) {
            self.own.client.go_on(options, now, &mut self.out);
        }
        while batch > 0 && !self.spec.pool.has_news(self.lane) {
            let room = self.room(on_the_wire);
            let letters = self.relay().try_next(room.min(batch).min(16));
            if letters.is_empty() {
                break;
            }
            if self.spec.pool.has_news(self.lane) {
                self.relay().put_back(letters.into_iter()); // their writers have just come, perhaps
                break;
            }
            batch -= letters.len();
            letters
                .iter()
                .for_each(|letter| self.send(options, letter, now));
        }
        let waits = match self.spec.pool.has_news(self.lane) {
            true => !self.own.client.is_subscribing(),
            false => self.relay().waiting() > 0 && self.room(on_the_wire) > 0,
        };
        waits && self.is_read(on_the_wire)
    }

    /// Whether the broker reads what is written, so many bytes of which wait for the socket.
    fn is_read(&self, on_the_wire: usize) -> bool {
        on_the_wire + self.out.bytes.len() < WIRE_MAX
    }

    /// How many messages the session takes now.
    fn room(&self, on_the_wire: usize) -> usize {
        match self.is_read(on_the_wire) {
            true => usize::from(IN_FLIGHT_MAX).saturating_sub(self.own.client.waiting()),
            false => 0,
        }
    }

    /// Tells the broker that a device is gone, and takes note of one that has come.
    fn tell(&mut self, options: &Options, seat: &Seat, now: Time) -> News {
        let news = seat.news();
        if news.lost {
            self.tell_status(options, seat, b"lost", now);
        }
        if news.left {
            self.tell_status(options, seat, b"offline", now);
        }
        let change = i64::from(news.up) - i64::from(news.was_told);
        self.told = self.told.saturating_add_signed(change);
        self.count(|tally| tally.connected += change);
        news
    }

    /// Subscribes to the commands of those that have come, and then says that they are there.
    fn bear(&mut self, options: &Options, births: &[Seat], now: Time) {
        if births.is_empty() {
            return;
        }
        let mut bytes = Vec::new();
        for seat in births {
            self.topic.clear();
            seat.write_commands(&mut self.topic);
            let appended = Filters::append(&mut bytes, &self.topic, Qos::AtLeastOnce);
            debug_assert!(appended.is_ok(), "a template is shorter");
        }
        let asked = Filters::new(&bytes).map(|filters| {
            let client = &mut self.own.client;
            client.subscribe_all(options, filters, now, &mut self.out)
        });
        if !matches!(asked, Ok(Ok(()))) {
            self.count(|tally| tally.errors += 1);
        }
        for seat in births {
            self.tell_status(options, seat, b"online", now);
        }
    }

    /// Says what has become of a device.
    fn tell_status(&mut self, options: &Options, seat: &Seat, text: &[u8], now: Time) {
        let mut topic = std::mem::take(&mut self.topic);
        topic.clear();
        seat.write_status(&mut topic);
        self.say(options, &topic, text, now);
        self.topic = topic;
    }

    /// Says something of our own, retained, before all that waits. What is lost of it with the
    /// connection is said anew on the next.
    fn say(&mut self, options: &Options, topic: &str, text: &[u8], now: Time) {
        let message = Message {
            topic,
            payload: text,
            qos: Qos::AtMostOnce,
            retain: true,
            tag: OWN,
        };
        let client = &mut self.own.client;
        let said = client.announce(options, &message, now, &mut self.out);
        if said.is_err() {
            self.count(|tally| tally.errors += 1);
        }
    }

    /// Publishes a message of a device.
    fn send(&mut self, options: &Options, letter: &Letter, now: Time) {
        let tag = letter.since.map_or(OWN, |since| since.0.max(OWN + 1));
        let message = Message {
            topic: &letter.key,
            payload: &letter.body,
            qos: letter.qos,
            retain: false,
            tag,
        };
        let client = &mut self.own.client;
        let taken = client.publish(options, &message, now, &mut self.out);
        match (taken, tag) {
            (Ok(()), OWN) => {}
            (Ok(()), _) => self.own.samples += 1,
            (Err(_), OWN) => self.count(|tally| tally.errors += 1),
            (Err(_), _) => self.count(|tally| tally.refused += 1),
        }
    }
}
