//! What a node leaves behind when it has stopped: actors, tasks, threads, open files.
//!
//! It compares the process with what it was before the first layer started. Several nodes in one
//! process cannot tell their threads and files apart, and then do not. Bound: [`PATIENCE`]; one
//! pass over `/proc/self`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actorsim_actors::System;
use actorsim_actors::census::{CensusFilter, PAGE_MAX};
use tokio::runtime::Handle;

use crate::report::Leaks;

/// Time for what was told to end to be gone: the last tasks only drop what they hold, but a QUIC
/// connection that was cut off in its handshake drains for three probe timeouts of a second.
const PATIENCE: Duration = Duration::from_secs(10);

const POLL: Duration = Duration::from_millis(10);

/// Target of the descriptors by which shards and scans are woken.
const DOORBELL: &str = "anon_inode:[eventfd]";

/// Nodes of this process that have begun and not ended.
static NODES: AtomicUsize = AtomicUsize::new(0);

/// The process before the layers of a node.
#[derive(Debug)]
pub(super) struct Before {
    threads: BTreeMap<String, String>,
    /// How many descriptors there are of each target.
    files: BTreeMap<String, usize>,
    alone: bool,
}

/// What may stay until the node itself is dropped.
#[derive(Debug)]
pub(super) struct Kept<'a> {
    /// Threads of its runtimes, by name.
    pub(super) threads: &'a [&'a str],
    /// The directory whose files it holds.
    pub(super) folder: &'a Path,
    /// Doorbells of shards, two each, and of scans: they live as long as anybody can ring them.
    pub(super) doorbells: usize,
}

impl Before {
    pub(super) fn take() -> Self {
        Self {
            alone: NODES.fetch_add(1, Ordering::Relaxed) == 0,
            threads: threads(),
            files: files(),
        }
    }

    /// What is there now and was not before, but for what may be.
    pub(super) async fn compare(
        &self,
        system: &System,
        runtimes: &[Handle],
        kept: &Kept<'_>,
    ) -> Leaks {
        let alone = self.alone && NODES.load(Ordering::Relaxed) == 1;
        let look = || {
            let tasks = runtimes
                .iter()
                .map(|handle| handle.metrics().num_alive_tasks());
            Leaks {
                actors: Some(actors(system)),
                tasks: Some(tasks.sum::<usize>() as u64),
                threads: alone.then(|| self.new_threads(kept)),
                files: alone.then(|| self.new_files(kept)),
            }
        };
        let enough = tokio::time::sleep(PATIENCE);
        tokio::pin!(enough);
        loop {
            let leaks = look();
            if leaks.is_none() || enough.is_elapsed() {
                return leaks;
            }
            tokio::select! {
                biased;
                () = &mut enough => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    fn new_threads(&self, kept: &Kept<'_>) -> Vec<String> {
        let now = threads().into_iter();
        let new = now.filter(|(id, name)| {
            !self.threads.contains_key(id) && !kept.threads.contains(&name.as_str())
        });
        new.map(|(_, name)| name).collect()
    }

    fn new_files(&self, kept: &Kept<'_>) -> Vec<String> {
        // Targets are absolute; the folder may be given in another way.
        let folder = fs::canonicalize(kept.folder);
        let folder = folder.unwrap_or_else(|_| kept.folder.to_owned());
        let folder = folder.to_string_lossy();
        let mut new = Vec::new();
        for (target, count) in files() {
            let before = self.files.get(&target).copied().unwrap_or(0);
            let doorbells = if target == DOORBELL {
                kept.doorbells
            } else {
                0
            };
            let own = target.starts_with("/proc/") || target.starts_with(&*folder);
            let more = count.saturating_sub(before + doorbells);
            if more > 0 && !own {
                new.push(format!("{more} of {target}"));
            }
        }
        new
    }
}

impl Drop for Before {
    fn drop(&mut self) {
        NODES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Actors that are up, by path; of hosts with many their number.
fn actors(system: &System) -> Vec<String> {
    let running = CensusFilter {
        state: Some("running".to_owned()),
        ..CensusFilter::default()
    };
    let census = system.census();
    let rows = census.task_rows(&running, None, PAGE_MAX).rows;
    let mut left: Vec<_> = rows.iter().map(|row| row.path.to_string()).collect();
    for source in census.sources() {
        if source.live() > 0 {
            left.push(format!("{} of {}", source.live(), source.within()));
        }
    }
    left
}

/// Names of the process's threads, by id.
fn threads() -> BTreeMap<String, String> {
    listed("/proc/self/task", |path| {
        fs::read_to_string(path.join("comm")).ok()
    })
}

/// How many descriptors the process has of each target.
fn files() -> BTreeMap<String, usize> {
    let targets = listed("/proc/self/fd", |path| {
        let target = fs::read_link(path).ok()?;
        Some(target.to_string_lossy().into_owned())
    });
    let mut counts = BTreeMap::new();
    for target in targets.into_values() {
        *counts.entry(target).or_insert(0) += 1;
    }
    counts
}

/// What is read of each entry of a directory, by name; those that are gone by then are left out.
fn listed(folder: &str, read: impl Fn(&Path) -> Option<String>) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let row = |entry: fs::DirEntry| {
        let text = read(&entry.path())?;
        let name = entry.file_name().to_string_lossy().into_owned();
        Some((name, text.trim().to_owned()))
    };
    entries.filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_stays_open_is_told_and_one_of_the_own_folder_is_not() {
        let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let before = Before::take();
        let kept = Kept {
            threads: &[],
            folder: &own.path().join("."),
            doorbells: 0,
        };
        let _mine = fs::File::create(own.path().join("a")).unwrap();
        let leaked = fs::File::create(other.path().join("b")).unwrap();
        let told = |path: &Path| {
            let path = path.display().to_string();
            before
                .new_files(&kept)
                .iter()
                .any(|left| left.contains(&path))
        };
        assert!(told(other.path()) && !told(own.path()));
        drop(leaked);
        assert!(!told(other.path()));
    }
}
