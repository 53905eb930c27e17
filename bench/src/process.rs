//! Children: ours are this binary again, peers are their own binaries; each prints one JSON line.
//!
//! A process per measurement keeps resident memory clean of what ran before. Bound: each is killed
//! at its scenario's time limit after the time that it measures.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use peer_probe::Job;
use serde_json::Value;

use crate::peers::Peer;
use crate::scan::kernel;
use crate::scenario::{Load, SCENARIOS, Scenario, Shape};

/// The hidden first argument that makes this binary the measured side.
pub(crate) const CHILD: &str = "child";

/// The one that makes it measure what the kernel keeps alone.
pub(crate) const KERNEL: &str = "kernel";

/// The hidden first argument that makes this binary a node: the rest is `actorsim`'s.
pub(crate) const NODE: &str = "node";

/// A participant.
#[derive(Debug)]
pub(crate) enum Child<'a> {
    Ours,
    /// A participant that this binary is, too: named in front of the shape.
    Baseline(&'static str),
    Peer(&'a Peer),
}

impl Child<'_> {
    /// For people.
    pub(crate) fn name(&self) -> String {
        self.peer().unwrap_or_else(|| "ours".to_owned())
    }

    /// For the line: none is ours.
    pub(crate) fn peer(&self) -> Option<String> {
        match self {
            Self::Ours => None,
            Self::Baseline(name) => Some((*name).to_owned()),
            Self::Peer(peer) => Some(peer.title()),
        }
    }

    /// How much it is given to do; none if it is left out of this shape.
    pub(crate) fn load(&self, scenario: &Scenario, shape: &Shape) -> Option<Load> {
        match self {
            Self::Ours => Some(shape.load),
            Self::Baseline(name) => scenario.has(name, shape).then_some(shape.load),
            Self::Peer(peer) => scenario.load_of(peer.name, shape),
        }
    }

    fn shape_of(&self, shape: &Shape) -> String {
        match self {
            Self::Baseline(name) => format!("{name}-{}", shape.word()),
            Self::Ours | Self::Peer(_) => shape.word().to_owned(),
        }
    }

    /// Runs it once and reads its line.
    pub(crate) fn run(
        &self,
        scenario: &Scenario,
        shape: &Shape,
        load: Load,
    ) -> Result<Value, String> {
        let mut command = match self {
            Self::Ours | Self::Baseline(_) => {
                let own = std::env::current_exe();
                let mut command = Command::new(own.map_err(|e| format!("own binary: {e}"))?);
                command.arg(CHILD);
                command
            }
            Self::Peer(peer) => {
                let mut command = peer.command();
                command.envs(std::env::current_exe().map(|own| (peer_probe::BENCH, own)));
                command
            }
        };
        command
            .args([scenario.name, &self.shape_of(shape)])
            .args([load.size, load.seconds].map(|number| number.to_string()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("cannot start: {e}"))?;
        let mut stdout = child.stdout.take().expect("stdout is piped");
        let (sender, receiver) = mpsc::sync_channel(1); // one text, one receiver
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            let read = stdout.read_to_string(&mut text).map(|_| text);
            drop(sender.send(read));
        });
        let limit = scenario.time_limit + Duration::from_secs(load.seconds);
        let Ok(text) = receiver.recv_timeout(limit) else {
            drop(child.kill());
            drop(child.wait());
            return Err(format!("killed after {limit:?}"));
        };
        drop(reader.join());
        let status = child.wait().map_err(|e| format!("lost: {e}"))?;
        if !status.success() {
            return Err(format!("ended with {status}"));
        }
        let text = text.map_err(|e| format!("cannot read its line: {e}"))?;
        let line = text.lines().next_back().unwrap_or_default();
        serde_json::from_str(line).map_err(|e| format!("not a JSON line ({e}): {line:?}"))
    }
}

/// The measured side of `child SCENARIO SHAPE SIZE SECONDS`, or of `kernel`.
pub(crate) fn be_child(kind: &str, args: impl Iterator<Item = String>) -> ExitCode {
    let Some(job) = Job::parse(args) else {
        eprintln!("usage: {kind} SCENARIO SHAPE SIZE SECONDS");
        return ExitCode::from(2);
    };
    let Some(scenario) = SCENARIOS.iter().find(|s| s.name == job.scenario) else {
        eprintln!("no scenario `{}`", job.scenario);
        return ExitCode::from(2);
    };
    let measure = match kind {
        KERNEL => kernel::measure,
        _ => scenario.child,
    };
    match measure(&job) {
        Ok(Value::Null) => ExitCode::SUCCESS, // a helper of a measurement has no numbers
        Ok(value) => {
            println!("{value}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{} {} {}: {error}", job.scenario, job.shape, job.size);
            ExitCode::FAILURE
        }
    }
}

/// A node as its own program runs it.
pub(crate) fn be_node(args: impl Iterator<Item = String>) -> ExitCode {
    let args = std::iter::once("actorsim".to_owned()).chain(args);
    ExitCode::from(actorsim::cli::run(args.map(OsString::from)).code())
}

/// Memory the machine can still give, or none where it does not say.
pub(crate) fn available_bytes() -> Option<u64> {
    kib_of(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")
}

/// Bytes of a line such as `VmRSS:      123 kB`.
pub(crate) fn kib_of(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_from_the_kernels_lines() {
        let text = "VmPeak:\t  12 kB\nVmRSS:\t     345 kB\n";
        assert_eq!(kib_of(text, "VmRSS:"), Some(345 << 10));
        assert_eq!(kib_of(text, "VmSwap:"), None);
        assert!(available_bytes().is_some_and(|bytes| bytes > 0));
    }
}
