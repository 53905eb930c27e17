//! What remote clients ask of a fleet, in one vocabulary for gRPC and REST.
//!
//! The node implements [`Desk`]; nothing here knows HTTP. Each request names the command of the
//! table it stands for ([`Ask`]), which says what right it takes and what is written to the audit
//! log. Bounds: as the fleet's; streams as [`super::stream`] says.

use std::sync::Arc;
use std::time::Duration;

use actorsim_fleet::Profile;
use actorsim_fleet::fault::FaultSpec;
use actorsim_fleet::watch::{Block, News, Watcher};
use futures_util::future::BoxFuture;

use super::access::Right;
use super::stream::BatchSizes;
use crate::attach::command::{self, Impact};

/// What is asked, by the command of the table that does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask(pub &'static str);

/// Devices start.
pub const SPAWN: Ask = Ask("spawn");
/// Devices stop.
pub const STOP: Ask = Ask("retire");
/// Devices behave otherwise.
pub const UPDATE: Ask = Ask("update");
/// Devices get a fault.
pub const FAULT: Ask = Ask("fault");
/// A device stops, to go on later.
pub const PAUSE: Ask = Ask("terminate_child");
/// It goes on.
pub const RESUME: Ask = Ask("restart_child");
/// Devices and the node are looked at.
pub const LOOK: Ask = Ask("fleet");

impl Ask {
    /// The right it takes.
    #[must_use]
    pub fn right(self) -> Right {
        match command::find(self.0).map(|command| command.impact) {
            Some(Impact::Ro) => Right::Look,
            _ => Right::Act,
        }
    }
}

/// Which devices are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// All.
    All,
    /// Those of these ids.
    Ids(Vec<String>),
    /// Those with these labels, `key=value` joined by commas.
    Labels(String),
}

impl Who {
    /// In a line of the audit log.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::All => "*".to_owned(),
            Self::Ids(ids) => match ids.as_slice() {
                [one] => one.clone(),
                ids => format!("{} ids", ids.len()),
            },
            Self::Labels(labels) => labels.clone(),
        }
    }
}

/// Devices of one profile that are to start.
#[derive(Debug, Clone)]
pub struct Batch {
    /// What each of them is.
    pub profile: Profile,
    /// Their ids, or how many the fleet is to name.
    pub devices: Devices,
}

/// Who is to start.
#[derive(Debug, Clone)]
pub enum Devices {
    /// These ids.
    Named(Vec<String>),
    /// So many, numbered on.
    Count(u32),
}

/// Why a device did not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unspawned {
    /// There is one of that id.
    #[error("device {0} already exists")]
    Exists(String),
    /// No id that a device can have.
    #[error("`{0}` is no device id: 1 to 128 of the characters A-Z a-z 0-9 . _ -")]
    Id(String),
    /// The profile cannot run here.
    #[error("{0}")]
    Wrong(String),
    /// No room for more.
    #[error("{0}")]
    Full(String),
    /// The node takes none, as it is about to stop.
    #[error("{0}")]
    Stopping(String),
}

/// How a spawn went.
#[derive(Debug, Clone, Default)]
pub struct Spawned {
    /// How many started.
    pub started: u64,
    /// Those that did not, and why.
    pub failed: Vec<(String, Unspawned)>,
}

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeskError {
    /// This node has no devices, or is stopping.
    #[error("{0}")]
    Unavailable(String),
    /// What was asked makes no sense.
    #[error("{0}")]
    Wrong(String),
    /// No room for more.
    #[error("{0}")]
    Full(String),
    /// Something broke.
    #[error("{0}")]
    Broken(String),
}

/// A device, as it is listed.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its id.
    pub id: String,
    /// Its population's type and labels.
    pub kind: Arc<Kind>,
    /// As in the census: `running`, `quarantined`.
    pub state: &'static str,
}

/// What all devices of a population have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// Device type.
    pub device_type: String,
    /// Labels.
    pub labels: Vec<(String, String)>,
}

/// Devices of one type in one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// Their type.
    pub device_type: String,
    /// Their state.
    pub state: &'static str,
    /// How many.
    pub devices: u64,
}

/// The node as a runtime of devices.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Runtime {
    /// Devices that run.
    pub devices: u64,
    /// Live actors.
    pub actors: u64,
    /// Messages and readings sent.
    pub sent: u64,
    /// Of these in a second, over the last one.
    pub sent_s: f64,
    /// Resident memory in bytes.
    pub memory: u64,
    /// Since the start.
    pub uptime: Duration,
}

/// What a desk gives back.
pub type Done<'a, T> = BoxFuture<'a, Result<T, DeskError>>;

/// A node, as a remote client sees it.
pub trait Desk: Send + Sync + 'static {
    /// What this node is called: its name first, then its gRPC address.
    fn names(&self) -> Vec<String>;
    /// Writes to the audit log what is about to be done.
    fn audit(&self, line: &str);
    /// Starts devices.
    fn spawn(&self, batches: Vec<Batch>) -> Done<'_, Spawned>;
    /// Stops devices; returns how many, and the ids that nobody has.
    fn stop(&self, who: Who, in_order: bool) -> Done<'_, (u64, Vec<String>)>;
    /// Devices by type and state, without a look at each of them.
    fn counts(&self) -> Result<Vec<Count>, DeskError>;
    /// The path of a device's actor.
    fn path(&self, id: &str) -> Option<String>;
    /// The devices meant, in the order of their populations.
    fn list(&self, who: Who) -> Done<'_, Vec<Row>>;
    /// Injects a fault; returns how many devices were reached.
    fn inject(&self, who: Who, fault: FaultSpec) -> Done<'_, u64>;
    /// Changes generators, given as JSON of `fields`; returns how many devices follow.
    fn update(&self, who: Who, fields: String) -> Done<'_, u64>;
    /// The node's own figures.
    fn runtime(&self) -> Result<Runtime, DeskError>;
    /// What devices measure from now on.
    fn watch(&self) -> Result<Watcher<Arc<Block>>, DeskError>;
    /// Where the sizes of batches are counted.
    fn batches(&self) -> Arc<BatchSizes>;
    /// What happens to devices from now on, as the fleet does it.
    fn news(&self) -> Result<Watcher<News>, DeskError>;
    /// What else has happened to devices since an event of the node, and the last event there is:
    /// 0 asks for that only.
    fn mishaps(&self, since: u64) -> (u64, Vec<News>);
}
