//! Samples and news of devices for one remote client: chosen, batched, and told where some are
//! lost.
//!
//! It holds nothing back from the fleet: what waits for a slow client is bounded by the fleet's
//! watch ([`actorsim_fleet::watch`]). Bounds: those, and one batch.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actorsim_fleet::watch::{Block, Happened, News, Seen, Shown, Subject, Watcher};
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::time::timeout_at;

use super::desk::{Desk, Who};
use crate::view::Buckets;

/// How often a client's events are looked for among the node's.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Labels of one selector.
const LABELS_MAX: usize = 16;

/// Reads `key=value,key=value`.
///
/// # Errors
/// What is wrong with it.
pub fn labels(text: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |part: &str| match part.trim().split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{part}` is no label: use key=value")),
    };
    let parts: Vec<_> = text.split(',').collect();
    if parts.len() > LABELS_MAX {
        return Err(format!("more than {LABELS_MAX} labels"));
    }
    parts.into_iter().map(pair).collect()
}

/// Which devices a client wants to see.
#[derive(Debug)]
enum Wanted {
    All,
    Ids(BTreeSet<String>),
    Labels(Vec<(String, String)>),
}

impl Wanted {
    fn new(who: &Who) -> Result<Self, String> {
        Ok(match who {
            Who::All => Self::All,
            Who::Ids(ids) => Self::Ids(ids.iter().cloned().collect()),
            Who::Labels(text) => Self::Labels(labels(text)?),
        })
    }

    /// Whether some devices of a population may be wanted.
    fn some_of(&self, subject: &Subject) -> bool {
        match self {
            Self::Labels(labels) => subject.has(labels),
            Self::All | Self::Ids(_) => true,
        }
    }

    fn one(&self, id: &str) -> bool {
        match self {
            Self::Ids(ids) => ids.contains(id),
            Self::All | Self::Labels(_) => true,
        }
    }
}

/// One value of one device.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Whose.
    pub device_id: Arc<str>,
    /// Which field.
    pub metric: String,
    /// What it is.
    pub value: Value,
    /// When, by the device's clock.
    pub unix_us: u64,
    /// Its population.
    pub subject: Arc<Subject>,
}

/// A field's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
    /// A truth.
    Bool(bool),
}

impl From<Shown<'_>> for Value {
    fn from(shown: Shown<'_>) -> Self {
        match shown {
            Shown::Number(number) => Self::Number(number),
            Shown::Text(text) => Self::Text(text.to_owned()),
            Shown::Bool(on) => Self::Bool(on),
        }
    }
}

/// What a client gets.
#[derive(Debug, Clone)]
pub enum Item {
    /// The next value.
    Sample(Sample),
    /// So many blocks of samples are lost to it: it was too slow.
    Missed(u64),
}

/// The samples that one client wants.
#[derive(Debug)]
pub struct Samples {
    watcher: Watcher<Arc<Block>>,
    wanted: Wanted,
    /// What is left of the block in hand.
    ready: std::vec::IntoIter<Item>,
}

impl Samples {
    /// Those of these devices.
    ///
    /// # Errors
    /// What is wrong with the selector.
    pub fn new(watcher: Watcher<Arc<Block>>, who: &Who) -> Result<Self, String> {
        Ok(Self {
            watcher,
            wanted: Wanted::new(who)?,
            ready: Vec::new().into_iter(),
        })
    }

    /// The next item; `None` once the fleet is gone. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.ready.next() {
                return Some(item);
            }
            match self.watcher.next().await? {
                Seen::Missed(missed) => return Some(Item::Missed(missed)),
                Seen::Next(block) if self.wanted.some_of(&block.subject) => {
                    self.ready = self.items(&block).into_iter();
                }
                Seen::Next(_) => {}
            }
        }
    }

    fn items(&self, block: &Block) -> Vec<Item> {
        let mut items = Vec::new();
        for (device, unix_us, values) in block.samples() {
            let id = (block.subject.name)(device);
            if !self.wanted.one(&id) {
                continue;
            }
            let device_id: Arc<str> = id.into();
            items.extend(block.subject.show(values).map(|(metric, shown)| {
                Item::Sample(Sample {
                    device_id: Arc::clone(&device_id),
                    metric: metric.to_owned(),
                    value: shown.into(),
                    unix_us,
                    subject: Arc::clone(&block.subject),
                })
            }));
        }
        items
    }
}

/// Upper edges of the sizes of batches; then infinity.
const SIZE_EDGES: [u32; 9] = [1, 5, 10, 50, 100, 500, 1_000, 5_000, 10_000];

/// How many values clients were sent at once.
#[derive(Debug, Default)]
pub struct BatchSizes {
    sum: AtomicU64,
    counts: [AtomicU64; SIZE_EDGES.len() + 1],
}

impl BatchSizes {
    fn record(&self, size: usize) {
        let at = SIZE_EDGES.partition_point(|edge| (*edge as usize) < size);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(size as u64, Ordering::Relaxed);
    }

    /// For metrics.
    #[must_use]
    pub fn buckets(&self) -> Buckets {
        let edges = SIZE_EDGES.iter().map(|edge| f64::from(*edge));
        let counts = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<_> = edges.chain([f64::INFINITY]).zip(counts).collect();
        Buckets {
            sum: self.sum.load(Ordering::Relaxed) as f64,
            count: buckets.iter().map(|bucket| bucket.1).sum(),
            buckets,
        }
    }
}

/// Batches of at most `most` values, each sent when it is full or `flush` after it began. They are
/// numbered from 1; a number that is left out says that values before it are lost, and where they
/// are missing stands how many blocks of them ([`Item::Missed`]).
pub fn batches(
    samples: Samples,
    most: usize,
    flush: Duration,
    sizes: Arc<BatchSizes>,
) -> impl Stream<Item = (i64, Vec<Item>)> + Send {
    let first = (samples, 0i64, sizes);
    unfold(first, move |(mut samples, mut number, sizes)| async move {
        let mut batch = Vec::new();
        let (mut values, mut until) = (0, None);
        number += 1;
        while values < most {
            let next = match until {
                None => samples.next().await,
                Some(at) => match timeout_at(at, samples.next()).await {
                    Ok(next) => next,
                    Err(_) => break,
                },
            };
            match (next, batch.last_mut()) {
                (None, None) => return None,
                (None, Some(_)) => break,
                (Some(Item::Missed(more)), Some(Item::Missed(missed))) => *missed += more,
                (Some(item), _) => {
                    match item {
                        Item::Missed(_) => number += 1,
                        Item::Sample(_) => values += 1,
                    }
                    batch.push(item);
                    until.get_or_insert_with(|| tokio::time::Instant::now() + flush);
                }
            }
        }
        if values > 0 {
            sizes.record(values); // a sign of loss alone is no batch
        }
        Some(((number, batch), (samples, number, sizes)))
    })
}

/// Something that happened to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceEvent {
    /// Whom it concerns.
    pub device_id: String,
    /// Its type.
    pub device_type: String,
    /// What.
    pub happened: Happened,
    /// In words.
    pub text: Arc<str>,
    /// When.
    pub at_us: u64,
}

/// What a client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The next event.
    Event(DeviceEvent),
    /// So many pieces of news are lost to it.
    Missed(u64),
}

/// The events of these devices, one by one: news of many are taken apart as the client takes them.
///
/// # Errors
/// What is wrong with the selector.
pub fn news(
    watcher: Watcher<News>,
    who: &Who,
    desk: Arc<dyn Desk>,
) -> Result<impl Stream<Item = Told> + Send + use<>, String> {
    let reader = Reader {
        watcher,
        wanted: Wanted::new(who)?,
        hand: None,
        waiting: VecDeque::new(),
        seen: desk.mishaps(0).0,
        look_at: tokio::time::Instant::now() + LOOK_EVERY,
        desk,
    };
    Ok(unfold(reader, |mut reader| async move {
        let told = reader.next().await?;
        Some((told, reader))
    }))
}

struct Reader {
    watcher: Watcher<News>,
    wanted: Wanted,
    /// The news in hand, and which of its devices come next.
    hand: Option<(News, usize, Range<u32>)>,
    /// News of the node's own events.
    waiting: VecDeque<News>,
    /// The last of those events.
    seen: u64,
    look_at: tokio::time::Instant,
    desk: Arc<dyn Desk>,
}

impl Reader {
    async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some(event) = self.take() {
                return Some(Told::Event(event));
            }
            if self.look_at <= tokio::time::Instant::now() {
                self.look();
            }
            let news = match self.waiting.pop_front() {
                Some(news) => news,
                None => match timeout_at(self.look_at, self.watcher.next()).await {
                    Ok(Some(Seen::Next(news))) => news,
                    Ok(Some(Seen::Missed(missed))) => return Some(Told::Missed(missed)),
                    Ok(None) => return None,
                    Err(_) => continue,
                },
            };
            if self.wanted.some_of(&news.subject) {
                self.hand = Some((news, 0, 0..0));
            }
        }
    }

    /// Looks for news among the node's own events.
    fn look(&mut self) {
        let (seen, news) = self.desk.mishaps(self.seen);
        self.seen = seen;
        self.waiting.extend(news);
        self.look_at = tokio::time::Instant::now() + LOOK_EVERY;
    }

    /// The next event of the news in hand.
    fn take(&mut self) -> Option<DeviceEvent> {
        let (news, at, range) = self.hand.as_mut()?;
        loop {
            for device in range.by_ref() {
                let device_id = (news.subject.name)(device);
                if self.wanted.one(&device_id) {
                    return Some(DeviceEvent {
                        device_id,
                        device_type: news.subject.profile.device_type.clone(),
                        happened: news.happened,
                        text: Arc::clone(&news.text),
                        at_us: news.at_us,
                    });
                }
            }
            match news.devices.get(*at) {
                Some(next) => {
                    *range = next.clone();
                    *at += 1;
                }
                None => {
                    self.hand = None;
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actorsim_fleet::Profile;
    use actorsim_fleet::watch::{BLOCKS_MAX, Watch};
    use futures_util::StreamExt as _;

    /// Devices with one number each, and who watches them.
    fn rig() -> (Arc<Watch>, Arc<Subject>, Samples) {
        let text = "type: lamp\ntelemetry_fields:\n  light: {type: gaussian, mean: 1, stddev: 0}\n";
        let profile = Profile::parse("lamp.yaml", text).unwrap().profile;
        let subject = Arc::new(Subject {
            profile: Arc::new(profile),
            name: Arc::new(|device| format!("lamp-{device:04}")),
        });
        let watch = Arc::new(Watch::default());
        let samples = Samples::new(watch.samples(), &Who::All).unwrap();
        (watch, subject, samples)
    }

    /// Number, values, and blocks that are missing before each.
    fn brief((number, items): (i64, Vec<Item>)) -> (i64, Vec<Result<f64, u64>>) {
        let items = items.into_iter().map(|item| match item {
            Item::Sample(Sample {
                value: Value::Number(number),
                ..
            }) => Ok(number),
            Item::Sample(other) => panic!("{other:?}"),
            Item::Missed(missed) => Err(missed),
        });
        (number, items.collect())
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_too_slow_is_told_where_samples_are_missing() {
        let (watch, subject, samples) = rig();
        let show = |value: f64| watch.show(Block::of(&subject, &[(0, 1, &[value])]));
        let flush = Duration::from_millis(500);
        let mut batches = Box::pin(batches(samples, 2, flush, Arc::default()).map(brief));
        for value in [1.0, 2.0, 3.0] {
            show(value);
        }
        assert_eq!(batches.next().await, Some((1, vec![Ok(1.0), Ok(2.0)])));
        let short = batches.next().await; // flushed before it is full
        assert_eq!(short, Some((2, vec![Ok(3.0)])));
        for value in 0..BLOCKS_MAX + 5 {
            show(value as f64);
        }
        let lagged = batches.next().await;
        assert_eq!(lagged, Some((4, vec![Err(5), Ok(5.0), Ok(6.0)])));
        assert_eq!(batches.next().await, Some((5, vec![Ok(7.0), Ok(8.0)])));
    }
}
