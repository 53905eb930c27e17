//! What a script said and expected, as it goes into the report.
//!
//! It judges nothing. Bounds: those of [`limits`](super::limits).

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;

use super::limits::{EXPECTATIONS_MAX, LOG_LINES_KEPT};
use super::{Script, ScriptError};
use crate::report::{Expectation, Scenario};

/// The record of a run.
#[derive(Debug)]
pub struct Record {
    script: String,
    sha256: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    expectations: Vec<Expectation>,
    log: VecDeque<String>,
    questions: u64,
}

impl Record {
    /// Of a run that begins.
    #[must_use]
    pub fn new(script: &Script) -> Self {
        Self {
            script: script.name.clone(),
            sha256: script.sha256(),
            state: Mutex::default(),
        }
    }

    /// Something was expected. False: there were too many.
    #[must_use]
    pub fn expect(&self, expectation: Expectation) -> bool {
        let all = &mut self.state.lock().expectations;
        let room = all.len() < EXPECTATIONS_MAX;
        if room {
            all.push(expectation);
        }
        room
    }

    /// A line was logged.
    pub fn log(&self, line: &str) {
        let log = &mut self.state.lock().log;
        if log.len() == LOG_LINES_KEPT {
            log.pop_front();
        }
        log.push_back(line.to_owned());
    }

    /// The host was asked something; returns how often that was.
    pub fn asked(&self) -> u64 {
        let state = &mut *self.state.lock();
        state.questions += 1;
        state.questions
    }

    /// The run is over.
    #[must_use]
    pub fn finish(&self, now: Duration, error: Option<ScriptError>) -> Scenario {
        let state = std::mem::take(&mut *self.state.lock());
        let failed = state.expectations.iter().filter(|one| !one.held).count();
        Scenario {
            script: self.script.clone(),
            sha256: self.sha256.clone(),
            simulated_s: now.as_secs_f64(),
            failed: failed as u64,
            error: error.map(|error| error.to_string()),
            expectations: state.expectations,
            log: state.log.into(),
        }
    }
}
