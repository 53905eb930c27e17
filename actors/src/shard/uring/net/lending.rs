//! Entries that lend memory to the kernel, and the one call that hands them over.
//!
//! Bound: [`CHAIN_MAX`] entries handed over as one.

#![expect(
    unsafe_code,
    reason = "io_uring: entries point to memory until they are complete"
)]

use io_uring::types::{DestinationSlot, Fixed};
use io_uring::{IoUring, opcode, squeue};

use super::buffers::GROUP;
use crate::shard::net::Name;

/// Entries of the longest chain: socket, two options, bind, connect.
pub(super) const CHAIN_MAX: usize = 5;

/// The value of every option that is switched on here.
static ON: libc::c_int = 1;

/// Who is connected to this is connected to nobody.
static NOBODY: libc::sockaddr = libc::sockaddr {
    sa_family: libc::AF_UNSPEC as libc::sa_family_t,
    sa_data: [0; 14],
};

/// `IP_BIND_ADDRESS_NO_PORT` (`linux/in.h`): a port is chosen when the peer is known.
const BIND_ADDRESS_NO_PORT: u32 = 24;

/// Puts entries into the submission queue, all or none; false when it has no room for them.
///
/// # Safety
/// What the entries point to must stay in place and valid, and unread by others where the kernel
/// writes, until each is complete.
pub(super) unsafe fn push(ring: &mut IoUring, entries: &[squeue::Entry]) -> bool {
    // SAFETY: the caller's promise is what `push_multiple` asks for.
    unsafe { ring.submission().push_multiple(entries) }.is_ok()
}

/// An option of the socket in `slot`; points to a static.
pub(super) fn no_delay(slot: u32) -> squeue::Entry {
    option(slot, libc::IPPROTO_TCP, libc::TCP_NODELAY as u32)
}

/// The same, for a bind without a port.
pub(super) fn bind_no_port(slot: u32) -> squeue::Entry {
    option(slot, libc::IPPROTO_IP, BIND_ADDRESS_NO_PORT)
}

fn option(slot: u32, level: i32, name: u32) -> squeue::Entry {
    let value = (&raw const ON).cast();
    opcode::SetSockOpt::new(Fixed(slot), level as u32, name, value, 4).build()
}

/// Breaks off the stream in `slot`: its peer gets a reset. Every kernel with direct descriptors has
/// this way: a ring sets options (`SO_LINGER`) only from 6.11 on. Points to a static.
pub(super) fn break_off(slot: u32) -> squeue::Entry {
    let len = size_of::<libc::sockaddr>() as libc::socklen_t;
    opcode::Connect::new(Fixed(slot), &raw const NOBODY, len).build()
}

/// A socket into `slot`, which no program inherits; points to nothing.
pub(super) fn socket(slot: u32, family: i32) -> squeue::Entry {
    let slot = DestinationSlot::try_from_slot_target(slot).ok();
    opcode::Socket::new(family, libc::SOCK_STREAM, 0)
        .file_index(slot)
        .build()
}

/// Points to `name`.
pub(super) fn bind(slot: u32, name: &Name) -> squeue::Entry {
    opcode::Bind::new(Fixed(slot), name.as_ptr(), name.len).build()
}

/// Points to `name`.
pub(super) fn connect(slot: u32, name: &Name) -> squeue::Entry {
    opcode::Connect::new(Fixed(slot), name.as_ptr(), name.len).build()
}

/// A connection of the listener into `slot`; its peer is written to `name`.
pub(super) fn accept(listener: i32, slot: u32, name: &mut Name) -> squeue::Entry {
    let slot = DestinationSlot::try_from_slot_target(slot).ok();
    let (address, len) = name.as_mut_ptrs();
    opcode::Accept::new(io_uring::types::Fd(listener), address, len)
        .file_index(slot)
        .build()
}

/// Receives as long as there are buffers; points to nothing, the buffers are the ring's.
pub(super) fn receive(slot: u32) -> squeue::Entry {
    opcode::RecvMulti::new(Fixed(slot), GROUP).build()
}

/// The same for datagrams, each with its sender; points to `form`.
pub(super) fn receive_datagrams(slot: u32, form: &libc::msghdr) -> squeue::Entry {
    opcode::RecvMsgMulti::new(Fixed(slot), form, GROUP).build()
}

/// Points to `bytes`, and to `to`.
pub(super) fn send(slot: u32, bytes: &[u8], to: Option<&Name>) -> squeue::Entry {
    let send = opcode::Send::new(Fixed(slot), bytes.as_ptr(), bytes.len() as u32)
        .flags(libc::MSG_NOSIGNAL);
    match to {
        Some(to) => send.dest_addr(to.as_ptr()).dest_addr_len(to.len).build(),
        None => send.build(),
    }
}

/// A heading for datagrams: room for a sender, none for control messages.
pub(super) struct Form(Box<libc::msghdr>);

impl Form {
    pub(super) const fn heading(&self) -> &libc::msghdr {
        &self.0
    }
}

impl Default for Form {
    fn default() -> Self {
        // SAFETY: `msghdr` is plain data, for which all zeroes are valid: null pointers, no
        // lengths.
        let mut heading: libc::msghdr = unsafe { std::mem::zeroed() };
        heading.msg_namelen = crate::shard::net::NAME_MAX as u32;
        Self(Box::new(heading))
    }
}

// SAFETY: it is never written after it was made, and its pointers are null.
unsafe impl Send for Form {}
