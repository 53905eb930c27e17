//! What the devices of a population share on their way to a broker.
//!
//! Made once from the profile and the target; everything that can be wrong is said then. Bound:
//! that of the profile.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::stats::PublishStats;
use super::target::Target;
use crate::payload::{Encoder, NotBuilt};
use crate::profile::{Backpressure, Profile, Protocol};
use crate::session::backoff::Backoff;
use crate::session::mqtt::{Options, Qos};
use crate::session::template::{Template, TemplateError};

/// First connections of a population a second, so that its broker is not met by all at once.
pub const CONNECTS_PER_S: u32 = 2_000;

/// Connections from one local address to one broker: of 28,232 ports as a rule, so that a free one
/// is found soon.
pub const CONNECTIONS_PER_ADDRESS: u32 = 20_000;

/// Who devices say that they are, besides their id; the same for all of a population.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User, if the broker wants one.
    pub username: Option<String>,
    /// Its password; never shown.
    pub password: Option<Vec<u8>>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "(secret)"))
            .finish()
    }
}

/// A way to a broker.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the broker is.
    pub address: SocketAddr,
    /// What is spoken there.
    pub speech: Speech,
    /// Where samples go.
    pub telemetry: Template,
    /// What a sample looks like.
    pub encoder: Encoder,
    /// What to do when the outbox is full.
    pub backpressure: Backpressure,
    /// When to connect again.
    pub backoff: Backoff,
    /// Over how long the first connections are spread.
    pub ramp: Duration,
    /// Devices of the population.
    pub count: u32,
    /// Speed of the simulated clock: what a session waits for is never scaled, timers are.
    pub speed: f64,
    /// What is counted.
    pub stats: Arc<PublishStats>,
}

/// What is spoken on a line.
#[derive(Clone, Debug)]
pub enum Speech {
    /// MQTT 3.1.1 or 5.
    Mqtt(MqttSpeech),
}

/// How devices speak MQTT.
#[derive(Clone, Debug)]
pub struct MqttSpeech {
    /// How the sessions are.
    pub options: Options,
    /// How surely samples go.
    pub qos: Qos,
    /// Who the devices are.
    pub credentials: Credentials,
    /// Commands to the device.
    pub commands: Template,
    /// Its replies.
    pub replies: Template,
    /// Retained: `online` when it has come, `offline` when it has said goodbye, `lost` as its will.
    pub status: Template,
}

/// Why devices cannot reach a broker so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Another protocol.
    #[error("profile `{device_type}` speaks {protocol}, for which there is no session yet")]
    Protocol {
        /// Its type.
        device_type: String,
        /// As in the profile.
        protocol: &'static str,
    },
    /// Its topics.
    #[error("topic of profile `{device_type}`: {why}")]
    Topic {
        /// Its type.
        device_type: String,
        /// Why.
        why: TemplateError,
    },
    /// Its payload.
    #[error("profile `{device_type}`: {why}")]
    Payload {
        /// Its type.
        device_type: String,
        /// Why.
        why: NotBuilt,
    },
}

impl Plan {
    /// The way of a profile's devices to an MQTT broker.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn mqtt(
        profile: &Profile,
        target: &Target,
        mqtt: Options,
        (count, speed): (u32, f64),
        stats: Arc<PublishStats>,
    ) -> Result<Self, PlanError> {
        let template = templates(profile, Protocol::Mqtt)?;
        let speech = MqttSpeech {
            options: mqtt,
            qos: Qos::from_number(profile.qos).unwrap_or(Qos::AtLeastOnce),
            credentials: Credentials::default(),
            commands: template("devices/{device_id}/commands")?,
            replies: template("devices/{device_id}/replies")?,
            status: template("devices/{device_id}/status")?,
        };
        let telemetry = template(&profile.topic_template)?;
        let speech = Speech::Mqtt(speech);
        Self::new(profile, target, (speech, telemetry), (count, speed), stats)
    }

    fn new(
        profile: &Profile,
        target: &Target,
        (speech, telemetry): (Speech, Template),
        (count, speed): (u32, f64),
        stats: Arc<PublishStats>,
    ) -> Result<Self, PlanError> {
        let encoder = Encoder::new(profile).map_err(|why| PlanError::Payload {
            device_type: profile.device_type.clone(),
            why,
        })?;
        Ok(Self {
            address: target.address,
            speech,
            telemetry,
            encoder,
            backpressure: profile.backpressure,
            backoff: Backoff::default(),
            ramp: Duration::from_secs_f64(f64::from(count) / f64::from(CONNECTS_PER_S)),
            count,
            speed,
            stats,
        })
    }

    /// The same, where devices log in.
    #[must_use]
    pub fn with_credentials(mut self, own: Credentials) -> Self {
        match &mut self.speech {
            Speech::Mqtt(speech) => speech.credentials = own,
        }
        self
    }

    /// Messages that wait in a device at most.
    pub(crate) const fn outbox_max(&self) -> u16 {
        match &self.speech {
            Speech::Mqtt(speech) => speech.options.outbox_max,
        }
    }

    /// The local address of a device's connection, where one address has too few ports: a loopback
    /// broker is called from as many loopback addresses as it takes.
    #[must_use]
    pub fn local(&self, ordinal: u32) -> Option<SocketAddr> {
        let on_loopback = self.address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST);
        if !on_loopback || self.count <= CONNECTIONS_PER_ADDRESS {
            return None;
        }
        // 127.0.0.0/8 is all loopback; .0 and .1 at its beginning are left alone
        let first = u32::from(Ipv4Addr::LOCALHOST) + 1;
        let address = Ipv4Addr::from(first + ordinal / CONNECTIONS_PER_ADDRESS);
        Some(SocketAddr::from((address, 0)))
    }

    /// Wait of a device before its first attempt: in turn by ordinal.
    #[must_use]
    pub fn first_wait(&self, ordinal: u32) -> Duration {
        self.ramp
            .mul_f64(f64::from(ordinal) / f64::from(self.count.max(1)))
    }
}

/// Reads topics of a profile, which must speak `protocol`.
fn templates(
    profile: &Profile,
    protocol: Protocol,
) -> Result<impl Fn(&str) -> Result<Template, PlanError>, PlanError> {
    if profile.protocol != protocol {
        return Err(PlanError::Protocol {
            device_type: profile.device_type.clone(),
            protocol: profile.protocol.name(),
        });
    }
    Ok(|text: &str| {
        let parsed = Template::parse(text, &profile.device_type, &profile.labels);
        parsed.map_err(|why| PlanError::Topic {
            device_type: profile.device_type.clone(),
            why,
        })
    })
}
