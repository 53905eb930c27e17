//! The broker that participants of the MQTT scenarios talk to: the bench's sink, in a process of
//! its own, asked over its standard input and answering on its standard output.
//!
//! Bound: a question has one line of answer.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::machine::files_max;

/// Clients that a peer is asked for at most: it has a file for each, and a process may open 20,000
/// on many a host.
pub const MQTT_CLIENTS_MAX: u64 = 19_500;
/// Files of a process besides those of its clients.
const OTHER_FILES: u64 = 400;
/// Connects that a peer has under way at a time.
pub const MQTT_CONNECTING_MAX: usize = 256;
/// Time between two messages of a device.
pub const MQTT_INTERVAL: Duration = Duration::from_secs(5);
/// Bytes of a message: as many as one of ours has.
pub const MQTT_PAYLOAD: [u8; 230] = [b'x'; 230];

/// Where a peer finds the bench's binary.
pub const BENCH: &str = "ACTORSIM_BENCH";
/// Where a sink over TLS, and who makes certificates, finds the site authority.
pub const SITE: &str = "ACTORSIM_BENCH_SITE";

/// A sink that runs beside the measured process, and ends with it.
#[derive(Debug)]
pub struct Broker {
    child: Child,
    /// Held open: the sink ends when it is closed.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    /// Where it listens on 127.0.0.1.
    pub port: u16,
}

/// What a sink has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions that are up.
    pub sessions: u64,
    /// Sessions that have come up.
    pub connects: u64,
    /// Those that said goodbye.
    pub goodbyes: u64,
    /// Those that went without: their wills would be published.
    pub wills: u64,
    /// Messages of devices.
    pub published: u64,
    /// From the drop of all until half, 99 of 100 and the last so far were back, milliseconds.
    pub back_ms: [u64; 3],
    /// From the first goodbye to the last, milliseconds.
    pub leaving_ms: u64,
}

/// Clients of a peer in this process, or in one that it starts: those that it is asked for, or as
/// many as may open files here.
#[must_use]
pub fn mqtt_clients(asked: u64) -> u64 {
    let files = files_max().saturating_sub(OTHER_FILES);
    asked.min(MQTT_CLIENTS_MAX).min(files)
}

fn bench() -> PathBuf {
    let own = || std::env::current_exe().unwrap_or_default();
    std::env::var_os(BENCH).map_or_else(own, PathBuf::from)
}

fn command(what: &str, number: u64, site: Option<&Path>) -> Command {
    let mut command = Command::new(bench());
    command.args(["child", "mqtt", what, &number.to_string(), "0"]);
    command.env_remove(SITE);
    command.envs(site.map(|site| (SITE, site)));
    command
}

/// Writes certificates of `count` devices to `devices` in a site's directory: `bench-N.pem` and
/// `bench-N.key`; the authority's is `ca.pem` there.
///
/// # Errors
/// The bench could not.
pub fn certificates(site: &Path, count: u64) -> Result<PathBuf, String> {
    let status = command("certs", count, Some(site)).status();
    let status = status.map_err(|error| format!("certificates: {error}"))?;
    match status.success() {
        true => Ok(site.join("devices")),
        false => Err(format!("certificates: {status}")),
    }
}

impl Broker {
    /// Starts one on a free port; with a site's directory it speaks TLS, as a server of that site,
    /// and wants certificates of it.
    ///
    /// # Errors
    /// It did not start.
    pub fn start(site: Option<&Path>) -> Result<Self, String> {
        let mut child = command("sink", 0, site)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start the sink: {error}"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or("the sink has no output")?;
        let mut broker = Self {
            child,
            stdin,
            stdout: BufReader::new(stdout),
            port: 0,
        };
        let line = broker.line()?;
        let port = line.parse();
        broker.port = port.map_err(|_| format!("the sink said {line:?}, not its port"))?;
        Ok(broker)
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        let read = self.stdout.read_line(&mut line);
        read.map_err(|error| format!("the sink said nothing: {error}"))?;
        Ok(line.trim().to_owned())
    }

    fn ask(&mut self, question: &str) -> Result<String, String> {
        let stdin = self.stdin.as_mut().ok_or("the sink is gone")?;
        writeln!(stdin, "{question}").map_err(|error| format!("the sink is gone: {error}"))?;
        self.line()
    }

    /// What it has counted so far.
    ///
    /// # Errors
    /// It is gone.
    pub fn counts(&mut self) -> Result<Counts, String> {
        let line = self.ask("counts")?;
        let numbers: Vec<u64> = line
            .split(' ')
            .map_while(|word| word.parse().ok())
            .collect();
        let [
            sessions,
            connects,
            goodbyes,
            wills,
            published,
            half,
            most,
            last,
            leaving,
        ] = numbers[..]
        else {
            return Err(format!("the sink said {line:?}, not its counts"));
        };
        Ok(Counts {
            sessions,
            connects,
            goodbyes,
            wills,
            published,
            back_ms: [half, most, last],
            leaving_ms: leaving,
        })
    }

    /// Resets all connections at once.
    ///
    /// # Errors
    /// It is gone.
    pub fn drop_all(&mut self) -> Result<(), String> {
        self.ask("drop").map(drop)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.stdin.take());
        drop(self.child.wait());
    }
}
