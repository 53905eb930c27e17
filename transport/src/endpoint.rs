//! Sockets and QUIC settings, each limit with its reason.
//!
//! It accepts and dials nothing. Figures are those of `docs/reference/wire.md`. Bound: the
//! constants below are the bounds.

mod congestion;
mod reset;
mod socket;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::{
    AckFrequencyConfig, AsyncUdpSocket, ClientConfig, Connection, Endpoint, EndpointConfig,
    IdleTimeout, MtuDiscoveryConfig, Runtime as _, ServerConfig, TokioRuntime, TransportConfig,
    VarInt,
};
use socket2::{Domain, Protocol as IpProtocol, Socket, Type};
use tokio::runtime::Handle;

use crate::certs::tls::{
    ALPN_ACTORSIM1, ALPN_ACTORSIM1_COMMANDS, ALPN_COMMANDS, ALPN_DT1, ClientAuth, client_crypto,
    server_crypto,
};
use crate::certs::{CertError, Identity, Revocations};
use crate::network::{Network, Wires};
use congestion::Discerning;
pub(crate) use socket::KernelSocket;

/// A silent peer is gone after this: three keep-alives lost.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Keeps an idle connection, and every NAT between, awake.
pub const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// Datagrams waiting in QUIC: small, so that old telemetry waits in our mailbox, where the oldest
/// is dropped and counted (1 MiB was 8 ms of old telemetry at 1 Gbit/s).
pub const DATAGRAM_SEND_BUFFER: usize = 64 * 1024;
/// Room in that buffer when nothing waits there: quinn keeps back the bookkeeping of one datagram
/// (32 bytes), and one waiting reading would take 71.
pub const DATAGRAM_SEND_IDLE: usize = DATAGRAM_SEND_BUFFER - 64;
/// Datagrams received and not yet read: 100,000 single readings, 70 ms at 1.4 million/s.
pub const DATAGRAM_RECEIVE_BUFFER: usize = 4 * 1024 * 1024;
/// How long the peer may sit on an acknowledgement: the tail of T3 under loss is a multiple of it
/// (the default of 25 ms gave a p99 of 28.7 ms at 5 % loss, 1 ms gave 8.5).
pub const MAX_ACK_DELAY: Duration = Duration::from_millis(1);
/// Bytes of a frame's QUIC packet looked for on a line: Ethernet's 1,500 without headers.
pub const FRAME_ETHERNET: u16 = 1_452;
/// And within a machine, where a packet costs what it costs whatever is in it: four to a send.
pub const FRAME_LOOPBACK: u16 = 16_320;
/// Kernel buffers asked for, each way; the kernel gives at most `rmem_max` and `wmem_max`.
pub const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
/// Event streams, and command streams, of one connection at once: quinn's default, because it
/// allocates them eagerly per connection.
pub const STREAMS_MAX: u32 = 100;
/// Bidirectional streams a link may open: the control stream. Nobody would read another.
pub const CONTROL_STREAMS_MAX: u32 = 1;
/// Bytes one stream may be ahead of its reader: 5,000 events.
pub const STREAM_WINDOW: u32 = 256 * 1024;
/// Bytes all streams of a connection may be ahead of their readers: every event stream full, and
/// room for the answers to commands beside them.
pub const CONNECTION_WINDOW: u32 = 32 * 1024 * 1024;
/// Connection attempts waiting to be accepted: a site's gateways coming back at once.
pub const INCOMING_MAX: usize = 1024;
/// A handshake that is not done by then is given up: ten round trips of a bad line.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause between looks at the port of a closed endpoint,
const FREE_LOOK: Duration = Duration::from_millis(1);
/// and how many looks: a second, though one is nearly always enough.
const FREE_LOOKS_MAX: u32 = 1000;

/// What two peers agreed to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// The guide's protocol as it stands, with or without its ALPN.
    Dt1,
    /// Ours: typed streams, names, sessions, acknowledged events.
    Actorsim1,
    /// Ours, beside a connection of `actorsim/1`: the commands to its devices, and nothing else.
    Commands,
}

impl Protocol {
    /// The name in the handshake.
    #[must_use]
    pub const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Dt1 => ALPN_DT1,
            Self::Actorsim1 => ALPN_ACTORSIM1,
            Self::Commands => ALPN_COMMANDS,
        }
    }

    /// What a link that speaks it offers, best first.
    const fn offered(self) -> &'static [&'static [u8]] {
        match self {
            Self::Dt1 => &[ALPN_DT1],
            Self::Actorsim1 => &[ALPN_ACTORSIM1_COMMANDS, ALPN_ACTORSIM1],
            Self::Commands => &[ALPN_COMMANDS],
        }
    }

    /// What a link lets its twin send.
    const fn twin_sends(self) -> Traffic {
        Traffic {
            bidi: STREAMS_MAX,
            uni: 0,
            datagrams: !matches!(self, Self::Commands),
        }
    }
}

/// What a peer may send on a connection: streams at once, and whether datagrams.
#[derive(Clone, Copy)]
struct Traffic {
    bidi: u32,
    uni: u32,
    datagrams: bool,
}

/// Which listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Listening {
    /// `actorsim/1` and `dt/1` by ALPN.
    Main,
    /// Peers that offer no ALPN.
    Plain,
    /// Links' connections for commands alone.
    Commands,
}

impl Listening {
    /// What is served there; nothing stands for peers that offer no ALPN.
    const fn alpn(self) -> &'static [&'static [u8]] {
        match self {
            Self::Main => &[ALPN_ACTORSIM1_COMMANDS, ALPN_ACTORSIM1, ALPN_DT1],
            Self::Plain => &[],
            Self::Commands => &[ALPN_COMMANDS],
        }
    }

    /// What links may send there.
    const fn links_send(self) -> Traffic {
        let telemetry = !matches!(self, Self::Commands);
        Traffic {
            bidi: CONTROL_STREAMS_MAX,
            uni: if telemetry { STREAMS_MAX } else { 0 },
            datagrams: telemetry,
        }
    }
}

/// Why a socket is not there.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else has it.
    #[error(
        "udp {addr} is already in use (another node, or another program); stop it, or choose \
         another with --listen or --port-offset"
    )]
    InUse {
        /// What was asked for.
        addr: SocketAddr,
    },
    /// The address is not one of this machine's.
    #[error("udp {addr} is not an address of this machine; choose one with --listen")]
    NotHere {
        /// What was asked for.
        addr: SocketAddr,
    },
    /// Anything else.
    #[error("udp {addr} cannot be opened: {error}")]
    Io {
        /// What was asked for.
        addr: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The identity does not work.
    #[error(transparent)]
    Cert(#[from] CertError),
}

impl BindError {
    fn io(addr: SocketAddr, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { addr },
            io::ErrorKind::AddrNotAvailable => Self::NotHere { addr },
            _ => Self::Io { addr, error },
        }
    }
}

/// A bound socket with the buffers we want, as far as the kernel gives them.
fn bind_socket(addr: SocketAddr) -> Result<UdpSocket, BindError> {
    let open = || -> io::Result<UdpSocket> {
        let socket = Socket::new(
            Domain::for_address(addr),
            Type::DGRAM,
            Some(IpProtocol::UDP),
        )?;
        if addr.is_ipv6() && addr.ip().is_unspecified() {
            socket.set_only_v6(false)?;
        }
        // A kernel that gives less is slower under bursts, not broken.
        drop(socket.set_recv_buffer_size(SOCKET_BUFFER));
        drop(socket.set_send_buffer_size(SOCKET_BUFFER));
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        Ok(socket.into())
    };
    open().map_err(|error| BindError::io(addr, error))
}

/// Waits until the port of a closed endpoint is free: its driver lets the socket go a moment later.
pub(crate) async fn until_free(addr: SocketAddr) {
    for _ in 0..FREE_LOOKS_MAX {
        if bind_socket(addr).is_ok() {
            return;
        }
        tokio::time::sleep(FREE_LOOK).await;
    }
}

/// Closes a connection and says so, even one on which nothing more may be under way.
pub(crate) fn close(connection: &Connection, code: VarInt, reason: &[u8]) {
    congestion::open_wide(connection);
    connection.close(code, reason);
}

/// The largest frames to look for on the way to, or from, `addr`.
fn frame_max(addr: SocketAddr, network: &Network) -> u16 {
    let line = match network {
        Network::Line(line) => Some(line),
        Network::Wires(wires) => wires.base(),
        Network::Udp => None,
        Network::Simulated(_) => return FRAME_ETHERNET,
    };
    match line {
        Some(line) => line.frame_max,
        None if addr.ip().is_loopback() => FRAME_LOOPBACK,
        None => FRAME_ETHERNET,
    }
}

/// The settings of both sides, which differ in what the peer may send.
fn transport_config(peer: Traffic, frame_max: u16) -> Arc<TransportConfig> {
    let datagrams = peer.datagrams.then_some(DATAGRAM_RECEIVE_BUFFER);
    let mut frames = MtuDiscoveryConfig::default();
    frames.upper_bound(frame_max);
    let mut acks = AckFrequencyConfig::default();
    acks.max_ack_delay(Some(MAX_ACK_DELAY));
    let idle = IdleTimeout::try_from(IDLE_TIMEOUT).expect("ten seconds fit a QUIC time-out");
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .datagram_send_buffer_size(DATAGRAM_SEND_BUFFER)
        .datagram_receive_buffer_size(datagrams)
        .ack_frequency_config(Some(acks))
        .mtu_discovery_config(Some(frames))
        .congestion_controller_factory(Arc::new(Discerning::new(frame_max)))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .max_concurrent_bidi_streams(VarInt::from_u32(peer.bidi))
        .max_concurrent_uni_streams(VarInt::from_u32(peer.uni));
    Arc::new(config)
}

fn endpoint(
    handle: &Handle,
    addr: SocketAddr,
    server: Option<ServerConfig>,
    network: &Network,
    mut config: EndpointConfig,
) -> Result<Endpoint, BindError> {
    let _runtime = handle.enter();
    let socket: Arc<dyn AsyncUdpSocket> = match network {
        Network::Simulated(net) => {
            config.rng_seed(Some(net.endpoint_seed()));
            let socket = match server {
                Some(_) => net.listen(addr),
                None => net.dial(),
            };
            socket.map_err(|error| BindError::io(addr, error))?
        }
        Network::Udp | Network::Line(_) | Network::Wires(_) => {
            config
                .max_udp_payload_size(FRAME_LOOPBACK)
                .expect("it is between QUIC's least and UDP's most");
            let socket = TokioRuntime.wrap_udp_socket(bind_socket(addr)?);
            let socket = socket.map_err(|error| BindError::io(addr, error))?;
            let socket = KernelSocket::new(socket);
            let dials = server.is_none();
            match network {
                Network::Wires(wires) => wires.attach(socket, dials),
                Network::Line(line) if line.is_faulty() => {
                    Wires::end_of(*line, dials).attach(socket, dials)
                }
                _ => socket,
            }
        }
    };
    Endpoint::new_with_abstract_socket(config, server, socket, Arc::new(TokioRuntime))
        .map_err(|error| BindError::io(addr, error))
}

/// What a listener at an address asks of its peers. It can be changed while it listens.
///
/// # Errors
/// [`CertError::Tls`].
pub(crate) fn server_config(
    addr: SocketAddr,
    which: Listening,
    identity: &Identity,
    revoked: &Revocations,
    network: &Network,
) -> Result<ServerConfig, CertError> {
    let clients = if addr.ip().is_loopback() && which != Listening::Commands {
        ClientAuth::Optional
    } else {
        ClientAuth::Required
    };
    let crypto = server_crypto(identity, which.alpn(), clients, revoked)?;
    let mut server = ServerConfig::with_crypto(Arc::new(crypto));
    server
        .transport_config(transport_config(
            which.links_send(),
            frame_max(addr, network),
        ))
        .max_incoming(INCOMING_MAX);
    Ok(server)
}

/// Opens a listener on a runtime.
///
/// # Errors
/// [`BindError`] says what is in the way and what to do.
pub fn listen(
    handle: &Handle,
    addr: SocketAddr,
    which: Listening,
    identity: &Identity,
    network: &Network,
) -> Result<Endpoint, BindError> {
    let revoked = identity.revocations();
    let server = server_config(addr, which, identity, &revoked, network)?;
    let config = match network {
        Network::Udp | Network::Line(_) | Network::Wires(_) => reset::listening_config(identity),
        // Nobody is killed there without its endpoint, and the same seed gives the same numbers.
        Network::Simulated(_) => EndpointConfig::default(),
    };
    endpoint(handle, addr, Some(server), network, config)
}

/// What a link asks of a twin at an address. It can be changed between two attempts.
///
/// # Errors
/// [`CertError::Tls`].
pub(crate) fn client_config(
    twin: SocketAddr,
    identity: &Identity,
    protocol: Protocol,
    revoked: &Revocations,
    network: &Network,
) -> Result<ClientConfig, CertError> {
    let crypto = client_crypto(identity, protocol.offered(), revoked)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport_config(
        protocol.twin_sends(),
        frame_max(twin, network),
    ));
    Ok(config)
}

/// Opens a socket to dial `twin` from.
///
/// # Errors
/// [`BindError`].
pub fn dialler(
    handle: &Handle,
    twin: SocketAddr,
    identity: &Identity,
    protocol: Protocol,
    network: &Network,
) -> Result<Endpoint, BindError> {
    let from: SocketAddr = match twin {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let config = client_config(twin, identity, protocol, &identity.revocations(), network)?;
    let mut endpoint = endpoint(handle, from, None, network, EndpointConfig::default())?;
    endpoint.set_default_client_config(config);
    Ok(endpoint)
}

/// Codes we close connections and reset streams with; `docs/reference/wire.md` lists them.
pub mod codes {
    use quinn::VarInt;

    /// Ordered stop.
    pub const STOPPED: VarInt = VarInt::from_u32(0);
    /// Its actor was killed or failed.
    pub const KILLED: VarInt = VarInt::from_u32(1);
    /// What came is not the protocol.
    pub const PROTOCOL: VarInt = VarInt::from_u32(2);
    /// A certificate of the site is needed.
    pub const CERTIFICATE: VarInt = VarInt::from_u32(3);
    /// The certificate does not cover a device.
    pub const DEVICES: VarInt = VarInt::from_u32(4);
    /// No room for another connection or session.
    pub const FULL: VarInt = VarInt::from_u32(5);
    /// A bad reading on a stream.
    pub const READING: VarInt = VarInt::from_u32(6);
    /// A command's deadline passed.
    pub const DEADLINE: VarInt = VarInt::from_u32(7);
    /// The device does not take the command.
    pub const REFUSED: VarInt = VarInt::from_u32(8);
    /// The device takes no command now: ask again.
    pub const BUSY: VarInt = VarInt::from_u32(9);
}

#[cfg(test)]
mod tests {
    use quinn::ConnectionError;

    use super::*;
    use crate::certs::{SITE_SERVER_NAME, Site};
    use crate::network::SimNet;
    use crate::network::simulated::LATENCY;

    #[test]
    fn a_port_in_use_is_told_with_what_where_and_what_to_do() {
        let held = bind_socket((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let addr = held.local_addr().unwrap();
        let text = bind_socket(addr).unwrap_err().to_string();
        assert!(
            text.contains(&addr.to_string()) && text.contains("--listen"),
            "{text}"
        );
        drop(held);
        bind_socket(addr).unwrap();
    }

    // In virtual time, where a busy host loses no packet and nobody is late.
    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_closed_while_its_window_is_full_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let site = Site::open_or_create(&dir.path().join("site")).unwrap();
        let identity = site.identity("end", "*", &dir.path().join("end")).unwrap();
        let handle = Handle::current();
        let at = (Ipv4Addr::LOCALHOST, 7400).into();
        let network = Network::Simulated(SimNet::new(1));
        let twin = listen(&handle, at, Listening::Main, &identity, &network).unwrap();
        let link = dialler(&handle, at, &identity, Protocol::Actorsim1, &network).unwrap();
        for waited in 0..24 {
            let connecting = link.connect(at, SITE_SERVER_NAME).unwrap();
            let incoming = async { twin.accept().await.unwrap().await };
            let (dialled, accepted) = tokio::join!(connecting, incoming);
            let (dialled, accepted) = (dialled.unwrap(), accepted.unwrap());
            let mut streams = Vec::new();
            for _ in 0..8 {
                let (mut send, receive) = accepted.open_bi().await.unwrap();
                send.write(&[0; STREAM_WINDOW as usize]).await.unwrap();
                streams.push((send, receive));
            }
            // before anything was sent, while it is under way, when it was acknowledged
            tokio::time::sleep(LATENCY * waited / 8).await;
            close(&accepted, codes::PROTOCOL, b"enough");
            let why = dialled.closed().await;
            assert!(
                matches!(&why, ConnectionError::ApplicationClosed(said)
                    if said.error_code == codes::PROTOCOL),
                "{waited}: {why}"
            );
        }
    }

    #[test]
    fn an_address_of_another_machine_is_told() {
        let addr = SocketAddr::from(([192, 0, 2, 1], 7400));
        assert!(matches!(bind_socket(addr), Err(BindError::NotHere { .. })));
    }
}
