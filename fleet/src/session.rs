//! Protocol sessions: state machines without I/O.
//!
//! Bytes of the peer and the time go in; bytes, events and a deadline come out. Whoever owns the
//! connection drives them: a shard's sockets, tokio, TLS, or the simulated network. In reading
//! order:
//! - [`mqtt`]: MQTT 3.1.1 and 5;
//! - [`tls`]: what lies between a session and its connection, where that is wanted;
//! - [`http`]: POST with batches, and polls for commands;
//! - [`coap`]: PUT and POST in datagrams, and observed commands;
//! - [`amqp`]: how a message is published, for simulations;
//! - [`backoff`]: when to connect again;
//! - [`template`]: topics with placeholders.
//!
//! They open no connection, read no clock and draw no random number. Bound: each session names its
//! own.

pub mod amqp;
pub mod backoff;
pub mod coap;
pub mod http;
pub mod mqtt;
pub mod template;
pub mod tls;
