//! A node in this process as the host of a script: commands and waits in real time.
//!
//! The script has a thread of its own; what it asks runs on the node's control thread. Waits are
//! on the simulated clock. Bound: one question at a time; [`STARTED_MAX`] for devices to start.

use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::{Clock, Time};
use serde_json::{Map, Value as Json};
use tokio::runtime::Handle;

use super::host::{Host, HostError};
use crate::attach::control::{ControlPlane, dispatch};
use crate::progress::Bar;
use crate::sim::Stop;

/// Time for devices that joined to have been started once.
pub const STARTED_MAX: Duration = Duration::from_secs(120);
/// How often that, and the end of the run, is looked for.
const POLL: Duration = Duration::from_millis(20);

/// A node of this process.
pub struct LiveHost {
    /// Answers commands.
    pub plane: Arc<dyn ControlPlane>,
    /// Runs them.
    pub handle: Handle,
    /// Simulated time.
    pub clock: Clock,
    /// When the script began.
    pub began: Time,
    /// The run's seed.
    pub seed: u64,
    /// Ends it.
    pub stop: Stop,
}

impl std::fmt::Debug for LiveHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveHost").finish_non_exhaustive()
    }
}

impl LiveHost {
    fn ask(&self, name: &str, args: &Map<String, Json>) -> Result<Json, HostError> {
        let plane = Arc::clone(&self.plane);
        let answer = self.handle.block_on(async {
            let command = dispatch(&*plane, name, args, own_uid());
            tokio::time::timeout(STARTED_MAX, command).await
        });
        match answer {
            Ok(answer) => answer.map_err(|refusal| HostError::Refused(refusal.message)),
            Err(_) => Err(HostError::Gone(format!("no answer to {name}"))),
        }
    }
}

impl LiveHost {
    /// Real time passes. The timer is made within the runtime, which the script's thread is not.
    fn rest(&self, time: Duration) {
        self.handle
            .block_on(async { tokio::time::sleep(time).await });
    }
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Waits until devices that joined run, as far as they do, and shows it.
pub(super) fn until_started(
    wanted: u64,
    mut ask: impl FnMut() -> Result<Json, HostError>,
    mut sleep: impl FnMut(Duration) -> Result<(), HostError>,
) -> Result<(), HostError> {
    let bar = Bar::new("starting devices", wanted);
    for _ in 0..STARTED_MAX.as_millis() / POLL.as_millis() {
        let fleet = ask()?;
        let starting = fleet["total"]["starting"].as_u64().unwrap_or(0);
        bar.at(wanted.saturating_sub(starting));
        if starting == 0 {
            return Ok(());
        }
        sleep(POLL)?;
    }
    Err(HostError::Gone("the devices do not start".to_owned()))
}

impl Host for LiveHost {
    fn command(&self, name: &str, args: Map<String, Json>) -> Result<Json, HostError> {
        let answer = self.ask(name, &args)?;
        if name == "spawn" {
            let wanted = answer["count"].as_u64().unwrap_or(0);
            let sleep = |time| {
                self.rest(time);
                match self.is_over() {
                    true => Err(HostError::Over),
                    false => Ok(()),
                }
            };
            until_started(wanted, || self.ask("fleet", &Map::new()), sleep)?;
        }
        Ok(answer)
    }

    fn wait(&self, time: Duration) -> Result<(), HostError> {
        let until = self.clock.now() + time;
        loop {
            if self.is_over() {
                return Err(HostError::Over);
            }
            let now = self.clock.now();
            if now >= until {
                return Ok(());
            }
            let left = until - now;
            let left = left.div_f64(self.clock.speed().max(f64::MIN_POSITIVE));
            self.rest(left.min(POLL * 5));
        }
    }

    fn now(&self) -> Duration {
        self.clock.now() - self.began
    }

    fn log(&self, line: &str) {
        tracing::info!("scenario {line}");
    }

    fn is_over(&self) -> bool {
        self.stop.is_asked()
    }

    fn seed(&self) -> u64 {
        self.seed
    }
}
