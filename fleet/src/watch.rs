//! Who looks on: samples and news of devices, as they happen, for any number of watchers.
//!
//! Nobody watching costs a device one comparison a sample. What is seen is what is sent: with the
//! faults that act, and nothing while a device is silent. Watchers hold nothing up: one that is
//! slow misses the oldest and is told how much ([`Seen::Missed`]). Bounds: [`BLOCKS_MAX`] blocks of
//! samples and [`NEWS_MAX`] pieces of news wait for the slowest; a block is what a slab saw in one
//! step.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::broadcast::{self, error::RecvError};

use crate::generator::Generator;
use crate::profile::Profile;

/// Blocks of samples that wait for the slowest watcher.
pub const BLOCKS_MAX: usize = 1_024;
/// Pieces of news that wait for the slowest watcher; one may be of many devices.
pub const NEWS_MAX: usize = 4_096;

/// What all devices of a population have in common.
pub struct Subject {
    /// Its profile.
    pub profile: Arc<Profile>,
    /// The id of a device.
    pub name: Arc<dyn Fn(u32) -> String + Send + Sync>,
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("device_type", &self.profile.device_type)
            .finish_non_exhaustive()
    }
}

/// A field's value, as it is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shown<'a> {
    /// A number; NaN where a fault wants it.
    Number(f64),
    /// A state, or a constant text.
    Text(&'a str),
    /// A constant truth.
    Bool(bool),
}

impl Subject {
    /// The values of a sample by field. Constants that are neither number, text nor truth have
    /// none.
    pub fn show<'a>(
        &'a self,
        values: &'a [f64],
    ) -> impl Iterator<Item = (&'a str, Shown<'a>)> + 'a {
        let fields = self.profile.fields.iter().zip(values);
        fields.filter_map(|(field, value)| {
            let shown = match &field.generator {
                Generator::Static(constant) if !field.actuator => match constant {
                    serde_json::Value::String(text) => Shown::Text(text),
                    serde_json::Value::Bool(on) => Shown::Bool(*on),
                    serde_json::Value::Number(_) => Shown::Number(*value),
                    _ => return None,
                },
                Generator::Markov(chain) if !chain.numeric() => {
                    let whole = *value >= 0.0 && value.fract() == 0.0;
                    let state = chain.states().get(*value as usize).filter(|_| whole);
                    match state.and_then(serde_json::Value::as_str) {
                        Some(state) => Shown::Text(state),
                        None => Shown::Number(*value),
                    }
                }
                _ => Shown::Number(*value),
            };
            Some((field.name.as_str(), shown))
        })
    }

    /// Whether it has all these labels.
    #[must_use]
    pub fn has(&self, labels: &[(String, String)]) -> bool {
        let own = &self.profile.labels;
        labels.iter().all(|label| own.contains(label))
    }
}

/// Samples of devices of one population, one after another.
#[derive(Debug)]
pub struct Block {
    /// Whose.
    pub subject: Arc<Subject>,
    /// Number of the device, and when, by its clock.
    stamps: Vec<(u32, u64)>,
    /// Values of all fields, sample by sample.
    values: Vec<f64>,
}

impl Block {
    /// Samples of devices: each with its number, when, by its clock, and the values of its fields.
    /// For tests of who watches: devices fill blocks sample by sample.
    #[must_use]
    pub fn of(subject: &Arc<Subject>, samples: &[(u32, u64, &[f64])]) -> Self {
        let fields = subject.profile.fields.len();
        let values = samples.iter().flat_map(|(.., values)| {
            let missing = std::iter::repeat(f64::NAN);
            values.iter().copied().chain(missing).take(fields.max(1))
        });
        Self {
            subject: Arc::clone(subject),
            stamps: samples
                .iter()
                .map(|(device, at, _)| (*device, *at))
                .collect(),
            values: values.collect(),
        }
    }

    /// The samples: number of the device, microseconds since the Unix epoch, values by field.
    pub fn samples(&self) -> impl Iterator<Item = (u32, u64, &[f64])> {
        let fields = self.subject.profile.fields.len().max(1);
        let samples = self.stamps.iter().zip(self.values.chunks(fields));
        samples.map(|((device, unix_us), values)| (*device, *unix_us, values))
    }
}

/// What happened to devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// They were started.
    Spawned,
    /// Their sessions are up.
    Connected,
    /// Their sessions are gone.
    Disconnected,
    /// They ended abnormally.
    Error,
    /// A fault was put in on purpose.
    FaultInjected,
    /// They were stopped.
    Stopped,
}

/// One thing that happened to some devices of one population.
#[derive(Clone, Debug)]
pub struct News {
    /// Whose.
    pub subject: Arc<Subject>,
    /// What.
    pub happened: Happened,
    /// When: microseconds since the Unix epoch.
    pub at_us: u64,
    /// In words.
    pub text: Arc<str>,
    /// Numbers of the devices.
    pub devices: Arc<[Range<u32>]>,
}

/// What a watcher gets.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen<T> {
    /// The next one.
    Next(T),
    /// It was too slow: so many are lost to it.
    Missed(u64),
}

/// The samples and news of a fleet, for who watches.
#[derive(Debug)]
pub struct Watch {
    blocks: broadcast::Sender<Arc<Block>>,
    news: broadcast::Sender<News>,
    watchers: AtomicUsize,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            blocks: broadcast::Sender::new(BLOCKS_MAX),
            news: broadcast::Sender::new(NEWS_MAX),
            watchers: AtomicUsize::new(0),
        }
    }
}

impl Watch {
    /// Watches samples from now on.
    #[must_use]
    pub fn samples(self: &Arc<Self>) -> Watcher<Arc<Block>> {
        self.watchers.fetch_add(1, Ordering::Relaxed);
        Watcher {
            receiver: self.blocks.subscribe(),
            counted: Some(Arc::clone(self)),
        }
    }

    /// Watches news from now on.
    #[must_use]
    pub fn news(&self) -> Watcher<News> {
        Watcher {
            receiver: self.news.subscribe(),
            counted: None,
        }
    }

    /// Whether anybody watches samples.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.watchers.load(Ordering::Relaxed) > 0
    }

    /// Shows the watchers samples.
    pub fn show(&self, block: Block) {
        let _ = self.blocks.send(Arc::new(block)); // an error is that nobody watches
    }

    /// Tells the watchers what happened.
    pub fn tell(&self, news: News) {
        let _ = self.news.send(news); // an error is that nobody watches
    }
}

/// One who watches. It stops when it is dropped.
#[derive(Debug)]
pub struct Watcher<T> {
    receiver: broadcast::Receiver<T>,
    counted: Option<Arc<Watch>>,
}

impl<T: Clone> Watcher<T> {
    /// The next one; `None` once the fleet is gone. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Seen<T>> {
        match self.receiver.recv().await {
            Ok(next) => Some(Seen::Next(next)),
            Err(RecvError::Lagged(missed)) => Some(Seen::Missed(missed)),
            Err(RecvError::Closed) => None,
        }
    }
}

impl<T> Drop for Watcher<T> {
    fn drop(&mut self) {
        if let Some(watch) = &self.counted {
            watch.watchers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// What one slab shows its watchers; flushed between steps, cut back with a step that fails.
#[derive(Debug)]
pub(crate) struct WatchOut {
    watch: Arc<Watch>,
    subject: Arc<Subject>,
    stamps: Vec<(u32, u64)>,
    values: Vec<f64>,
    /// Sessions that came up or went, as they are told one by one.
    sessions: Vec<(u32, Happened, u64)>,
}

impl WatchOut {
    pub(crate) const fn new(watch: Arc<Watch>, subject: Arc<Subject>) -> Self {
        Self {
            watch,
            subject,
            stamps: Vec::new(),
            values: Vec::new(),
            sessions: Vec::new(),
        }
    }

    /// A session that came up, or went.
    pub(crate) fn session(&mut self, device: u32, happened: Happened, at_us: u64) {
        if self.watch.news.receiver_count() > 0 {
            self.sessions.push((device, happened, at_us));
        }
    }

    /// A sample that is sent.
    pub(crate) fn sample(&mut self, device: u32, unix_us: u64, values: &[f64]) {
        if self.watch.is_watched() {
            let fields = self.subject.profile.fields.len().max(1);
            let given = values.len().min(fields);
            self.stamps.push((device, unix_us));
            self.values.extend_from_slice(&values[..given]);
            self.values.resize(self.stamps.len() * fields, f64::NAN);
        }
    }

    pub(crate) const fn mark(&self) -> usize {
        self.stamps.len()
    }

    pub(crate) fn cut(&mut self, mark: usize) {
        self.stamps.truncate(mark);
        let fields = self.subject.profile.fields.len().max(1);
        self.values.truncate(mark * fields);
    }

    pub(crate) fn flush(&mut self) {
        // What came to many at one time is one piece of news: a storm is told whole.
        for alike in self.sessions.chunk_by(|a, b| (a.1, a.2) == (b.1, b.2)) {
            self.watch.tell(News {
                subject: Arc::clone(&self.subject),
                happened: alike[0].1,
                at_us: alike[0].2,
                text: "session with its broker".into(),
                devices: alike.iter().map(|one| one.0..one.0 + 1).collect(),
            });
        }
        self.sessions.clear();
        if !self.stamps.is_empty() {
            let block = Block {
                subject: Arc::clone(&self.subject),
                stamps: std::mem::take(&mut self.stamps),
                values: std::mem::take(&mut self.values),
            };
            self.watch.show(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Arc<Subject> {
        let text = "type: lock\ntelemetry_fields:\n  \
                    state: {type: markov, states: [open, shut], initial_state: open,\n    \
                    transition_matrix: [[0.5, 0.5], [0.5, 0.5]]}\n  \
                    site: {type: static, value: north}\n  \
                    temperature: {type: gaussian, mean: 1, stddev: 0}\n";
        let profile = Profile::parse("lock.yaml", text).unwrap().profile;
        Arc::new(Subject {
            profile: Arc::new(profile),
            name: Arc::new(|device| format!("lock-{device:04}")),
        })
    }

    #[test]
    fn values_are_shown_as_their_generators_mean_them() {
        let subject = subject();
        let shown: Vec<_> = subject.show(&[1.0, 0.0, 21.5]).collect();
        let expected = [
            ("state", Shown::Text("shut")),
            ("site", Shown::Text("north")),
            ("temperature", Shown::Number(21.5)),
        ];
        assert_eq!(shown, expected);
    }

    #[tokio::test]
    async fn sessions_that_end_at_one_time_are_one_piece_of_news_in_their_order() {
        let watch = Arc::new(Watch::default());
        let mut out = WatchOut::new(Arc::clone(&watch), subject());
        let mut news = watch.news();
        for (device, happened, at_us) in [
            (7, Happened::Disconnected, 10),
            (3, Happened::Disconnected, 10),
            (3, Happened::Connected, 10),
            (7, Happened::Connected, 11),
        ] {
            out.session(device, happened, at_us);
        }
        out.flush();
        out.flush(); // nothing is told twice
        let mut told = Vec::new();
        drop((out, watch));
        while let Some(Seen::Next(next)) = news.next().await {
            let devices: Vec<_> = next.devices.iter().cloned().flatten().collect();
            told.push((next.happened, next.at_us, devices));
        }
        let expected = [
            (Happened::Disconnected, 10, vec![7, 3]),
            (Happened::Connected, 10, vec![3]),
            (Happened::Connected, 11, vec![7]),
        ];
        assert_eq!(told, expected);
    }

    #[tokio::test]
    async fn each_watcher_sees_all_and_a_slow_one_is_told_what_it_missed() {
        let watch = Arc::new(Watch::default());
        let mut out = WatchOut::new(Arc::clone(&watch), subject());
        out.sample(1, 10, &[0.0, 0.0, 1.0]);
        out.flush(); // nobody sees it
        let (mut one, mut other) = (watch.samples(), watch.samples());
        out.sample(2, 20, &[0.0, 0.0, 2.0]);
        let mark = out.mark();
        out.sample(3, 30, &[0.0, 0.0, 3.0]);
        out.cut(mark); // its step failed
        out.flush();
        for watcher in [&mut one, &mut other] {
            let Some(Seen::Next(block)) = watcher.next().await else {
                panic!("a block was sent");
            };
            let samples: Vec<_> = block.samples().collect();
            assert_eq!(samples, [(2, 20, &[0.0, 0.0, 2.0][..])]);
        }
        drop(other);
        for at in 0..BLOCKS_MAX as u64 + 3 {
            out.sample(4, at, &[0.0, 0.0, 4.0]);
            out.flush();
        }
        assert!(matches!(one.next().await, Some(Seen::Missed(3))));
        drop(one);
        assert!(!watch.is_watched());
    }
}
