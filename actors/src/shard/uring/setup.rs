//! Makes the rings of a host and finds out, once, what the kernel has.
//!
//! Either all rings are made before any thread runs, so that a host has all of them or none
//! ([`open`]), or each shard makes its own when it pays ([`plans`]). They are made disabled: the
//! thread that enables one becomes its only issuer. Bounds: [`ENTRIES_MAX`], [`COMPLETIONS_MAX`].

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use io_uring::{IoUring, Probe, opcode};
use parking_lot::Mutex;

use super::net::RingNet;
use super::roster::{Descriptors, RingBell, Roster, Seat};
use super::token::Token;
use super::{Completed, Uring, roster, sys};
use crate::shard::driver::DriverCounts;

/// Largest submission queue (`IORING_MAX_ENTRIES`).
pub const ENTRIES_MAX: u32 = 32_768;

/// Largest completion queue (`IORING_MAX_CQ_ENTRIES`).
pub const COMPLETIONS_MAX: u32 = 2 * ENTRIES_MAX;

/// The rings of a host, one per shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingConfig {
    /// Entries of the submission queue; the kernel rounds up to a power of two.
    pub entries: u32,
    /// Entries of the completion queue, at least as many. What does not fit is kept by the kernel
    /// and costs a further call.
    pub completions: u32,
    /// A kernel thread that polls the submission queue; none unless wanted: it takes a core.
    pub sqpoll: Option<SqPoll>,
}

impl Default for RingConfig {
    fn default() -> Self {
        Self {
            entries: 256,
            // Doorbells and watches of satellites only: sockets complete on those. Making a large
            // ring is most of what a shard's start costs.
            completions: 512,
            sqpoll: None,
        }
    }
}

/// A kernel thread that polls a submission queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqPoll {
    /// How long it polls an empty queue before it sleeps.
    pub idle: Duration,
    /// The core it stays on, if any.
    pub core: Option<u32>,
}

/// Why there are no rings.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}{}", hint(.source))]
pub struct RingRefused {
    /// What was tried.
    what: &'static str,
    /// What the host said.
    source: io::Error,
}

impl RingRefused {
    pub(crate) fn new(what: &'static str, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        Self { what, source }
    }

    fn lacks(what: &'static str) -> Self {
        Self::new(what, io::Error::from(io::ErrorKind::Unsupported))
    }

    /// Whether a lack of files or memory is the reason, which may pass.
    pub(crate) fn is_want(&self) -> bool {
        let wants = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN];
        let errno = self.source.raw_os_error();
        errno.is_some_and(|errno| wants.contains(&errno))
    }
}

/// What an operator can look at.
fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => " (kernel.io_uring_disabled, or a seccomp filter)",
        Some(libc::ENOSYS) => " (this kernel is built without it)",
        Some(libc::EINVAL) => " (Linux 6.1 or newer is needed)",
        Some(libc::ENOMEM) => " (memory, or RLIMIT_MEMLOCK)",
        Some(libc::EMFILE) => " (RLIMIT_NOFILE; a shard takes three)",
        _ => "",
    }
}

/// What the kernel has beyond what is needed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kernel {
    /// Ring messages from threads without a ring (6.13).
    pub(crate) sends: bool,
    /// Sleep that is not counted as iowait (6.15).
    pub(crate) no_iowait: bool,
    /// Binding and socket options in a ring (6.11).
    pub(crate) binds: bool,
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.sends {
            "rung by SEND_MSG_RING"
        } else {
            "rung by eventfd"
        })
    }
}

/// The drivers of `shards` shards and what the kernel has, or why it cannot be.
pub(crate) fn open(
    shards: usize,
    config: &RingConfig,
) -> Result<(Vec<Uring>, Kernel), RingRefused> {
    let rings = (0..shards)
        .map(|_| make(config).map_err(|error| RingRefused::new("io_uring_setup", error)))
        .collect::<Result<Vec<_>, _>>()?;
    let kernel = match rings.first() {
        Some(ring) => examine(ring)?,
        None => {
            return Ok((
                Vec::new(),
                Kernel {
                    sends: false,
                    no_iowait: false,
                    binds: false,
                },
            ));
        }
    };
    Ok((seat(rings, kernel)?, kernel))
}

/// Gives each ring its seat.
pub(super) fn seat(rings: Vec<IoUring>, kernel: Kernel) -> Result<Vec<Uring>, RingRefused> {
    let seats = rings
        .iter()
        .map(|ring| {
            let seat = Seat::default();
            let filled = seat.fill(descriptors(ring)?);
            filled.map_err(|error| RingRefused::new("dup3", error))?;
            Ok(seat)
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(drivers(rings, &Roster::new(seats, kernel.sends), kernel))
}

/// One driver per ring.
pub(super) fn drivers(rings: Vec<IoUring>, roster: &Arc<Roster>, kernel: Kernel) -> Vec<Uring> {
    let driver = |(shard, ring)| driver(shard, ring, roster, kernel);
    (0..).zip(rings).map(driver).collect()
}

fn driver(shard: u32, ring: IoUring, roster: &Arc<Roster>, kernel: Kernel) -> Uring {
    Uring {
        shard,
        ring,
        roster: Arc::clone(roster),
        no_iowait: kernel.no_iowait,
        attached: false,
        due: Vec::new(),
        counts: DriverCounts::default(),
        done: Completed::default(),
        net: RingNet::new(kernel.binds),
    }
}

/// What a ring is rung by.
fn descriptors(ring: &IoUring) -> Result<Descriptors, RingRefused> {
    let dup = rustix::io::fcntl_dupfd_cloexec(ring, 0);
    Ok(Descriptors {
        ring: dup.map_err(|error| RingRefused::new("dup", error))?,
        event: roster::event().map_err(|error| RingRefused::new("eventfd", error))?,
    })
}

/// A ring that a shard makes when it pays, or when its thread has died in the one before.
#[derive(Clone)]
pub(crate) struct RingPlan {
    shard: u32,
    roster: Arc<Roster>,
    config: RingConfig,
    kernel: Kernel,
    /// What the next attempts end with.
    #[cfg(test)]
    refusals: std::collections::VecDeque<i32>,
}

impl RingPlan {
    /// The plan of rings that take the place of this driver's.
    pub(crate) fn of(driver: &Uring, config: &RingConfig, kernel: Kernel) -> Self {
        Self {
            shard: driver.shard,
            roster: Arc::clone(&driver.roster),
            config: *config,
            kernel,
            #[cfg(test)]
            refusals: std::collections::VecDeque::new(),
        }
    }

    /// A further ring of a shard, for a thread to be attached to it, in the place of the former.
    pub(crate) fn again(&self) -> Result<Uring, RingRefused> {
        let ring = make(&self.config).map_err(|error| RingRefused::new("io_uring_setup", error))?;
        if let Some(seat) = self.roster.seat(self.shard) {
            let placed = seat.take_place(ring.as_fd());
            placed.map_err(|error| RingRefused::new("dup3", error))?;
        }
        Ok(driver(self.shard, ring, &self.roster, self.kernel))
    }

    /// Rings the shard, once it sleeps in its ring.
    pub(crate) fn bell(&self) -> RingBell {
        RingBell {
            roster: Arc::clone(&self.roster),
            shard: self.shard,
        }
    }

    /// Which shard's.
    pub(crate) const fn shard(&self) -> u32 {
        self.shard
    }

    /// The next attempts end with these errors.
    #[cfg(test)]
    pub(crate) fn refuse(&mut self, errors: impl IntoIterator<Item = i32>) {
        self.refusals.extend(errors);
    }

    /// Makes the ring and attaches it to this thread. A refusal leaves nothing behind.
    pub(crate) fn make(&mut self) -> Result<Uring, RingRefused> {
        #[cfg(test)]
        if let Some(errno) = self.refusals.pop_front() {
            let error = io::Error::from_raw_os_error(errno);
            return Err(RingRefused::new("io_uring_setup", error));
        }
        let ring = make(&self.config).map_err(|error| RingRefused::new("io_uring_setup", error))?;
        let descriptors = descriptors(&ring)?;
        let mut driver = driver(self.shard, ring, &self.roster, self.kernel);
        let attached = driver.attach_with(descriptors);
        attached.map_err(|error| RingRefused::new("io_uring_enter", error))?;
        Ok(driver)
    }
}

/// The rings that `shards` shards can make and what the kernel has, or why it cannot be.
pub(crate) fn plans(
    shards: usize,
    config: &RingConfig,
) -> Result<(Vec<RingPlan>, Kernel), RingRefused> {
    let kernel = known(config)?;
    let seats = (0..shards).map(|_| Seat::default()).collect();
    let roster = Roster::new(seats, kernel.sends);
    let plan = |shard| RingPlan {
        shard,
        roster: Arc::clone(&roster),
        config: *config,
        kernel,
        #[cfg(test)]
        refusals: std::collections::VecDeque::new(),
    };
    Ok(((0..shards as u32).map(plan).collect(), kernel))
}

/// What the kernel has, if it makes such rings: found out by the first host of a process, so that
/// later ones start without a call.
fn known(config: &RingConfig) -> Result<Kernel, RingRefused> {
    static KNOWN: Mutex<Option<(RingConfig, Kernel)>> = Mutex::new(None);
    let mut known = KNOWN.lock();
    if let Some((of, kernel)) = *known
        && of == *config
    {
        return Ok(kernel);
    }
    let ring = make(config).map_err(|error| RingRefused::new("io_uring_setup", error))?;
    let kernel = examine(&ring)?;
    *known = Some((*config, kernel));
    Ok(kernel)
}

/// A ring that is not enabled yet.
pub(super) fn make(config: &RingConfig) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .dontfork()
        .setup_r_disabled()
        .setup_submit_all()
        .setup_single_issuer()
        .setup_cqsize(config.completions);
    match config.sqpoll {
        // A kernel thread submits: there is no task of ours whose work could be deferred.
        Some(SqPoll { idle, core }) => {
            builder.setup_sqpoll(u32::try_from(idle.as_millis()).unwrap_or(u32::MAX));
            if let Some(core) = core {
                builder.setup_sqpoll_cpu(core);
            }
        }
        None => {
            builder.setup_defer_taskrun().setup_taskrun_flag();
        }
    }
    builder.build(config.entries)
}

/// Refuses a kernel that lacks what the driver stands on.
fn examine(ring: &IoUring) -> Result<Kernel, RingRefused> {
    let params = ring.params();
    let needed = [
        (params.is_feature_ext_arg(), "waiting with a time (EXT_ARG)"),
        (
            params.is_feature_nodrop(),
            "completions that are kept (NODROP)",
        ),
        (
            params.is_feature_skip_cqe_on_success(),
            "silent success (CQE_SKIP)",
        ),
    ];
    if let Some((_, what)) = needed.iter().find(|(has, _)| !has) {
        return Err(RingRefused::lacks(what));
    }
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|error| RingRefused::new("IORING_REGISTER_PROBE", error))?;
    if !probe.is_supported(opcode::MsgRingData::CODE) {
        return Err(RingRefused::lacks("IORING_OP_MSG_RING"));
    }
    Ok(Kernel {
        sends: takes_sends(ring),
        no_iowait: params.is_feature_no_iowait(),
        binds: probe.is_supported(opcode::Bind::CODE),
    })
}

/// Whether a thread without a ring can send. The ring is disabled, so a kernel that knows the call
/// refuses the ring (`EBADFD`), and one that does not refuses the call (`EINVAL`).
fn takes_sends(ring: &IoUring) -> bool {
    match sys::send_message(ring.as_fd(), Token::Rung.encode()) {
        Ok(()) => true,
        Err(error) => error.raw_os_error() == Some(libc::EBADFD),
    }
}
