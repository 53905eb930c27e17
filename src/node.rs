//! The node: starts its layers in order, stops them in reverse, reports.
//!
//! It owns the state directory and the assembly; the layers' own decisions are in their crates.
//!
//! Bound: an ordered stop takes at most `node.shutdown`; a second request ends it at once.

pub mod assembly;
pub(crate) mod build;
pub mod chaos;
pub mod control;
mod desk;
mod faces;
mod layers;
mod leaks;
mod limits;
pub(crate) mod measure;
pub mod policies;
pub(crate) mod publishers;
pub(crate) mod secrets;
pub(crate) mod shards;
mod snapshot;
pub(crate) mod terms;
mod urgent;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::attach::control::ControlPlane;
use crate::cli::Exit;
use crate::config::NodeConfig;
use crate::report::verdict::{self, Ending};
use crate::report::{self, RunReport};
use crate::state_dir::{StateDir, StateDirError};
use crate::view::NodeView;

use assembly::Assembly;
pub(crate) use assembly::quiesce;

/// Why a node does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The state directory is held or cannot be used.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// An address is in use or cannot be bound.
    #[error(
        "cannot listen on {address} ({key}): {source}; is another node running? \
             --port-offset N moves every default port"
    )]
    Listen {
        /// The key.
        key: &'static str,
        /// The address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// A QUIC socket cannot be bound.
    #[error("{0}")]
    Bind(String),
    /// The configuration names something that does not exist or does not fit.
    #[error("{0}")]
    Config(String),
    /// A layer did not come up.
    #[error("{layer} did not start: {reason}")]
    Layer {
        /// Which one.
        layer: &'static str,
        /// Why.
        reason: String,
    },
}

impl StartError {
    /// The exit code of `start`.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::StateDir(_) | Self::Listen { .. } | Self::Bind(_) | Self::Config(_) => {
                Exit::Usage
            }
            Self::Layer { .. } => Exit::Failed,
        }
    }
}

/// Time for links to reach their twin before a scenario begins.
pub const LINKED_MAX: Duration = Duration::from_secs(20);

/// Asks a node to stop: the first time in order, the second time at once.
pub trait StopSource {
    /// Resolves at the next request.
    fn next(&mut self) -> impl Future<Output = ()>;
}

/// Never asks: the node runs for its configured time.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunOut;

impl StopSource for RunOut {
    fn next(&mut self) -> impl Future<Output = ()> {
        std::future::pending()
    }
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    assembly: Assembly,
    _state_dir: StateDir,
}

impl Node {
    /// Starts every layer; returns when the root supervisor is up and every listener is bound.
    ///
    /// # Errors
    /// [`StartError`]; what had started is stopped again.
    pub async fn start(mut config: NodeConfig) -> Result<Self, StartError> {
        if config.seed == 0 {
            config.seed = actorsim_fleet::seed::choose(0);
            tracing::info!(
                "seed {} was chosen at random; --seed repeats this run",
                config.seed
            );
        }
        let state_dir = StateDir::open(&config.state_dir)?;
        let assembly = Assembly::start(&config, &state_dir).await?;
        if let Some(plan) = &config.chaos {
            let begun = assembly.begin_chaos(plan.clone()).await;
            begun.map_err(|reason| StartError::Layer {
                layer: "chaos",
                reason,
            })?;
        }
        Ok(Self {
            config,
            assembly,
            _state_dir: state_dir,
        })
    }

    /// What the node shows of itself.
    #[must_use]
    pub fn view(&self) -> Arc<dyn NodeView> {
        self.assembly.view()
    }

    /// The actor system: clock, census, events.
    #[must_use]
    pub fn system(&self) -> &actorsim_actors::System {
        self.assembly.system()
    }

    /// The twin; `None` without a world.
    #[must_use]
    pub fn twin(&self) -> Option<&actorsim_world::Twin> {
        self.assembly.twin()
    }

    /// What the tiers count.
    #[must_use]
    pub fn transport_stats(&self) -> &Arc<actorsim_transport::TransportStats> {
        self.assembly.transport_stats()
    }

    /// The devices; `None` without a fleet.
    #[must_use]
    pub fn fleet(&self) -> Option<&actorsim_fleet::Fleet> {
        self.assembly.fleet()
    }

    /// The supervision policies.
    #[must_use]
    pub fn policies(&self) -> Arc<policies::PolicyBook> {
        Arc::clone(self.assembly.policies())
    }

    /// Where a QUIC listener really listens (a port 0 asked for is a real one here).
    #[must_use]
    pub fn local_addr(&self, which: actorsim_transport::Listening) -> Option<SocketAddr> {
        self.assembly.local_addr(which)
    }

    /// Runs until its time is over, `stop` asks, or the root supervisor gives up; then stops in
    /// order.
    pub async fn wait_or_stop(&mut self, stop: &mut impl StopSource) -> Ending {
        let time_over = async {
            match self.config.run_for {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        let ending = tokio::select! {
            biased;
            reason = self.assembly.gave_up() => Ending::GaveUp(reason),
            () = self.assembly.hold_lease() => Ending::Asked,
            () = stop.next() => Ending::Asked,
            () = time_over => Ending::TimeOver,
        };
        tracing::info!("stopping: {ending:?}");
        let left = tokio::select! {
            biased;
            left = self.assembly.stop(self.config.shutdown) => left,
            () = stop.next() => return Ending::Cut,
        };
        match ending {
            Ending::Asked | Ending::TimeOver if !left.is_empty() => Ending::ShutdownTimeOver(left),
            other => other,
        }
    }

    /// Answers commands of the attach table.
    #[must_use]
    pub fn plane(&self) -> Arc<dyn ControlPlane> {
        self.assembly.plane()
    }

    /// Waits until every link has reached its twin, for [`LINKED_MAX`] at most.
    pub async fn linked(&self) {
        if let Some(fleet) = self.fleet() {
            let _ = fleet.connected(LINKED_MAX).await; // the verdict tells of those that did not
        }
    }

    /// The report, with its verdict.
    #[must_use]
    pub fn report(&self, ending: &Ending) -> RunReport {
        self.report_with(ending, None)
    }

    /// The same, with what a scenario expected.
    #[must_use]
    pub fn report_with(&self, ending: &Ending, scenario: Option<report::Scenario>) -> RunReport {
        let mut report = RunReport {
            v: report::VERSION,
            run_id: self
                .config
                .run_id
                .clone()
                .unwrap_or_else(|| self.assembly.run_id()),
            node: self.config.name.clone(),
            version: crate::cli::VERSION.to_owned(),
            seed: self.config.seed,
            scenario,
            ..RunReport::default()
        };
        let facts = self.assembly.measure(&mut report, ending.clone());
        verdict::decide(&mut report, &facts);
        report
    }
}
