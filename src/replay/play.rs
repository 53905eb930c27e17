//! Plays a log: each record when it is due, in the order of the recording.
//!
//! A target that is slower than the recording delays it: nothing is left out, and how late the
//! latest record was is told. Bound: one record under way.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::time::sleep_until;

use super::log::{Kind, Log, LogError, Record};
use super::message::{Message, Reader};
use super::stream::PATIENCE;
use crate::progress::Bar;
use crate::sim::Stop;

/// Records that are due within this time go together: timers are no finer.
const GRAIN: Duration = Duration::from_millis(1);
/// How often a target that tells nobody what it has done is looked at.
pub(super) const POLL: Duration = Duration::from_millis(5);
/// How often the request to stop is looked for in a long pause.
const LOOK: Duration = Duration::from_millis(200);

/// Where a recording is played to.
pub trait Target {
    /// Takes what a device wrote; returns how many readings, events or messages that were.
    ///
    /// # Errors
    /// The target is gone, in words.
    fn take(&mut self, record: &Record<'_>) -> impl Future<Output = Result<u64, String>>;

    /// Does what it does until the time, which takes as long.
    ///
    /// # Errors
    /// The target is gone, in words.
    fn rest(&mut self, until: tokio::time::Instant) -> impl Future<Output = Result<(), String>>;

    /// Waits until all that it took has arrived, and says goodbye; returns what it counted.
    ///
    /// # Errors
    /// What has not arrived, in words.
    fn close(self) -> impl Future<Output = Result<Json, String>>;
}

/// Where messages are played to.
pub trait Taker {
    /// Takes a message, as soon as there is room for it.
    ///
    /// # Errors
    /// The target is gone, in words.
    fn give(&mut self, message: &Message) -> impl Future<Output = Result<(), String>>;

    /// As [`Target::rest`].
    ///
    /// # Errors
    /// The target is gone, in words.
    fn rest(&mut self, until: tokio::time::Instant) -> impl Future<Output = Result<(), String>>;

    /// As [`Target::close`].
    ///
    /// # Errors
    /// What has not arrived, in words.
    fn close(self) -> impl Future<Output = Result<Json, String>>;
}

/// A target that is given messages.
#[derive(Debug)]
pub struct Messages<T> {
    reader: Reader,
    taker: T,
    read: Vec<Message>,
}

impl<T: Taker> Messages<T> {
    /// Of devices of these kinds.
    #[must_use]
    pub const fn to(taker: T, kinds: Vec<Kind>) -> Self {
        Self {
            reader: Reader::new(kinds),
            taker,
            read: Vec::new(),
        }
    }
}

impl<T: Taker> Target for Messages<T> {
    async fn take(&mut self, record: &Record<'_>) -> Result<u64, String> {
        self.reader.read(record, &mut self.read)?;
        let count = self.read.len() as u64;
        for message in self.read.drain(..) {
            self.taker.give(&message).await?;
        }
        Ok(count)
    }

    async fn rest(&mut self, until: tokio::time::Instant) -> Result<(), String> {
        self.taker.rest(until).await
    }

    async fn close(self) -> Result<Json, String> {
        self.taker.close().await
    }
}

/// How far a recording was played.
#[derive(Debug, Default)]
pub struct Played {
    /// Records that the target took.
    pub records: u64,
    /// Readings, events and messages in them.
    pub messages: u64,
    /// Time of the recording that was played.
    pub reached: Duration,
    /// How late the latest record was.
    pub late: Duration,
    /// What the target counted.
    pub counted: Option<Json>,
    /// Why it was not played to its end.
    pub broken: Option<String>,
}

impl Played {
    /// For the report's readers.
    #[must_use]
    pub fn told(&self) -> Json {
        json!({
            "records": self.records, "messages": self.messages,
            "recording_s": self.reached.as_secs_f64(), "late_s": self.late.as_secs_f64(),
            "target": self.counted, "broken": self.broken,
        })
    }
}

/// Plays a log of so many records to a target, at a speed.
///
/// # Errors
/// [`LogError`], before anything was played.
pub async fn play<T: Target>(
    path: &Path,
    (records, speed): (u64, f64),
    mut target: T,
    stop: &Stop,
) -> Result<Played, LogError> {
    let mut log = Log::open(path)?;
    let (bar, began) = (
        Bar::new("playing records", records),
        tokio::time::Instant::now(),
    );
    let (mut played, mut first) = (Played::default(), None);
    played.broken = loop {
        if stop.is_asked() {
            break Some("it was stopped by a signal".to_owned());
        }
        let record = match log.next() {
            Ok(Some(record)) => record,
            Ok(None) => break None,
            Err(error) => break Some(error.to_string()),
        };
        let start = *first.get_or_insert(record.at);
        played.reached = record.at.saturating_sub(start);
        let due = began + played.reached.div_f64(speed);
        if let Err(error) = rest(&mut target, due, stop).await {
            break Some(error);
        }
        match target.take(&record).await {
            Ok(messages) => played.messages += messages,
            Err(error) => break Some(error),
        }
        played.late = played
            .late
            .max(tokio::time::Instant::now().saturating_duration_since(due));
        played.records += 1;
        bar.at(played.records);
    };
    match target.close().await {
        Ok(counted) => played.counted = Some(counted),
        Err(error) => played.broken = played.broken.or(Some(error)),
    }
    Ok(played)
}

async fn rest<T: Target>(
    target: &mut T,
    due: tokio::time::Instant,
    stop: &Stop,
) -> Result<(), String> {
    while !stop.is_asked() {
        let now = tokio::time::Instant::now();
        if now + GRAIN >= due {
            break;
        }
        target.rest(due.min(now + LOOK)).await?;
    }
    Ok(())
}

/// What targets do that have nothing to do meanwhile.
pub(super) async fn sleep(until: tokio::time::Instant) -> Result<(), String> {
    sleep_until(until).await;
    Ok(())
}

/// Waits until something holds, at most [`PATIENCE`]. Whether it does.
pub(super) async fn comes_true(holds: impl Fn() -> bool) -> bool {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if holds() {
            return true;
        }
        if tokio::time::Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(POLL).await;
    }
}
