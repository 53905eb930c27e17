//! Which driver the shards of a host run on, and why.
//!
//! Chosen once, at start, for all shards of a host, and said aloud (event `shards_backend`). Where
//! rings come late, each shard says itself if it gets none. What drivers of a shard have in common,
//! so that whoever rings one of them rings its successor, is its [`Heir`]. Bound: one attempt.

use super::driver::Driver;
use super::host::{ShardConfig, StartShardsError};
use super::late::Late;
use super::portable::{Portable, Wake};
#[cfg(doc)]
use super::spec::ShardStats;
use super::uring::{self, COMPLETIONS_MAX, ENTRIES_MAX, Kernel, RingConfig, RingPlan, RingRefused};
use crate::events::Level;
use crate::system::System;

/// What the threads of shards wait on. For virtual time see [`SimShards`](super::SimShards).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Backend {
    /// A ring where the kernel has it, else a parked thread. A shard makes its ring with its first
    /// socket or after 10 ms, so that short lives do not pay for it, and stays a parked thread as
    /// long as the host lacks files or memory for it: see [`ShardStats::ring`].
    #[default]
    Auto,
    /// A ring from the start (`io_uring`, Linux 6.1 or newer), or no start.
    Uring,
    /// A parked thread; works everywhere.
    Portable,
}

impl Backend {
    /// The word in reports and configuration.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Portable => "portable",
        }
    }

    /// The backend a word means.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        [Self::Auto, Self::Uring, Self::Portable]
            .into_iter()
            .find(|backend| backend.label() == label)
    }
}

/// Makes the drivers of further threads of a shard, rung as the first one was.
pub(super) enum Heir {
    Parked(Wake),
    Late(Wake, RingPlan, System),
    Ring(RingPlan),
}

impl Heir {
    /// A driver for a new thread; the former one is gone.
    ///
    /// # Errors
    /// The kernel has no ring for it, where it must have one.
    pub(super) fn driver(&self) -> Result<Box<dyn Driver>, RingRefused> {
        Ok(match self {
            Self::Parked(wake) => Box::new(Portable::at(wake)),
            Self::Late(wake, plan, system) => {
                Box::new(Late::at(Portable::at(wake), plan.clone(), system))
            }
            Self::Ring(plan) => Box::new(plan.again()?),
        })
    }
}

/// A driver, and what its successors are made from.
type Seated = (Box<dyn Driver>, Heir);

/// The drivers of a host's shards.
pub(super) struct Chosen {
    /// [`Backend::Auto`]: each shard has a ring as soon as that pays.
    pub(super) backend: Backend,
    pub(super) drivers: Vec<Seated>,
    pub(super) level: Level,
    /// In words, for the operator.
    pub(super) why: String,
}

pub(super) fn choose(
    shards: usize,
    config: &ShardConfig,
    system: &System,
) -> Result<Chosen, StartShardsError> {
    let ring = &config.ring;
    let sizes = (1..=ENTRIES_MAX).contains(&ring.entries)
        && (ring.entries..=COMPLETIONS_MAX).contains(&ring.completions);
    if !sizes {
        return Err(StartShardsError::RingSize(*ring));
    }
    // A polling kernel thread was asked for by whoever wants all there is, from the start.
    if config.backend == Backend::Auto && ring.sqpoll.is_none() {
        return choose_with(shards, config, Backend::Auto, |shards, ring| {
            let (plans, kernel) = uring::plans(shards, ring)?;
            let seated = |plan: RingPlan| {
                let parked = Portable::new();
                let heir = Heir::Late(parked.wake(), plan.clone(), system.clone());
                (Box::new(Late::at(parked, plan, system)) as _, heir)
            };
            Ok((plans.into_iter().map(seated).collect(), kernel))
        });
    }
    choose_with(shards, config, Backend::Uring, |shards, ring| {
        let (drivers, kernel) = uring::open(shards, ring)?;
        let seated = drivers.into_iter().map(|driver| {
            let heir = Heir::Ring(RingPlan::of(&driver, ring, kernel));
            (Box::new(driver) as _, heir)
        });
        Ok((seated.collect(), kernel))
    })
}

type Opened = Result<(Vec<Seated>, Kernel), RingRefused>;

fn choose_with(
    shards: usize,
    config: &ShardConfig,
    opened: Backend,
    open: impl FnOnce(usize, &RingConfig) -> Opened,
) -> Result<Chosen, StartShardsError> {
    if config.backend == Backend::Portable {
        let why = format!("portable: {shards} parked threads, as configured");
        return Ok(portable(shards, Level::Info, why));
    }
    match open(shards, &config.ring) {
        Ok((drivers, kernel)) => {
            let entries = config.ring.entries;
            let why = match opened {
                Backend::Auto => format!(
                    "auto: {shards} parked threads; each makes a ring of {entries} entries, \
                     {kernel}, with its first socket or after 10 ms"
                ),
                _ => format!(
                    "uring: {shards} rings of {entries} entries, {kernel}{}",
                    config.ring.sqpoll.map_or("", |_| ", with SQPOLL"),
                ),
            };
            Ok(Chosen {
                backend: opened,
                drivers,
                level: Level::Info,
                why,
            })
        }
        Err(refused) if config.backend == Backend::Uring => Err(refused.into()),
        Err(refused) => {
            let why = format!("portable: {shards} parked threads, for want of io_uring: {refused}");
            Ok(portable(shards, Level::Warn, why))
        }
    }
}

fn portable(shards: usize, level: Level, why: String) -> Chosen {
    let seated = || {
        let parked = Portable::new();
        let heir = Heir::Parked(parked.wake());
        (Box::new(parked) as _, heir)
    };
    Chosen {
        backend: Backend::Portable,
        drivers: (0..shards).map(|_| seated()).collect(),
        level,
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn refused(_: usize, _: &RingConfig) -> Opened {
        let error = std::io::Error::from_raw_os_error(libc::EPERM);
        Err(RingRefused::new("io_uring_setup", error))
    }

    fn config(backend: Backend) -> ShardConfig {
        ShardConfig {
            backend,
            ..ShardConfig::default()
        }
    }

    #[test]
    fn a_kernel_without_rings_gives_parked_threads_and_the_reason() {
        let chosen = choose_with(3, &config(Backend::Auto), Backend::Auto, refused).unwrap();
        assert_eq!(
            (chosen.backend, chosen.drivers.len(), chosen.level),
            (Backend::Portable, 3, Level::Warn)
        );
        let reason = "io_uring_setup: Operation not permitted (os error 1) \
                      (kernel.io_uring_disabled, or a seccomp filter)";
        assert!(chosen.why.ends_with(reason), "{}", chosen.why);
    }

    #[test]
    fn rings_that_were_asked_for_are_not_replaced_silently() {
        let config = config(Backend::Uring);
        let Err(error) = choose_with(1, &config, Backend::Uring, refused) else {
            panic!("it started");
        };
        let text = error.to_string();
        assert!(text.starts_with("io_uring cannot be used: io_uring_setup: "));
    }

    #[test]
    fn parked_threads_that_were_asked_for_touch_no_ring() {
        let open = |_: usize, _: &RingConfig| -> Opened { unreachable!("a ring was asked for") };
        let config = config(Backend::Portable);
        let chosen = choose_with(2, &config, Backend::Uring, open).unwrap();
        assert_eq!(chosen.backend, Backend::Portable);
        assert_eq!(chosen.level, Level::Info);
    }

    #[test]
    fn ring_sizes_that_no_kernel_takes_are_refused() {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let system = System::new(Clock::wall(), runtime.unwrap().handle().clone());
        for (entries, completions) in [(0, 8), (65_536, 65_536), (256, 255), (256, 1 << 20)] {
            let mut config = config(Backend::Auto);
            (config.ring.entries, config.ring.completions) = (entries, completions);
            let refused = choose(1, &config, &system).err().unwrap();
            assert!(matches!(refused, StartShardsError::RingSize(_)));
        }
    }

    #[test]
    fn a_backend_is_its_word() {
        for backend in [Backend::Auto, Backend::Uring, Backend::Portable] {
            assert_eq!(Backend::from_label(backend.label()), Some(backend));
        }
        assert_eq!(Backend::from_label("epoll"), None);
    }
}
