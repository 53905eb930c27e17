//! The census of a slab: its cells as rows, in path order, cut to a page.
//!
//! Names are functions of ordinals, so nothing is stored: a page is one pass over the names that
//! keeps the smallest ones after the last page. A filter by state asks the shard first, some groups
//! at a time. The work is the asker's; the shard only copies rows. Bounds:
//! [`CENSUS_PAGE_MAX`](crate::census::PAGE_MAX) rows, [`GROUPS_PER_REQUEST`] groups per request.

use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;

use futures_util::future::BoxFuture;

use super::handle::{Board, Control};
use super::spec::{CellInfo, CellState, GROUP_SIZE};
use crate::cell::Cell;
use crate::census::{ActorRow, CensusFilter, CensusSource, PAGE_MAX, Page, Verb};
use crate::exit::Incarnation;
use crate::mailbox::Books;
use crate::path::ActorPath;

/// Groups the shard looks through for one request: 16,384 cells, below a millisecond.
const GROUPS_PER_REQUEST: usize = 64;

/// Rows the shard copies for one request.
const ROWS_PER_REQUEST: usize = 1_024;

impl<C: Cell> Board<C> {
    /// The ordinal with this name, if it lives here. Names that end in their ordinal are found at
    /// once, or known to live elsewhere, others by looking through all.
    fn ordinal_of(&self, path: &ActorPath) -> Option<u32> {
        if path.parent().as_ref() != Some(self.path()) {
            return None;
        }
        let name = path.name();
        let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let hint = name[name.len() - digits..].parse::<u32>().ok();
        if let Some(hint) = hint.filter(|ordinal| self.name_of(*ordinal) == name) {
            return Some(hint).filter(|ordinal| self.has(*ordinal));
        }
        self.each().find(|ordinal| self.name_of(*ordinal) == name)
    }

    fn each(&self) -> impl Iterator<Item = u32> + '_ {
        self.ordinals().iter().cloned().flat_map(Range::into_iter)
    }

    /// Ordinals in a state, ascending.
    async fn in_state(&self, state: CellState) -> Vec<u32> {
        let (mut found, mut from, mut more) = (Vec::new(), 0, true);
        while more {
            let ask = |reply| Control::Select(state, from, GROUPS_PER_REQUEST, reply);
            let Ok((part, rest)) = self.ask(ask).await else {
                break;
            };
            found.extend(part);
            from += GROUPS_PER_REQUEST;
            more = rest;
        }
        found
    }

    /// The first `limit` candidates by path after `after`, with their paths.
    fn first(
        &self,
        candidates: impl Iterator<Item = u32>,
        filter: &CensusFilter,
        after: Option<&ActorPath>,
        limit: usize,
    ) -> Vec<(ActorPath, u32)> {
        let mut heap: BinaryHeap<(ActorPath, u32)> = BinaryHeap::new();
        for ordinal in candidates {
            let path = self.path_of(ordinal);
            let full = heap.len() >= limit;
            if after.is_some_and(|after| path <= *after)
                || (full && heap.peek().is_some_and(|(last, _)| path >= *last))
                || !filter.admits_path(&path)
            {
                continue;
            }
            if full {
                heap.pop();
            }
            heap.push((path, ordinal));
        }
        heap.into_sorted_vec()
    }

    /// Whether any cell may pass: spares a million names for a list of something else.
    fn can_answer(&self, filter: &CensusFilter, after: Option<&ActorPath>) -> bool {
        let path = self.path();
        let related = filter
            .within
            .as_ref()
            .is_none_or(|within| path.is_within(within) || within.is_within(path));
        let prefix = format!("{}/", path.as_str());
        let passed = after.is_some_and(|after| {
            !after.as_str().starts_with(&prefix) && after.as_str() > prefix.as_str()
        });
        related && !passed
    }

    /// Where a cell is, which no shard is asked for.
    fn place_of(&self, ordinal: u32) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("group", (ordinal / GROUP_SIZE).to_string()),
            ("ordinal", ordinal.to_string()),
            ("movable", self.seating().movable.to_string()),
            ("placement", self.seating().placement.to_string()),
            ("shard", self.shard().to_string()),
        ])
    }

    fn row_of(&self, path: ActorPath, info: CellInfo) -> ActorRow {
        let mut attributes = self.place_of(info.ordinal);
        attributes.insert("timers", info.timers.to_string());
        if let Some(detail) = info.detail {
            attributes.insert("detail_steps", detail.steps.to_string());
            attributes.insert("detail_ns", detail.ns.to_string());
        }
        ActorRow {
            path,
            host: "shard",
            incarnation: info.incarnation,
            state: info.state.label(),
            depth: info.depth,
            capacity: self.capacity(),
            highest: info.depth,
            books: Books {
                handled: u64::from(info.handled),
                ..Books::default()
            },
            restarts: info.incarnation.0.saturating_sub(1),
            last_exit: info.last_exit,
            attributes,
        }
    }

    async fn page(
        &self,
        filter: CensusFilter,
        after: Option<ActorPath>,
        limit: usize,
    ) -> Page<ActorRow> {
        let limit = limit.min(PAGE_MAX);
        if !self.can_answer(&filter, after.as_ref()) {
            return Page {
                rows: Vec::new(),
                more: false,
            };
        }
        let one = filter
            .within
            .as_ref()
            .filter(|within| *within != self.path());
        let one = one.filter(|within| within.is_within(self.path()));
        let state = filter.state.as_deref().map(CellState::from_label);
        let mut found = match (one, state) {
            (_, Some(None)) => Vec::new(),
            (Some(path), _) => {
                let candidates = self.ordinal_of(path).into_iter();
                self.first(candidates, &filter, after.as_ref(), limit + 1)
            }
            (None, Some(Some(state))) => {
                let candidates = self.in_state(state).await;
                self.first(candidates.into_iter(), &filter, after.as_ref(), limit + 1)
            }
            (None, None) => self.first(self.each(), &filter, after.as_ref(), limit + 1),
        };
        let more = found.len() > limit;
        found.truncate(limit);
        let mut rows = Vec::with_capacity(found.len());
        let mut left = found.into_iter().peekable();
        while left.peek().is_some() {
            let part: Vec<_> = left.by_ref().take(ROWS_PER_REQUEST).collect();
            let ordinals = part.iter().map(|(_, ordinal)| *ordinal).collect();
            let Ok(infos) = self.ask(|reply| Control::Info(ordinals, reply)).await else {
                return Page { rows, more: false };
            };
            let pairs = part.into_iter().zip(infos);
            rows.extend(pairs.map(|((path, _), info)| self.row_of(path, info)));
        }
        rows.retain(|row| filter.admits(row));
        Page { rows, more }
    }
}

impl<C: Cell> CensusSource for Board<C> {
    fn within(&self) -> &ActorPath {
        self.path()
    }

    fn rows(
        &self,
        filter: CensusFilter,
        after: Option<ActorPath>,
        limit: usize,
    ) -> BoxFuture<'_, Page<ActorRow>> {
        Box::pin(self.page(filter, after, limit))
    }

    fn row(&self, path: ActorPath) -> BoxFuture<'_, Option<ActorRow>> {
        Box::pin(async move {
            let ordinal = self.ordinal_of(&path)?;
            let ask = |reply| Control::Info(vec![ordinal], reply);
            let info = self.ask(ask).await.ok()?.pop()?;
            Some(self.row_of(path, info))
        })
    }

    fn act(&self, path: ActorPath, verb: Verb) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let Some(ordinal) = self.ordinal_of(&path) else {
                return false;
            };
            let done = match verb {
                Verb::Kill => self.ask(|reply| Control::Kill(ordinal, reply)).await,
                Verb::Stop => self.ask(|reply| Control::Stop(ordinal, reply)).await,
                Verb::Restart => self.ask(|reply| Control::Restart(ordinal, reply)).await,
            };
            done.unwrap_or(false)
        })
    }

    fn books(&self) -> Books {
        self.report().books
    }

    fn live(&self) -> u64 {
        self.report().counts.running
    }

    fn host(&self) -> &'static str {
        "shard"
    }

    fn answers(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.sign())
    }

    fn place(&self) -> String {
        format!("shard {}", self.shard())
    }

    fn known(&self, path: &ActorPath) -> Option<ActorRow> {
        let ordinal = self.ordinal_of(path)?;
        Some(ActorRow {
            path: path.clone(),
            host: "shard",
            incarnation: Incarnation(0),
            state: "unknown",
            depth: 0,
            capacity: self.capacity(),
            highest: 0,
            books: Books::default(),
            restarts: 0,
            last_exit: None,
            attributes: self.place_of(ordinal),
        })
    }

    fn is_closed(&self) -> bool {
        self.report().closed
    }
}
