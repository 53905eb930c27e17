//! The node's connection to an AMQP 0.9.1 broker: one for all devices, a channel for each group.
//!
//! It takes batches out of the [`Relay`], publishes them to one topic exchange, and books a message
//! when the broker has confirmed it; what was on its way when a connection broke goes again on the
//! next, so that a message may come twice and is never lost. Commands come by a queue of the node's
//! own, bound to the commands of all devices. On `amqprs`, whose panics and silences are taken for
//! a broken connection (`docs/decisions/0010-other-protocols.md` says why). Bounds:
//! [`IN_FLIGHT_MAX`], [`BATCH`], [`CHANNELS_MAX`].

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use actorsim_actors::{ActorPath, Addr, Clock, Fault, Flow, MailboxSpec, Message, Overflow};
use actorsim_actors::{TaskActor, TaskContext, Time};
use actorsim_supervision::ChildSpec;
use amqprs::BasicProperties;
use amqprs::callbacks::DefaultConnectionCallback;
use amqprs::channel::{
    BasicAckArguments, BasicConsumeArguments, BasicPublishArguments, BasicQosArguments, Channel,
    ConfirmSelectArguments, ConsumerMessage, ExchangeDeclareArguments, QueueBindArguments,
    QueueDeclareArguments,
};
use amqprs::connection::{Connection, OpenConnectionArguments};
use amqprs::tls::TlsAdaptor;
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsConnector;

use self::flight::{Confirms, Flight};
use super::plan::Credentials;
use super::relay::{Letter, Relay, channel};
use super::stats::PublishTally;
use crate::fleet::FleetDownlink;
use crate::session::backoff::Backoff;
use crate::session::tls::Terms;

mod flight;

/// Messages on their way to the broker; 4,096 of 300 bytes are 1.2 MB.
pub const IN_FLIGHT_MAX: usize = 4_096;
/// Messages that are taken out of the relay at once.
pub const BATCH: usize = 256;
/// Devices that share a channel: a group.
pub const GROUP: u32 = 256;
/// Channels of one connection; a broker has 2,047 as a rule. Further groups share them.
pub const CHANNELS_MAX: u32 = 1_024;
/// Longest wait for a connection, a channel, or word of what was published, as a rule.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How often a silent connection is looked at.
pub(super) const LOOK: Duration = Duration::from_secs(1);
/// Longest wait for the last confirmations at a stop.
pub(super) const FAREWELL: Duration = Duration::from_secs(5);

/// Commands that wait for their devices.
const COMMANDS_MAX: u16 = 256;
/// Routing keys of commands, for a binding and around a device id.
const COMMANDS: (&str, &str, &str) = ("devices.#.commands", "devices.", ".commands");

/// What a publisher is told; nothing so far.
#[derive(Debug)]
pub enum PublisherMessage {}

impl Message for PublisherMessage {}

/// An AMQP broker.
#[derive(Clone, Debug)]
pub struct AmqpBroker {
    /// Where it is.
    pub address: SocketAddr,
    /// TLS, if it is called so.
    pub tls: Option<Terms>,
    /// Its virtual host.
    pub vhost: String,
    /// Topic exchange of all messages; made if it is not there.
    pub exchange: String,
    /// Who the node is; `guest` without.
    pub credentials: Credentials,
}

/// What a publisher is made of.
#[derive(Debug)]
pub struct PublisherSpec {
    /// Where it connects.
    pub broker: AmqpBroker,
    /// What it publishes.
    pub relay: Relay,
    /// Takes commands to devices.
    pub downlink: Arc<FleetDownlink>,
    /// Differs between nodes, so that they do not connect again at once.
    pub seed: u64,
    /// Longest wait for an answer; [`PATIENCE`] as a rule.
    pub patience: Duration,
    /// When to connect again.
    pub backoff: Backoff,
}

/// The publisher as a child of the supervisor at `parent`.
#[must_use]
pub fn publisher_child(parent: &ActorPath, spec: PublisherSpec) -> ChildSpec {
    let mailbox = MailboxSpec::new(1, Overflow::Reject);
    let addr: Addr<PublisherMessage> = Addr::new(parent.join("amqp"), mailbox);
    let spec = Arc::new(spec);
    ChildSpec::task("amqp", &addr, move || Publisher {
        spec: Arc::clone(&spec),
        stop: watch::Sender::new(false),
        done: Arc::new(Notify::new()),
    })
}

struct Publisher {
    spec: Arc<PublisherSpec>,
    stop: watch::Sender<bool>,
    done: Arc<Notify>,
}

impl TaskActor for Publisher {
    type Msg = PublisherMessage;

    async fn started(&mut self, cx: &mut TaskContext<PublisherMessage>) -> Result<(), Fault> {
        let mut run = Run {
            spec: Arc::clone(&self.spec),
            hand: VecDeque::new(),
            flight: Arc::default(),
            clock: cx.clock().clone(),
            stop: self.stop.subscribe(),
            up: false,
        };
        let done = Arc::clone(&self.done);
        cx.pump(async move {
            run.forever().await;
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

    /// Publishes what waits, as long as the broker takes it.
    async fn stopping(&mut self, _: &mut TaskContext<PublisherMessage>) {
        self.stop.send_replace(true);
        let _ = tokio::time::timeout(FAREWELL + LOOK, self.done.notified()).await;
        self.spec.relay.give_up();
    }
}

/// The life of one publisher.
struct Run {
    spec: Arc<PublisherSpec>,
    /// Taken out of the relay, and not on its way yet.
    hand: VecDeque<Letter>,
    flight: Arc<Flight>,
    clock: Clock,
    stop: watch::Receiver<bool>,
    /// Counted as connected.
    up: bool,
}

impl Drop for Run {
    /// What a publisher that was killed had on its way is its successor's.
    fn drop(&mut self) {
        self.put_back();
        let up = std::mem::take(&mut self.up);
        self.count(-i64::from(up), 0);
    }
}

/// A connection with its channels.
struct Live {
    connection: Connection,
    /// By number; opened when their group publishes for the first time.
    channels: BTreeMap<u16, Channel>,
}

impl Run {
    /// Connects, publishes, and connects again, until it is stopped.
    async fn forever(&mut self) {
        let mut attempt = 0;
        while !*self.stop.borrow() {
            let mut stop = self.stop.clone();
            let served = tokio::select! {
                biased;
                served = self.serve() => served,
                () = stopped(&mut stop, FAREWELL) => Ok(()),
            };
            self.put_back();
            let Err((was_up, why)) = served else {
                return;
            };
            tracing::warn!("amqp: {why}");
            self.count(0, 1);
            attempt = if was_up { 0 } else { attempt + 1 };
            tokio::select! {
                biased;
                () = stopped(&mut stop, Duration::ZERO) => return,
                () = tokio::time::sleep(self.spec.backoff.wait(self.spec.seed, attempt)) => {}
            }
        }
    }

    /// What is on its way goes again.
    fn put_back(&mut self) {
        let relay = &self.spec.relay;
        relay.put_back(self.hand.drain(..));
        relay.put_back(self.flight.abandon().into_iter());
    }

    /// One connection, up to its end: in order if it was stopped.
    async fn serve(&mut self) -> Result<(), (bool, String)> {
        let opening = tokio::time::timeout(self.spec.patience, caught(self.open()));
        let opened = opening.await.map_err(|_| "no answer in time".to_owned());
        let (mut live, mut commands) = opened.and_then(|opened| opened).map_err(|w| (false, w))?;
        self.count(1, 0);
        self.up = true;
        let served = caught(self.publish(&mut live, &mut commands)).await;
        self.count(-1, 0);
        self.up = false;
        let closing = live.connection.close();
        let _ = tokio::time::timeout(LOOK, closing).await;
        served.map_err(|why| (true, why))
    }

    fn count(&self, connected: i64, errors: u64) {
        let mut tally = PublishTally {
            connected,
            connects: connected.max(0).unsigned_abs(),
            errors,
            ..PublishTally::default()
        };
        self.spec.relay.stats().take(&mut tally);
    }

    async fn open(&self) -> Result<(Live, Commands), String> {
        let broker = &self.spec.broker;
        let Credentials { username, password } = &broker.credentials;
        let user = username.as_deref().unwrap_or("guest");
        let password = password.as_deref().unwrap_or(b"guest");
        let password = String::from_utf8_lossy(password);
        let (host, port) = (broker.address.ip().to_string(), broker.address.port());
        let mut at = OpenConnectionArguments::new(&host, port, user, &password);
        at.virtual_host(&broker.vhost).connection_name("actorsim");
        if let Some(terms) = &broker.tls {
            let (config, name) = terms.as_client();
            at.tls_adaptor(TlsAdaptor::new(TlsConnector::from(config), name));
        }
        let connection = Connection::open(&at).await.map_err(said)?;
        connection
            .register_callback(DefaultConnectionCallback)
            .await
            .map_err(said)?;
        let commands = connection.open_channel(None).await.map_err(said)?;
        let exchange = &broker.exchange;
        let mut declare = ExchangeDeclareArguments::new(exchange, "topic");
        let declare = declare.durable(true).finish();
        commands.exchange_declare(declare).await.map_err(said)?;
        let own = QueueDeclareArguments::new("").exclusive(true).finish();
        let queue = commands.queue_declare(own).await.map_err(said)?;
        let (queue, ..) = queue.ok_or("the broker made no queue")?;
        let bind = QueueBindArguments::new(&queue, exchange, COMMANDS.0);
        commands.queue_bind(bind).await.map_err(said)?;
        let few = BasicQosArguments::new(0, COMMANDS_MAX, false);
        commands.basic_qos(few).await.map_err(said)?;
        let consume = BasicConsumeArguments::new(&queue, "actorsim");
        let consume = consume.clone().manual_ack(true).finish();
        let (_, messages) = commands.basic_consume_rx(consume).await.map_err(said)?;
        let live = Live {
            connection,
            channels: BTreeMap::new(),
        };
        let commands = Commands {
            channel: commands,
            messages,
        };
        Ok((live, commands))
    }

    /// Publishes what comes, until the connection breaks, or it is stopped and all is confirmed.
    async fn publish(&mut self, live: &mut Live, commands: &mut Commands) -> Result<(), String> {
        let relay = self.spec.relay.clone();
        let mut looked = (self.clock.monotonic(), 0);
        loop {
            let stopping = *self.stop.borrow();
            if stopping && relay.waiting() == 0 && self.flight.len() == 0 {
                return Ok(());
            }
            let room = IN_FLIGHT_MAX - self.flight.len().min(IN_FLIGHT_MAX);
            tokio::select! {
                biased;
                () = self.flight.broken.notified() => return Err("a channel was closed".to_owned()),
                _ = self.stop.changed(), if !stopping => {}
                Some(message) = commands.messages.recv() => {
                    self.command(&commands.channel, message).await?;
                }
                batch = relay.next(room.min(BATCH)), if room > 0 => self.hand.extend(batch),
                () = self.flight.changed.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
            while let Some(letter) = self.hand.pop_front() {
                self.send(live, letter).await?;
            }
            self.look(live, &mut looked)?;
        }
    }

    /// Whether the broker still confirms: it may be gone without a word.
    fn look(&self, live: &Live, (at, before): &mut (Time, u64)) -> Result<(), String> {
        if !live.connection.is_open() {
            return Err("the connection is broken".to_owned());
        }
        let (now, acked) = (self.clock.monotonic(), self.flight.ended());
        if acked != *before || self.flight.len() == 0 {
            (*at, *before) = (now, acked);
        }
        match now > *at + self.spec.patience {
            true => Err("nothing was confirmed in time".to_owned()),
            false => Ok(()),
        }
    }

    async fn send(&self, live: &mut Live, letter: Letter) -> Result<(), String> {
        let number = channel(letter.ordinal);
        let exchange = match letter.direct {
            true => "",
            false => &*self.spec.broker.exchange,
        };
        let to = BasicPublishArguments::new(exchange, &letter.key);
        let properties = BasicProperties::default()
            .with_content_type(letter.content_type)
            .finish();
        let body = letter.body.to_vec();
        // from here on it cannot get lost, whatever is waited for
        self.flight.begin(number, letter);
        let channel = match live.channels.entry(number) {
            Entry::Occupied(own) => own.into_mut(),
            Entry::Vacant(free) => free.insert(self.channel(&live.connection, number).await?),
        };
        channel
            .basic_publish(properties, body, to)
            .await
            .map_err(said)
    }

    async fn channel(&self, connection: &Connection, number: u16) -> Result<Channel, String> {
        let open = async {
            let channel = connection.open_channel(Some(number)).await.map_err(said)?;
            let confirms = Confirms {
                flight: Arc::clone(&self.flight),
                relay: self.spec.relay.clone(),
                clock: self.clock.clone(),
            };
            channel.register_callback(confirms).await.map_err(said)?;
            let select = ConfirmSelectArguments::default();
            channel.confirm_select(select).await.map_err(said)?;
            Ok(channel)
        };
        let opened = tokio::time::timeout(self.spec.patience, open).await;
        opened.map_err(|_| "no channel in time".to_owned())?
    }

    /// A command goes to the device whose id its routing key has. One that it cannot take now, or
    /// that is for a device of another node, is gone: its sender hears no reply.
    async fn command(&self, channel: &Channel, message: ConsumerMessage) -> Result<(), String> {
        let (Some(deliver), Some(content)) = (message.deliver, message.content) else {
            return Ok(());
        };
        let key = deliver.routing_key().strip_prefix(COMMANDS.1);
        if let Some(id) = key.and_then(|key| key.strip_suffix(COMMANDS.2)) {
            let properties = message.basic_properties.as_ref();
            let reply_to = properties.and_then(BasicProperties::reply_to);
            let reply_to = reply_to.map(|queue| queue.as_str().into());
            let _ = self.spec.downlink.tell(id, content.into(), reply_to);
        }
        let seen = BasicAckArguments::new(deliver.delivery_tag(), false);
        channel.basic_ack(seen).await.map_err(said)
    }
}

/// Where commands come in.
struct Commands {
    channel: Channel,
    messages: tokio::sync::mpsc::UnboundedReceiver<ConsumerMessage>,
}

/// What a connection came to; a panic of the library in it is the broker's doing.
async fn caught<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)));
        polled.unwrap_or_else(|_| {
            let unread = "the broker says what cannot be read";
            Poll::Ready(Err(unread.to_owned()))
        })
    })
    .await
}

fn said(error: amqprs::error::Error) -> String {
    error.to_string()
}

/// Waits until it is to stop, and then so long.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>, patience: Duration) {
    if stop.wait_for(|stop| *stop).await.is_ok() {
        tokio::time::sleep(patience).await;
    }
}
