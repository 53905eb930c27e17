//! Which driver the shards of a host run on, and why.
//!
//! Chosen once, at start, for all shards of a host, and said aloud (event `shards_backend`). Where
//! rings come late, each shard says itself if it gets none. Bound: one attempt.

use super::driver::Driver;
use super::host::{ShardConfig, StartShardsError};
use super::late::Late;
use super::portable::Portable;
#[cfg(doc)]
use super::spec::ShardStats;
use super::uring::{self, COMPLETIONS_MAX, ENTRIES_MAX, Kernel, RingConfig, RingRefused};
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

/// The drivers of a host's shards.
pub(super) struct Chosen {
    /// [`Backend::Auto`]: each shard has a ring as soon as that pays.
    pub(super) backend: Backend,
    pub(super) drivers: Vec<Box<dyn Driver>>,
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
            let drivers = plans.into_iter().map(|plan| Late::new(plan, system));
            Ok((boxed(drivers), kernel))
        });
    }
    choose_with(shards, config, Backend::Uring, |shards, ring| {
        let (drivers, kernel) = uring::open(shards, ring)?;
        Ok((boxed(drivers.into_iter()), kernel))
    })
}

fn boxed<D: Driver + 'static>(drivers: impl Iterator<Item = D>) -> Vec<Box<dyn Driver>> {
    drivers.map(|driver| Box::new(driver) as _).collect()
}

type Opened = Result<(Vec<Box<dyn Driver>>, Kernel), RingRefused>;

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
    Chosen {
        backend: Backend::Portable,
        drivers: boxed((0..shards).map(|_| Portable::new())),
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
