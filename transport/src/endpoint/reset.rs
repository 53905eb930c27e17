//! What lets a node that was killed tell its peers at once: stateless resets that its next
//! incarnation can still make (RFC 9000 section 10.3).
//!
//! The key comes from the node's private key, so it is the same after a restart and nobody else's.
//! A peer that sends to a connection nobody here remembers is answered with the token it was given
//! for it, and dials again instead of waiting for its idle time-out. Bound: quinn answers so at
//! most once in 20 ms.

use std::sync::Arc;
use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator, EndpointConfig};
use ring::hmac::{HMAC_SHA256, Key, sign};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::certs::Identity;

/// Bytes of a connection's number: what quinn takes.
const ID_LEN: usize = 8;
/// What the key is for, so that no other use of the private key gives the same.
const PURPOSE: &[u8] = b"actorsim stateless reset 1";

/// The settings of a listening endpoint.
pub(super) fn listening_config(identity: &Identity) -> EndpointConfig {
    let private = identity.private_key();
    let key = sign(&Key::new(HMAC_SHA256, private.secret_der()), PURPOSE);
    let mut config = EndpointConfig::new(Arc::new(Key::new(HMAC_SHA256, key.as_ref())));
    config.cid_generator(|| Box::new(RandomIds(SystemRandom::new())));
    config
}

/// Numbers that say nothing. quinn's own default refuses those that another process made, without
/// an answer.
struct RandomIds(SystemRandom);

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut bytes = [0; ID_LEN];
        self.0
            .fill(&mut bytes)
            .expect("the system's randomness does not run out");
        ConnectionId::new(&bytes)
    }

    fn cid_len(&self) -> usize {
        ID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
