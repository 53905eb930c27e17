//! What the sessions of a population share, and what one brings to its connection.
//!
//! Plain data. Bound: times and counts are limits themselves, each with its reason.

use std::time::Duration;

use super::packet::{Version, Will};

/// Shared by the sessions of one population.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Version of the protocol.
    pub version: Version,
    /// Start without what the broker has kept: messages in flight are then sent anew.
    pub clean_start: bool,
    /// MQTT 5: seconds for which the broker keeps the session of a lost connection.
    pub session_expiry_s: u32,
    /// Longest silence before a ping, seconds; 0: no pings.
    pub keep_alive_s: u16,
    /// Longest wait for any answer; after it the connection counts as dead.
    pub answer_timeout: Duration,
    /// Messages of QoS 1 and 2 that wait for their acknowledgement at a time. 1 keeps order even
    /// with brokers that reorder.
    pub in_flight_max: u16,
    /// Messages that wait in all, those in flight included.
    pub outbox_max: u16,
    /// Bytes of the largest packet taken from the broker.
    pub packet_max: u32,
}

impl Default for Options {
    /// 3.1.1, a kept session, 60 s keep-alive, 20 s patience, 8 in flight of 64, 64 KiB.
    fn default() -> Self {
        Self {
            version: Version::V311,
            clean_start: false,
            session_expiry_s: 3_600,
            keep_alive_s: 60,
            answer_timeout: Duration::from_secs(20),
            in_flight_max: 8,
            outbox_max: 64,
            packet_max: 65_536,
        }
    }
}

/// What one device says when it opens its session.
#[derive(Clone, Copy, Default)]
pub struct Login<'a> {
    /// Who.
    pub client_id: &'a str,
    /// Last words, should it go without a goodbye.
    pub will: Option<Will<'a>>,
    /// User, for password authentication.
    pub username: Option<&'a str>,
    /// Its password; never shown.
    pub password: Option<&'a [u8]>,
}

impl std::fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("client_id", &self.client_id)
            .field("will", &self.will)
            .field("username", &self.username)
            .field("password", &self.password.map(|_| "(secret)"))
            .finish()
    }
}
