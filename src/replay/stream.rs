//! A connection to a target, over TLS where that is asked for.
//!
//! It knows no protocol. Bound: [`PATIENCE`] for the connection and its handshake, and for each
//! write.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use actorsim_fleet::session::tls::{Terms, Tls};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for a target.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes read at once.
const READ: usize = 16 * 1024;
/// Who plays, where devices have certificates of their own.
const DEVICE: &str = "replay";

/// A connection.
#[derive(Debug)]
pub struct Stream {
    tcp: TcpStream,
    tls: Option<Tls>,
    /// For the peer.
    wire: Vec<u8>,
}

impl Stream {
    /// Connects.
    ///
    /// # Errors
    /// Why not, in words.
    pub async fn connect(address: SocketAddr, terms: Option<&Terms>) -> Result<Self, String> {
        let connecting = timeout(PATIENCE, TcpStream::connect(address)).await;
        let connected = connecting.map_err(|_| format!("{address} does not answer"))?;
        let tcp = connected.map_err(|error| format!("{address}: {error}"))?;
        let _ = tcp.set_nodelay(true); // only slower without
        let mut wire = Vec::new();
        let tls = terms.map(|terms| Tls::new(terms, DEVICE, &mut wire));
        let tls = tls.transpose().map_err(|error| error.to_string())?;
        let mut stream = Self { tcp, tls, wire };
        let shaken = timeout(PATIENCE, stream.shake_hands()).await;
        let shaken = shaken.map_err(|_| io::ErrorKind::TimedOut.into());
        match shaken.and_then(|shaken| shaken) {
            Ok(()) => Ok(stream),
            Err(error) => Err(format!("{address}: no TLS: {error}")),
        }
    }

    async fn shake_hands(&mut self) -> io::Result<()> {
        let mut early = Vec::new();
        while self.tls.as_ref().is_some_and(|tls| !tls.is_open()) {
            self.send().await?;
            if self.read(&mut early).await? == 0 && !self.tls.as_ref().is_some_and(Tls::is_open) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.send().await
    }

    async fn send(&mut self) -> io::Result<()> {
        let sent = self.tcp.write_all(&self.wire).await;
        self.wire.clear();
        sent
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// The target is gone, or reads nothing.
    pub async fn write(&mut self, plain: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) if !plain.is_empty() => {
                tls.write(plain, &mut self.wire).map_err(io::Error::other)?;
            }
            Some(_) => {}
            None => self.wire.extend_from_slice(plain),
        }
        let sent = timeout(PATIENCE, self.send()).await;
        sent.unwrap_or_else(|_| Err(io::Error::other("it reads nothing")))
    }

    /// Appends what has come; 0 says that nothing more does. To be left alone meanwhile loses
    /// nothing.
    ///
    /// # Errors
    /// The target is gone.
    pub async fn read(&mut self, plain: &mut Vec<u8>) -> io::Result<usize> {
        let mut bytes = [0; READ];
        loop {
            let n = self.tcp.read(&mut bytes).await?;
            let Some(tls) = &mut self.tls else {
                plain.extend_from_slice(&bytes[..n]);
                return Ok(n);
            };
            let before = plain.len();
            let was_open = tls.is_open();
            let taken = tls.received(&bytes[..n], plain, &mut self.wire);
            taken.map_err(io::Error::other)?;
            let (came, opened) = (plain.len() - before, !was_open && tls.is_open());
            if n == 0 || came > 0 || tls.is_ended() || opened || !was_open {
                return Ok(came.max(usize::from(n > 0 && !tls.is_ended())));
            }
        }
    }

    /// Says that nothing follows.
    pub async fn close(mut self) {
        if let Some(tls) = &mut self.tls {
            tls.close(&mut self.wire);
        }
        let _ = timeout(PATIENCE, self.send()).await; // it has all it needs
        let _ = self.tcp.shutdown().await;
    }
}
