//! Certificates that are taken back while connections are up, on both sides of them.
//!
//! A connection is judged once more after everybody who closes connections can see it, so that a
//! handshake which began under an older list ends like any other; then each time the list changes.
//! It reads no file. Bound: a look every [`REVOCATION_LOOK`].

use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::{Level, System};
use quinn::Connection;

use crate::certs::tls::peer_certificate;
use crate::certs::{Identity, Revocations};

/// How often the revocation list is looked at: one `stat` for all who look.
pub const REVOCATION_LOOK: Duration = Duration::from_secs(1);

/// The list that holds now. Why its file does not count is said, once for all who ask.
pub fn list(identity: &Identity, system: &System) -> Arc<Revocations> {
    let list = identity.revocations();
    if let Some(error) = identity.revocations_trouble() {
        let text = format!("what was revoked before stays so: {error}");
        let events = system.events();
        events.publish(Level::Error, "revocations_unread", None, text);
    }
    list
}

/// Whether a list names the certificate that the peer of a connection has shown.
pub(crate) fn names(list: &Revocations, connection: &Connection) -> bool {
    !list.is_empty() && peer_certificate(connection).is_some_and(|shown| list.names(&shown))
}

/// Waits until the peer's certificate is taken back.
pub(crate) async fn revoked(identity: &Identity, system: &System, connection: &Connection) {
    while !names(&list(identity, system), connection) {
        tokio::time::sleep(REVOCATION_LOOK).await;
    }
}
