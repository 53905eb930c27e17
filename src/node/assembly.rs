//! The assembly: runtimes, the system, the control plane, and the layers below them.
//!
//! Bound: see each layer.

use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::{ActorPath, Clock, System};
use futures_util::future::BoxFuture;
use tokio::runtime::Runtime;

use super::StartError;
use crate::attach::plane::Hooks;
use crate::config::NodeConfig;
use crate::report::{self, RunReport};
use crate::state_dir::StateDir;
use crate::view::{NodeSnapshot, NodeView, ProcessView};

/// What runs.
#[derive(Debug)]
pub struct Assembly {
    shared: Arc<Shared>,
    _control: Runtime,
}

/// What the control plane reads.
#[derive(Debug)]
struct Shared {
    system: System,
}

impl Assembly {
    /// Starts every layer.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(config: &NodeConfig, _state_dir: &StateDir) -> Result<Self, StartError> {
        let control = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("control")
            .enable_all()
            .build()
            .map_err(|error| StartError::Layer {
                layer: "control",
                reason: error.to_string(),
            })?;
        let clock = if config.speed == 1.0 {
            Clock::wall()
        } else {
            Clock::scaled(config.speed)
        };
        let system = System::new(clock, control.handle().clone());
        Ok(Self {
            shared: Arc::new(Shared { system }),
            _control: control,
        })
    }

    /// What it shows.
    pub fn view(&self) -> Arc<dyn NodeView> {
        Arc::clone(&self.shared) as Arc<dyn NodeView>
    }

    /// A name for this run: the time of its start.
    pub fn run_id(&self) -> String {
        format!("run-{}", self.shared.system.clock().unix_us())
    }

    /// Resolves if the root supervisor gives up, with its reason.
    pub async fn gave_up(&self) -> String {
        std::future::pending().await
    }

    /// Stops in order; returns what still ran when the time was over.
    pub async fn stop(&self, _within: Duration) -> Vec<String> {
        Vec::new()
    }

    /// Fills in what was measured; returns the seconds the scan ran by its own grid.
    pub fn measure(&self, report: &mut RunReport) -> Option<f64> {
        report.process.measure(ProcessView::read());
        None
    }
}

impl NodeView for Shared {
    fn snapshot(&self) -> NodeSnapshot {
        NodeSnapshot {
            ready: true,
            process: ProcessView::read(),
            ..NodeSnapshot::default()
        }
    }
}

impl Hooks for Shared {
    fn trigger<'a>(&'a self, _target: &'a str) -> BoxFuture<'a, Result<bool, String>> {
        Box::pin(async { Ok(false) })
    }

    fn crash<'a>(&'a self, _path: &'a ActorPath) -> BoxFuture<'a, Result<bool, String>> {
        Box::pin(async { Ok(false) })
    }

    fn scan(&self) -> Option<report::Scan> {
        None
    }

    fn noun(&self, _path: &ActorPath) -> &'static str {
        "actors"
    }
}
