//! Profiles: what a type of device is, from YAML or TOML.
//!
//! Map: `tree` (both formats as one tree with places), `findings` (errors, and a map read key by
//! key), `generators` (a field's generator), `change` (other generators, labels), `events`
//! (thresholds), `secrets` (what may not stand in a profile), and here the profile itself. Loading
//! reports everything wrong at once. It runs nothing; [`crate::program`] makes a profile runnable.
//! Bounds: [`FIELDS_MAX`], [`EVENTS_MAX`], [`LABELS_MAX`], [`ACTUATORS_MAX`].

use std::path::Path;
use std::time::Duration;

use actorsim_supervision::ConfigError;
use actorsim_transport::SensorType;

use crate::generator::Generator;
use crate::payload::template::{Names, Text};
use crate::session::template::Template;
use crate::text;

mod change;
mod duration;
mod events;
mod fields;
mod findings;
mod generators;
mod secrets;
mod tree;

pub use change::check_generators;
use duration::DURATION_HELP;
pub use duration::{INTERVAL_MAX, INTERVAL_MIN, parse_duration};
pub use tree::TEXT_BYTES_MAX;

use findings::{Findings, Section};
use tree::{Node, Value};

/// Fields of one profile: a tick keeps their values on the stack of a shard.
pub const FIELDS_MAX: usize = 64;
/// Threshold rules of one profile: each is a latch bit in a device's identity block.
pub const EVENTS_MAX: usize = 8;
/// Labels of one profile.
pub const LABELS_MAX: usize = 64;
/// Actuators of one profile: their setpoints live in a device's identity block.
pub const ACTUATORS_MAX: usize = 4;

/// A type of device.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Device type; also the prefix of device ids.
    pub device_type: String,
    /// How it talks.
    pub protocol: Protocol,
    /// Topic, with placeholders.
    pub topic_template: String,
    /// Time between samples on the simulated clock.
    pub interval: Duration,
    /// Fields in the profile's order.
    pub fields: Vec<Field>,
    /// Labels in the profile's order, `device_type` included.
    pub labels: Vec<(String, String)>,
    /// What to do when the way out is full.
    pub backpressure: Backpressure,
    /// MQTT quality of service, 0..=2.
    pub qos: u8,
    /// Shape of a message.
    pub payload: Payload,
    /// The text of the template that [`Payload::Template`] fills in; else empty.
    pub payload_template: String,
    /// Threshold rules that make T2 events.
    pub events: Vec<Threshold>,
}

/// One field of a profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Name; also the text of its seed.
    pub name: String,
    /// What it is worth.
    pub generator: Generator,
    /// Its type on the QUIC tiers; the sensor id is the index of the field. `None`: not sent there.
    pub sensor: Option<SensorType>,
    /// Whether commands set it.
    pub actuator: bool,
    /// The actuator that switches it.
    pub gate: Option<Gate>,
}

/// A field that follows an actuator: below a setpoint of 0.5 it is worth `off`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gate {
    /// Index of the actuator field.
    pub field: u16,
    /// Value while switched off.
    pub off: f64,
}

/// A threshold on a field: an event when it is crossed, and another when it is left again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// Index of the field.
    pub field: u16,
    /// Which side raises.
    pub side: Side,
    /// The threshold.
    pub limit: f64,
    /// How far back behind the limit the value must be before the event ends.
    pub hysteresis: f64,
}

/// The side of a threshold that raises its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Raised below the limit.
    Below,
    /// Raised above the limit.
    Above,
}

/// How a device talks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT 3.1.1 or 5.
    Mqtt,
    /// AMQP 0.9.1.
    Amqp,
    /// HTTP POST.
    Http,
    /// CoAP PUT or POST.
    Coap,
    /// The three QUIC tiers.
    Quic,
    /// Lines on standard output.
    #[default]
    Console,
}

impl Protocol {
    /// Its word in profiles.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::Amqp => "amqp",
            Self::Http => "http",
            Self::Coap => "coap",
            Self::Quic => "quic",
            Self::Console => "console",
        }
    }

    /// By its word.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let all = [
            Self::Mqtt,
            Self::Amqp,
            Self::Http,
            Self::Coap,
            Self::Quic,
            Self::Console,
        ];
        all.into_iter().find(|one| one.name() == name)
    }
}

/// What a device does when its way out is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backpressure {
    /// The oldest sample goes.
    DropOldest,
    /// The device ticks slower.
    SlowDown,
}

/// Shape of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// JSON object with `fields` and `labels` inside.
    Envelope,
    /// JSON object with one key per field.
    Flat,
    /// The 39-byte reading.
    Reading,
    /// Protobuf.
    Protobuf,
    /// The template's text, filled in.
    Template,
}

/// A profile with what should be said about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The profile.
    pub profile: Profile,
    /// Findings that do not stop it (unknown keys of YAML files).
    pub warnings: Vec<ConfigError>,
}

/// Names of the embedded profiles, for help texts.
pub const BUILT_IN: [&str; 4] = ["factory_mqtt", "industrial", "lock", "single"];

impl Profile {
    /// Loads an embedded profile by name, else a file by path: `.toml` is TOML, all else YAML.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(name_or_path: &str) -> Result<Loaded, Vec<ConfigError>> {
        match name_or_path {
            "industrial" => {
                let text = include_str!("../../config/profiles/industrial.yaml");
                Self::parse("config/profiles/industrial.yaml", text)
            }
            "factory_mqtt" => {
                let text = include_str!("../../config/profiles/factory_mqtt.yaml");
                Self::parse("config/profiles/factory_mqtt.yaml", text)
            }
            "lock" => {
                let text = include_str!("../../config/profiles/lock.yaml");
                Self::parse("config/profiles/lock.yaml", text)
            }
            "single" => {
                let text = include_str!("../../config/profiles/single.yaml");
                Self::parse("config/profiles/single.yaml", text)
            }
            path => {
                let text = text::read(Path::new(path), TEXT_BYTES_MAX).map_err(|error| {
                    let help = format!("give a file, or one of: {}", BUILT_IN.join(", "));
                    let message = format!("cannot read the profile: {error}");
                    vec![ConfigError::nowhere(path, message, help)]
                })?;
                Self::parse(path, &text)
            }
        }
    }

    /// Reads a profile's text. `file` names it in findings, decides the format, and is where
    /// relative paths of replayed files start.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn parse(file: &str, text: &str) -> Result<Loaded, Vec<ConfigError>> {
        Self::parse_in(Path::new(file).parent(), file, text)
    }

    /// Reads a profile's text that stands in no file: YAML, and nothing in it is read from files.
    /// `name` is what findings call it.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn parse_alone(name: &str, text: &str) -> Result<Loaded, Vec<ConfigError>> {
        Self::parse_in(None, name, text)
    }

    fn parse_in(folder: Option<&Path>, file: &str, text: &str) -> Result<Loaded, Vec<ConfigError>> {
        let toml = Path::new(file)
            .extension()
            .is_some_and(|ext| ext.eq_ignore_ascii_case("toml"));
        let mut findings = Findings::new(file, text, toml);
        if text.len() > TEXT_BYTES_MAX {
            let message = format!("the file has more than {TEXT_BYTES_MAX} bytes");
            findings.error(
                tree::Place::default(),
                message,
                "is it a profile? leave data to `replay`",
            );
            return Err(findings.errors);
        }
        let root = if toml {
            tree::toml(text, &mut findings)
        } else {
            tree::yaml(text, &mut findings)
        };
        let profile = root.and_then(|root| {
            secrets::refuse(&root, &mut findings);
            read(&root, folder, &mut findings)
        });
        let Findings {
            mut errors,
            warnings,
            ..
        } = findings;
        errors.sort_by_key(|error| (error.line, error.column));
        match profile {
            Some(profile) if errors.is_empty() => Ok(Loaded { profile, warnings }),
            _ => Err(errors),
        }
    }

    /// The id of a device: `{type}-{index}`, at least four digits.
    #[must_use]
    pub fn device_id(&self, index: u32) -> String {
        format!("{}-{index:04}", self.device_type)
    }

    /// The fields that the QUIC tiers carry: (field index = sensor id, type).
    pub fn sensors(&self) -> impl Iterator<Item = (u16, SensorType)> + '_ {
        self.fields
            .iter()
            .enumerate()
            .filter_map(|(at, field)| field.sensor.map(|kind| (at as u16, kind)))
    }
}

fn read(root: &Node, folder: Option<&Path>, findings: &mut Findings<'_>) -> Option<Profile> {
    let mut section = Section::of("the profile", root, findings)?;
    let device_type = device_type(&mut section, findings);
    let _ = section.text("name", findings);
    let protocol = protocol(&mut section, findings);
    let interval = interval(&mut section, findings);
    let fields = section
        .take("telemetry_fields")
        .map(|node| fields::read(node, interval, folder, findings))
        .unwrap_or_default();
    let labels = labels(section.take("labels"), &device_type, findings);
    let topic_template = topic(&mut section, (&device_type, &labels), findings);
    let backpressure = section
        .choice(
            "backpressure",
            &[
                ("drop_oldest", Backpressure::DropOldest),
                ("slow_down", Backpressure::SlowDown),
            ],
            findings,
        )
        .unwrap_or(Backpressure::SlowDown);
    let qos = qos(&mut section, findings);
    let names = Names {
        device_type: &device_type,
        fields: &fields,
        labels: &labels,
    };
    let (payload, payload_template) = payload(&mut section, &names, findings);
    let events = section
        .take("events")
        .map(|node| events::read(node, &fields, findings))
        .unwrap_or_default();
    section.finish(findings);
    Some(Profile {
        device_type,
        protocol,
        topic_template,
        interval,
        fields,
        labels,
        backpressure,
        qos,
        payload,
        payload_template,
        events,
    })
}

fn protocol(section: &mut Section<'_>, findings: &mut Findings<'_>) -> Protocol {
    let all = [
        Protocol::Mqtt,
        Protocol::Amqp,
        Protocol::Http,
        Protocol::Coap,
        Protocol::Quic,
        Protocol::Console,
    ];
    let choices = all.map(|one| (one.name(), one));
    let chosen = section.choice("protocol", &choices, findings);
    chosen.unwrap_or(Protocol::Console)
}

/// The topic, its placeholders known; a label that is not here may come when devices are started.
fn topic(
    section: &mut Section<'_>,
    (device_type, labels): (&str, &[(String, String)]),
    findings: &mut Findings<'_>,
) -> String {
    let Some((text, at)) = section.text("topic_template", findings) else {
        return "devices/{device_id}/telemetry".to_owned();
    };
    let named = text.split("{labels.").skip(1);
    let to_come = named.filter_map(|rest| Some((rest.split_once('}')?.0.to_owned(), "?".into())));
    let labels: Vec<_> = labels.iter().cloned().chain(to_come).collect();
    if let Err(error) = Template::parse(text, device_type, &labels) {
        let help = "write it like `devices/{device_id}/telemetry`";
        findings.error(at, format!("`topic_template`: {error}"), help);
    }
    text.to_owned()
}

/// Shape of a message, and the text of its template if it is one.
fn payload(
    section: &mut Section<'_>,
    names: &Names<'_>,
    findings: &mut Findings<'_>,
) -> (Payload, String) {
    let choices = [
        ("envelope", Payload::Envelope),
        ("flat", Payload::Flat),
        ("reading", Payload::Reading),
        ("protobuf", Payload::Protobuf),
        ("template", Payload::Template),
    ];
    let chosen = section.choice("payload", &choices, findings);
    let payload = chosen.unwrap_or(Payload::Envelope);
    if payload == Payload::Template {
        return (payload, template(section, names, findings));
    }
    if let Some(node) = section.take("payload_template") {
        let message = "`payload_template` says nothing without `payload: template`";
        findings.error(
            node.at,
            message,
            "add `payload: template`, or leave this out",
        );
    }
    (payload, String::new())
}

/// The text of the payload's template, its placeholders known.
fn template(section: &mut Section<'_>, names: &Names<'_>, findings: &mut Findings<'_>) -> String {
    if section.need("payload_template", findings).is_none() {
        return String::new();
    }
    let Some((text, at)) = section.text("payload_template", findings) else {
        return String::new();
    };
    for unknown in Text::parse(text, names).unknown {
        let message = format!("unknown placeholder {{{unknown}}} in `payload_template`");
        findings.error(at, message, names.help());
    }
    text.to_owned()
}

fn device_type(section: &mut Section<'_>, findings: &mut Findings<'_>) -> String {
    let Some(node) = section.need("type", findings) else {
        return String::new();
    };
    let Value::Text(text) = &node.value else {
        findings.wrong_type("type", node, "a text");
        return String::new();
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.is_empty() || text.len() > 64 || !text.chars().all(plain) {
        let help = "1 to 64 of the characters A-Z a-z 0-9 . _ - (it is part of a path)";
        findings.error(node.at, format!("`type` cannot be `{text}`"), help);
    }
    text.clone()
}

fn interval(section: &mut Section<'_>, findings: &mut Findings<'_>) -> Duration {
    let default = Duration::from_secs(5);
    let Some((text, at)) = section.text("telemetry_interval", findings) else {
        return default;
    };
    parse_duration(text)
        .and_then(|interval| {
            if (INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) {
                return Ok(interval);
            }
            Err(format!(
                "`telemetry_interval` must lie between 1ms and 24h, is `{text}`"
            ))
        })
        .unwrap_or_else(|message| {
            findings.error(at, message, DURATION_HELP);
            default
        })
}

fn labels(
    node: Option<&Node>,
    device_type: &str,
    findings: &mut Findings<'_>,
) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    let section = node.and_then(|node| Section::of("`labels`", node, findings));
    for (key, node) in section.as_ref().map_or(&[][..], Section::entries) {
        let text = match &node.value {
            Value::Text(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(on) => on.to_string(),
            _ => {
                findings.wrong_type(&key.text, node, "a text");
                continue;
            }
        };
        if labels.len() == LABELS_MAX {
            let message = format!("more than {LABELS_MAX} labels");
            findings.error(key.at, message, "leave some out");
            break;
        }
        labels.push((key.text.clone(), text));
    }
    if !labels.iter().any(|(name, _)| name == "device_type") {
        labels.push(("device_type".to_owned(), device_type.to_owned()));
    }
    labels
}

fn qos(section: &mut Section<'_>, findings: &mut Findings<'_>) -> u8 {
    let Some((qos, at)) = section.number("qos", findings) else {
        return 1;
    };
    if ![0.0, 1.0, 2.0].contains(&qos) {
        let message = format!("`qos` must be 0, 1 or 2, is {qos}");
        findings.error(
            at,
            message,
            "0: at most once, 1: at least once, 2: exactly once",
        );
        return 1;
    }
    qos as u8
}

#[cfg(test)]
mod tests;
