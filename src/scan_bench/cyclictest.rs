//! One run of rt-tests' `cyclictest`: what the kernel alone keeps, on the same core with the same
//! priority, period and number of cycles.
//!
//! It is told to leave power states as they are, since the scan leaves them too. Bound: as many
//! samples as cycles were asked for; it ends with this value.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use actorsim_world::scan::rt::HostReport;

use super::load::find;

/// What to do where it is missing.
pub const MISSING: &str = "cyclictest is not installed: it is in Debian's package rt-tests \
                           (apt-get install rt-tests)";

/// Where it is.
#[must_use]
pub fn program() -> Option<PathBuf> {
    find("cyclictest")
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // it has ended by itself unless this unwinds or gives up
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How late it woke, each of `cycles` times, in order, nanoseconds. It is placed like the scan that
/// got `host`.
///
/// # Errors
/// It does not start, or ends without a sample.
pub fn run(
    program: &Path,
    host: &HostReport,
    period: Duration,
    cycles: u64,
) -> Result<Vec<u64>, String> {
    let mut command = Command::new(program);
    command
        .args(["--verbose", "--nsecs", "--threads=1", "--laptop"])
        .arg(format!("--interval={}", period.as_micros()))
        .arg(format!("--loops={cycles}"));
    if let Some(core) = host.got.core {
        command.arg(format!("--affinity={core}"));
    }
    match host.got.policy.strip_prefix("fifo:") {
        Some(priority) => command.arg(format!("--priority={priority}")),
        None => command.arg("--policy=other"),
    };
    if host.got.locked {
        command.arg("--mlockall");
    }
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cyclictest: {error}"))?;
    let mut running = Running(child);
    let mut samples = Vec::new();
    if let Some(out) = running.0.stdout.take() {
        let lines = BufReader::new(out).lines().map_while(Result::ok);
        samples.extend(lines.filter_map(|line| sample(&line)));
    }
    let ended = running.0.wait().map_err(|error| error.to_string())?;
    if !ended.success() || samples.is_empty() {
        return Err(format!("cyclictest gave no samples: {ended}"));
    }
    Ok(samples)
}

/// `task:cycle:nanoseconds`; a clock that seems to wake early is on time.
fn sample(line: &str) -> Option<u64> {
    let mut parts = line.split(':').map(|part| part.trim().parse::<i64>());
    let (Some(Ok(_)), Some(Ok(_)), Some(Ok(ns)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    Some(ns.max(0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_lines_are_read_and_its_words_are_not() {
        assert_eq!(sample("       0:      13:  300394"), Some(300_394));
        assert_eq!(sample("       0:      14:     -12"), Some(0));
        for other in ["Max CPUs = 2", "Thread 0 using cpu 1.", "a: b: c", ""] {
            assert_eq!(sample(other), None, "{other}");
        }
    }
}
