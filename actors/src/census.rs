//! Who is alive: one table of actors for `ps`, `tree`, `info`, `kill` and the run report.
//!
//! Task actors are entries of the table; hosts with many actors (slabs of cells, the scan thread)
//! register a [`CensusSource`] that answers for a subtree. Lists are filtered and cut to a page at
//! the source. Nothing is counted twice and nothing is sampled: reading is the only cost.
//!
//! Bound: one entry per task actor; a page has at most [`PAGE_MAX`] rows.

mod filter;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use serde::Serialize;

pub use filter::{CensusFilter, glob_matches};

use crate::exit::{ExitReason, Incarnation};
use crate::mailbox::Books;
use crate::path::ActorPath;
use crate::task::ActorRef;

/// Most rows of one page.
pub const PAGE_MAX: usize = 10_000;

/// One line of `ps`.
#[derive(Debug, Clone, Serialize)]
pub struct ActorRow {
    /// The actor.
    pub path: ActorPath,
    /// `task`, `shard` or `scan`.
    pub host: &'static str,
    /// Which life it is in, or was in last.
    pub incarnation: Incarnation,
    /// `running`, `restarting`, `quarantined` or `stopped`.
    pub state: &'static str,
    /// Messages that wait.
    pub depth: u32,
    /// Bound of the mailbox.
    pub capacity: u32,
    /// Most messages that ever waited.
    pub highest: u32,
    /// The mailbox's counters. Those of cells are kept for a whole slab: of one cell there is only
    /// `handled`, which wraps at 2^32.
    pub books: Books,
    /// Restarts so far.
    pub restarts: u32,
    /// Why the former incarnation ended.
    pub last_exit: Option<String>,
    /// What only this kind of actor has (shard, group, peer), in order of name.
    pub attributes: BTreeMap<&'static str, String>,
}

/// A part of a list, in path order.
#[derive(Debug, Clone, Serialize)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Whether more follow the last row.
    pub more: bool,
}

/// A verb of the control plane on one actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// End it at once; abnormal.
    Kill,
    /// Stop it in order.
    Stop,
    /// Start a cell that is down; task actors are started by their supervisors only.
    Restart,
}

/// A host that answers for the actors below a path.
pub trait CensusSource: Send + Sync + 'static {
    /// The path under which this host's actors are listed. The source answers for strict
    /// descendants (and, if it is an actor itself, for the path).
    fn within(&self) -> &ActorPath;
    /// At most `limit` rows after `after`, in path order, that pass the filter.
    fn rows(
        &self,
        filter: CensusFilter,
        after: Option<ActorPath>,
        limit: usize,
    ) -> BoxFuture<'_, Page<ActorRow>>;
    /// One row.
    fn row(&self, path: ActorPath) -> BoxFuture<'_, Option<ActorRow>>;
    /// Ends one actor; false if there is none.
    fn act(&self, path: ActorPath, verb: Verb) -> BoxFuture<'_, bool>;
    /// Counters of all mailboxes of the host.
    fn books(&self) -> Books;
    /// Live actors.
    fn live(&self) -> u64;
    /// Host label of the rows: `shard` or `scan`.
    fn host(&self) -> &'static str;
    /// Answers as soon as its thread has a moment: one that stands still never does.
    fn answers(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
    /// Which of several of its kind it is, for people: `shard 1`.
    fn place(&self) -> String {
        self.host().to_owned()
    }
    /// What is known of an actor without asking for it.
    fn known(&self, path: &ActorPath) -> Option<ActorRow> {
        let _ = path;
        None
    }
    /// Whether it has no actors any more and its books are final: it is then forgotten.
    fn is_closed(&self) -> bool {
        false
    }
}

/// What the table knows of a task actor's mailbox, whatever its message type.
pub(crate) trait MailboxView: Send + Sync {
    /// Tells mailboxes apart.
    fn id(&self) -> usize;
    fn books(&self) -> Books;
    /// The counters that are not in the sum of the retired yet.
    fn books_to_add(&self) -> Books;
    /// Hands them out to be added there.
    fn retire_books(&self) -> Books;
    fn depth(&self) -> u32;
    fn highest(&self) -> u32;
    fn capacity(&self) -> u32;
    fn close(&self);
    /// Whether it has no room, whatever waits there.
    fn set_full(&self, full: bool);
}

struct Entry {
    mailbox: Arc<dyn MailboxView>,
    actor: ActorRef,
    /// `running`, or what it is while it is down.
    state: &'static str,
    last_exit: Option<String>,
}

const RUNNING: &str = "running";
const RESTARTING: &str = "restarting";

impl Entry {
    fn is_up(&self) -> bool {
        self.state == RUNNING
    }

    fn row(&self, path: &ActorPath) -> ActorRow {
        let incarnation = self.actor.incarnation();
        ActorRow {
            path: path.clone(),
            host: "task",
            incarnation,
            state: self.state,
            depth: self.mailbox.depth(),
            capacity: self.mailbox.capacity(),
            highest: self.mailbox.highest(),
            books: self.mailbox.books(),
            restarts: incarnation.0.saturating_sub(1),
            last_exit: self.last_exit.clone(),
            attributes: BTreeMap::new(),
        }
    }
}

/// The table.
#[derive(Default)]
pub struct Census {
    tasks: RwLock<BTreeMap<ActorPath, Entry>>,
    sources: RwLock<Vec<Arc<dyn CensusSource>>>,
    /// Books of actors that are gone for good.
    retired: Mutex<Books>,
}

impl fmt::Debug for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Census")
            .field("tasks", &self.tasks.read().len())
            .finish_non_exhaustive()
    }
}

impl Census {
    /// Adds a host that answers for a subtree.
    pub fn register_source(&self, source: Arc<dyn CensusSource>) {
        self.forget_closed_sources();
        self.sources.write().push(source);
    }

    /// Takes closed sources off the list; their books go to those of the retired.
    fn forget_closed_sources(&self) {
        if !self.sources.read().iter().any(|s| s.is_closed()) {
            return;
        }
        let mut sources = self.sources.write();
        // Under the lock of the list, so that no sum counts them twice or not at all.
        let mut retired = self.retired.lock();
        sources.retain(|source| {
            let closed = source.is_closed();
            if closed {
                *retired += source.books();
            }
            !closed
        });
    }

    /// The hosts that answer for subtrees.
    #[must_use]
    pub fn sources(&self) -> Vec<Arc<dyn CensusSource>> {
        self.sources.read().clone()
    }

    pub(crate) fn started(&self, actor: ActorRef, mailbox: Arc<dyn MailboxView>) {
        let path = actor.path().clone();
        let replaced = {
            let tasks = self.tasks.read();
            let old = tasks.get(&path).map(|entry| Arc::clone(&entry.mailbox));
            old.filter(|old| old.id() != mailbox.id())
        };
        if let Some(old) = replaced {
            old.close(); // nobody will take what waits there; not under the table's lock
        }
        let mut tasks = self.tasks.write();
        let mut last_exit = None;
        if let Some(old) = tasks.remove(&path) {
            if old.mailbox.id() != mailbox.id() {
                *self.retired.lock() += old.mailbox.retire_books();
            }
            last_exit = old.last_exit;
        }
        let state = RUNNING;
        tasks.insert(
            path,
            Entry {
                mailbox,
                actor,
                state,
                last_exit,
            },
        );
    }

    pub(crate) fn exited(&self, path: &ActorPath, incarnation: Incarnation, reason: &ExitReason) {
        if let Some(entry) = self.tasks.write().get_mut(path)
            && entry.actor.incarnation() == incarnation
        {
            entry.state = RESTARTING;
            entry.last_exit = Some(reason.to_string());
        }
    }

    /// A task actor that is down stays down for now: it is shown as `stopped`, or `quarantined`,
    /// until it is started again. Nothing happens if it is up or unknown.
    pub fn rest(&self, path: &ActorPath, quarantined: bool) {
        if let Some(entry) = self.tasks.write().get_mut(path).filter(|e| !e.is_up()) {
            entry.state = if quarantined {
                "quarantined"
            } else {
                "stopped"
            };
        }
    }

    /// Forgets a task actor that will not be restarted: its mailbox is closed, its counters stay
    /// in the sum. Nothing happens if the path is unknown, or if an actor lives there: then it is
    /// somebody else's.
    pub fn retire(&self, path: &ActorPath) {
        let down = |entry: &&Entry| !entry.is_up();
        let mailbox = {
            let tasks = self.tasks.read();
            tasks.get(path).filter(down).map(|e| Arc::clone(&e.mailbox))
        };
        let Some(mailbox) = mailbox else {
            return;
        };
        // Drops what waits, whose destructors are the program's: not under the table's lock.
        mailbox.close();
        let mut tasks = self.tasks.write();
        if tasks
            .get(path)
            .is_some_and(|e| e.mailbox.id() == mailbox.id())
        {
            tasks.remove(path);
            *self.retired.lock() += mailbox.retire_books();
        }
    }

    /// The task actor at a path, if one is alive.
    #[must_use]
    pub fn task(&self, path: &ActorPath) -> Option<ActorRef> {
        self.tasks
            .read()
            .get(path)
            .filter(|e| e.is_up())
            .map(|e| e.actor.clone())
    }

    /// Rows of task actors only, in path order, at most `limit`.
    #[must_use]
    pub fn task_rows(
        &self,
        filter: &CensusFilter,
        after: Option<&ActorPath>,
        limit: usize,
    ) -> Page<ActorRow> {
        let tasks = self.tasks.read();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let limit = limit.min(PAGE_MAX);
        let mut rows: Vec<_> = tasks
            .range((start, Bound::Unbounded))
            .filter(|(path, _)| filter.admits_path(path))
            .map(|(path, entry)| entry.row(path))
            .filter(|row| filter.admits(row))
            .take(limit + 1)
            .collect();
        let more = rows.len() > limit;
        rows.truncate(limit);
        Page { rows, more }
    }

    /// Rows of all hosts, in path order, at most `limit` after `after`.
    pub async fn rows(
        &self,
        filter: &CensusFilter,
        after: Option<&ActorPath>,
        limit: usize,
    ) -> Page<ActorRow> {
        self.rows_among(&self.sources(), filter, after, limit).await
    }

    /// Rows of the task actors and of some of the other hosts.
    pub async fn rows_among(
        &self,
        sources: &[Arc<dyn CensusSource>],
        filter: &CensusFilter,
        after: Option<&ActorPath>,
        limit: usize,
    ) -> Page<ActorRow> {
        let limit = limit.min(PAGE_MAX);
        let mut page = self.task_rows(filter, after, limit);
        for source in sources {
            let part = source.rows(filter.clone(), after.cloned(), limit).await;
            page.more |= part.more;
            page.rows.extend(part.rows);
        }
        page.rows.sort_by(|a, b| a.path.cmp(&b.path));
        page.more |= page.rows.len() > limit;
        page.rows.truncate(limit);
        page
    }

    /// One row, of whatever host.
    pub async fn row(&self, path: &ActorPath) -> Option<ActorRow> {
        self.row_among(&self.sources(), path).await
    }

    /// One row, of a task actor or of one of some other hosts.
    pub async fn row_among(
        &self,
        sources: &[Arc<dyn CensusSource>],
        path: &ActorPath,
    ) -> Option<ActorRow> {
        if let Some(row) = self.tasks.read().get(path).map(|e| e.row(path)) {
            return Some(row);
        }
        for source in sources.iter().filter(|s| path.is_within(s.within())) {
            if let Some(row) = source.row(path.clone()).await {
                return Some(row);
            }
        }
        None
    }

    /// Kills or stops one actor, of whatever host; false if there is none.
    pub async fn act(&self, path: &ActorPath, verb: Verb) -> bool {
        if let Some(actor) = self.task(path) {
            match verb {
                Verb::Kill => actor.kill(),
                Verb::Stop => actor.stop(),
                Verb::Restart => return false,
            }
            return true;
        }
        for source in self
            .sources()
            .into_iter()
            .filter(|s| path.is_within(s.within()))
        {
            if source.act(path.clone(), verb).await {
                return true;
            }
        }
        false
    }

    /// Makes the mailbox of a task actor full, whatever waits there, or gives it its room back.
    /// False if there is no such actor.
    pub fn set_full(&self, path: &ActorPath, full: bool) -> bool {
        let mailbox = self
            .tasks
            .read()
            .get(path)
            .map(|entry| Arc::clone(&entry.mailbox));
        mailbox.map(|mailbox| mailbox.set_full(full)).is_some()
    }

    /// Sum of the counters of all mailboxes that ever were.
    #[must_use]
    pub fn books(&self) -> Books {
        self.forget_closed_sources();
        let tasks = self.tasks.read();
        let live: Books = tasks.values().map(|e| e.mailbox.books_to_add()).sum();
        let sources: Books = self.sources.read().iter().map(|s| s.books()).sum();
        live + sources + *self.retired.lock()
    }

    /// Where messages wait, and how many, in path order: task actors, hosts of subtrees, and last
    /// whatever is gone with messages waiting, which nothing should be.
    #[must_use]
    pub fn waiting(&self) -> Vec<(String, u64)> {
        let tasks = self.tasks.read();
        let in_tasks = tasks.iter().filter_map(|(path, entry)| {
            let waiting = entry.mailbox.depth();
            let place = || format!("{path} ({})", entry.state);
            (waiting > 0).then(|| (place(), u64::from(waiting)))
        });
        let sources = self.sources.read();
        let in_sources = sources.iter().map(|s| (s.place(), s.books().waiting));
        let gone = (
            "actors that are gone".to_owned(),
            self.retired.lock().waiting,
        );
        let elsewhere = in_sources.chain([gone]);
        in_tasks
            .chain(elsewhere.filter(|(_, waiting)| *waiting > 0))
            .collect()
    }

    /// Highest share of a mailbox that was ever in use, 0 to 1, over the task actors. A mailbox of
    /// one is a flag, full whenever it is set, and does not count.
    #[must_use]
    pub fn highest_fill(&self) -> f64 {
        self.tasks
            .read()
            .values()
            .filter(|e| e.mailbox.capacity() > 1)
            .map(|e| f64::from(e.mailbox.highest()) / f64::from(e.mailbox.capacity().max(1)))
            .fold(0.0, f64::max)
    }

    /// Live actors by host label.
    #[must_use]
    pub fn live(&self) -> BTreeMap<&'static str, u64> {
        let mut live = BTreeMap::new();
        live.insert(
            "task",
            self.tasks.read().values().filter(|e| e.is_up()).count() as u64,
        );
        for source in self.sources() {
            *live.entry(source.host()).or_insert(0) += source.live();
        }
        live
    }
}
