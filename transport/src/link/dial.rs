//! Dialling: connect, say hello, serve the streams until the connection ends, back off, again.
//!
//! It never gives up; a twin that is away, or refuses us, costs one attempt every two seconds. It
//! carries no telemetry. Bounds: [`BACKOFF_MAX`], [`DIAL_TIMEOUT`].

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actorsim_actors::{Fault, Level, System};
use quinn::{ConnectError, Connection, ConnectionError, Endpoint};
use tokio::sync::watch;

use super::actor::{Goodbye, LinkSpec};
use super::{Link, commands, control, events};
use crate::certs::Revocations;
use crate::connection::METER_PERIOD;
use crate::endpoint::{HANDSHAKE_TIMEOUT, Protocol, client_config, close, codes, dialler};
use crate::meter::Meter;
use crate::stats::QuicStats;
use crate::trust;

/// First wait after a lost connection.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
/// Longest wait: a fleet's links then make a few attempts a second between them.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// From the first packet to the welcome.
pub(super) const DIAL_TIMEOUT: Duration = HANDSHAKE_TIMEOUT;

/// Why the connection to a twin ends whose certificate was taken back.
const REVOKED: &str = "the twin's certificate is revoked";

/// What the dialling pump needs.
pub(super) struct Line {
    pub(super) link: Link,
    pub(super) spec: Arc<LinkSpec>,
    pub(super) live: watch::Sender<Option<Connection>>,
    pub(super) goodbye: Arc<Goodbye>,
    pub(super) system: System,
}

/// Waits that double up to a bound, each shortened by up to half, drawn from a seed.
#[derive(Debug)]
pub(super) struct Backoff {
    state: u64,
    failures: u32,
}

impl Backoff {
    pub(super) const fn new(seed: u64) -> Self {
        Self {
            state: seed,
            failures: 0,
        }
    }

    /// A connection was made, and ended for `reason`: the next waits are short again, unless the
    /// twin has refused us, as it would do again at once.
    pub(super) fn ended(&mut self, reason: Option<&ConnectionError>) {
        if !refused(reason) {
            self.failures = 0;
        }
    }

    pub(super) const fn has_failed(&self) -> bool {
        self.failures > 0
    }

    pub(super) fn next(&mut self) -> Duration {
        let whole = BACKOFF_MIN
            .saturating_mul(1 << self.failures.min(10))
            .min(BACKOFF_MAX);
        self.failures += 1;
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let part = (z >> 11) as f64 / (1_u64 << 53) as f64;
        whole.mul_f64(0.5 + 0.5 * part)
    }
}

/// Why an attempt came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("{0}")]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Handshake(#[from] ConnectionError),
    #[error("no welcome within {} s", DIAL_TIMEOUT.as_secs())]
    TimedOut,
    #[error("{0}")]
    Control(#[from] control::ControlError),
    #[error("{0}")]
    Refused(ConnectionError),
}

impl DialError {
    /// Of what went wrong on the control stream: what the twin said, if it closed the connection.
    pub(super) fn told(error: control::ControlError, connection: &Connection) -> Self {
        match connection.close_reason() {
            Some(told @ ConnectionError::ApplicationClosed(_)) => Self::Refused(told),
            _ => error.into(),
        }
    }
}

/// Closes the connection and takes it down when the pump is aborted, as when it ends.
struct Up<'a> {
    line: &'a Line,
    connection: Connection,
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        self.line.live.send_replace(None);
        self.line.link.0.beside.send_replace(None);
        self.line.link.0.connected.store(false, Ordering::Release);
        close(&self.connection, codes::KILLED, b"the link is gone");
    }
}

/// Where a link dials from, by the list of revoked certificates that holds at each attempt.
pub(super) struct Dialling<'a> {
    spec: &'a LinkSpec,
    system: &'a System,
    protocol: Protocol,
    endpoint: Endpoint,
    trusted: Arc<Revocations>,
}

impl<'a> Dialling<'a> {
    pub(super) fn open(
        spec: &'a LinkSpec,
        system: &'a System,
        protocol: Protocol,
    ) -> Result<Self, Fault> {
        let LinkSpec {
            twin,
            identity,
            network,
            ..
        } = spec;
        let trusted = identity.revocations();
        let endpoint = dialler(system.handle(), *twin, identity, protocol, network);
        Ok(Self {
            spec,
            system,
            protocol,
            endpoint: endpoint.map_err(|error| Fault::with("dial", error))?,
            trusted,
        })
    }

    /// For the next attempt.
    pub(super) fn endpoint(&mut self) -> Result<&Endpoint, Fault> {
        let LinkSpec {
            twin,
            identity,
            network,
            ..
        } = self.spec;
        let list = trust::list(identity, self.system);
        if !Arc::ptr_eq(&list, &self.trusted) {
            let config = client_config(*twin, identity, self.protocol, &list, network);
            let config = config.map_err(|error| Fault::with("dial", error))?;
            self.endpoint.set_default_client_config(config);
            self.trusted = list;
        }
        Ok(&self.endpoint)
    }
}

pub(super) async fn run(line: Line) -> Result<(), Fault> {
    let spec = &line.spec;
    let mut dialling = Dialling::open(spec, &line.system, spec.protocol)?;
    let seed = spec.seed ^ line.link.session() ^ line.link.connections();
    let mut backoff = Backoff::new(seed);
    loop {
        let attempt = connect(&line, dialling.endpoint()?);
        let made = tokio::time::timeout(DIAL_TIMEOUT, attempt).await;
        match made.unwrap_or(Err(DialError::TimedOut)) {
            Ok((up, control)) => {
                let why = serve(&line, &up.connection, control).await;
                backoff.ended(up.connection.close_reason().as_ref());
                drop(up);
                say(&line, Level::Info, "disconnected", &why);
            }
            Err(DialError::Connect(ConnectError::EndpointStopping)) => {
                // Its socket failed: the next incarnation opens another.
                return Err(Fault::new("endpoint_lost"));
            }
            Err(error) => {
                line.link.0.stats.quic.dial_failed.inc();
                if !backoff.has_failed() {
                    say(&line, Level::Warn, "connect_failed", &error);
                }
            }
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

/// Whether the twin closed the connection over what we are, not over what happened to it.
fn refused(reason: Option<&ConnectionError>) -> bool {
    let Some(ConnectionError::ApplicationClosed(close)) = reason else {
        return false;
    };
    [
        codes::PROTOCOL,
        codes::CERTIFICATE,
        codes::DEVICES,
        codes::FULL,
    ]
    .contains(&close.error_code)
}

fn say(line: &Line, level: Level, name: &'static str, why: &dyn fmt::Display) {
    let text = format!("twin {}: {why}", line.spec.twin);
    let events = line.system.events();
    events.publish(level, name, Some(line.link.addr().path()), text);
}

/// One attempt, up to the welcome.
async fn connect<'a>(
    line: &'a Line,
    endpoint: &Endpoint,
) -> Result<(Up<'a>, Option<control::Control>), DialError> {
    let connecting = endpoint.connect(line.spec.twin, &line.spec.server_name)?;
    let connection = connecting.await?;
    let up = Up { line, connection };
    let control = match line.spec.protocol {
        Protocol::Dt1 => None,
        Protocol::Actorsim1 | Protocol::Commands => {
            let greeted = control::hello(line, &up.connection).await;
            Some(greeted.map_err(|error| DialError::told(error, &up.connection))?)
        }
    };
    Ok((up, control))
}

/// Serves the streams of a connection; returns why it ended.
async fn serve(line: &Line, connection: &Connection, control: Option<control::Control>) -> String {
    let link = &line.link.0;
    link.outbox.rewind();
    link.stats.quic.dialled.inc();
    let number = link.connections.fetch_add(1, Ordering::AcqRel) + 1;
    link.connected.store(true, Ordering::Release);
    line.live.send_replace(Some(connection.clone()));
    say(line, Level::Info, "connected", &"welcome");
    let serving = commands::Serving {
        downlink: &*line.spec.downlink,
        answers: &link.answers,
        protocol: line.spec.protocol,
    };
    let why = tokio::select! {
        biased;
        why = control::run(line, control) => why.to_string(),
        why = events::run(line, connection) => why,
        why = commands::run(serving, connection, number) => why.to_string(),
        why = ended(&line.spec, &line.system, &link.stats.quic, connection) => why,
    };
    match connection.close_reason() {
        Some(ConnectionError::ApplicationClosed(told)) => told.to_string(),
        _ => why,
    }
}

/// Counts what quinn does until a connection ends, or its twin's certificate is taken back; returns
/// which.
pub(super) async fn ended(
    spec: &LinkSpec,
    system: &System,
    quic: &QuicStats,
    connection: &Connection,
) -> String {
    tokio::select! {
        biased;
        why = connection.closed() => why.to_string(),
        () = trust::revoked(&spec.identity, system, connection) => {
            close(connection, codes::CERTIFICATE, REVOKED.as_bytes());
            REVOKED.to_owned()
        }
        never = metered(quic, connection) => match never {},
    }
}

/// Adds what quinn counts for the connection, now and then and at its end.
async fn metered(quic: &QuicStats, connection: &Connection) -> Infallible {
    let metered = Metered {
        meter: Meter::default(),
        quic,
        connection,
    };
    loop {
        tokio::time::sleep(METER_PERIOD).await;
        metered.read();
    }
}

struct Metered<'a> {
    meter: Meter,
    quic: &'a QuicStats,
    connection: &'a Connection,
}

impl Metered<'_> {
    fn read(&self) {
        self.meter.read(self.connection, self.quic);
    }
}

impl Drop for Metered<'_> {
    fn drop(&mut self) {
        self.read();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound_with_jitter_that_a_seed_repeats() {
        let draw = |seed| {
            let mut backoff = Backoff::new(seed);
            (0..12).map(|_| backoff.next()).collect::<Vec<_>>()
        };
        let waits = draw(7);
        assert_eq!(waits, draw(7));
        assert_ne!(waits, draw(8));
        assert!(waits[0] >= BACKOFF_MIN / 2 && waits[0] <= BACKOFF_MIN);
        assert!(waits[11] >= BACKOFF_MAX / 2 && waits.iter().all(|wait| *wait <= BACKOFF_MAX));
    }
}
