//! Addresses as the kernel reads and writes them: `sockaddr_in` and `sockaddr_in6`.
//!
//! Bytes only. Bound: 28 of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Size of the longer of the two.
pub(crate) const NAME_MAX: usize = 28;

/// An address as the kernel has it.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct Name {
    bytes: [u8; NAME_MAX],
    pub(crate) len: u32,
}

impl Default for Name {
    /// Room for any address.
    fn default() -> Self {
        Self {
            bytes: [0; NAME_MAX],
            len: NAME_MAX as u32,
        }
    }
}

impl Name {
    pub(crate) fn of(address: SocketAddr) -> Self {
        let mut bytes = [0; NAME_MAX];
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        let (family, len) = match address {
            SocketAddr::V4(v4) => {
                bytes[4..8].copy_from_slice(&v4.ip().octets());
                (libc::AF_INET, 16)
            }
            SocketAddr::V6(v6) => {
                bytes[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                (libc::AF_INET6, NAME_MAX as u32)
            }
        };
        bytes[..2].copy_from_slice(&(family as u16).to_ne_bytes());
        Self { bytes, len }
    }

    /// The address, if it is one of the internet.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        read(&self.bytes[..(self.len as usize).min(NAME_MAX)])
    }

    pub(crate) const fn as_ptr(&self) -> *const libc::sockaddr {
        self.bytes.as_ptr().cast()
    }

    /// Where the kernel writes an address, and its length.
    pub(crate) const fn as_mut_ptrs(&mut self) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        (self.bytes.as_mut_ptr().cast(), &raw mut self.len)
    }
}

/// Reads an address that the kernel has written.
pub(crate) fn read(bytes: &[u8]) -> Option<SocketAddr> {
    fn part<const N: usize>(bytes: &[u8], from: usize) -> Option<[u8; N]> {
        bytes.get(from..from + N)?.try_into().ok()
    }
    let family = i32::from(u16::from_ne_bytes(part(bytes, 0)?));
    let port = u16::from_be_bytes(part(bytes, 2)?);
    if family == libc::AF_INET {
        let ip = Ipv4Addr::from(part::<4>(bytes, 4)?);
        return Some(SocketAddr::new(IpAddr::V4(ip), port));
    }
    if family == libc::AF_INET6 {
        let flow = u32::from_be_bytes(part(bytes, 4)?);
        let ip = Ipv6Addr::from(part::<16>(bytes, 8)?);
        let scope = u32::from_ne_bytes(part(bytes, 24)?);
        return Some(SocketAddr::V6(SocketAddrV6::new(ip, port, flow, scope)));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_was_written() {
        for text in ["127.0.0.9:1883", "[fe80::1%7]:5683", "[::1]:1"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Name::of(address).address(), Some(address));
        }
        assert_eq!(read(&[]), None);
        assert_eq!(Name::default().address(), None);
        let torn = Name::of(SocketAddr::from(([1, 2, 3, 4], 5)));
        assert_eq!(read(&torn.bytes[..6]), None);
    }
}
