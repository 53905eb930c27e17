//! What the devices of a population share on their way to a broker.
//!
//! Made once from the profile and the target; everything that can be wrong is said then. Bound:
//! that of the profile.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::pool::Pool;
use super::relay::Relays;
use super::stats::PublishStats;
use super::target::Target;
use crate::payload::Encoder;
use crate::profile::{Backpressure, Profile, Protocol};
use crate::session::backoff::Backoff;
use crate::session::mqtt::{Options, Qos};
use crate::session::template::{TEMPLATE_BYTES_MAX, Template, TemplateError};
use crate::session::tls::Terms;
use crate::session::{coap, http};

/// Commands to a device, its replies and its status, by topic or path.
const COMMANDS: &str = "devices/{device_id}/commands";
const REPLIES: &str = "devices/{device_id}/replies";
const STATUS: &str = "devices/{device_id}/status";

/// Bytes of a routing key at most (AMQP 0.9.1, 4.2.5.3).
const ROUTING_KEY_BYTES_MAX: usize = 255;

/// First connections of a population a second, so that its broker is not met by all at once.
pub const CONNECTS_PER_S: u32 = 2_000;

/// Connections from one local address to one broker. Linux gives outgoing connections every second
/// port of its range first, 14,116 of 28,232 as a rule; once those are taken, each connect looks at
/// all of them in vain before it finds one among the others.
pub const CONNECTIONS_PER_ADDRESS: u32 = 12_000;

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
    /// TLS, if it is called so: whom to trust, what to show.
    pub tls: Option<Terms>,
    /// What is spoken there.
    pub speech: Speech,
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
    /// HTTP/1.1.
    Http(HttpSpeech),
    /// CoAP, in datagrams.
    Coap(CoapSpeech),
    /// MQTT, by connections that devices share.
    Pooled(PooledSpeech),
    /// AMQP 0.9.1, by the node's publisher.
    Amqp(RelaySpeech),
}

impl Speech {
    /// Its word in profiles and reports.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        match self {
            Self::Mqtt(_) | Self::Pooled(_) => Protocol::Mqtt,
            Self::Http(_) => Protocol::Http,
            Self::Coap(_) => Protocol::Coap,
            Self::Amqp(_) => Protocol::Amqp,
        }
    }
}

/// How devices speak HTTP.
#[derive(Clone, Debug)]
pub struct HttpSpeech {
    /// How the sessions are.
    pub options: http::Options,
    /// `Host` header.
    pub host: String,
    /// What is where.
    pub paths: http::Paths,
    /// `Authorization` header; never shown.
    pub authorization: Option<http::Secret>,
}

/// What devices hand to publishers of their node.
#[derive(Clone, Debug)]
pub struct RelaySpeech {
    /// What waits for them.
    pub(crate) relays: Relays,
    /// Topic or routing key of samples.
    pub(crate) telemetry: Template,
    /// The same of replies.
    pub(crate) replies: Template,
    /// Bytes of one of them at most.
    pub(crate) key_bytes_max: usize,
    /// How surely samples go, where there is a choice.
    pub(crate) qos: Qos,
    /// Type of a sample.
    pub(crate) content_type: &'static str,
}

/// How devices speak MQTT on connections that they share.
#[derive(Clone, Debug)]
pub struct PooledSpeech {
    /// What they write.
    pub(crate) relayed: RelaySpeech,
    /// The connections.
    pub(crate) pool: Pool,
    /// Commands to a device.
    pub(crate) commands: Template,
    /// Retained, as of devices with connections of their own.
    pub(crate) status: Template,
}

/// How devices speak CoAP.
#[derive(Clone, Debug)]
pub struct CoapSpeech {
    /// How the sessions are.
    pub options: coap::Options,
    /// What is where.
    pub paths: coap::Paths,
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
    /// Samples.
    pub telemetry: Template,
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
    #[error("profile `{device_type}` speaks {protocol}, but the target is one for {target}")]
    Protocol {
        /// Its type.
        device_type: String,
        /// As in the profile.
        protocol: &'static str,
        /// As in the target's URL.
        target: &'static str,
    },
    /// Its topics.
    #[error("topic of profile `{device_type}`: {why}")]
    Topic {
        /// Its type.
        device_type: String,
        /// Why.
        why: TemplateError,
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
        let template = templates(profile, target, Protocol::Mqtt)?;
        let speech = MqttSpeech {
            options: mqtt,
            qos: Qos::from_number(profile.qos).unwrap_or(Qos::AtLeastOnce),
            credentials: Credentials::default(),
            telemetry: template(&profile.topic_template)?,
            commands: template(COMMANDS)?,
            replies: template(REPLIES)?,
            status: template(STATUS)?,
        };
        Self::new(profile, target, Speech::Mqtt(speech), (count, speed), stats)
    }

    /// The way of a profile's devices to an HTTP server. Samples go to the path of its URL, or
    /// where it has none to the profile's topic; how they share a body follows from what they are.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn http(
        profile: &Profile,
        target: &Target,
        options: http::Options,
        (count, speed): (u32, f64),
        stats: Arc<PublishStats>,
    ) -> Result<Self, PlanError> {
        let template = templates(profile, target, Protocol::Http)?;
        let samples = samples(profile, target);
        let path = |text: &str| template(text).map(Template::into_path);
        let encoder = Encoder::new(profile);
        let batch = match encoder.is_json() {
            true => http::Batch::JsonArray,
            false => http::Batch::Concatenated,
        };
        let speech = HttpSpeech {
            options: http::Options {
                content_type: encoder.content_type(),
                batch,
                ..options
            },
            host: target.host.clone(),
            paths: http::Paths {
                samples: path(samples)?,
                commands: path(COMMANDS)?,
                replies: path(REPLIES)?,
            },
            authorization: None,
        };
        Self::new(profile, target, Speech::Http(speech), (count, speed), stats)
    }

    /// The way of a profile's devices to a CoAP server; paths as for HTTP. Quality 0 sends samples
    /// once, any other until they are acknowledged.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn coap(
        profile: &Profile,
        target: &Target,
        options: coap::Options,
        (count, speed): (u32, f64),
        stats: Arc<PublishStats>,
    ) -> Result<Self, PlanError> {
        let template = templates(profile, target, Protocol::Coap)?;
        let content_format = match Encoder::new(profile).content_type() {
            "application/json" => 50,
            text if text.starts_with("text/") => 0,
            _ => 42, // bytes
        };
        let speech = CoapSpeech {
            options: coap::Options {
                confirmable: profile.qos > 0,
                content_format,
                ..options
            },
            paths: coap::Paths {
                samples: template(samples(profile, target))?,
                commands: template(COMMANDS)?,
                replies: template(REPLIES)?,
            },
        };
        Self::new(profile, target, Speech::Coap(speech), (count, speed), stats)
    }

    /// The way of a profile's devices to an AMQP broker, by the publisher of the relays. Routing
    /// keys are topics with dots.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn amqp(
        profile: &Profile,
        target: &Target,
        relays: &Relays,
        scale: (u32, f64),
    ) -> Result<Self, PlanError> {
        let template = templates(profile, target, Protocol::Amqp)?;
        let key = |text: &str| template(text).map(Template::into_key);
        let speech = RelaySpeech {
            relays: relays.clone(),
            telemetry: key(&profile.topic_template)?,
            replies: key(REPLIES)?,
            key_bytes_max: ROUTING_KEY_BYTES_MAX,
            qos: Qos::AtLeastOnce,
            content_type: Encoder::new(profile).content_type(),
        };
        let stats = Arc::clone(relays.stats());
        Self::new(profile, target, Speech::Amqp(speech), scale, stats)
    }

    /// The way of a profile's devices to an MQTT broker on connections that they share.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn pooled(
        profile: &Profile,
        target: &Target,
        pool: &Pool,
        scale: (u32, f64),
    ) -> Result<Self, PlanError> {
        let template = templates(profile, target, Protocol::Mqtt)?;
        let speech = PooledSpeech {
            relayed: RelaySpeech {
                relays: pool.relays().clone(),
                telemetry: template(&profile.topic_template)?,
                replies: template(REPLIES)?,
                key_bytes_max: TEMPLATE_BYTES_MAX,
                qos: Qos::from_number(profile.qos).unwrap_or(Qos::AtLeastOnce),
                content_type: Encoder::new(profile).content_type(),
            },
            pool: pool.clone(),
            commands: template(COMMANDS)?,
            status: template(STATUS)?,
        };
        let stats = Arc::clone(pool.stats());
        Self::new(profile, target, Speech::Pooled(speech), scale, stats)
    }

    /// What devices hand to publishers, where they have no line of their own.
    #[must_use]
    pub(crate) const fn relayed(&self) -> Option<&RelaySpeech> {
        match &self.speech {
            Speech::Amqp(speech) => Some(speech),
            Speech::Pooled(speech) => Some(&speech.relayed),
            _ => None,
        }
    }

    fn new(
        profile: &Profile,
        target: &Target,
        speech: Speech,
        (count, speed): (u32, f64),
        stats: Arc<PublishStats>,
    ) -> Result<Self, PlanError> {
        Ok(Self {
            address: target.address,
            tls: None,
            speech,
            encoder: Encoder::new(profile),
            backpressure: profile.backpressure,
            backoff: Backoff::default(),
            ramp: Duration::from_secs_f64(f64::from(count) / f64::from(CONNECTS_PER_S)),
            count,
            speed,
            stats,
        })
    }

    /// The same, where devices log in; only MQTT has users.
    #[must_use]
    pub fn with_credentials(mut self, own: Credentials) -> Self {
        if let Speech::Mqtt(speech) = &mut self.speech {
            speech.credentials = own;
        }
        self
    }

    /// The same, where requests carry an `Authorization`; only HTTP has it.
    #[must_use]
    pub fn with_authorization(mut self, own: Option<http::Secret>) -> Self {
        if let Speech::Http(speech) = &mut self.speech {
            speech.authorization = own;
        }
        self
    }

    /// Messages that wait in a device at most.
    pub(crate) const fn outbox_max(&self) -> u16 {
        match &self.speech {
            Speech::Mqtt(speech) => speech.options.outbox_max,
            Speech::Http(speech) => speech.options.outbox_max,
            Speech::Coap(speech) => speech.options.outbox_max,
            Speech::Pooled(_) | Speech::Amqp(_) => 0,
        }
    }

    /// Whether a device has a datagram socket rather than a connection.
    pub(crate) const fn is_datagrams(&self) -> bool {
        matches!(self.speech, Speech::Coap(_))
    }

    /// Any local address from which the broker can be reached.
    pub(crate) const fn any(&self) -> SocketAddr {
        match self.address {
            SocketAddr::V4(_) => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
            SocketAddr::V6(_) => SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
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

/// Where samples go: the path of the target's URL, or else the profile's topic.
fn samples<'a>(profile: &'a Profile, target: &'a Target) -> &'a str {
    match target.path.trim_start_matches('/') {
        "" => &profile.topic_template,
        path => path,
    }
}

/// Reads topics of a profile, which must speak `protocol` as its target does.
fn templates(
    profile: &Profile,
    target: &Target,
    protocol: Protocol,
) -> Result<impl Fn(&str) -> Result<Template, PlanError>, PlanError> {
    let device_type = || profile.device_type.clone();
    if profile.protocol != protocol || target.protocol != protocol {
        return Err(PlanError::Protocol {
            device_type: device_type(),
            protocol: profile.protocol.name(),
            target: target.protocol.name(),
        });
    }
    Ok(move |text: &str| {
        let parsed = Template::parse(text, &profile.device_type, &profile.labels);
        parsed.map_err(|why| PlanError::Topic {
            device_type: device_type(),
            why,
        })
    })
}
