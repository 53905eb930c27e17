//! Who attacks: certificates of the site, connections that say nothing by themselves, and lines
//! that let through what they please.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use actorsim_transport::endpoint::dialler;
use actorsim_transport::frames::{FRAME_HEADER_LEN, PROTOCOL_VERSION, StreamType, ToLink, ToTwin};
use actorsim_transport::{
    DeviceRange, Network, Protocol, Reading, SITE_SERVER_NAME, SensorSpec, SensorType, Site,
};
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use tokio::net::UdpSocket;
use tokio::runtime::Handle;

/// The devices that its restricted certificate names.
pub(crate) const OWN: &str = "evil-";
/// The type of a packet in its first byte (RFC 9000, 17.2), and that of a retry.
const LONG_HEADER_TYPE: u8 = 0xf0;
const RETRY: u8 = 0xf0;
/// Type of a device's relay.
const RELAY: u16 = 6;

/// The attacker.
#[derive(Debug)]
pub(crate) struct Attacker {
    dir: PathBuf,
    site: Site,
    pub(crate) twin: SocketAddr,
}

/// A connection that said hello.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) quic: Connection,
    pub(crate) control: SendStream,
    pub(crate) replies: RecvStream,
    _endpoint: Endpoint,
}

impl Attacker {
    pub(crate) fn new(dir: &Path, twin: SocketAddr) -> Self {
        Self {
            site: Site::open_or_create(&dir.join("site")).unwrap(),
            dir: dir.join("attacker"),
            twin,
        }
    }

    /// An endpoint whose certificate names `devices`.
    pub(crate) fn endpoint(&self, devices: &str, protocol: Protocol) -> Endpoint {
        let dir = self.dir.join(devices.replace('*', "any"));
        let identity = self.site.identity("attacker", devices, &dir).unwrap();
        dialler(
            &Handle::current(),
            self.twin,
            &identity,
            protocol,
            &Network::Udp,
        )
        .unwrap()
    }

    /// A connection that says nothing.
    pub(crate) async fn connect(
        &self,
        devices: &str,
        protocol: Protocol,
    ) -> (Endpoint, Connection) {
        let endpoint = self.endpoint(devices, protocol);
        let connecting = endpoint.connect(self.twin, SITE_SERVER_NAME).unwrap();
        (endpoint, connecting.await.unwrap())
    }

    /// A connection that said hello, and was welcomed, as `session`.
    pub(crate) async fn guest(&self, devices: &str, session: u64) -> Guest {
        let (endpoint, quic) = self.connect(devices, Protocol::Actorsim1).await;
        let (mut control, mut replies) = quic.open_bi().await.unwrap();
        control
            .write_all(&[StreamType::Control as u8])
            .await
            .unwrap();
        let hello = ToTwin::Hello {
            version: PROTOCOL_VERSION,
            node: "attacker".into(),
            session,
            acked: 0,
            t1_readings: 0,
        };
        control.write_all(&hello.frame().unwrap()).await.unwrap();
        let mut length = [0; FRAME_HEADER_LEN];
        replies.read_exact(&mut length).await.unwrap();
        let mut welcome = vec![0; u32::from_le_bytes(length) as usize];
        replies.read_exact(&mut welcome).await.unwrap();
        let welcome = ToLink::parse(&welcome).unwrap();
        assert!(matches!(welcome, ToLink::Welcome { .. }), "{welcome:?}");
        Guest {
            quic,
            control,
            replies,
            _endpoint: endpoint,
        }
    }
}

impl Guest {
    /// Registers so many devices with a relay each.
    pub(crate) async fn register(&mut self, prefix: &str, count: u32) {
        let register = ToTwin::Register {
            devices: DeviceRange {
                prefix: prefix.to_owned(),
                first: 0,
                count,
                width: 4,
            },
            sensors: vec![SensorSpec {
                sensor: RELAY,
                kind: SensorType::Relay,
            }],
        };
        let frame = register.frame().unwrap();
        // A twin that has heard enough is gone by now.
        drop(self.control.write_all(&frame).await);
    }

    /// The code with which the twin closed the connection.
    pub(crate) async fn closed(&self) -> Option<u64> {
        match self.quic.closed().await {
            quinn::ConnectionError::ApplicationClosed(close) => Some(close.error_code.into_inner()),
            _ => None,
        }
    }
}

/// A reading of a device.
pub(crate) fn reading(device: &str, sequence: u32) -> Reading {
    Reading {
        device: actorsim_transport::device_uuid(device),
        sensor: 0,
        kind: SensorType::Temperature,
        value: 1e9,
        at_us: 1,
        sequence,
    }
}

/// A line from `source` that lets a dialling endpoint prove its address, and then nothing through:
/// the twin has begun a handshake with it, or refused to.
pub(crate) async fn no_further_than_the_proof(
    endpoint: &Endpoint,
    source: Ipv4Addr,
    twin: SocketAddr,
) -> quinn::Connecting {
    let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let far = UdpSocket::bind((source, 0)).await.unwrap();
    let to = near.local_addr().unwrap();
    let connecting = endpoint.connect(to, SITE_SERVER_NAME).unwrap();
    let mut packet = [0; 2048];
    let (length, dialler) = near.recv_from(&mut packet).await.unwrap();
    far.send_to(&packet[..length], twin).await.unwrap();
    let mut again = [0; 2048];
    let length = loop {
        tokio::select! {
            biased;
            came = far.recv(&mut packet) => break came.unwrap(),
            // The first one was lost.
            came = near.recv(&mut again) => {
                far.send_to(&again[..came.unwrap()], twin).await.unwrap();
            }
        }
    };
    if packet[0] & LONG_HEADER_TYPE == RETRY {
        near.send_to(&packet[..length], dialler).await.unwrap();
        let length = near.recv(&mut packet).await.unwrap();
        far.send_to(&packet[..length], twin).await.unwrap();
    }
    connecting
}
