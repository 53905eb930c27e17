//! The connection for commands beside a link's own: an actor that dials it where the twin says, and
//! serves commands on it until the link's own connection ends.
//!
//! It carries no telemetry, and names no devices: its twin takes it for those that the link's own
//! connection has registered. While it is not there commands come over that. Bounds:
//! [`DIAL_TIMEOUT`] for an attempt, the link's waits between them; those of [`commands`].

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actorsim_actors::{
    ActorPath, Addr, Fault, Flow, Level, MailboxSpec, Message, Overflow, System, TaskActor,
    TaskContext,
};
use actorsim_supervision::ChildSpec;
use quinn::{ConnectError, Connection, Endpoint, RecvStream, SendStream};
use tokio::sync::watch;

use super::actor::LinkSpec;
use super::control::{self, ControlError};
use super::dial::{Backoff, DIAL_TIMEOUT, DialError, Dialling, ended};
use super::{Link, commands};
use crate::connection::{CONTROL_AHEAD, FrameReader};
use crate::endpoint::{Protocol, close, codes};
use crate::frames::{CONTROL_FRAME_LEN_MAX, StreamType, ToLink, ToTwin};

/// Where to dial, and for which connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beside {
    pub(super) at: SocketAddr,
    pub(super) connection: u32,
}

/// It is sent nothing.
#[derive(Debug)]
pub enum BesideMessage {}

impl Message for BesideMessage {}

/// Where the actor beside the link at a path is found.
pub(super) fn address(link: &ActorPath) -> Addr<BesideMessage> {
    let path = format!("{link}-commands");
    let path = ActorPath::new(&path).expect("a path with a longer last segment");
    Addr::new(path, MailboxSpec::new(1, Overflow::Reject))
}

/// The child that takes a link's commands over a connection of their own: permanent, at the link's
/// path with `-commands`. Its runtime should carry no telemetry.
#[must_use]
pub fn commands_child(id: impl Into<String>, link: &Link, spec: LinkSpec) -> ChildSpec {
    let spec = Arc::new(spec);
    let shared = link.clone();
    ChildSpec::task(id, &link.0.beside_addr, move || BesideActor {
        link: shared.clone(),
        spec: Arc::clone(&spec),
    })
}

struct BesideActor {
    link: Link,
    spec: Arc<LinkSpec>,
}

impl TaskActor for BesideActor {
    type Msg = BesideMessage;

    async fn started(&mut self, cx: &mut TaskContext<BesideMessage>) -> Result<(), Fault> {
        let line = Line {
            link: self.link.clone(),
            spec: Arc::clone(&self.spec),
            system: cx.system().clone(),
        };
        cx.pump(run(line));
        Ok(())
    }

    async fn handle(
        &mut self,
        message: BesideMessage,
        _: &mut TaskContext<BesideMessage>,
    ) -> Result<Flow, Fault> {
        match message {}
    }
}

/// What the dialling pump needs.
struct Line {
    link: Link,
    spec: Arc<LinkSpec>,
    system: System,
}

impl Line {
    fn say(&self, level: Level, name: &'static str, at: SocketAddr, why: &dyn fmt::Display) {
        let text = format!("twin {at}: {why}");
        let path = self.link.0.beside_addr.path();
        self.system.events().publish(level, name, Some(path), text);
    }
}

/// Closes the connection when the pump is aborted, as when it ends.
struct Up {
    connection: Connection,
    /// Its stream, which is read and written no more and ends with it.
    _control: (SendStream, RecvStream),
}

impl Drop for Up {
    fn drop(&mut self) {
        close(&self.connection, codes::KILLED, b"the link is gone");
    }
}

/// Waits until there is something else to be beside than `to`, or nothing.
async fn changed(told: &mut watch::Receiver<Option<Beside>>, to: Beside) {
    // The link, which tells, outlives its actors.
    drop(told.wait_for(|now| *now != Some(to)).await);
}

async fn run(line: Line) -> Result<(), Fault> {
    let spec = &line.spec;
    let mut dialling = Dialling::open(spec, &line.system, Protocol::Commands)?;
    let (shared, mut told) = (&line.link.0, line.link.0.beside.subscribe());
    let mut backoff = Backoff::new(!(spec.seed ^ shared.session));
    loop {
        let to = told.wait_for(Option::is_some).await.ok().and_then(|to| *to);
        let Some(to) = to else {
            return Ok(());
        };
        let attempt = tokio::time::timeout(DIAL_TIMEOUT, connect(&line, dialling.endpoint()?, to));
        let made = tokio::select! {
            biased;
            () = changed(&mut told, to) => continue,
            made = attempt => made.unwrap_or(Err(DialError::TimedOut)),
        };
        match made {
            Ok(up) => {
                let why = serve(&line, &up.connection, &mut told, to).await;
                backoff.ended(up.connection.close_reason().as_ref());
                drop(up);
                line.say(Level::Info, "disconnected", to.at, &why);
            }
            Err(DialError::Connect(ConnectError::EndpointStopping)) => {
                // Its socket failed: the next incarnation opens another.
                return Err(Fault::new("endpoint_lost"));
            }
            Err(error) => {
                shared.stats.quic.dial_failed.inc();
                if !backoff.has_failed() {
                    let why = format!("commands come over the link's own connection: {error}");
                    line.say(Level::Warn, "connect_failed", to.at, &why);
                }
            }
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

/// One attempt, up to the answer that commands come this way.
async fn connect(line: &Line, endpoint: &Endpoint, to: Beside) -> Result<Up, DialError> {
    let connection = endpoint.connect(to.at, &line.spec.server_name)?.await?;
    let (mut send, mut receive) = connection.open_bi().await.map_err(ControlError::from)?;
    let join = ToTwin::Join {
        connection: to.connection,
    };
    let join = join.frame().map_err(ControlError::from)?;
    let written = async {
        send.write_all(&[StreamType::Control as u8]).await?;
        send.write_all(&join).await
    };
    written.await.map_err(ControlError::from)?;
    let mut frames = FrameReader::new(CONTROL_FRAME_LEN_MAX, CONTROL_AHEAD);
    let answer = control::read(&mut receive, &mut frames).await;
    match answer.map_err(|error| DialError::told(error, &connection))? {
        ToLink::Joined => Ok(Up {
            connection,
            _control: (send, receive),
        }),
        _ => Err(ControlError::NoWelcome.into()),
    }
}

/// Serves commands until the connection ends, or that which it is beside; returns why.
async fn serve(
    line: &Line,
    connection: &Connection,
    told: &mut watch::Receiver<Option<Beside>>,
    to: Beside,
) -> String {
    let link = &line.link.0;
    let number = link.connections_beside.fetch_add(1, Ordering::AcqRel) + 1;
    link.stats.quic.dialled.inc();
    line.say(Level::Info, "connected", to.at, &"for commands");
    let serving = commands::Serving {
        downlink: &*line.spec.downlink,
        answers: &link.answers_beside,
        protocol: Protocol::Commands,
    };
    tokio::select! {
        biased;
        () = changed(told, to) => "the link's own connection is gone".to_owned(),
        why = commands::run(serving, connection, number) => why.to_string(),
        why = ended(&line.spec, &line.system, &link.stats.quic, connection) => why,
    }
}
