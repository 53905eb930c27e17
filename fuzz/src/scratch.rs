//! Folders and files for as long as they are needed, in memory where the machine has such a place.
//!
//! A process that crashes leaves its own behind; the one that started it removes the folder that
//! both are in. Bound: one folder for each value.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A folder that is removed with its value.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// A new one: below `TMPDIR` if that is set.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let memory = Path::new("/dev/shm");
        let above = match std::env::var_os("TMPDIR") {
            None if memory.is_dir() => memory.to_owned(),
            _ => std::env::temp_dir(),
        };
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = above.join(format!("actorsim-fuzz-{process}-{number}"));
        fs::create_dir_all(&folder).expect("a folder for what is temporary");
        Self(folder)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it.
    pub(crate) fn file(&self, bytes: &[u8]) -> PathBuf {
        let file = self.0.join("input");
        fs::write(&file, bytes).expect("room for what is temporary");
        file
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
