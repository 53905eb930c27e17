//! Why a fleet, or one of its devices, does not do what was asked.
//!
//! Values only.

use actorsim_actors::ActorPath;
use actorsim_actors::shard::AddSlabError;
use actorsim_supervision::CellPolicyError;
use actorsim_transport::RangeError;

use super::POPULATIONS_MAX;
use crate::population::PopulationError;

/// Why there is no such fleet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FleetError {
    /// A population is impossible.
    #[error(transparent)]
    Population(#[from] PopulationError),
    /// Device ids are made from the type, and must be unique on a node.
    #[error("two populations have devices of type `{0}` with the same ids")]
    SameType(String),
    /// Two populations of one name.
    #[error("two populations are called `{0}`")]
    SameName(String),
    /// Too many populations, or devices in all.
    #[error("the fleet is too large: at most {POPULATIONS_MAX} populations and 2^32 devices")]
    TooLarge,
    /// A link refused to announce devices.
    #[error("the devices cannot be announced: {0}")]
    Announce(#[from] RangeError),
    /// The policy of a population's groups.
    #[error("the policy for {path} cannot be used for devices: {error}")]
    Policy {
        /// The population.
        path: ActorPath,
        /// Why.
        error: CellPolicyError,
    },
    /// A shard did not take its devices.
    #[error("devices could not be put on a shard: {0}")]
    Shard(#[from] AddSlabError),
    /// It runs already, or on another number of shards than it was made for.
    #[error("the fleet is made for {0} shards and is started once")]
    Started(usize),
    /// Devices cannot join before the fleet has started, or after it has stopped.
    #[error("the fleet does not run: no device can join")]
    NotStarted,
    /// Devices of the QUIC tiers, in a fleet without links.
    #[error(
        "devices of type `{0}` send over the QUIC tiers, and this node has no link to a twin; give \
         it a twin, or a target for the profile's protocol"
    )]
    NoLink(String),
}

/// Why a device did not do what it was told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// There is no such device.
    #[error("there is no device `{0}` in this fleet")]
    Unknown(String),
    /// It has no presence sensor.
    #[error("device `{0}` has no presence sensor to trigger")]
    NoPresence(String),
    /// Its mailbox or queue is full, or it is down.
    #[error("device `{0}` takes no message now")]
    Busy(String),
    /// It did not answer: it ended with the question in hand.
    #[error("device `{0}` did not answer")]
    NoAnswer(String),
}
