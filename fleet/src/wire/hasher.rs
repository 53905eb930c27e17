//! A thread that hashes what devices wrote, beside the simulation.
//!
//! Batches are hashed in the order in which they were handed over; a simulation that is faster
//! waits. Nothing that runs can see it: the digests are asked for when all is hashed. Bounds:
//! [`QUEUE`] batches wait, [`SPARE`] empty buffers are kept. It ends with its last table.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use parking_lot::Mutex;

use super::{Piece, WireTable};

/// Batches that wait: 4 MiB, enough that neither side waits for the other's hiccups.
const QUEUE: usize = 16;
/// Empty buffers kept: those under way.
const SPARE: usize = QUEUE + 2;

enum Job {
    Hash(Arc<WireTable>, Vec<u8>, Vec<Piece>),
    /// Tells when everything before it is done.
    Settle(SyncSender<()>),
}

type Buffers = (Vec<u8>, Vec<Piece>);

/// The hashing thread; clones are the same one.
#[derive(Clone)]
pub struct Hasher {
    jobs: SyncSender<Job>,
    spare: Arc<Mutex<Vec<Buffers>>>,
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").finish_non_exhaustive()
    }
}

impl Hasher {
    /// Starts the thread; `None` where the host gives none, and hashing is done in place then.
    #[must_use]
    pub fn start() -> Option<Self> {
        let (jobs, work) = sync_channel(QUEUE);
        let spare = Arc::new(Mutex::new(Vec::new()));
        let buffers = Arc::clone(&spare);
        let named = thread::Builder::new().name("wire-hash".to_owned());
        named.spawn(move || run(&work, &buffers)).ok()?;
        Some(Self { jobs, spare })
    }

    /// Empty buffers.
    pub(super) fn spare(&self) -> Buffers {
        self.spare.lock().pop().unwrap_or_default()
    }

    /// Hands a batch over; waits while too many wait.
    pub(super) fn hash(&self, table: Arc<WireTable>, bytes: Vec<u8>, pieces: Vec<Piece>) {
        if let Err(refused) = self.jobs.send(Job::Hash(table, bytes, pieces))
            && let Job::Hash(table, bytes, pieces) = refused.0
        {
            // The thread is gone, which only a panic in it can bring about.
            table.absorb(&bytes, &pieces);
        }
    }

    /// Waits until everything handed over is hashed.
    pub(super) fn settle(&self) {
        let (done, wait) = sync_channel(1);
        if self.jobs.send(Job::Settle(done)).is_ok() {
            // An error means that the thread is gone, and with it what it had to do.
            let _ = wait.recv();
        }
    }
}

fn run(work: &Receiver<Job>, spare: &Mutex<Vec<Buffers>>) {
    for job in work {
        match job {
            Job::Hash(table, mut bytes, mut pieces) => {
                table.absorb(&bytes, &pieces);
                bytes.clear();
                pieces.clear();
                let mut spare = spare.lock();
                if spare.len() < SPARE {
                    spare.push((bytes, pieces));
                }
            }
            Job::Settle(done) => drop(done.send(())),
        }
    }
}
