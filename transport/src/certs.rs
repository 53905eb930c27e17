//! Who may speak: a site authority, the identities it issues, and TLS made of them.
//!
//! Reading order: [`site`] (the authority and what it signs), [`identity`] (what a node carries),
//! [`revocation`] (which of them are good no more), [`device`] (certificates of devices), [`tls`]
//! (rustls and quinn configurations), [`stream`] (TLS over TCP), [`glob`] (which devices a
//! certificate may speak for).
//!
//! It opens no socket. Bounds: files of at most [`PEM_LEN_MAX`] bytes, globs of at most
//! [`GLOB_LEN_MAX`].

pub mod device;
pub mod glob;
pub mod identity;
pub mod revocation;
mod simulated;
pub mod site;
pub mod stream;
pub mod tls;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

pub use glob::GLOB_LEN_MAX;
pub use identity::Identity;
pub use revocation::Revocations;
pub use simulated::simulated_identity;
pub use site::Site;

/// Bytes of a PEM file at most: a certificate chain of a few links, or a key.
pub const PEM_LEN_MAX: u64 = 64 * 1024;
/// The name every certificate of a site carries beside the node's own: the default server name.
pub const SITE_SERVER_NAME: &str = "actorsim-node";

/// Mode of a private key: its owner only.
const KEY_MODE: u32 = 0o600;
/// Mode of a certificate.
const CERT_MODE: u32 = 0o644;

/// What is wrong with certificates or keys, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// A file cannot be read.
    #[error("{}: {error}; {help}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
        /// What to do.
        help: &'static str,
    },
    /// A file cannot be written.
    #[error("{}: {error}", .path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {what}; {help}", .path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// What to do.
        help: &'static str,
    },
    /// Only one half of an authority is there.
    #[error(
        "{} holds only one of ca.pem and ca.key; put the other back, or remove it to make a new \
         authority (every certificate must then be issued again)", .dir.display()
    )]
    HalfAuthority {
        /// Where.
        dir: PathBuf,
    },
    /// A name that cannot stand in a certificate.
    #[error("{name:?} is not a node name: 1 to 63 of a-z, A-Z, 0-9, '-', '.' and '_'")]
    Name {
        /// The name.
        name: String,
    },
    /// A glob that cannot stand in a certificate.
    #[error("{glob:?} is not a device glob: 1 to {GLOB_LEN_MAX} visible ASCII characters")]
    Glob {
        /// The glob.
        glob: String,
    },
    /// The library refuses to make it.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The library refuses the configuration.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
}

/// Reads a PEM file of one certificate or key, within the bound.
fn read_pem(path: &Path, help: &'static str) -> Result<Vec<u8>, CertError> {
    read_bounded(path, PEM_LEN_MAX, help)
}

/// Reads a file of at most so many bytes.
fn read_bounded(path: &Path, most: u64, help: &'static str) -> Result<Vec<u8>, CertError> {
    let fail = |error| CertError::Read {
        path: path.into(),
        error,
        help,
    };
    let file = fs::File::open(path).map_err(fail)?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > most {
        let what = format!("longer than {most} bytes");
        return Err(CertError::Content {
            path: path.into(),
            what,
            help,
        });
    }
    Ok(bytes)
}

/// Writes a file whole or not at all: beside its place, synced, then renamed.
fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CertError> {
    let fail = |error| CertError::Write {
        path: path.into(),
        error,
    };
    let beside = path.with_extension("new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)
        .map_err(fail)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(fail)?;
    fs::rename(&beside, path).map_err(fail)
}

/// Makes a directory that only its owner can enter, if it is not there.
fn make_dir(dir: &Path) -> Result<(), CertError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let fail = |error| CertError::Write {
        path: dir.into(),
        error,
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(fail)
}

#[cfg(test)]
mod tests;
