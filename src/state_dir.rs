//! The state directory of a node: one node at a time, held by a file lock.
//!
//! It holds the lock, the attach socket, the token and the node's identity (made by the transport
//! layer).
//! Default: `$XDG_STATE_HOME/actorsim/NAME`, else `~/.local/state/actorsim/NAME`; it must belong to
//! the node's own user.
//!
//! Bound: [`NODES_MAX`] directories are looked at when a running node is searched.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

/// Name of the attach socket in a state directory.
pub const SOCKET: &str = "attach.sock";
/// Name of the file with the token that actions over HTTP take.
pub const TOKEN: &str = "token";
/// Name of the site authority's directory.
pub const SITE: &str = "site";
/// Name of the prompt's history file.
pub const HISTORY: &str = "history";
/// Names beside the nodes' own directories; no node may be called so.
pub const RESERVED: &[&str] = &[SITE, HISTORY];
const LOCK: &str = "node.lock";

/// Directories looked at when a running node is searched: more nodes than one machine carries.
pub const NODES_MAX: usize = 256;

/// Times a lock is tried again, and the time between: a look lasts microseconds.
const LOOKS_MAX: u32 = 5;
const LOOK_TIME: Duration = Duration::from_millis(10);

/// Why a state directory cannot be used.
#[derive(Debug, Error)]
pub enum StateDirError {
    /// Another node holds it.
    #[error(
        "state directory {path} is in use by another node{owner}; \
         stop it, or give this one its own --node NAME or --state-dir DIR"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// ` (process N)` where known.
        owner: String,
    },
    /// It cannot be made, opened or locked.
    #[error("state directory {path}: {source}")]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A locked state directory. The lock goes with this value, or with the process.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    directory: File,
    _lock: File,
}

impl StateDir {
    /// Makes the directory (mode 0700) where needed and locks it.
    ///
    /// # Errors
    /// [`StateDirError::InUse`] if another node holds it.
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        let io = |source| StateDirError::Io {
            path: path.to_owned(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(io)?;
        let directory = File::open(path).map_err(io)?;
        let (owner, own) = (
            directory.metadata().map_err(io)?.uid(),
            rustix::process::geteuid().as_raw(),
        );
        if owner != own && own != 0 {
            // Whoever owns it could read the node's key and take its socket's place.
            let message = format!("belongs to user {owner}, not to {own}");
            return Err(io(io::Error::new(io::ErrorKind::PermissionDenied, message)));
        }
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join(LOCK))
            .map_err(io)?;
        match lock_soon(&lock, || std::thread::sleep(LOOK_TIME)) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let read = (&lock).take(32).read_to_string(&mut text);
                let owner = match (read, text.trim()) {
                    (Ok(_), pid) if !pid.is_empty() => format!(" (process {pid})"),
                    _ => String::new(),
                };
                return Err(StateDirError::InUse {
                    path: path.to_owned(),
                    owner,
                });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        lock.set_len(0).and_then(|()| lock.rewind()).map_err(io)?;
        writeln!(lock, "{}", std::process::id()).map_err(io)?;
        Ok(Self {
            path: path.to_owned(),
            directory,
            _lock: lock,
        })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path of the attach socket short enough to bind, whatever the directory is called: Unix
    /// socket addresses hold 108 bytes.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        PathBuf::from(format!(
            "/proc/self/fd/{}/{SOCKET}",
            self.directory.as_raw_fd()
        ))
    }
}

/// Locks, and waits for one who only looks whether a node runs ([`is_held`] locks for a moment).
fn lock_soon(lock: &File, mut wait: impl FnMut()) -> Result<(), TryLockError> {
    for _ in 0..LOOKS_MAX {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => wait(),
            other => return other,
        }
    }
    lock.try_lock()
}

/// `$XDG_STATE_HOME/actorsim`, else `~/.local/state/actorsim`, else `/tmp/actorsim-UID`.
#[must_use]
pub fn root() -> PathBuf {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path: &PathBuf| path.is_absolute())
    };
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map_or_else(
            || {
                let user = rustix::process::geteuid().as_raw();
                PathBuf::from(format!("/tmp/actorsim-{user}"))
            },
            |state| state.join("actorsim"),
        )
}

/// The state directory of a node that was not given one.
#[must_use]
pub fn default_path(node: &str) -> PathBuf {
    root().join(node)
}

/// The directory of the site authority: beside the nodes' own, so that nodes of one user trust each
/// other; inside a state directory that was named.
#[must_use]
pub fn site_path(state_dir: Option<&str>) -> PathBuf {
    state_dir.map_or_else(|| root().join(SITE), |path| Path::new(path).join(SITE))
}

/// True if a node holds the directory.
#[must_use]
pub fn is_held(path: &Path) -> bool {
    match File::open(path.join(LOCK)) {
        Ok(lock) => matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)),
        Err(_) => false,
    }
}

/// State directories under [`root`] whose node runs, by name.
#[must_use]
pub fn running() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root()) else {
        return Vec::new();
    };
    let mut found: Vec<_> = entries
        .take(NODES_MAX)
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| is_held(path))
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_node_on_the_same_directory_is_refused_and_told_why() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::open(dir.path()).unwrap();
        assert!(is_held(dir.path()));
        let refused = StateDir::open(dir.path()).unwrap_err().to_string();
        assert!(
            refused.contains("in use by another node (process "),
            "{refused}"
        );
        drop(first);
        assert!(!is_held(dir.path()));
        StateDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_look_at_the_lock_does_not_refuse_a_node_that_starts() {
        let dir = tempfile::tempdir().unwrap();
        drop(StateDir::open(dir.path()).unwrap());
        let look = File::open(dir.path().join(LOCK)).unwrap();
        look.try_lock_shared().unwrap();
        let lock = File::open(dir.path().join(LOCK)).unwrap();
        let mut looks = vec![look];
        lock_soon(&lock, || looks.clear()).unwrap();
    }

    #[test]
    fn a_socket_binds_in_a_directory_with_a_long_name() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("x".repeat(150))).unwrap();
        std::os::unix::net::UnixListener::bind(state.socket()).unwrap();
        assert!(state.path().join(SOCKET).exists());
    }
}
