//! A thread that writes what devices print, so that no shard waits for a disk or a reader.
//!
//! Who is faster than the disk loses whole pieces, counted as dropped; in a simulation it waits
//! instead. After a first failed write (a full disk, a pipe that nobody reads any more) nothing is
//! written, and everything is counted as an error. Bounds: [`QUEUE`] pieces wait, [`SPARE`] empty
//! buffers are kept. The thread ends with its last printer, or when it is told.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;

use parking_lot::Mutex;

use crate::broker::PublishStats;
use crate::broker::stats::PublishTally;

/// Pieces that wait: 16 MiB, a second of a slow disk.
const QUEUE: usize = 256;
/// Empty buffers kept.
const SPARE: usize = 32;

enum Job {
    Write(Vec<u8>, u64),
    /// Tells when everything before it is written.
    Settle(SyncSender<()>),
    End,
}

/// Writes lines; clones are the same one.
#[derive(Clone)]
pub struct Printer {
    jobs: SyncSender<Job>,
    shared: Arc<Shared>,
}

struct Shared {
    stats: Arc<PublishStats>,
    spare: Mutex<Vec<Vec<u8>>>,
    /// Why a write has failed.
    failure: OnceLock<String>,
    /// Nothing is dropped: time stands still meanwhile.
    waits: bool,
}

impl fmt::Debug for Printer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Printer").finish_non_exhaustive()
    }
}

impl Printer {
    /// Prints to a file, which is made or emptied, or for `-` to standard output. With `waits`
    /// whoever prints faster than it writes is held back, and loses nothing.
    ///
    /// # Errors
    /// The file cannot be made, or the host gives no thread.
    pub fn to(path: &Path, waits: bool) -> io::Result<Self> {
        match path.as_os_str() == "-" {
            true => Self::new(io::stdout(), waits),
            false => Self::new(File::create(path)?, waits),
        }
    }

    fn new(to: impl Write + Send + 'static, waits: bool) -> io::Result<Self> {
        let (jobs, work) = sync_channel(QUEUE);
        let shared = Arc::new(Shared {
            stats: Arc::default(),
            spare: Mutex::default(),
            failure: OnceLock::new(),
            waits,
        });
        let own = Arc::clone(&shared);
        let named = thread::Builder::new().name("console".to_owned());
        named.spawn(move || run(to, &work, &own))?;
        Ok(Self { jobs, shared })
    }

    /// What is counted: a line is sent when it is printed, and acknowledged when it is written.
    #[must_use]
    pub fn stats(&self) -> &Arc<PublishStats> {
        &self.shared.stats
    }

    /// Why a write has failed, if one has.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.shared.failure.get().map(String::as_str)
    }

    /// Waits until everything that was printed before is written.
    pub fn settle(&self) {
        let (done, wait) = sync_channel(1);
        if self.jobs.send(Job::Settle(done)).is_ok() {
            // An error means that the thread is gone, and with it what it had to do.
            let _ = wait.recv();
        }
    }

    /// Ends the thread once it has written what was printed before; what is printed later is
    /// dropped. A thread that is stuck with a full queue is left to itself.
    pub fn end(&self) {
        let _ = self.jobs.try_send(Job::End);
    }

    /// An empty buffer.
    pub(super) fn spare(&self) -> Vec<u8> {
        self.shared.spare.lock().pop().unwrap_or_default()
    }

    /// Prints a piece of so many whole lines.
    pub(super) fn print(&self, bytes: Vec<u8>, lines: u64) {
        let job = Job::Write(bytes, lines);
        let refused = match self.shared.waits {
            true => self.jobs.send(job).is_err(),
            false => match self.jobs.try_send(job) {
                Ok(()) => false,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => true,
            },
        };
        self.shared.stats.take(&mut PublishTally {
            sent: lines,
            dropped: if refused { lines } else { 0 },
            ..PublishTally::default()
        });
    }
}

fn run(mut to: impl Write, work: &Receiver<Job>, shared: &Shared) {
    for job in work {
        match job {
            Job::Write(mut bytes, lines) => {
                let mut tally = PublishTally::default();
                let sound = shared.failure.get().is_none();
                match sound.then(|| to.write_all(&bytes).and_then(|()| to.flush())) {
                    Some(Ok(())) => tally.acked = lines,
                    Some(Err(error)) => {
                        tracing::error!("devices print no more: {error}");
                        let _ = shared.failure.set(error.to_string()); // the first one
                        tally.refused = lines;
                    }
                    None => tally.refused = lines,
                }
                shared.stats.take(&mut tally);
                bytes.clear();
                let mut spare = shared.spare.lock();
                if spare.len() < SPARE {
                    spare.push(bytes);
                }
            }
            Job::Settle(done) => drop(done.send(())),
            Job::End => break,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_an_outcome_whether_it_is_written_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        let printer = Printer::to(&path, true).unwrap();
        printer.print(b"a\nb\n".to_vec(), 2);
        printer.print(b"c\n".to_vec(), 1);
        printer.settle();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\nb\nc\n");
        let counts = printer.stats().read();
        assert_eq!((counts.sent, counts.acked, counts.refused), (3, 3, 0));
        assert!(printer.spare().capacity() > 0, "buffers are used again");
        printer.end();
        printer.settle();
        printer.print(b"d\n".to_vec(), 1);
        assert_eq!(printer.stats().read().dropped, 1, "its thread has ended");

        let full = Printer::to(Path::new("/dev/full"), false).unwrap();
        full.print(b"a\n".to_vec(), 1);
        full.print(b"b\nc\n".to_vec(), 2);
        full.settle();
        let counts = full.stats().read();
        assert_eq!((counts.sent, counts.acked, counts.refused), (3, 0, 3));
        assert!(full.failure().unwrap().contains("space"), "{full:?}");
    }

    /// A reader that takes nothing until it is let go.
    struct Stuck(Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_is_stuck_costs_lines_and_holds_nobody_up() {
        let (go, wait) = sync_channel(0);
        let printer = Printer::new(Stuck(wait), false).unwrap();
        for _ in 0..2 * QUEUE {
            printer.print(b"x\n".to_vec(), 1);
        }
        let dropped = printer.stats().read().dropped;
        let expected = QUEUE as u64 - 1..=QUEUE as u64; // one may be under way
        assert!(expected.contains(&dropped), "{dropped}");
        drop(go);
        printer.settle();
        let counts = printer.stats().read();
        assert_eq!(counts.acked + counts.dropped, counts.sent);
    }
}
