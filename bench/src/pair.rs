//! Nodes in processes of their own: a twin and its fleet, which know each other, or one that is
//! both.
//!
//! Each with a state directory, an identity of a site of their own and a report. They are killed
//! with whoever holds them. Bound: [`PATIENCE`] for an end in order.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use actorsim_transport::Site;
use serde_json::Value;

use crate::process::{NODE, kib_of};

/// For a process to end in order.
const PATIENCE: Duration = Duration::from_secs(60);

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Where they live, and what all of them are told.
#[derive(Debug)]
pub(crate) struct Pair<'a> {
    dir: &'a Path,
    told: &'a [&'a str],
    at: SocketAddr,
}

impl<'a> Pair<'a> {
    /// A site in this directory, with an identity for each of them, and a port for the twin.
    pub(crate) fn new(dir: &'a Path, told: &'a [&'a str]) -> Result<Self, String> {
        let site = Site::open_or_create(&dir.join("site")).map_err(text)?;
        for name in ["twin", "fleet"] {
            site.issue(name, "*", &identity(dir, name)).map_err(text)?;
        }
        let free = UdpSocket::bind("127.0.0.1:0").map_err(text)?;
        let at = free.local_addr().map_err(text)?;
        Ok(Self { dir, told, at })
    }

    /// Starts the twin.
    pub(crate) fn twin(&self, args: &[String]) -> Result<Node, String> {
        let own = format!("--listen={}", self.at);
        self.start("twin", &["--no-fleet".to_owned(), own], args)
    }

    /// Starts the fleet, which dials until the twin is there.
    pub(crate) fn fleet(&self, args: &[String]) -> Result<Node, String> {
        let own = format!("--twin={}", self.at);
        self.start("fleet", &["--no-world".to_owned(), own], args)
    }

    /// Starts a node that is both.
    pub(crate) fn both(&self, args: &[String]) -> Result<Node, String> {
        self.start("twin", &[format!("--listen={}", self.at)], args)
    }

    fn start(&self, name: &str, own: &[String], args: &[String]) -> Result<Node, String> {
        let report = self.dir.join(format!("{name}.json"));
        let mut command = Command::new(std::env::current_exe().map_err(text)?);
        command.args([NODE, "start", "--node", name, "--state-dir"]);
        command.arg(self.dir.join(name));
        command.arg("--report").arg(&report);
        command.arg("--identity").arg(identity(self.dir, name));
        command.args(["-X", "metrics.enabled=false", "-X", "log.level=error"]);
        command.args(self.told).args(own).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().map_err(text)?;
        Ok(Node { child, report })
    }
}

fn identity(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("id-{name}"))
}

/// A node in a process of its own, killed with this one.
#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    report: PathBuf,
}

impl Node {
    /// Its resident memory.
    pub(crate) fn resident_bytes(&self) -> Result<u64, String> {
        let status = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(status).map_err(text)?;
        kib_of(&status, "VmRSS:").ok_or_else(|| "it has ended".to_owned())
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) -> Result<(), String> {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .map_err(text)?;
        Ok(())
    }

    /// Ends in order, and says what it has seen.
    pub(crate) fn stop(mut self) -> Result<Value, String> {
        let asked = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        asked.map_err(text)?;
        let began = Instant::now();
        while self.child.try_wait().map_err(text)?.is_none() {
            if began.elapsed() > PATIENCE {
                return Err(format!("{} does not end", self.report.display()));
            }
            thread::sleep(Duration::from_millis(20));
        }
        let report = fs::read_to_string(&self.report).map_err(text)?;
        serde_json::from_str(&report).map_err(text)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
