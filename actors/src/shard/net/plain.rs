//! Sockets made by plain calls: listeners, datagram sockets, streams that do not connect yet.
//!
//! No bound of its own; the process's open files bound it.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

/// Connections that wait to be accepted; the host may allow fewer (`somaxconn`).
const BACKLOG: i32 = 4_096;

fn socket(of: SocketAddr, kind: SocketType, flags: SocketFlags) -> Result<OwnedFd, Errno> {
    let family = match of {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    net::socket_with(family, kind, flags | SocketFlags::CLOEXEC, None)
}

fn local(socket: &OwnedFd) -> Result<SocketAddr, Errno> {
    SocketAddr::try_from(net::getsockname(socket)?)
}

/// A listener and where it listens. What it accepts sends without delay, as it does.
pub(crate) fn listener(
    at: SocketAddr,
    shared: bool,
    flags: SocketFlags,
) -> Result<(OwnedFd, SocketAddr), Errno> {
    let socket = socket(at, SocketType::STREAM, flags)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if shared {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    sockopt::set_tcp_nodelay(&socket, true)?;
    net::bind(&socket, &at)?;
    net::listen(&socket, BACKLOG)?;
    let at = local(&socket)?;
    Ok((socket, at))
}

/// A datagram socket and where it is.
pub(crate) fn datagrams(
    at: SocketAddr,
    peer: Option<SocketAddr>,
    flags: SocketFlags,
) -> Result<(OwnedFd, SocketAddr), Errno> {
    let socket = socket(at, SocketType::DGRAM, flags)?;
    net::bind(&socket, &at)?;
    if let Some(peer) = peer {
        net::connect(&socket, &peer)?;
    }
    let at = local(&socket)?;
    Ok((socket, at))
}

/// A stream that is to connect to `peer`, or the error of its bind.
pub(crate) fn stream(
    from: Option<SocketAddr>,
    peer: SocketAddr,
    flags: SocketFlags,
) -> Result<Result<OwnedFd, Errno>, Errno> {
    let socket = socket(peer, SocketType::STREAM, flags)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    if let Some(from) = from
        && let Err(error) = net::bind(&socket, &from)
    {
        return Ok(Err(error));
    }
    Ok(Ok(socket))
}
