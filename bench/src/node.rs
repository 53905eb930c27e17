//! A whole node in this process, as `actorsim start` runs it; what it has to say is its run report.
//!
//! On free ports and in a state directory of its own, which goes with it. Bound: its own `--for`.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use peer_probe::Job;
use serde_json::Value;

/// Time between two samples of a device.
const INTERVAL: &str = "5s";

/// Runs a node of the job's size and time with further flags; returns the report of a run that
/// passed.
pub(crate) fn report_of(job: &Job, flags: &[&str]) -> Result<Value, String> {
    let scratch = std::env::temp_dir().join(format!("actorsim-bench-{}", std::process::id()));
    let outcome = run(&scratch, job, flags);
    drop(fs::remove_dir_all(&scratch));
    outcome
}

fn run(scratch: &Path, job: &Job, flags: &[&str]) -> Result<Value, String> {
    fs::create_dir_all(scratch).map_err(|error| format!("{}: {error}", scratch.display()))?;
    let report = scratch.join("report.json");
    let (devices, seconds) = (job.size.to_string(), format!("{}s", job.seconds));
    let common = [
        "actorsim",
        "start",
        "--devices",
        &devices,
        "--for",
        &seconds,
    ];
    let quiet = ["--interval", INTERVAL, "-X", "metrics.listen=127.0.0.1:0"];
    let texts = common.iter().chain(&quiet).chain(&["-X", "log.level=warn"]);
    let mut args: Vec<OsString> = texts.chain(flags).map(OsString::from).collect();
    args.extend(["--state-dir".into(), scratch.into()]);
    args.extend(["--report".into(), report.clone().into()]);
    let exit = actorsim::cli::run(args);
    let text = fs::read_to_string(&report).map_err(|error| format!("no report: {error}"))?;
    let report: Value = serde_json::from_str(&text).map_err(|error| format!("report: {error}"))?;
    if exit == actorsim::cli::Exit::Ok {
        return Ok(report);
    }
    let part = |name| report.get(name).unwrap_or(&Value::Null);
    Err(format!(
        "{exit:?}, why: {}, publish: {}",
        part("why"),
        part("publish")
    ))
}
