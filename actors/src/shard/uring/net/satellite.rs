//! A satellite: a ring with a table of direct descriptors and receive buffers of its own.
//!
//! The kernel allows each ring a table as large as the process may open files, so that many rings
//! hold many times that. It runs its completions whenever the thread is in the kernel anyway
//! (`COOP_TASKRUN`), and the shard's own ring watches it: a ring of the deferred kind would not
//! wake its watcher. Bounds: [`ENTRIES`], [`COMPLETIONS`]; [`SUBMITS_MAX`].

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use io_uring::{IoUring, squeue};

use super::buffers::{Buffers, Taken};
use super::lending;

/// Entries handed over at a time; more in one turn take further calls.
const ENTRIES: u32 = 512;

/// Completions between two looks; what does not fit is kept by the kernel.
const COMPLETIONS: u32 = 8_192;

/// Calls to make room in the submission queue before the ring counts as broken.
const SUBMITS_MAX: usize = 1_024;

/// Pause before a call that the kernel refused for want of memory.
const RETRY_PAUSE: Duration = Duration::from_micros(200);

/// A completion and the satellite that it is from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    pub(super) satellite: u8,
    pub(super) data: u64,
    pub(super) result: i32,
    pub(super) flags: u32,
}

/// A ring for sockets.
pub(super) struct Satellite {
    // Dropped before the buffers it takes from.
    ring: IoUring,
    buffers: Option<Buffers>,
    index: u8,
    /// Slots of the table, those never used yet, and those free again.
    table: u32,
    fresh: u32,
    free: Vec<u32>,
    /// Whether the shard's ring watches it.
    pub(super) watched: bool,
    /// Operations whose last completion has not come.
    pub(super) pending: u32,
    pub(super) enters: u64,
    pub(super) submissions: u64,
}

impl Satellite {
    pub(super) fn new(index: u8, table: u32, buffers: u16, buffer_bytes: u32) -> io::Result<Self> {
        let ring = IoUring::builder()
            .dontfork()
            .setup_submit_all()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(COMPLETIONS)
            .build(ENTRIES)?;
        ring.submitter().register_files_sparse(table)?;
        let buffers = Buffers::register(&ring, buffers, buffer_bytes)?;
        Ok(Self {
            ring,
            buffers: Some(buffers),
            index,
            table,
            fresh: 0,
            free: Vec::new(),
            watched: false,
            pending: 0,
            enters: 0,
            submissions: 0,
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }

    fn buffers(&self) -> &Buffers {
        self.buffers.as_ref().expect("taken by `drop` only")
    }

    /// What a completion of this ring has filled.
    pub(super) fn taken(&self, done: &Done) -> Option<Taken> {
        self.buffers().taken(done.flags, done.result)
    }

    pub(super) fn bytes(&self, taken: &Taken) -> &[u8] {
        self.buffers().bytes(taken)
    }

    pub(super) fn give(&mut self, taken: Taken) {
        if let Some(buffers) = &mut self.buffers {
            buffers.give(taken);
        }
    }

    pub(super) fn buffer_count(&self) -> usize {
        self.buffers().count()
    }

    pub(super) const fn has_slot(&self) -> bool {
        !self.free.is_empty() || self.fresh < self.table
    }

    /// A free slot of the table.
    pub(super) fn take_slot(&mut self) -> Option<u32> {
        let slot = self.free.pop();
        slot.or_else(|| {
            let fresh = self.fresh;
            (fresh < self.table).then(|| {
                self.fresh += 1;
                fresh
            })
        })
    }

    pub(super) fn give_slot(&mut self, slot: u32) {
        self.free.push(slot);
    }

    /// Puts an open file into a slot.
    pub(super) fn install(&self, slot: u32, file: BorrowedFd<'_>) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        let files = [file.as_raw_fd()];
        self.ring.submitter().register_files_update(slot, &files)?;
        Ok(())
    }

    /// Queues entries as one; completions that must be taken to make room go to `done`.
    ///
    /// What they point to stays in place until they are complete: the engine's to keep, see
    /// [`Conn`](super::Conn).
    #[expect(
        unsafe_code,
        reason = "hands entries that point to memory to the kernel"
    )]
    pub(super) fn push(
        &mut self,
        entries: &[squeue::Entry],
        done: &mut VecDeque<Done>,
    ) -> io::Result<()> {
        for _ in 0..SUBMITS_MAX {
            // SAFETY: entries are made by `lending` from parts of a `Conn` that are boxed, and
            // these are neither changed nor dropped before the completion (`Conn`); from the
            // engine's form for datagrams, dropped after all satellites; or from statics.
            if unsafe { lending::push(&mut self.ring, entries) } {
                self.submissions += entries.len() as u64;
                return Ok(());
            }
            self.reap(done);
            self.submit()?;
        }
        Err(io::Error::other("the kernel takes no more requests"))
    }

    /// Whether something is queued, or the kernel has something to finish.
    pub(super) fn is_due(&mut self) -> bool {
        let queue = self.ring.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    /// Hands over what is queued and lets the kernel finish what it can, if there is anything.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.is_due() { self.submit() } else { Ok(()) }
    }

    fn submit(&mut self) -> io::Result<()> {
        self.enters += 1;
        let Err(error) = self.ring.submit() else {
            return Ok(());
        };
        match error.raw_os_error() {
            Some(libc::EINTR) => Ok(()),
            Some(libc::EAGAIN | libc::EBUSY | libc::ENOMEM) => {
                if self.ring.completion().is_empty() {
                    std::thread::park_timeout(RETRY_PAUSE);
                }
                Ok(())
            }
            _ => Err(error),
        }
    }

    pub(super) fn has_completions(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    /// Moves its completions to `done`.
    pub(super) fn reap(&mut self, done: &mut VecDeque<Done>) {
        let satellite = self.index;
        done.extend(self.ring.completion().map(|entry| Done {
            satellite,
            data: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        }));
    }
}

impl Drop for Satellite {
    fn drop(&mut self) {
        if self.pending > 0 {
            // The kernel may write to them until it has cancelled what was under way, which it does
            // some time after the ring is closed: better lost than written to by chance.
            std::mem::forget(self.buffers.take());
        }
    }
}
