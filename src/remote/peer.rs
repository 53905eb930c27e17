//! Who is at the other end of a connection.
//!
//! Over loopback the kernel knows whose socket it is: it is asked by `sock_diag(7)`, for this one
//! connection. Where it does not answer (another network namespace, a forbidden netlink), the peer
//! is a stranger and needs the token. So is one whose process has closed its end already: what it
//! sent may still be read, but the kernel then tells user 0 for it. Beyond loopback there is a
//! certificate of the site. Bound: one request of 72 bytes a connection, answered by the kernel
//! without waiting.

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

/// Who sent a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// A process of the node's own user, or of root, on this machine.
    OwnUser,
    /// A node of the same site, by its certificate.
    Site,
    /// Anybody else.
    Stranger,
}

impl Peer {
    /// The peer of a connection without TLS.
    #[must_use]
    pub fn of(local: SocketAddr, remote: SocketAddr) -> Self {
        let own = rustix::process::geteuid().as_raw();
        if !remote.ip().is_loopback() {
            return Self::Stranger;
        }
        match owner(remote, local) {
            Ok(uid) if uid == own || uid == 0 => Self::OwnUser,
            Ok(_) => Self::Stranger,
            Err(error) => {
                tracing::debug!("the kernel does not say whose {remote} is: {error}");
                Self::Stranger
            }
        }
    }
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const TCP: u8 = 6;
/// Every state of a connection.
const ANY_STATE: u32 = u32::MAX;
const HEADER: usize = 16;
const REQUEST: usize = HEADER + 56;
/// Where the user stands in the answer: after the header, four bytes, the connection and three
/// numbers.
const UID_AT: usize = HEADER + 4 + 48 + 12;
/// Where the inode stands: that of an open file, 0 for a socket that no process holds any more.
const INODE_AT: usize = UID_AT + 4;
const ANSWER: usize = INODE_AT + 4;

/// The user of the socket at `local` that is connected to `remote`, if a process still holds it.
fn owner(local: SocketAddr, remote: SocketAddr) -> io::Result<u32> {
    let kernel = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        Some(netlink::SOCK_DIAG),
    )?;
    rustix::net::send(&kernel, &request(local, remote), SendFlags::empty())?;
    let mut answer = [0; 512];
    let (_, length) = rustix::net::recv(&kernel, &mut answer[..], RecvFlags::DONTWAIT)?;
    let kind = u16::from_ne_bytes([answer[4], answer[5]]);
    if length < ANSWER || kind != SOCK_DIAG_BY_FAMILY {
        return Err(io::ErrorKind::NotFound.into());
    }
    let number = |at: usize| {
        let bytes = answer[at..].first_chunk().copied();
        bytes.map(u32::from_ne_bytes)
    };
    match (number(UID_AT), number(INODE_AT)) {
        (Some(uid), Some(inode)) if inode != 0 => Ok(uid),
        _ => Err(io::ErrorKind::NotConnected.into()),
    }
}

/// `nlmsghdr` and `inet_diag_req_v2`.
fn request(local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let mut text = Vec::with_capacity(REQUEST);
    text.extend((REQUEST as u32).to_ne_bytes());
    text.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    text.extend(NLM_F_REQUEST.to_ne_bytes());
    text.extend([0; 8]); // sequence, and the kernel as receiver
    let family = if local.is_ipv4() { 2 } else { 10 };
    text.extend([family, TCP, 0, 0]);
    text.extend(ANY_STATE.to_ne_bytes());
    text.extend(local.port().to_be_bytes());
    text.extend(remote.port().to_be_bytes());
    for ip in [local.ip(), remote.ip()] {
        let mut place = [0; 16];
        match ip {
            IpAddr::V4(ip) => place[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => place = ip.octets(),
        }
        text.extend(place);
    }
    text.extend([0; 4]); // any interface
    text.extend([u8::MAX; 8]); // any cookie
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_kernel_says_whose_a_connection_over_loopback_is() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(host) else {
                eprintln!("skipped {host}: no such loopback here");
                continue;
            };
            let here = listener.local_addr().unwrap();
            let client = TcpStream::connect(here).unwrap();
            let (_server, remote) = listener.accept().unwrap();
            assert_eq!(remote, client.local_addr().unwrap());
            match owner(remote, here) {
                Ok(uid) => assert_eq!(uid, rustix::process::geteuid().as_raw()),
                Err(error) => eprintln!("skipped {host}: sock_diag: {error}"),
            }
        }
    }

    #[test]
    fn a_socket_that_was_closed_already_is_nobodys_and_not_roots() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = listener.local_addr().unwrap();
        drop(TcpStream::connect(here).unwrap());
        let (_server, remote) = listener.accept().unwrap();
        assert!(owner(remote, here).is_err());
        assert_eq!(Peer::of(here, remote), Peer::Stranger);
    }

    #[test]
    fn nobody_owns_a_connection_that_is_not_there() {
        let nobody = "127.0.0.1:1".parse().unwrap();
        assert!(owner(nobody, nobody).is_err());
        assert_eq!(
            Peer::of(nobody, "192.0.2.1:5".parse().unwrap()),
            Peer::Stranger
        );
    }
}
