//! Targets of devices that do not send to a twin: `[targets.http]`, `[targets.coap]`,
//! `[targets.amqp]`, and the TLS of all that have it.
//!
//! It resolves nothing and reads no file. Bound: that of the keys.

use std::path::PathBuf;

use actorsim_fleet::broker::Target;
use actorsim_fleet::profile::Protocol;
use actorsim_fleet::session::{coap, http};

use super::Settings;

/// Where secrets are looked for that no file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretsFrom {
    /// In variables of the environment.
    Environment,
    /// Nowhere else: what the environment has for a real broker is no part of a simulation.
    Files,
}

/// An HTTP server.
#[derive(Debug, Clone)]
pub struct HttpTarget {
    /// Where it is, with the path of samples.
    pub url: String,
    /// How sessions are.
    pub options: http::Options,
    /// File with the value of `Authorization`.
    pub authorization_file: Option<PathBuf>,
    /// TLS, for a URL that asks for it.
    pub tls: TlsTarget,
}

impl HttpTarget {
    pub(super) fn from_settings(settings: &Settings) -> Option<Self> {
        Some(Self {
            url: settings.text("targets.http.url")?.to_owned(),
            options: http::Options {
                batch_max: super::node::narrow(settings.u64("targets.http.batch")),
                batch_wait: settings.duration("targets.http.batch_wait"),
                answer_timeout: settings.duration("targets.http.timeout"),
                outbox_max: super::node::narrow(settings.u64("targets.http.outbox")),
                poll_interval: settings.duration("targets.http.poll_interval"),
                ..http::Options::default()
            },
            authorization_file: settings
                .text("targets.http.authorization_file")
                .map(Into::into),
            tls: TlsTarget::from_settings(HTTP_TLS, settings),
        })
    }
}

/// A CoAP server.
#[derive(Debug, Clone)]
pub struct CoapTarget {
    /// Where it is, with the path of samples.
    pub url: String,
    /// How sessions are.
    pub options: coap::Options,
}

impl CoapTarget {
    pub(super) fn from_settings(settings: &Settings) -> Option<Self> {
        Some(Self {
            url: settings.text("targets.coap.url")?.to_owned(),
            options: coap::Options {
                method: match settings.text("targets.coap.method") {
                    Some("post") => coap::Method::Post,
                    _ => coap::Method::Put,
                },
                observe: settings.bool("targets.coap.observe"),
                ack_timeout: settings.duration("targets.coap.ack_timeout"),
                outbox_max: super::node::narrow(settings.u64("targets.coap.outbox")),
                ..coap::Options::default()
            },
        })
    }
}

/// An AMQP broker.
#[derive(Debug, Clone)]
pub struct AmqpTarget {
    /// Where it is, with its virtual host.
    pub url: String,
    /// Where messages go.
    pub exchange: String,
    /// Messages of the node that wait.
    pub outbox: usize,
    /// User that the node logs in as.
    pub username: Option<String>,
    /// File with its password.
    pub password_file: Option<PathBuf>,
    /// TLS, for a URL that asks for it.
    pub tls: TlsTarget,
}

impl AmqpTarget {
    pub(super) fn from_settings(settings: &Settings) -> Option<Self> {
        let exchange = settings.text("targets.amqp.exchange").unwrap_or_default();
        Some(Self {
            url: settings.text("targets.amqp.url")?.to_owned(),
            exchange: exchange.to_owned(),
            outbox: super::node::narrow::<u32>(settings.u64("targets.amqp.outbox")) as usize,
            username: settings.text("targets.amqp.username").map(Into::into),
            password_file: settings.text("targets.amqp.password_file").map(Into::into),
            tls: TlsTarget::from_settings(AMQP_TLS, settings),
        })
    }
}

/// The keys of TLS towards one kind of peer.
#[derive(Debug, Clone, Copy)]
pub struct TlsKeys {
    /// Where the peer is.
    pub url: &'static str,
    /// How that begins over TLS.
    scheme: &'static str,
    /// Authorities to trust.
    pub ca_file: &'static str,
    /// Name to expect.
    pub server_name: &'static str,
    /// Certificates of devices; a node that has one connection for all has no such key.
    device_certs: Option<&'static str>,
    /// One certificate.
    pub cert_file: &'static str,
    key_file: &'static str,
}

macro_rules! tls_keys {
    ($target:literal, $scheme:literal, $device_certs:expr) => {
        TlsKeys {
            url: concat!("targets.", $target, ".url"),
            scheme: $scheme,
            ca_file: concat!("targets.", $target, ".tls_ca_file"),
            server_name: concat!("targets.", $target, ".tls_server_name"),
            device_certs: $device_certs,
            cert_file: concat!("targets.", $target, ".tls_cert_file"),
            key_file: concat!("targets.", $target, ".tls_key_file"),
        }
    };
}

/// Of MQTT.
pub const MQTT_TLS: TlsKeys = tls_keys!("mqtt", "mqtts://", Some("targets.mqtt.tls_device_certs"));
/// Of HTTP.
pub const HTTP_TLS: TlsKeys = tls_keys!("http", "https://", Some("targets.http.tls_device_certs"));
/// Of AMQP.
pub const AMQP_TLS: TlsKeys = tls_keys!("amqp", "amqps://", None);

/// TLS towards a broker or server.
#[derive(Debug, Clone)]
pub struct TlsTarget {
    /// Where this was asked for.
    pub keys: TlsKeys,
    /// Authorities to trust; `None` is the site's own.
    pub ca_file: Option<PathBuf>,
    /// Name that the peer's certificate must carry; `None` is the URL's host.
    pub server_name: Option<String>,
    /// Each device shows a certificate of its own.
    pub device_certs: bool,
    /// A certificate that all devices show, and its key.
    pub shown: Option<(PathBuf, PathBuf)>,
}

impl TlsTarget {
    pub(super) fn from_settings(keys: TlsKeys, settings: &Settings) -> Self {
        let path = |key| settings.text(key).map(PathBuf::from);
        Self {
            keys,
            ca_file: path(keys.ca_file),
            server_name: settings.text(keys.server_name).map(Into::into),
            device_certs: keys.device_certs.is_some_and(|key| settings.bool(key)),
            shown: path(keys.cert_file).zip(path(keys.key_file)),
        }
    }
}

/// The keys that say where a broker or server is, and what is spoken there.
pub const URLS: [(&str, Protocol); 4] = [
    (MQTT_TLS.url, Protocol::Mqtt),
    (HTTP_TLS.url, Protocol::Http),
    ("targets.coap.url", Protocol::Coap),
    (AMQP_TLS.url, Protocol::Amqp),
];

/// What is wrong with a key: its name, what is wrong, what to do.
type Conflict = (&'static str, String, String);

/// A URL of a protocol.
const fn example(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http://127.0.0.1:8080/ingest",
        Protocol::Coap => "coap://127.0.0.1:5683",
        Protocol::Amqp => "amqp://127.0.0.1:5672",
        Protocol::Mqtt | Protocol::Quic | Protocol::Console => "mqtt://127.0.0.1:1883",
    }
}

/// URLs that are none, or another protocol's.
pub(super) fn url_conflicts(settings: &Settings) -> Vec<Conflict> {
    let wrong = |(key, protocol): &(&'static str, Protocol)| {
        let error = Target::check(settings.text(key)?, *protocol).err()?;
        let help = format!("SCHEME://HOST[:PORT], such as {}", example(*protocol));
        Some((*key, format!("`{key}`: {error}"), help))
    };
    URLS.iter().filter_map(wrong).collect()
}

/// Passwords that are nobody's, where the protocol has none without a user.
pub(super) fn password_conflicts(settings: &Settings) -> Vec<Conflict> {
    let nobodys = |(user, file): (&'static str, &'static str)| {
        settings
            .text(file)
            .filter(|_| settings.text(user).is_none())?;
        let message = format!("`{file}` is set without the user whose password it has");
        Some((file, message, format!("set {user}, or leave this out")))
    };
    let mqtt = ("targets.mqtt.username", "targets.mqtt.password_file");
    let amqp = ("targets.amqp.username", "targets.amqp.password_file");
    // MQTT 5 has passwords without users.
    let mqtt = Some(mqtt).filter(|_| settings.text("targets.mqtt.version") != Some("5"));
    mqtt.into_iter().chain([amqp]).filter_map(nobodys).collect()
}

/// What of TLS towards brokers and servers does not fit together.
pub(super) fn tls_conflicts(settings: &Settings) -> Vec<Conflict> {
    let all = [MQTT_TLS, HTTP_TLS, AMQP_TLS];
    all.iter()
        .flat_map(|keys| tls_conflicts_of(keys, settings))
        .collect()
}

fn tls_conflicts_of(keys: &TlsKeys, settings: &Settings) -> Vec<Conflict> {
    let TlsKeys {
        url,
        scheme,
        ca_file,
        cert_file,
        key_file,
        ..
    } = *keys;
    let has = |key| settings.text(key).is_some();
    let (cert, key) = (has(cert_file), has(key_file));
    let own = keys.device_certs.filter(|own| settings.bool(own));
    let mut found = Vec::new();
    if cert && !key {
        let message = format!("`{cert_file}` is set without its key");
        found.push((cert_file, message, format!("set {key_file}")));
    }
    if key && !cert {
        let message = format!("`{key_file}` is set without its certificate");
        found.push((key_file, message, format!("set {cert_file}")));
    }
    if let Some(own) = own.filter(|_| cert) {
        let message =
            "devices show either certificates of their own or one for all, and both are set";
        found.push((
            own,
            message.to_owned(),
            format!("unset {cert_file} or this"),
        ));
    }
    let plain = settings
        .text(url)
        .is_some_and(|url| !url.starts_with(scheme));
    let asked = [
        cert.then_some(cert_file),
        own,
        has(ca_file).then_some(ca_file),
    ];
    for key in asked.into_iter().flatten().filter(|_| plain) {
        let message = format!("TLS is asked for, but `{url}` is not {scheme}");
        let help = format!("write the URL with {scheme}, or leave this out");
        found.push((key, message, help));
    }
    found
}
