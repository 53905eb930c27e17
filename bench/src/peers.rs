//! The peers' workspace: built on demand, its versions read from its lock file.
//!
//! It is not part of ours, so that its features and weight do not leak. Bound: one build.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A peer's binary, built.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    pub(crate) binary: PathBuf,
}

/// Package in the lock file and its binary.
const PEERS: [(&str, &str); 5] = [
    ("tokio", "peer-tokio"),
    ("rusm-otp", "peer-rusm"),
    ("actix", "peer-actix"),
    ("kameo", "peer-kameo"),
    ("ractor", "peer-ractor"),
];

const LOCK: &str = include_str!("../peers/Cargo.lock");

/// Builds all peers and names those that are left out.
pub(crate) fn build() -> Result<Vec<Peer>, String> {
    eprintln!("spargio: left out, it runs tasks on io_uring and has no actors");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--locked"])
        .current_dir(&folder)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("cannot build the peers: {error}"))?;
    if !status.success() {
        return Err(format!("the peers do not build: {status}"));
    }
    let release = folder.join("target/release");
    PEERS
        .into_iter()
        .map(|(name, binary)| {
            let version = locked_version(LOCK, name);
            let version = version.ok_or_else(|| format!("`{name}` is not in the lock file"))?;
            Ok(Peer {
                name,
                version,
                binary: release.join(binary),
            })
        })
        .collect()
}

fn locked_version(lock: &str, package: &str) -> Option<String> {
    let (_, rest) = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?;
    rest.split('"').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_has_a_version_in_the_lock_file() {
        for (name, _) in PEERS {
            assert!(locked_version(LOCK, name).is_some(), "{name}");
        }
        assert_eq!(locked_version(LOCK, "no-such-package"), None);
    }
}
