//! A connection for commands: which connection's, then its commands, one after another.
//!
//! It takes the commands of one connection of the same peer, by certificate, and registers nothing;
//! when that connection is gone, or another has taken its place, it is closed. Its link opens one
//! stream, and asks on it once. Bounds: the time to say hello, to ask; those of [`commands`].

use std::sync::Arc;

use actorsim_actors::Fault;
use quinn::SendStream;

use super::control::{self, ControlError, Receiving};
use super::{Peer, commands};
use crate::certs::tls::peer_certificate;
use crate::endpoint::{close, codes};
use crate::frames::{ToLink, ToTwin};

pub(super) async fn run(peer: Arc<Peer>) -> Result<(), Fault> {
    if let Err(error) = serve(&peer).await {
        control::end(&peer, &error);
    }
    Ok(())
}

/// Takes the commands of a connection until it leaves.
struct Joined<'a> {
    peer: &'a Peer,
    connection: u32,
}

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        let registry = &self.peer.core.registry;
        registry.leave(self.connection, self.peer.id);
    }
}

async fn serve(peer: &Arc<Peer>) -> Result<(), ControlError> {
    // Read no further, and kept open: what else comes on it waits in its window.
    let (mut send, _receiving, connection) = control::in_time("join", asked(peer)).await?;
    let registry = &peer.core.registry;
    let shown = registry.certificate_of(connection);
    let same = shown.is_some() && shown == peer_certificate(&peer.quic);
    let joined = same.then(|| registry.join(connection, peer.id)).flatten();
    let Some(waiting) = joined else {
        let why = format!("connection {connection} is none of this certificate");
        return Err(ControlError::Refused(codes::DEVICES, why));
    };
    let _joined = Joined { peer, connection };
    control::write(&mut send, &ToLink::Joined).await?;
    tokio::select! {
        biased;
        _ = peer.quic.closed() => {}
        _ = commands::run(Arc::clone(peer), waiting) => {
            let why = b"the connection that it is beside is gone";
            close(&peer.quic, codes::STOPPED, why);
        }
    }
    Ok(())
}

/// Which connection's commands the link asks for.
async fn asked(peer: &Peer) -> Result<(SendStream, Receiving, u32), ControlError> {
    match control::first(peer).await? {
        (send, receiving, ToTwin::Join { connection }) => Ok((send, receiving, connection)),
        _ => Err(control::refused("the first message is not a join")),
    }
}
