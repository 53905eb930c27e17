//! Supervision policy as data, in OTP's words and with OTP's defaults.
//!
//! Decides nothing: [`crate::strategy`] reads it. Every number has a bound, named here.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

/// Most restarts that one window may allow: it remembers one time for each.
pub const INTENSITY_MAX: u32 = 10_000;
/// Longest period, backoff or shutdown time: a day; beyond it a policy is a mistake.
pub const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Largest factor of a backoff: the second wait is the longest.
pub const FACTOR_MAX: f64 = 1_000.0;
/// Largest restart budget: what a shard can do in a second.
pub const BUDGET_MAX: u32 = 1_000_000;
/// Children of one supervisor unless its policy says otherwise: the connections of one listener.
pub const CHILDREN_MAX: u32 = 100_000;

/// Which siblings share the fate of a child that is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Only the child itself.
    #[default]
    OneForOne,
    /// All children.
    OneForAll,
    /// The child and those started after it.
    RestForOne,
    /// Children are only added while it runs, all of one kind, and are stopped all at once.
    SimpleOneForOne,
}

impl Strategy {
    /// Whether siblings share a restart, so that they stop and start one at a time, in order.
    #[must_use]
    pub const fn is_ordered(self) -> bool {
        matches!(self, Self::OneForAll | Self::RestForOne)
    }

    /// As in files.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::OneForOne => "one_for_one",
            Self::OneForAll => "one_for_all",
            Self::RestForOne => "rest_for_one",
            Self::SimpleOneForOne => "simple_one_for_one",
        }
    }
}

/// When a child that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Always.
    #[default]
    Permanent,
    /// When it ended abnormally: anything but `normal` and `shutdown`. A kill is abnormal; a
    /// supervisor that gives up is not, as in OTP.
    Transient,
    /// Never; its spec is dropped when it ends.
    Temporary,
}

impl Restart {
    /// As in files.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Permanent => "permanent",
            Self::Transient => "transient",
            Self::Temporary => "temporary",
        }
    }
}

/// How a child is ended by its supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shutdown {
    /// Killed at once.
    BrutalKill,
    /// Asked to stop, killed after this time.
    After(Duration),
    /// Asked to stop and waited for. For supervisors; a worker that hangs would hang the stop.
    Infinity,
}

impl Shutdown {
    /// What a worker gets: 5 s.
    pub const WORKER: Self = Self::After(Duration::from_secs(5));
}

impl fmt::Display for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BrutalKill => f.write_str("brutal_kill"),
            Self::After(time) => write!(f, "{}", humantime::format_duration(*time)),
            Self::Infinity => f.write_str("infinity"),
        }
    }
}

impl FromStr for Shutdown {
    type Err = humantime::DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "brutal_kill" => Ok(Self::BrutalKill),
            "infinity" => Ok(Self::Infinity),
            other => humantime::parse_duration(other).map(Self::After),
        }
    }
}

impl Serialize for Shutdown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Whether a supervisor ends by itself when significant children have ended by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoShutdown {
    /// No.
    #[default]
    Never,
    /// As soon as one has.
    AnySignificant,
    /// When all have.
    AllSignificant,
}

impl AutoShutdown {
    /// As in files.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::AnySignificant => "any_significant",
            Self::AllSignificant => "all_significant",
        }
    }
}

/// Whose restarts are counted against `intensity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntensityScope {
    /// Those of all children together, as in OTP.
    #[default]
    Supervisor,
    /// Those of each child by itself: one bad device does not condemn its neighbours.
    Child,
}

impl IntensityScope {
    /// As in files.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Supervisor => "supervisor",
            Self::Child => "child",
        }
    }
}

/// What the next incarnation of a cell begins with, besides its identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behaviour {
    /// Nothing: what acted on the former is gone with it.
    #[default]
    Fresh,
    /// The state of the former, unless it ended by a panic or with its host.
    Resume,
}

impl Behaviour {
    /// As in files.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Resume => "resume",
        }
    }
}

/// How long a failing child waits before it is started again.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Backoff {
    /// Wait before the first restart.
    #[serde(serialize_with = "duration_text")]
    pub min: Duration,
    /// Longest wait.
    #[serde(serialize_with = "duration_text")]
    pub max: Duration,
    /// What the wait is multiplied by at each further failure; at least 1.
    pub factor: f64,
    /// Part of the wait that is random, 0 to 1: 0.2 gives 80 to 100 % of it.
    pub jitter: f64,
    /// A child that lived this long has no past.
    #[serde(serialize_with = "duration_text")]
    pub reset_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            min: Duration::from_millis(50),
            max: Duration::from_secs(10),
            factor: 2.0,
            jitter: 0.2,
            reset_after: Duration::from_secs(60),
        }
    }
}

/// What a supervisor does about its children.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SupervisorPolicy {
    /// Who shares a restart.
    pub strategy: Strategy,
    /// Restarts allowed within `period`; one more and it gives up.
    pub intensity: u32,
    /// The window of `intensity`.
    #[serde(serialize_with = "duration_text")]
    pub period: Duration,
    /// Whose restarts count.
    pub intensity_scope: IntensityScope,
    /// Wait before restarts; none: at once.
    pub backoff: Option<Backoff>,
    /// A child that exhausts its own intensity is parked instead of ending the supervisor.
    /// Only with `intensity_scope = child`.
    pub quarantine: bool,
    /// What a restarted cell begins with; the actors of tasks always begin fresh.
    pub behaviour: Behaviour,
    /// Whether significant children end the supervisor.
    pub auto_shutdown: AutoShutdown,
    /// Most children at a time; a further one is refused.
    pub max_children: u32,
    /// Most restarts a second; those beyond it wait. None: no limit but `intensity`. Of cells it is
    /// their group's, also when that is restarted as one.
    pub restart_budget_per_s: Option<u32>,
}

impl Default for SupervisorPolicy {
    fn default() -> Self {
        Self {
            strategy: Strategy::OneForOne,
            intensity: 1,
            period: Duration::from_secs(5),
            intensity_scope: IntensityScope::Supervisor,
            backoff: None,
            quarantine: false,
            behaviour: Behaviour::Fresh,
            auto_shutdown: AutoShutdown::Never,
            max_children: CHILDREN_MAX,
            restart_budget_per_s: None,
        }
    }
}

impl SupervisorPolicy {
    /// OTP's defaults with this strategy.
    #[must_use]
    pub fn new(strategy: Strategy) -> Self {
        Self {
            strategy,
            ..Self::default()
        }
    }

    /// At most `restarts` within `period`; more than [`INTENSITY_MAX`] are refused when it is used.
    #[must_use]
    pub const fn intensity(mut self, restarts: u32, period: Duration) -> Self {
        self.intensity = restarts;
        self.period = period;
        self
    }

    /// Counts each child's restarts by themselves; one that has too many is parked.
    #[must_use]
    pub const fn quarantine(mut self) -> Self {
        self.intensity_scope = IntensityScope::Child;
        self.quarantine = true;
        self
    }

    /// Waits before restarts.
    #[must_use]
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = Some(backoff);
        self
    }

    /// A restarted cell goes on with the state of the former.
    #[must_use]
    pub const fn resume(mut self) -> Self {
        self.behaviour = Behaviour::Resume;
        self
    }

    /// Ends the supervisor with its significant children.
    #[must_use]
    pub const fn auto_shutdown(mut self, auto_shutdown: AutoShutdown) -> Self {
        self.auto_shutdown = auto_shutdown;
        self
    }

    /// At most this many restarts a second; more are put off.
    #[must_use]
    pub const fn restart_budget_per_s(mut self, restarts: u32) -> Self {
        self.restart_budget_per_s = Some(restarts);
        self
    }

    /// At most `max` children at a time.
    #[must_use]
    pub const fn max_children(mut self, max: u32) -> Self {
        self.max_children = max;
        self
    }
}

/// What is wrong with a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// More than a window can remember.
    #[error("intensity is {0}, at most {INTENSITY_MAX}")]
    Intensity(u32),
    /// No time at all, or more than a day.
    #[error("period is {}, more than 0s and at most a day", humantime::format_duration(*.0))]
    Period(Duration),
    /// There is nobody to park for the restarts of all.
    #[error("quarantine parks a child for its own restarts: it needs intensity_scope = \"child\"")]
    QuarantineScope,
    /// The longest wait is shorter than the first, or longer than a day.
    #[error("backoff.max is {}, at least backoff.min and at most a day",
        humantime::format_duration(*.0))]
    BackoffMax(Duration),
    /// Waits would shrink, or are no number.
    #[error("backoff.factor is at least 1 and at most {FACTOR_MAX}")]
    BackoffFactor,
    /// More than the whole wait, or no number.
    #[error("backoff.jitter is 0 to 1")]
    BackoffJitter,
    /// No child at all, or more than a table holds.
    #[error("max_children is {0}, at least 1 and at most {CHILDREN_MAX}")]
    MaxChildren(u32),
    /// Nothing would ever be restarted, or more than can be.
    #[error("restart_budget_per_s is {0}, at least 1 and at most {BUDGET_MAX}")]
    Budget(u32),
}

impl SupervisorPolicy {
    /// Whether it makes sense, whoever it is for. Policy files are read by stricter rules with
    /// places; this is for policies that a program made.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn check(&self) -> Result<(), Vec<PolicyError>> {
        let mut errors = Vec::new();
        let mut note = |wrong: bool, error| {
            if wrong {
                errors.push(error);
            }
        };
        note(
            self.intensity > INTENSITY_MAX,
            PolicyError::Intensity(self.intensity),
        );
        let period = self.period;
        note(
            period.is_zero() || period > DURATION_MAX,
            PolicyError::Period(period),
        );
        note(
            self.quarantine && self.intensity_scope == IntensityScope::Supervisor,
            PolicyError::QuarantineScope,
        );
        if let Some(backoff) = &self.backoff {
            let Backoff { min, max, .. } = *backoff;
            note(
                max < min || max > DURATION_MAX,
                PolicyError::BackoffMax(max),
            );
            let factor_fits = (1.0..=FACTOR_MAX).contains(&backoff.factor);
            note(!factor_fits, PolicyError::BackoffFactor);
            let jitter_fits = (0.0..=1.0).contains(&backoff.jitter);
            note(!jitter_fits, PolicyError::BackoffJitter);
        }
        let children = self.max_children;
        note(
            children == 0 || children > CHILDREN_MAX,
            PolicyError::MaxChildren(children),
        );
        if let Some(budget) = self.restart_budget_per_s {
            let fits = (1..=BUDGET_MAX).contains(&budget);
            note(!fits, PolicyError::Budget(budget));
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }
}

/// Writes a duration with its unit (`5s`).
fn duration_text<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_otp_s() {
        let policy = SupervisorPolicy::default();
        assert_eq!(policy.strategy, Strategy::OneForOne);
        assert_eq!(
            (policy.intensity, policy.period),
            (1, Duration::from_secs(5))
        );
        assert_eq!(policy.auto_shutdown, AutoShutdown::Never);
        assert_eq!(Shutdown::WORKER.to_string(), "5s");
    }

    #[test]
    fn a_policy_that_contradicts_itself_is_told_everything_at_once() {
        assert_eq!(SupervisorPolicy::default().check(), Ok(()));
        let wrong = SupervisorPolicy {
            period: Duration::ZERO,
            quarantine: true,
            max_children: 0,
            restart_budget_per_s: Some(0),
            backoff: Some(Backoff {
                max: Duration::ZERO,
                factor: f64::NAN,
                jitter: 2.0,
                ..Backoff::default()
            }),
            ..SupervisorPolicy::default()
        };
        let too_many = SupervisorPolicy::default().intensity(INTENSITY_MAX + 1, DURATION_MAX);
        let told = [PolicyError::Intensity(INTENSITY_MAX + 1)];
        assert_eq!(too_many.check().unwrap_err(), told, "not another number");
        let errors = wrong.check().unwrap_err();
        let expected = [
            PolicyError::Period(Duration::ZERO),
            PolicyError::QuarantineScope,
            PolicyError::BackoffMax(Duration::ZERO),
            PolicyError::BackoffFactor,
            PolicyError::BackoffJitter,
            PolicyError::MaxChildren(0),
            PolicyError::Budget(0),
        ];
        assert_eq!(errors, expected);
    }

    #[test]
    fn shutdown_is_read_as_it_is_written() {
        for text in ["brutal_kill", "infinity", "5s", "250ms"] {
            assert_eq!(text.parse::<Shutdown>().unwrap().to_string(), text);
        }
        assert!("soon".parse::<Shutdown>().is_err());
    }
}
