//! Scenarios: a script is compiled and run, or its error has line and column. It cannot loop for
//! ever, read files, or eat memory. Its host here refuses half of what it is asked, and ends the
//! run after a while, so that no input takes long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actorsim::scenario::{Host, HostError, Script, begin};
use parking_lot::Mutex;
use serde_json::{Map, Value as Json, json};

use super::Target;
use super::text::{inputs, text};

pub(crate) const TARGET: Target = Target {
    name: "scenario",
    about: "scenario scripts, compiled and run",
    run,
    seeds,
    words: &[
        "spawn(",
        "stop(",
        "inject_fault(",
        "update_behavior(",
        "wait(\"10m\")",
        "expect(",
        "status()",
        "log(",
        "#{",
        "fn f(",
        "while ",
        "loop {",
        "for x in ",
        "let x = ",
        "switch ",
        "try {",
        "catch",
        "throw ",
        "import ",
        "eval(",
    ],
    len_max: 2_048,
    heap_max: 320 << 20,
};

/// Questions of the language to its host whether it may go on: one for each operation.
const OPERATIONS: u64 = 20_000;

#[derive(Default)]
struct Impatient {
    now: Mutex<Duration>,
    asked: AtomicU64,
    operations: AtomicU64,
}

impl Host for Impatient {
    fn command(&self, name: &str, _: Map<String, Json>) -> Result<Json, HostError> {
        if self.asked.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
            return Err(HostError::Refused("not now".to_owned()));
        }
        Ok(match name {
            "spawn" => json!({ "device_type": "lock", "first": 5, "count": 20 }),
            "retire" => json!({ "stopped": 3 }),
            "fault" => json!({ "rows": [{ "reached": { "sent": u64::MAX } }] }),
            "update" => json!({ "selected": 7 }),
            _ => json!({ "rows": [], "total": { "running": 9, "faults": {} } }),
        })
    }

    fn wait(&self, time: Duration) -> Result<(), HostError> {
        let mut now = self.now.lock();
        *now = now.saturating_add(time);
        Ok(())
    }

    fn now(&self) -> Duration {
        *self.now.lock()
    }

    fn log(&self, _: &str) {}

    fn is_over(&self) -> bool {
        self.operations.fetch_add(1, Ordering::Relaxed) > OPERATIONS
    }

    fn seed(&self) -> u64 {
        7
    }
}

fn seeds() -> Vec<Vec<u8>> {
    inputs(&[
        include_str!("../../../config/scenarios/ramp-up.rhai"),
        include_str!("../../../config/scenarios/rolling-update.rhai"),
        include_str!("../../../config/scenarios/reconnect-storm.rhai"),
        include_str!("../../../config/scenarios/day-in-a-minute.rhai"),
        "let a = [spawn(\"lock\", 3)]; a.push(a); wait(\"1m\"); expect(a.len() == 2);",
        "fn f(n) { f(n + 1) } f(0);",
        "let s = \"x\"; loop { s += s; }",
        "let l = spawn(\"lock\", 20); expect(l[0] == \"lock-0005\"); stop(l.part(1, 2), false);",
    ])
}

fn run(input: &[u8]) {
    let Some(text) = text(input) else {
        return;
    };
    let error = match Script::compile("s.rhai", text.to_owned(), None) {
        Err(error) => {
            assert!(
                error.line <= text.split('\n').count(),
                "line {}",
                error.line
            );
            Some(error.message)
        }
        Ok(script) => {
            assert!(script.title().len() <= text.len());
            let thread = begin(script, Arc::new(Impatient::default()), |outcome| outcome);
            let outcome = thread.expect("a thread").join().expect("an outcome");
            outcome.error.map(|error| error.to_string())
        }
    };
    assert_ne!(error.as_deref(), Some(""), "an error without words");
}
