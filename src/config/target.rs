//! Targets of devices that do not send to a twin: `[targets.http]`, `[targets.coap]`,
//! `[targets.amqp]`.
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
