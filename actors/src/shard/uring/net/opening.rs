//! Sockets come to be: connects in turn, listeners with accepts ahead, datagram sockets.
//!
//! What this host lacks (slots, rings, ports) refuses one socket, is counted, and is asked for
//! again after a pause. Bounds: [`AHEAD_MAX`] accepts ahead of a listener's callers.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use io_uring::squeue::{Entry, Flags};
use rustix::net::SocketFlags;

use super::satellite::Satellite;
use super::{Conn, DIALS_PER_TURN, Kind, More, Phase, RingNet, TABLE_MAX, lending};
use crate::clock::Time;
use crate::shard::net::{
    DIAL_MAX, Gate, Happening, LISTEN_PAUSE, Name, NetConfig, PortGates, ShardNet, SocketEnd, plain,
};
use crate::shard::slab::earlier;

/// Accepts under way for one listener, in the largest table; in a small one a 64th of its slots.
const AHEAD_MAX: usize = 64;

/// What this host lacked last.
#[derive(Default)]
pub(super) struct Gates {
    ports: PortGates,
    satellites: Gate,
}

impl RingNet {
    pub(super) fn connect(
        &mut self,
        socket: u32,
        life: u32,
        from: Option<SocketAddr>,
        to: SocketAddr,
        now: Time,
    ) {
        let mut conn = Conn::new(life, Phase::Waiting);
        conn.more = Some(Box::new(More::Dial {
            local: from.map(Name::of),
            peer: Name::of(to),
            from,
            to,
        }));
        self.seat(socket, conn);
        // Also for its turn it waits no longer than that.
        self.dials.push_back((now + DIAL_MAX, socket, life));
        self.turns.push(to, (socket, life));
    }

    /// Connects those whose turn it is.
    pub(super) fn dial_waiting(&mut self, net: &mut ShardNet, now: Time) {
        for _ in 0..DIALS_PER_TURN {
            let Some((to, (socket, life))) = self.turns.next() else {
                break;
            };
            let waits = self.known(socket, life);
            let waits = waits.is_some_and(|conn| conn.phase == Phase::Waiting);
            let dialled = waits.then(|| self.dial(socket, net, now));
            if dialled != Some(Ok(())) {
                self.turns.end(to);
            }
            if let Some(Err(end)) = dialled {
                self.refuse(socket, end);
            }
        }
    }

    fn dial(&mut self, socket: u32, net: &ShardNet, now: Time) -> Result<(), SocketEnd> {
        let Some(More::Dial { from, to, .. }) = self.conns[socket as usize].more.as_deref() else {
            return Err(SocketEnd::Other);
        };
        let (from, to) = (*from, *to);
        if self.gates.ports.is_closed(from, to, now) {
            return Err(SocketEnd::NoPorts);
        }
        let bare = match self.binds {
            true => None,
            false => Some(bare(from, to)?),
        };
        let satellite = self.room(&net.config, now)?;
        let index = usize::from(satellite);
        let slot = self.satellites[index]
            .take_slot()
            .ok_or(SocketEnd::TableFull)?;
        if let Some(file) = &bare
            && let Err(error) = self.satellites[index].install(slot, file.as_fd())
        {
            self.satellites[index].give_slot(slot);
            return Err(SocketEnd::of(error.raw_os_error().unwrap_or(0)));
        }
        let conn = &mut self.conns[socket as usize];
        (conn.satellite, conn.slot) = (satellite, slot as u16);
        conn.phase = Phase::Dialling;
        let chain = self.chain(socket, bare.is_none());
        self.start(socket, &chain);
        Ok(())
    }

    /// Socket, options, bind, connect: linked, and silent but for the one that fails or the last,
    /// so that it completes once.
    fn chain(&self, socket: u32, whole: bool) -> Vec<Entry> {
        let conn = &self.conns[socket as usize];
        let slot = u32::from(conn.slot);
        let Some(More::Dial {
            local,
            peer,
            from,
            to,
        }) = conn.more.as_deref()
        else {
            return Vec::new();
        };
        let mut chain = Vec::with_capacity(lending::CHAIN_MAX);
        let mut link = |kind, entry: Entry| {
            let entry = entry.flags(Flags::IO_LINK | Flags::SKIP_SUCCESS);
            chain.push(entry.user_data(self.token(socket, kind)));
        };
        if whole {
            let family = match to {
                SocketAddr::V4(_) => libc::AF_INET,
                SocketAddr::V6(_) => libc::AF_INET6,
            };
            link(Kind::Open, lending::socket(slot, family));
            link(Kind::Open, lending::no_delay(slot));
            if from.is_some_and(|from| from.is_ipv4() && from.port() == 0) {
                link(Kind::Open, lending::bind_no_port(slot));
            }
            if let Some(local) = local {
                link(Kind::Bind, lending::bind(slot, local));
            }
        }
        let connect = lending::connect(slot, peer);
        chain.push(connect.user_data(self.token(socket, Kind::Connect)));
        chain
    }

    /// A connect has ended well, or not; one that was cancelled says nothing about ports.
    pub(super) fn dialled(
        &mut self,
        more: Option<Box<More>>,
        cancelled: bool,
        end: Option<SocketEnd>,
        now: Time,
    ) {
        if let Some(More::Dial { from, to, .. }) = more.as_deref() {
            self.turns.end(*to);
            match end {
                _ if cancelled => {}
                None => self.gates.ports.succeed(*from, *to),
                Some(SocketEnd::NoPorts) => self.gates.ports.fail(*from, *to, now),
                Some(_) => {}
            }
        }
    }

    /// A satellite with a free slot; a new one if there is none.
    fn room(&mut self, config: &NetConfig, now: Time) -> Result<u8, SocketEnd> {
        let with_room = self.satellites.iter().position(Satellite::has_slot);
        if let Some(index) = with_room {
            return Ok(index as u8);
        }
        let index = self.satellites.len();
        if index >= config.satellites_max.min(u32::from(u8::MAX)) as usize {
            return Err(SocketEnd::TableFull);
        }
        if self.gates.satellites.is_closed(now) {
            return Err(SocketEnd::NoFiles);
        }
        let table = table(config);
        match Satellite::new(index as u8, table, config.buffers, config.buffer_bytes) {
            Ok(satellite) => {
                self.satellites.push(satellite);
                Ok(index as u8)
            }
            Err(error) => {
                self.gates.satellites.fail(now);
                Err(SocketEnd::of(error.raw_os_error().unwrap_or(0)))
            }
        }
    }

    pub(super) fn listen(&mut self, socket: u32, life: u32, at: SocketAddr, shared: bool) {
        match plain::listener(at, shared, SocketFlags::empty()) {
            Ok((file, at)) => {
                let mut conn = Conn::new(life, Phase::Listening);
                conn.more = Some(Box::new(More::Listener {
                    file,
                    spares: Vec::new(),
                    retry: Time(0),
                }));
                self.seat(socket, conn);
                self.hungry.push((socket, life));
                self.tell(socket, Happening::Bound(at));
            }
            Err(error) => {
                self.seat(socket, Conn::new(life, Phase::Waiting));
                self.refuse(socket, SocketEnd::of_bind(error.raw_os_error()));
            }
        }
    }

    /// Sees to it that each listener has its accepts ahead.
    pub(super) fn feed_listeners(&mut self, net: &mut ShardNet, now: Time) {
        for _ in 0..self.hungry.len() {
            let Some((listener, life)) = self.hungry.pop() else {
                break;
            };
            if self.known(listener, life).is_some() && !self.feed_listener(listener, net, now) {
                self.hungry.insert(0, (listener, life));
            }
        }
    }

    /// False if there is no room for all of its accepts.
    fn feed_listener(&mut self, listener: u32, net: &mut ShardNet, now: Time) -> bool {
        let slots = u64::from(table(&net.config)) * u64::from(net.config.satellites_max);
        let ahead = usize::try_from(slots / 64).map_or(AHEAD_MAX, |n| n.clamp(1, AHEAD_MAX));
        loop {
            let conn = &mut self.conns[listener as usize];
            let Some(More::Listener {
                file,
                spares,
                retry,
            }) = conn.more.as_deref_mut()
            else {
                return true;
            };
            if conn.phase != Phase::Listening || spares.len() >= ahead {
                return true;
            }
            if *retry > now {
                return false;
            }
            let file = file.as_raw_fd();
            let place = self.room(&net.config, now);
            let spare =
                place.and_then(|place| net.spare().ok_or(SocketEnd::TableFull).map(|s| (place, s)));
            match spare {
                Ok((satellite, spare)) => self.accept(listener, file, satellite, spare, net),
                Err(end) => {
                    net.stats.ends.count(end);
                    self.put_off(listener, now);
                    return false;
                }
            }
        }
    }

    /// Looks for spares again after a pause.
    pub(super) fn put_off(&mut self, listener: u32, now: Time) {
        if let Some(More::Listener { retry, .. }) = self.conn(listener).more.as_deref_mut() {
            *retry = now + LISTEN_PAUSE;
        }
    }

    fn accept(&mut self, listener: u32, file: i32, satellite: u8, spare: u32, net: &ShardNet) {
        let slot = self.satellites[usize::from(satellite)].take_slot();
        let slot = slot.expect("the satellite has room");
        let mut conn = Conn::new(net.life(spare), Phase::Spare);
        (conn.satellite, conn.slot) = (satellite, slot as u16);
        let mut more = Box::new(More::Accept {
            listener,
            name: Name::default(),
        });
        let More::Accept { name, .. } = &mut *more else {
            return;
        };
        let entry = lending::accept(file, slot, name);
        conn.more = Some(more);
        self.seat(spare, conn);
        self.start_one(spare, Kind::Accept, entry);
        if let Some(More::Listener { spares, .. }) = self.conn(listener).more.as_deref_mut() {
            spares.push(spare);
        }
    }

    /// When a listener without room looks again.
    pub(super) fn listeners_due(&self) -> Option<Time> {
        let retry =
            |(listener, _): &(u32, u32)| match self.conns[*listener as usize].more.as_deref() {
                Some(More::Listener { retry, .. }) => Some(*retry),
                _ => None,
            };
        self.hungry.iter().map(retry).fold(None, earlier)
    }

    pub(super) fn datagrams(
        &mut self,
        socket: u32,
        life: u32,
        at: SocketAddr,
        peer: Option<SocketAddr>,
        net: &ShardNet,
        now: Time,
    ) {
        let mut conn = Conn::new(life, Phase::Waiting);
        conn.datagrams = true;
        self.seat(socket, conn);
        let opened = plain::datagrams(at, peer, SocketFlags::empty())
            .map_err(|error| SocketEnd::of_bind(error.raw_os_error()))
            .and_then(|(file, at)| Ok((self.lodge(socket, &file, net, now)?, at)));
        match opened {
            Ok(((), at)) => {
                self.tell(socket, Happening::Bound(at));
                self.receive(socket);
            }
            Err(end) => self.refuse(socket, end),
        }
    }

    /// Puts an open datagram socket into a slot.
    fn lodge(
        &mut self,
        socket: u32,
        file: &OwnedFd,
        net: &ShardNet,
        now: Time,
    ) -> Result<(), SocketEnd> {
        let index = self.room(&net.config, now)?;
        let satellite = &mut self.satellites[usize::from(index)];
        let slot = satellite.take_slot().ok_or(SocketEnd::TableFull)?;
        if let Err(error) = satellite.install(slot, file.as_fd()) {
            satellite.give_slot(slot);
            return Err(SocketEnd::of(error.raw_os_error().unwrap_or(0)));
        }
        let conn = self.conn(socket);
        (conn.satellite, conn.slot) = (index, slot as u16);
        conn.phase = Phase::Open;
        Ok(())
    }

    /// Refuses a socket that has no slot yet.
    fn refuse(&mut self, socket: u32, end: SocketEnd) {
        self.tell(socket, Happening::Ended(end));
        self.free(socket);
    }
}

/// A stream of its own, for kernels that make none in a ring with all its options.
fn bare(from: Option<SocketAddr>, to: SocketAddr) -> Result<OwnedFd, SocketEnd> {
    let made = plain::stream(from, to, SocketFlags::empty());
    let made = made.map_err(|error| SocketEnd::of(error.raw_os_error()))?;
    made.map_err(|error| SocketEnd::of_bind(error.raw_os_error()))
}

/// Slots of one satellite.
fn table(config: &NetConfig) -> u32 {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let files = files
        .current
        .map_or(TABLE_MAX, |n| u32::try_from(n).unwrap_or(TABLE_MAX));
    match config.table {
        0 => files,
        table => table.min(files),
    }
    .clamp(1, TABLE_MAX)
}

#[cfg(test)]
mod tests {
    use super::super::Tell;
    use super::*;
    use crate::shard::net::Engine as _;

    #[test]
    fn a_connect_that_waits_for_its_turn_hears_in_time_that_none_came() {
        let (mut rings, mut net) = (RingNet::new(true), ShardNet::new(NetConfig::default()));
        let (begin, to) = (Time(7), SocketAddr::from(([192, 0, 2, 1], 9)));
        (0..3).for_each(|socket| rings.connect(socket, 1, None, to, begin));
        let end = begin + DIAL_MAX;
        assert_eq!(rings.due(), Some(end));
        rings.end_overdue(&mut net, Time(end.0 - 1));
        assert!(rings.told.is_empty());
        rings.end_overdue(&mut net, end);
        let timed_out = |(_, tell): &&(u32, Tell)| {
            matches!(tell, Tell::Happening(Happening::Ended(SocketEnd::TimedOut)))
        };
        assert_eq!(rings.told.iter().filter(timed_out).count(), 3);
        rings.dial_waiting(&mut net, end);
        assert!(!rings.turns.has_next() && rings.satellites.is_empty());
    }
}
