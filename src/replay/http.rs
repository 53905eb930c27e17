//! A recording to an HTTP server: each message posted, one after another over one kept connection.
//!
//! It goes to the path of the URL, or where that has none to the path that is its topic. What the
//! server does not take for now goes again after a backoff. Bound: one request;
//! [`PATIENCE`] for its answer.

use std::net::SocketAddr;

use actorsim_actors::{Clock, Time};
use actorsim_fleet::session::http::{Client, Ended, Endpoint, Event, Options, Output};
use actorsim_fleet::session::http::{Paths, Secret};
use actorsim_fleet::session::template::Template;
use actorsim_fleet::session::tls::Terms;
use serde_json::{Value as Json, json};
use tokio::time::{sleep_until, timeout_at};

use super::message::Message;
use super::play::{Taker, sleep};
use super::stream::{PATIENCE, Stream};

/// Where messages are posted.
#[derive(Debug)]
pub struct Posting {
    /// The server.
    pub address: SocketAddr,
    /// TLS, if it is called so.
    pub terms: Option<Terms>,
    /// `Host` header.
    pub host: String,
    /// The URL's path, with placeholders.
    pub path: String,
    /// Patience and backoff.
    pub options: Options,
    /// `Authorization` header.
    pub authorization: Option<Secret>,
}

/// A connection that plays.
#[derive(Debug)]
pub struct HttpTarget {
    to: Posting,
    stream: Option<Stream>,
    client: Client,
    clock: Clock,
    out: Output,
    sent: u64,
    acked: u64,
    refused: u64,
    /// Why the last connection ended.
    why: String,
}

/// The path of a message, as it stands in a request.
pub(super) fn path(of: &str, message: &Message) -> Result<(Template, String), String> {
    let (text, id) = match of.trim_start_matches('/') {
        "" => (message.topic.replace(['{', '}'], ""), String::new()),
        path => (path.to_owned(), message.id.clone()),
    };
    let template = Template::parse(&text, &message.device_type, &[]);
    let template = template.map_err(|error| format!("the path {text}: {error}"))?;
    Ok((template, id))
}

impl HttpTarget {
    /// Connects to a server.
    ///
    /// # Errors
    /// Why not, in words.
    pub async fn connect(mut to: Posting) -> Result<Self, String> {
        (to.options.batch_max, to.options.outbox_max) = (1, 1);
        to.options.poll_interval = std::time::Duration::ZERO; // a recording does not listen
        let stream = Stream::connect(to.address, to.terms.as_ref()).await?;
        let mut target = Self {
            to,
            stream: Some(stream),
            client: Client::default(),
            clock: Clock::wall(),
            out: Output::default(),
            sent: 0,
            acked: 0,
            refused: 0,
            why: String::new(),
        };
        let nowhere = Template::parse("/", "", &[]).map_err(|error| error.to_string())?;
        let paths = paths(&nowhere);
        let now = target.now();
        let to = target.to.endpoint(&paths, "");
        target
            .client
            .open(&target.to.options, &to, now, &mut target.out);
        Ok(target)
    }

    fn now(&self) -> Time {
        self.clock.monotonic()
    }

    /// Writes what the session has to say, and counts what it heard.
    async fn flush(&mut self) {
        if let Some(stream) = &mut self.stream
            && !self.out.bytes.is_empty()
            && let Err(error) = stream.write(&self.out.bytes).await
        {
            self.lose(error.to_string());
        }
        self.out.bytes.clear();
        for event in self.out.events.drain(..) {
            match event {
                Event::Delivered { .. } => self.acked += 1,
                Event::Refused { .. } => self.refused += 1,
                Event::Retries { status, .. } => self.why = format!("it answered {status}"),
                Event::Message(_) | Event::ReplyRefused { .. } => {}
            }
        }
        if let Some(ended) = self.out.ended.take() {
            match ended {
                Ended::NotKept | Ended::Idle | Ended::Closed => self.stream = None,
                other => self.lose(other.to_string()),
            }
        }
    }

    fn lose(&mut self, why: String) {
        self.client.lost();
        self.stream = None;
        self.why = why;
    }

    /// Lets the request go on, at most until then.
    async fn pump(
        &mut self,
        (paths, id): (&Paths, &str),
        until: tokio::time::Instant,
    ) -> Result<(), String> {
        if self.stream.is_none() {
            let connected = Stream::connect(self.to.address, self.to.terms.as_ref()).await;
            self.stream = Some(connected?);
            let (now, to) = (self.now(), self.to.endpoint(paths, id));
            self.client.open(&self.to.options, &to, now, &mut self.out);
        }
        self.flush().await;
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        let (began, mut bytes) = (self.clock.monotonic(), Vec::new());
        let deadline = self.client.deadline(&self.to.options);
        let soon = deadline.map(|at| tokio::time::Instant::now() + at.since(began));
        let until = soon.map_or(until, |soon| soon.min(until));
        let read = timeout_at(until, stream.read(&mut bytes)).await;
        let (now, to) = (self.now(), self.to.endpoint(paths, id));
        let (options, out) = (&self.to.options, &mut self.out);
        match read {
            Ok(Ok(0)) => {
                self.client.peer_closed(options, &to, now, out);
                if out.ended.is_none() {
                    out.ended = Some(Ended::ByServer);
                }
            }
            Ok(Ok(_)) => self.client.received(options, &to, &bytes, now, out),
            Ok(Err(error)) => self.lose(error.to_string()),
            Err(_) => self.client.expire(options, &to, now, out),
        }
        self.flush().await;
        Ok(())
    }
}

/// Samples go there; nothing else is asked.
fn paths(samples: &Template) -> Paths {
    Paths {
        samples: samples.clone(),
        commands: samples.clone(),
        replies: samples.clone(),
    }
}

impl Posting {
    fn endpoint<'a>(&'a self, paths: &'a Paths, id: &'a str) -> Endpoint<'a> {
        Endpoint {
            host: &self.host,
            paths,
            id,
            authorization: self.authorization.as_ref(),
            seed: 1,
        }
    }
}

impl Taker for HttpTarget {
    async fn give(&mut self, message: &Message) -> Result<(), String> {
        let (template, id) = path(&self.to.path, message)?;
        let paths = paths(&template.into_path());
        self.to.options.content_type = message.content_type();
        let (now, to) = (self.now(), self.to.endpoint(&paths, &id));
        let sample = (&*message.payload, 1);
        let (options, out) = (&self.to.options, &mut self.out);
        let taken = self.client.publish(options, &to, sample, now, out);
        taken.map_err(|error| error.to_string())?;
        self.sent += 1;
        let patience = tokio::time::Instant::now() + PATIENCE;
        while self.client.waiting() > 0 {
            if tokio::time::Instant::now() >= patience {
                let why = &self.why;
                return Err(format!("the server does not take a message: {why}"));
            }
            self.pump((&paths, &id), patience).await?;
        }
        Ok(())
    }

    /// Nothing is under way between two messages; a server that closes meanwhile is called again.
    async fn rest(&mut self, until: tokio::time::Instant) -> Result<(), String> {
        let Some(stream) = &mut self.stream else {
            return sleep(until).await;
        };
        let mut bytes = Vec::new();
        match timeout_at(until, stream.read(&mut bytes)).await {
            Ok(Ok(0) | Err(_)) => {
                self.client.lost();
                self.stream = None;
            }
            Ok(Ok(_)) => return Err("the server answers what nobody asked".to_owned()),
            Err(_) => {}
        }
        sleep_until(until).await;
        Ok(())
    }

    async fn close(mut self) -> Result<Json, String> {
        if let Some(stream) = self.stream.take() {
            stream.close().await;
        }
        Ok(json!({ "sent": self.sent, "acked": self.acked, "refused": self.refused }))
    }
}
