//! The workloads, as numbers and pure functions: all participants do the same.

use crate::Line;

/// 64 bytes on their way; the first word counts hops or carries a seed.
pub type Payload = [u64; 8];

/// Mailbox bound of an ordinary actor.
pub const MAILBOX: usize = 64;
/// Mailbox bound of the receiver of `one-way`.
pub const ONE_WAY_MAILBOX: usize = 1_024;
/// Messages to each actor of `fan-out`.
pub const FAN_OUT_ROUNDS: u64 = 50;
/// Actors of `ring`.
pub const RING: usize = 1_000;
/// Round trips of one `cold` start.
pub const COLD_ROUND_TRIPS: u64 = 64;
/// Starts that `cold` takes the median of.
pub const COLD_STARTS: usize = 21;
/// Actors that die by turns in `restart`.
pub const RESTART_ACTORS: usize = 256;
/// Deaths one after the other, of one actor, by which `restart` reads the way back into service.
pub const RESTART_SINGLES: u64 = 5_000;
/// Each how many actors of `storm` one dies.
pub const STORM_EACH: usize = 10;
/// Ticks of actors are told apart by their place in this time, in nanoseconds.
pub const TICK_NS: u64 = 1_000_000_000;

/// A message with `first` as its first word.
#[must_use]
pub const fn payload(first: u64) -> Payload {
    [first, 1, 2, 3, 4, 5, 6, 7]
}

/// The state of a device with seven sensors: the last value of each, and how often it ticked.
#[derive(Clone, Debug, Default)]
pub struct Device {
    /// Last value per sensor.
    pub values: [f64; 7],
    /// Ticks so far.
    pub ticks: u64,
}

impl Device {
    /// A device that has not ticked.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One tick: every sensor gets a new value.
    pub fn tick(&mut self) {
        self.ticks += 1;
        for (sensor, value) in self.values.iter_mut().enumerate() {
            *value += sensor as f64;
        }
    }
}

/// The name under which actor `index` answers.
#[must_use]
pub fn name(index: usize) -> String {
    format!("industrial-{index:04}")
}

/// The join form of `fan-out`: each request waits for all its branches before the next is made.
/// Its numbers and its work are those of spargio's own benchmark `fanout_fanin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Join {
    /// Whether one branch of each request has more to do than the others.
    pub skewed: bool,
}

impl Join {
    /// Requests of one measurement.
    pub const REQUESTS: u64 = 64;
    /// Branches of a request.
    pub const BRANCHES: u64 = 16;
    /// Measurements of which the median is told.
    pub const REPEATS: usize = 101;

    /// Rounds of work of a branch.
    #[must_use]
    pub const fn rounds(self, request: u64, branch: u64) -> u32 {
        match self.skewed {
            false => 2_000,
            true if branch == request % Self::BRANCHES => 20_000,
            true => 500,
        }
    }

    /// What a branch computes.
    #[must_use]
    pub fn branch(self, request: u64, branch: u64) -> u64 {
        work((request << 32) ^ branch, self.rounds(request, branch))
    }

    /// What all branches of one measurement add up to.
    #[must_use]
    pub fn sum(self) -> u64 {
        let requests = 0..Self::REQUESTS;
        requests
            .flat_map(|request| (0..Self::BRANCHES).map(move |b| self.branch(request, b)))
            .fold(0, u64::wrapping_add)
    }
}

/// Work that cannot be foreseen by the compiler.
#[must_use]
pub fn work(seed: u64, rounds: u32) -> u64 {
    let mut x = seed ^ 0x9E37_79B9_7F4A_7C15;
    for round in 0..rounds {
        x = x
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407 ^ u64::from(round));
        x ^= x >> 29;
    }
    x
}

/// Who gets the next message of `skew`, in which tokens go from actor to actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Each actor as often as any other.
    Balanced,
    /// The first tenth of the actors gets nine tenths of the messages.
    Hot,
    /// One actor gets half of the messages, another one after each `turn` hops of a token.
    Rotating {
        /// At least one.
        turn: u64,
    },
}

impl Spread {
    /// Actors: enough that they can be moved in groups.
    pub const ACTORS: u64 = 16_384;
    /// Tokens under way: no mailbox of this many can be full.
    pub const TOKENS: u64 = 256;
    /// Rounds of work for each message: about a microsecond.
    pub const ROUNDS: u32 = 800;

    /// Turns of one run, of however many messages.
    pub const TURNS: u64 = 3;

    /// All of them for so many messages, in the order in which they are measured.
    #[must_use]
    pub fn all(messages: u64) -> [Self; 3] {
        let turn = (messages / Self::TOKENS / Self::TURNS).max(1);
        [Self::Balanced, Self::Hot, Self::Rotating { turn }]
    }

    /// The metrics of the rates of [`Spread::all`].
    #[must_use]
    pub fn line(rates: &[f64]) -> Line {
        Line::new()
            .with("balanced_per_s", rates[0])
            .with("throughput_ratio", rates[1] / rates[0])
            .with("rotating_ratio", rates[2] / rates[0])
    }

    /// Works on a token (hops left, seed) and says who is next.
    #[must_use]
    pub fn next(self, token: &mut Payload) -> u64 {
        let draw = work(token[1], Self::ROUNDS);
        token[1] = draw;
        token[0] -= 1;
        let any = (draw >> 20) % Self::ACTORS;
        match self {
            Self::Balanced => any,
            Self::Hot if draw % 10 < 9 => any / 10,
            Self::Hot => Self::ACTORS / 10 + any % (Self::ACTORS * 9 / 10),
            Self::Rotating { turn } if draw.is_multiple_of(2) => {
                (token[0] / turn * 7_919) % (Self::ACTORS / 2)
            }
            Self::Rotating { .. } => any,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_branch_of_a_skewed_request_is_heavy() {
        let heavy = |request| {
            let branches = 0..Join::BRANCHES;
            let skewed = Join { skewed: true };
            branches
                .filter(|branch| skewed.rounds(request, *branch) > 500)
                .count()
        };
        assert!((0..Join::REQUESTS).all(|request| heavy(request) == 1));
    }

    #[test]
    fn the_hot_actor_changes_as_often_in_a_short_run_as_in_a_long_one() {
        for messages in [60_000, 2_000_000, 3_000_000] {
            let hops = messages / Spread::TOKENS;
            let [_, _, rotating] = Spread::all(messages);
            let mut token = payload(hops);
            let mut visits = std::collections::BTreeMap::new();
            for _ in 0..hops {
                *visits.entry(rotating.next(&mut token)).or_insert(0) += 1;
            }
            let often = visits.values().filter(|visits| **visits > hops / 10);
            assert_eq!(often.count() as u64, Spread::TURNS, "{messages}");
        }
    }

    #[test]
    fn nine_tenths_of_hot_messages_go_to_a_tenth_of_the_actors() {
        let mut token = payload(10_000);
        let hot = (0..10_000)
            .filter(|_| Spread::Hot.next(&mut token) < Spread::ACTORS / 10)
            .count();
        assert!((8_900..9_100).contains(&hot), "{hot}");
    }
}
