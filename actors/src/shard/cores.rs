//! On which cores the threads of shards run.
//!
//! Pinning is asked of the host, not demanded: a thread that is not kept where it should be runs
//! on, and says so (`shard_not_pinned`). What is allowed is asked once, when the shards start: a
//! later thread of a shard is started by whoever revives it, and has its mask from that one.
//! Bound: the cores of this process.

use std::fmt;
use std::str::FromStr;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Where the threads of shards may run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ShardCores {
    /// Wherever the host puts them.
    #[default]
    Any,
    /// Each on one core, in turn over the [allowed](Self::allowed) ones, lowest first.
    Spread,
    /// Each on the core of this number, in turn.
    Listed(Vec<usize>),
}

impl ShardCores {
    /// Cores that the calling thread may run on, lowest first, whatever share of them it may have;
    /// none where the host does not say.
    #[must_use]
    pub fn allowed() -> Vec<usize> {
        sched_getaffinity(None).map_or(Vec::new(), |set| {
            (0..CpuSet::MAX_CPU)
                .filter(|core| set.is_set(*core))
                .collect()
        })
    }

    /// The core of each of so many shards, by what is [allowed](Self::allowed); empty where the
    /// host chooses.
    pub(super) fn plan(&self, shards: usize, allowed: &[usize]) -> Vec<usize> {
        let cores = match self {
            Self::Any => &[],
            Self::Spread => allowed,
            Self::Listed(cores) => &**cores,
        };
        cores.iter().copied().cycle().take(shards).collect()
    }
}

/// As text: `auto`, `none`, or numbers such as `0,2`.
impl FromStr for ShardCores {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => return Ok(Self::Any),
            "auto" => return Ok(Self::Spread),
            _ => {}
        }
        let numbers = text.split(',').map(|number| number.trim().parse());
        let cores: Result<Vec<_>, _> = numbers.collect();
        match cores {
            Ok(cores) if cores.iter().all(|core| *core < CpuSet::MAX_CPU) => {
                Ok(Self::Listed(cores))
            }
            _ => Err(format!(
                "expected auto, none, or numbers below {} such as 0,1, found `{text}`",
                CpuSet::MAX_CPU
            )),
        }
    }
}

/// Keeps this thread, and those that it starts, on some of the cores that are allowed to it.
///
/// # Errors
/// Why it stays where it may be.
pub fn keep_on(cores: &[usize], allowed: &[usize]) -> Result<(), String> {
    // The kernel would also grant others, against the wish of whoever started the process.
    if let Some(core) = cores.iter().find(|core| !allowed.contains(core)) {
        return Err(format!("core {core} is not among those that it may run on"));
    }
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    sched_setaffinity(None, &set).map_err(|error| error.to_string())
}

impl fmt::Display for ShardCores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("none"),
            Self::Spread => f.write_str("auto"),
            Self::Listed(cores) => {
                let numbers: Vec<_> = cores.iter().map(usize::to_string).collect();
                f.write_str(&numbers.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_take_the_listed_cores_in_turn() {
        let cores: ShardCores = "4, 2".parse().expect("two numbers");
        assert_eq!(cores.plan(3, &[0, 4]), [4, 2, 4]);
        assert_eq!(cores.to_string(), "4,2");
        assert_eq!(ShardCores::Any.plan(3, &[0, 4]), []);
    }

    #[test]
    fn shards_spread_over_the_cores_of_the_process() {
        assert_eq!(ShardCores::Spread.plan(3, &[0, 4]), [0, 4, 0]);
        assert!(!ShardCores::allowed().is_empty());
    }

    #[test]
    fn what_names_no_cores_is_refused() {
        for text in ["", "all", "0;1", "-1", "0,", "1024"] {
            let error = text.parse::<ShardCores>().expect_err(text);
            assert!(error.contains("auto, none, or numbers"), "{error}");
        }
    }
}
