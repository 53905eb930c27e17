//! Targets of devices that do not send to a twin: `[targets.http]`, `[targets.coap]`,
//! `[targets.amqp]`, and the TLS of `[targets.mqtt]`.
//!
//! It resolves nothing and reads no file. Bound: that of the keys.

use std::path::PathBuf;

use actorsim_fleet::session::{coap, http};

use super::Settings;

/// An HTTP server.
#[derive(Debug, Clone)]
pub struct HttpTarget {
    /// Where it is, with the path of samples.
    pub url: String,
    /// How sessions are.
    pub options: http::Options,
    /// File with the value of `Authorization`.
    pub authorization_file: Option<PathBuf>,
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
        })
    }
}

/// TLS towards a broker.
#[derive(Debug, Clone)]
pub struct TlsTarget {
    /// Authorities to trust; `None` is the site's own.
    pub ca_file: Option<PathBuf>,
    /// Name that the broker's certificate must carry; `None` is the URL's host.
    pub server_name: Option<String>,
    /// Each device shows a certificate of its own.
    pub device_certs: bool,
    /// A certificate that all devices show, and its key.
    pub shown: Option<(PathBuf, PathBuf)>,
}

impl TlsTarget {
    pub(super) fn from_settings(settings: &Settings) -> Self {
        let path = |key| settings.text(key).map(PathBuf::from);
        let cert = path("targets.mqtt.tls_cert_file");
        Self {
            ca_file: path("targets.mqtt.tls_ca_file"),
            server_name: settings
                .text("targets.mqtt.tls_server_name")
                .map(Into::into),
            device_certs: settings.bool("targets.mqtt.tls_device_certs"),
            shown: cert.zip(path("targets.mqtt.tls_key_file")),
        }
    }
}

/// What of TLS towards a broker does not fit together: key, what is wrong, what to do.
pub(super) fn tls_conflicts(settings: &Settings) -> Vec<[&'static str; 3]> {
    const CERT: &str = "targets.mqtt.tls_cert_file";
    const KEY: &str = "targets.mqtt.tls_key_file";
    const OWN: &str = "targets.mqtt.tls_device_certs";
    let has = |key| settings.text(key).is_some();
    let (cert, key, own) = (has(CERT), has(KEY), settings.bool(OWN));
    let mut found = Vec::new();
    if cert && !key {
        let message = "`targets.mqtt.tls_cert_file` is set without its key";
        found.push([CERT, message, "set targets.mqtt.tls_key_file"]);
    }
    if key && !cert {
        let message = "`targets.mqtt.tls_key_file` is set without its certificate";
        found.push([KEY, message, "set targets.mqtt.tls_cert_file"]);
    }
    if own && cert {
        let message = "devices show either certificates of their own or one for all, and both are \
                       set";
        found.push([OWN, message, "unset targets.mqtt.tls_cert_file or this"]);
    }
    let over_tls = |url: &str| url.starts_with("mqtts://");
    let plain = settings
        .text("targets.mqtt.url")
        .is_some_and(|url| !over_tls(url));
    let asked = [
        (CERT, cert),
        (OWN, own),
        ("targets.mqtt.tls_ca_file", has("targets.mqtt.tls_ca_file")),
    ];
    for (key, _) in asked.into_iter().filter(|(_, set)| *set && plain) {
        let message = "TLS is asked for, but `targets.mqtt.url` is not mqtts://";
        found.push([
            key,
            message,
            "write the URL with mqtts://, or leave this out",
        ]);
    }
    found
}
