//! A running node as the host of a script, over its attach socket.
//!
//! Waits are on the node's simulated clock, whose speed it tells. Bound: one question at a time.

use std::time::Duration;

use actorsim_actors::{Clock, Time};
use parking_lot::Mutex;
use serde_json::{Map, Value as Json};

use super::host::{Host, HostError};
use super::live::until_started;
use crate::attach::client::{AttachError, Client};
use crate::sim::Stop;
use crate::status;

/// How often the end of the run is looked for while the script waits.
const POLL: Duration = Duration::from_millis(100);

/// A node that is asked over its socket.
#[derive(Debug)]
pub struct RemoteHost {
    client: Mutex<Client>,
    clock: Clock,
    began: Time,
    speed: f64,
    seed: u64,
    stop: Stop,
}

impl RemoteHost {
    /// Over an open connection.
    ///
    /// # Errors
    /// The node has no devices, or is gone.
    pub fn new(mut client: Client, seed: u64, stop: Stop) -> Result<Self, AttachError> {
        let fleet = client.call("fleet", Map::new())?;
        let clock = Clock::wall();
        Ok(Self {
            client: Mutex::new(client),
            began: clock.monotonic(),
            clock,
            speed: fleet["total"]["speed"].as_f64().unwrap_or(1.0),
            seed,
            stop,
        })
    }

    fn ask(&self, name: &str, args: Map<String, Json>) -> Result<Json, HostError> {
        let answer = self.client.lock().call(name, args);
        answer.map_err(|error| match error {
            AttachError::Refused(refusal) => HostError::Refused(refusal.message),
            other => HostError::Gone(other.to_string()),
        })
    }

    fn sleep(&self, time: Duration) -> Result<(), HostError> {
        let until = self.clock.monotonic() + time;
        loop {
            if self.is_over() {
                return Err(HostError::Over);
            }
            let now = self.clock.monotonic();
            if now >= until {
                return Ok(());
            }
            std::thread::park_timeout((until - now).min(POLL));
        }
    }
}

impl Host for RemoteHost {
    fn command(&self, name: &str, args: Map<String, Json>) -> Result<Json, HostError> {
        let answer = self.ask(name, args)?;
        if name == "spawn" {
            let wanted = answer["count"].as_u64().unwrap_or(0);
            let fleet = || self.ask("fleet", Map::new());
            until_started(wanted, fleet, |time| self.sleep(time))?;
        }
        Ok(answer)
    }

    fn wait(&self, time: Duration) -> Result<(), HostError> {
        self.sleep(time.div_f64(self.speed.max(f64::MIN_POSITIVE)))
    }

    fn now(&self) -> Duration {
        let passed = self.clock.monotonic() - self.began;
        passed.mul_f64(self.speed)
    }

    fn log(&self, line: &str) {
        status::above(|stderr| std::io::Write::write_fmt(stderr, format_args!("{line}\n")));
    }

    fn is_over(&self) -> bool {
        self.stop.is_asked()
    }

    fn seed(&self) -> u64 {
        self.seed
    }
}
