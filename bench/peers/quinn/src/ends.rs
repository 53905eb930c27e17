//! A client and a server that are connected, each on a thread and a runtime of its own.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    AckFrequencyConfig, ClientConfig, Connection, Endpoint, EndpointConfig, ServerConfig,
    TokioRuntime, TransportConfig, VarInt,
};
use rustls::version::TLS13;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::runtime::{Builder, Runtime};

/// As our endpoint has them. What else that has is left as quinn has it, which costs less or allows
/// more: no keep-alive, no window of the connection beside those of its streams, and quinn's own
/// Cubic, where ours takes random loss for what it is; loopback loses only what a full buffer does.
const DATAGRAM_SEND_BUFFER: usize = 64 * 1024;
const DATAGRAM_RECEIVE_BUFFER: usize = 4 * 1024 * 1024;
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
const STREAM_WINDOW: u32 = 256 * 1024;

/// Both ends.
pub struct Ends {
    pub client: Connection,
    pub server: Connection,
    pub client_runtime: Runtime,
    pub server_runtime: Runtime,
    _endpoints: [Endpoint; 2],
}

impl Ends {
    /// Connects them.
    ///
    /// # Panics
    /// If the host refuses.
    #[must_use]
    pub fn start() -> Self {
        let [client_runtime, server_runtime] = [(); 2].map(|()| {
            let mut builder = Builder::new_multi_thread();
            builder
                .worker_threads(1)
                .enable_all()
                .build()
                .expect("a runtime")
        });
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a key");
        let cert = key.cert.der().clone();
        let server = {
            let _entered = server_runtime.enter();
            endpoint(Some(server_config(&cert, &key.signing_key.serialize_der())))
        };
        let mut client = {
            let _entered = client_runtime.enter();
            endpoint(None)
        };
        client.set_default_client_config(client_config(&cert));
        let at = server.local_addr().expect("an address");
        let accepting = server.clone();
        let accepted = server_runtime.spawn(async move {
            accepting
                .accept()
                .await
                .expect("open")
                .await
                .expect("a handshake")
        });
        let connection = client_runtime.block_on(async {
            let connecting = client.connect(at, "localhost").expect("a configuration");
            connecting.await.expect("a handshake")
        });
        Self {
            client: connection,
            server: server_runtime.block_on(accepted).expect("a connection"),
            client_runtime,
            server_runtime,
            _endpoints: [client, server],
        }
    }
}

fn transport() -> Arc<TransportConfig> {
    let mut acks = AckFrequencyConfig::default();
    acks.max_ack_delay(Some(Duration::from_millis(1)));
    let mut config = TransportConfig::default();
    config
        .datagram_send_buffer_size(DATAGRAM_SEND_BUFFER)
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BUFFER))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .ack_frequency_config(Some(acks));
    Arc::new(config)
}

fn server_config(cert: &CertificateDer<'static>, key: &[u8]) -> ServerConfig {
    let key = PrivateKeyDer::try_from(key.to_vec()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![cert.clone()], key)
        .expect("a certificate");
    let crypto = QuicServerConfig::try_from(tls).expect("a cipher");
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport());
    config
}

fn client_config(cert: &CertificateDer<'static>) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert.clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let crypto = QuicClientConfig::try_from(tls).expect("a cipher");
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport());
    config
}

fn endpoint(server: Option<ServerConfig>) -> Endpoint {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    let sized = socket2::SockRef::from(&socket);
    drop(sized.set_recv_buffer_size(SOCKET_BUFFER));
    drop(sized.set_send_buffer_size(SOCKET_BUFFER));
    let runtime = Arc::new(TokioRuntime);
    Endpoint::new(EndpointConfig::default(), server, socket, runtime).expect("an endpoint")
}
