//! Who is alive: one table of actors for `ps`, `tree`, `info`, `kill` and the run report.
//!
//! Task actors are entries of the table; hosts with many actors (slabs of cells, the scan thread)
//! register a [`CensusSource`] that answers for a subtree. Lists are filtered and cut to a page at
//! the source. Nothing is counted twice and nothing is sampled: reading is the only cost.
//!
//! Bound: one entry per task actor; a page has at most [`PAGE_MAX`] rows.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use serde::Serialize;

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
    /// The mailbox's counters; all zero where they are kept for a whole slab.
    pub books: Books,
    /// Restarts so far.
    pub restarts: u32,
    /// Why the former incarnation ended.
    pub last_exit: Option<String>,
    /// What only this kind of actor has (shard, group, peer), in order of name.
    pub attributes: BTreeMap<&'static str, String>,
}

/// Which rows are asked for; all conditions must hold.
#[derive(Debug, Clone, Default)]
pub struct CensusFilter {
    /// Only this path and what lies below it.
    pub within: Option<ActorPath>,
    /// Only paths that match this pattern: `*` any run of characters, `?` any one.
    pub glob: Option<String>,
    /// Only this state.
    pub state: Option<String>,
}

impl CensusFilter {
    /// Whether a path passes, its state not regarded.
    #[must_use]
    pub fn admits_path(&self, path: &ActorPath) -> bool {
        self.within
            .as_ref()
            .is_none_or(|within| path.is_within(within))
            && self
                .glob
                .as_ref()
                .is_none_or(|glob| glob_matches(glob, path.as_str()))
    }

    /// Whether a row passes.
    #[must_use]
    pub fn admits(&self, row: &ActorRow) -> bool {
        self.admits_path(&row.path) && self.state.as_ref().is_none_or(|state| state == row.state)
    }
}

/// Whether `text` matches `pattern`: `*` is any run of characters, `?` any one.
#[must_use]
pub fn glob_matches(pattern: &str, text: &str) -> bool {
    let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut pi, mut ti) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while ti < t.len() {
        if pi < p.len() && p[pi] == '*' {
            star = Some((pi, ti));
            pi += 1;
        } else if pi < p.len() && (p[pi] == '?' || p[pi] == t[ti]) {
            pi += 1;
            ti += 1;
        } else if let Some((star_p, star_t)) = star {
            pi = star_p + 1;
            ti = star_t + 1;
            star = Some((star_p, ti));
        } else {
            return false;
        }
    }
    p[pi..].iter().all(|c| *c == '*')
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
}

/// What the table knows of a task actor's mailbox, whatever its message type.
pub(crate) trait MailboxView: Send + Sync {
    fn books(&self) -> Books;
    fn depth(&self) -> u32;
    fn highest(&self) -> u32;
    fn capacity(&self) -> u32;
    fn close(&self);
}

struct Entry {
    mailbox: Box<dyn MailboxView>,
    actor: ActorRef,
    up: bool,
    last_exit: Option<String>,
}

impl Entry {
    fn row(&self, path: &ActorPath) -> ActorRow {
        let incarnation = self.actor.incarnation();
        ActorRow {
            path: path.clone(),
            host: "task",
            incarnation,
            state: if self.up { "running" } else { "restarting" },
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
        self.sources.write().push(source);
    }

    /// The hosts that answer for subtrees.
    #[must_use]
    pub fn sources(&self) -> Vec<Arc<dyn CensusSource>> {
        self.sources.read().clone()
    }

    pub(crate) fn started(&self, actor: ActorRef, mailbox: Box<dyn MailboxView>) {
        let mut tasks = self.tasks.write();
        let path = actor.path().clone();
        let last_exit = tasks.remove(&path).and_then(|old| old.last_exit);
        tasks.insert(
            path,
            Entry {
                mailbox,
                actor,
                up: true,
                last_exit,
            },
        );
    }

    pub(crate) fn exited(&self, path: &ActorPath, incarnation: Incarnation, reason: &ExitReason) {
        if let Some(entry) = self.tasks.write().get_mut(path)
            && entry.actor.incarnation() == incarnation
        {
            entry.up = false;
            entry.last_exit = Some(reason.to_string());
        }
    }

    /// Forgets a task actor that will not be restarted: its mailbox is closed, its counters stay
    /// in the sum. Nothing happens if the path is unknown.
    pub fn retire(&self, path: &ActorPath) {
        let entry = self.tasks.write().remove(path);
        if let Some(entry) = entry {
            entry.mailbox.close();
            *self.retired.lock() += entry.mailbox.books();
        }
    }

    /// The task actor at a path, if one is alive.
    #[must_use]
    pub fn task(&self, path: &ActorPath) -> Option<ActorRef> {
        self.tasks
            .read()
            .get(path)
            .filter(|e| e.up)
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
        let limit = limit.min(PAGE_MAX);
        let mut page = self.task_rows(filter, after, limit);
        for source in self.sources() {
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
        if let Some(row) = self.tasks.read().get(path).map(|e| e.row(path)) {
            return Some(row);
        }
        for source in self
            .sources()
            .into_iter()
            .filter(|s| path.is_within(s.within()))
        {
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

    /// Sum of the counters of all mailboxes that ever were.
    #[must_use]
    pub fn books(&self) -> Books {
        let tasks: Books = self.tasks.read().values().map(|e| e.mailbox.books()).sum();
        let sources: Books = self.sources().iter().map(|s| s.books()).sum();
        tasks + sources + *self.retired.lock()
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
            self.tasks.read().values().filter(|e| e.up).count() as u64,
        );
        for source in self.sources() {
            *live.entry(source.host()).or_insert(0) += source.live();
        }
        live
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn glob_patterns() {
        for (pattern, text, matches) in [
            ("/fleet/*", "/fleet/default/pump-1", true),
            ("/fleet/*/pump-?", "/fleet/default/pump-1", true),
            ("/fleet/*/pump-?", "/fleet/default/pump-10", false),
            ("*", "", true),
            ("/twin", "/twin", true),
            ("/twin", "/twin/scan", false),
            ("*scan", "/twin/scan", true),
        ] {
            assert_eq!(glob_matches(pattern, text), matches, "{pattern} {text}");
        }
    }
}
