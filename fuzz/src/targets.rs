//! What is fuzzed: everything that reads bytes or text of somebody else.
//!
//! In reading order: what a twin hears ([`datagram`], [`events`], [`ack`], [`control`],
//! [`certificate`]) and finds on its disk ([`journal`]); what a device hears from its broker
//! ([`mqtt`], [`http`], [`coap`], [`amqp`]); what a node is told by its user ([`config`],
//! [`policy`], [`chaos`], [`rules`], [`profile`], [`scenario`], [`attach`], [`wire_log`]) and by
//! programs ([`control_plane`]). Each says in its own file what must hold, besides what holds for
//! all: nothing panics, and no input takes more memory than [`Target::heap_max`].

mod ack;
mod amqp;
mod attach;
mod certificate;
mod chaos;
mod coap;
mod config;
mod control;
mod control_plane;
mod datagram;
mod events;
mod http;
mod journal;
mod mqtt;
mod policy;
mod profile;
mod rules;
mod scenario;
mod text;
mod wire_log;

use actorsim_fleet::session::template::Template;

use crate::heap;

/// One of them.
#[derive(Debug)]
pub(crate) struct Target {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it is about, in one line.
    pub(crate) about: &'static str,
    /// Takes one input.
    pub(crate) run: fn(&[u8]),
    /// Inputs to begin with.
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
    /// Words of its language, for the fuzzer to try.
    pub(crate) words: &'static [&'static str],
    /// Bytes of an input at most.
    pub(crate) len_max: usize,
    /// Bytes that an input may take at most.
    pub(crate) heap_max: usize,
}

impl Target {
    /// Takes one input, and looks at what it took.
    pub(crate) fn take(&self, input: &[u8]) {
        let peak = heap::peak_of(|| (self.run)(input));
        let most = self.heap_max;
        assert!(peak <= most, "the input took {peak} bytes, at most {most}");
    }
}

/// A path of a request, of a device that is a pump.
fn path(text: &str) -> Template {
    let template = Template::parse(text, "pump", &[]);
    template.expect("a template").into_path()
}

/// All of them.
pub(crate) const ALL: &[Target] = &[
    datagram::TARGET,
    events::TARGET,
    ack::TARGET,
    control::TARGET,
    certificate::TARGET,
    journal::TARGET,
    mqtt::TARGET,
    http::TARGET,
    coap::TARGET,
    amqp::TARGET,
    config::TARGET,
    policy::TARGET,
    chaos::TARGET,
    rules::TARGET,
    profile::TARGET,
    scenario::TARGET,
    attach::TARGET,
    wire_log::TARGET,
    control_plane::REST,
    control_plane::GRPC,
];

/// The one of that name.
pub(crate) fn find(name: &str) -> Option<&'static Target> {
    ALL.iter().find(|target| target.name == name)
}
