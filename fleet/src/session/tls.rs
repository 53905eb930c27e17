//! TLS from the client's side, without I/O: records in, plain bytes out, and the other way.
//!
//! Map: [`Terms`] (what a population shares: whom it trusts, whom it calls, what it shows) and
//! [`Tls`] (one connection). The state machine is rustls' unbuffered one; what has come of a record
//! in part is all that is kept between two calls, so that an idle connection has no buffers. Names
//! are always checked, nothing is resumed, keys are never shown. Bound: [`PARTIAL_MAX`].

use std::sync::Arc;

use actorsim_transport::certs::{CertError, Site};
use parking_lot::Mutex;
use rustls::client::{ResolvesClientCert, UnbufferedClientConnection};
use rustls::sign::CertifiedKey;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{ClientConfig, SignatureScheme};
use rustls_pki_types::ServerName;

/// Bytes of a peer that may wait for the rest of their record or handshake message: the largest
/// message (64 KiB) in its records.
pub const PARTIAL_MAX: usize = 80 << 10;

/// Bytes of a record beside what it carries: heading, type, tag.
const RECORD_EXTRA: usize = 64;
/// Most that one record carries.
const RECORD_MAX: usize = 16 << 10;

/// What the connections of a population share.
#[derive(Clone)]
pub struct Terms {
    config: Arc<ClientConfig>,
    server: ServerName<'static>,
    devices: Option<Arc<Site>>,
}

impl std::fmt::Debug for Terms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terms")
            .field("server", &self.server)
            .field("per_device", &self.devices.is_some())
            .finish_non_exhaustive()
    }
}

/// Why there is no TLS, or no more.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TlsError {
    /// A name that no certificate can carry.
    #[error("`{0}` is not a name or address that a certificate can carry")]
    ServerName(String),
    /// The device has no certificate.
    #[error("no certificate for this device: {0}")]
    Device(String),
    /// The peer is not trusted, does not trust us, or does not speak TLS.
    #[error("{0}")]
    Peer(#[from] rustls::Error),
    /// More of one message than there ever should be.
    #[error("a message of more than {PARTIAL_MAX} bytes")]
    TooLarge,
    /// Something was to be sent before the handshake was done, or after the end.
    #[error("the connection is not open")]
    NotOpen,
}

impl Terms {
    /// Terms of connections to `server`, a name or an address, which its certificate must carry.
    ///
    /// # Errors
    /// [`TlsError::ServerName`].
    pub fn new(config: ClientConfig, server: &str) -> Result<Self, TlsError> {
        let name = ServerName::try_from(server.to_owned());
        let server = name.map_err(|_| TlsError::ServerName(server.to_owned()))?;
        Ok(Self {
            config: Arc::new(config),
            server,
            devices: None,
        })
    }

    /// The same, with a certificate of its own for each device.
    #[must_use]
    pub fn per_device(mut self, site: Arc<Site>) -> Self {
        self.devices = Some(site);
        self
    }

    /// For who has a TLS of its own: what to do, and the name to call. Devices show nothing there.
    pub(crate) fn as_client(&self) -> (Arc<ClientConfig>, String) {
        let name = self.server.to_str().into_owned();
        (Arc::clone(&self.config), name)
    }

    fn config_of(&self, device: &str) -> Result<Arc<ClientConfig>, CertError> {
        let Some(site) = &self.devices else {
            return Ok(Arc::clone(&self.config));
        };
        // its parts are shared
        let mut own = ClientConfig::clone(&self.config);
        own.client_auth_cert_resolver = Arc::new(ShownOnce(Mutex::new(Some(site.device(device)?))));
        Ok(Arc::new(own))
    }
}

/// A certificate that is shown in one handshake and gone afterwards.
#[derive(Debug)]
struct ShownOnce(Mutex<Option<Arc<CertifiedKey>>>);

impl ResolvesClientCert for ShownOnce {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let key = self.0.lock().take()?;
        let fits = key.key.choose_scheme(schemes).is_some();
        fits.then_some(key)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// One connection.
pub struct Tls {
    conn: UnbufferedClientConnection,
    /// Of a record or message that has come in part, or waits for its turn.
    partial: Vec<u8>,
    open: bool,
    /// The peer has said goodbye.
    ended: bool,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("open", &self.open)
            .field("ended", &self.ended)
            .field("partial", &self.partial.len())
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// A connection of one device; its first bytes for the peer are appended to `wire`.
    ///
    /// # Errors
    /// [`TlsError::Device`], [`TlsError::Peer`].
    pub fn new(terms: &Terms, device: &str, wire: &mut Vec<u8>) -> Result<Self, TlsError> {
        let config = terms.config_of(device);
        let config = config.map_err(|error| TlsError::Device(error.to_string()))?;
        let mut tls = Self {
            conn: UnbufferedClientConnection::new(config, terms.server.clone())?,
            partial: Vec::new(),
            open: false,
            ended: false,
        };
        tls.drive(&mut [], &mut Vec::new(), wire)?;
        Ok(tls)
    }

    /// Whether the handshake is done.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// Whether the peer has said that nothing follows.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        self.ended
    }

    /// Keeps bytes for the next call of [`Tls::received`].
    ///
    /// # Errors
    /// [`TlsError::TooLarge`].
    pub fn hold(&mut self, bytes: &[u8]) -> Result<(), TlsError> {
        if self.partial.len() + bytes.len() > PARTIAL_MAX {
            return Err(TlsError::TooLarge);
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    /// Takes bytes of the peer, cut anywhere, after those that were held. What they carry is
    /// appended to `plain`, answers to `wire`; after an error an alert may stand there, to be sent
    /// before the connection is closed.
    ///
    /// # Errors
    /// [`TlsError::Peer`], [`TlsError::TooLarge`]; the connection is of no more use.
    pub fn received(
        &mut self,
        bytes: &[u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        self.hold(bytes)?;
        let mut all = std::mem::take(&mut self.partial);
        let taken = self.drive(&mut all, plain, wire)?;
        if taken < all.len() {
            all.drain(..taken);
            all.shrink_to_fit();
            self.partial = all;
        }
        Ok(())
    }

    /// Does what the bytes allow; returns how many of them are done with.
    fn drive(
        &mut self,
        bytes: &mut [u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<usize, TlsError> {
        let mut taken = 0;
        loop {
            let UnbufferedStatus { discard, state } =
                self.conn.process_tls_records(&mut bytes[taken..]);
            let mut more = true;
            match state {
                Ok(ConnectionState::EncodeTlsData(mut record)) => {
                    append(wire, RECORD_EXTRA, |room| encoded(record.encode(room)))?;
                }
                Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        plain.extend_from_slice(record?.payload);
                    }
                }
                Ok(ConnectionState::WriteTraffic(_)) => {
                    self.open = true;
                    more = false;
                }
                Ok(ConnectionState::PeerClosed) => self.ended = true,
                Ok(ConnectionState::BlockedHandshake) => more = false,
                Ok(_) => {
                    self.ended = true;
                    more = false;
                }
                Err(error) => {
                    self.open = false;
                    self.alert(wire);
                    return Err(error.into());
                }
            }
            taken += discard;
            if !more {
                return Ok(taken);
            }
        }
    }

    /// After an error: why, for the peer, where that is to be said.
    fn alert(&mut self, wire: &mut Vec<u8>) {
        if !self.conn.wants_write() {
            return; // asked for more, it would look at bytes that are gone
        }
        let UnbufferedStatus { state, .. } = self.conn.process_tls_records(&mut []);
        if let Ok(ConnectionState::EncodeTlsData(mut record)) = state {
            let _ = append(wire, RECORD_EXTRA, |room| encoded(record.encode(room)));
        }
    }

    /// Appends plain bytes to `wire` as records.
    ///
    /// # Errors
    /// [`TlsError::NotOpen`], [`TlsError::Peer`].
    pub fn write(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), TlsError> {
        let records = plain.len() / RECORD_MAX + 1;
        let room = plain.len() + records * RECORD_EXTRA;
        self.writing(wire, |traffic, wire| {
            append(wire, room, |room| encrypted(traffic.encrypt(plain, room)))
        })
    }

    /// Says goodbye.
    pub fn close(&mut self, wire: &mut Vec<u8>) {
        // one that never was open has nothing to say
        let _ = self.writing(wire, |traffic, wire| {
            append(wire, RECORD_EXTRA, |room| {
                encrypted(traffic.queue_close_notify(room))
            })
        });
        self.open = false;
    }

    fn writing(
        &mut self,
        wire: &mut Vec<u8>,
        write: impl FnOnce(&mut Traffic<'_>, &mut Vec<u8>) -> Result<(), TlsError>,
    ) -> Result<(), TlsError> {
        if !self.open {
            return Err(TlsError::NotOpen);
        }
        // Answers that are due (a key update) go first. What has come in part is where the state
        // machine expects it.
        let mut held = std::mem::take(&mut self.partial);
        let taken = self.drive(&mut held, &mut Vec::new(), wire)?;
        held.drain(..taken);
        let UnbufferedStatus { state, .. } = self.conn.process_tls_records(&mut held);
        let written = match state? {
            ConnectionState::WriteTraffic(mut traffic) => write(&mut traffic, wire),
            _ => Err(TlsError::NotOpen),
        };
        if !held.is_empty() {
            self.partial = held;
        }
        written
    }
}

type Traffic<'a> = rustls::unbuffered::WriteTraffic<'a, rustls::client::ClientConnectionData>;

/// How much was written, or how much room it wants.
type Written = Result<usize, Option<usize>>;

fn encoded(result: Result<usize, EncodeError>) -> Written {
    result.map_err(|error| match error {
        EncodeError::InsufficientSize(size) => Some(size.required_size),
        EncodeError::AlreadyEncoded => None,
    })
}

fn encrypted(result: Result<usize, EncryptError>) -> Written {
    result.map_err(|error| match error {
        EncryptError::InsufficientSize(size) => Some(size.required_size),
        EncryptError::EncryptExhausted => None,
    })
}

/// Appends what `write` writes into a slice; if that was too short, once more into one as long as
/// it says.
fn append(
    wire: &mut Vec<u8>,
    room: usize,
    mut write: impl FnMut(&mut [u8]) -> Written,
) -> Result<(), TlsError> {
    let start = wire.len();
    wire.resize(start + room, 0);
    let mut written = write(&mut wire[start..]);
    if let Err(Some(room)) = written {
        wire.resize(start + room, 0);
        written = write(&mut wire[start..]);
    }
    wire.truncate(start + written.unwrap_or(0));
    written.map(drop).map_err(|_| TlsError::NotOpen)
}

#[cfg(test)]
mod tests;
