//! What the faults in force on a line do to one packet.
//!
//! Pure: the same rules, packet number and seed give the same fate. Where packets wait is each
//! network's own. Bound: the strikes of a plan that last.

use std::collections::BTreeMap;
use std::time::Duration;

use actorsim_supervision::chaos::{Fault, FaultPlan, StrikeKey, Way, draw};

/// Resolution of shares.
const SHARES: u64 = 1 << 32;

/// A fault on one line, or on all.
#[derive(Debug)]
struct Rule {
    line: Option<u32>,
    fault: FaultPlan,
}

/// All that are in force, by their strikes.
#[derive(Debug, Default)]
pub(super) struct Rules {
    seed: u64,
    in_force: BTreeMap<StrikeKey, Rule>,
}

/// What becomes of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Lost,
    /// It waits for the end of a strike.
    Held(StrikeKey),
    Goes {
        late: Duration,
        twice: bool,
    },
}

/// What one rule does to it.
enum Verdict {
    Pass,
    Lose,
    Hold,
    Twice,
    Late(Duration),
}

impl Rule {
    fn is_on(&self, line: u32) -> bool {
        self.line.is_none_or(|of| of == line)
    }

    fn acts(&self, up: bool) -> bool {
        match self.fault.way {
            Way::Both => true,
            Way::Up => up,
            Way::Down => !up,
        }
    }

    fn verdict(&self, seed: u64, packet: u64) -> Verdict {
        let plan = &self.fault;
        let drawn = || draw::below(seed, packet, 0, SHARES);
        let hit = || (drawn() as f64) < plan.share * SHARES as f64;
        match plan.fault {
            Fault::Partition => Verdict::Lose,
            Fault::Clog | Fault::Swizzle => Verdict::Hold,
            Fault::DropMsg if hit() => Verdict::Lose,
            Fault::DupMsg if hit() => Verdict::Twice,
            Fault::DelayMsg => Verdict::Late(plan.delay),
            Fault::ReorderAcrossSenders if hit() => Verdict::Late(plan.delay),
            _ => Verdict::Pass,
        }
    }
}

impl Rules {
    pub(super) fn new(seed: u64) -> Self {
        let in_force = BTreeMap::new();
        Self { seed, in_force }
    }

    pub(super) const fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn begin(&mut self, strike: StrikeKey, line: Option<u32>, fault: FaultPlan) {
        self.in_force.insert(strike, Rule { line, fault });
    }

    pub(super) fn end(&mut self, strike: StrikeKey) {
        self.in_force.remove(&strike);
    }

    /// Whether one is in force on packets of a line that go this way.
    pub(super) fn act(&self, line: u32, up: bool) -> bool {
        let mut rules = self.in_force.values();
        rules.any(|rule| rule.is_on(line) && rule.acts(up))
    }

    /// What becomes of packet `number` of its network. One that a strike held back is asked about
    /// again at its end, as if it were sent then: another rule may hold, delay or lose it.
    pub(super) fn fate(&self, line: u32, up: bool, number: u64) -> Fate {
        let (mut late, mut twice) = (Duration::ZERO, false);
        for (strike, rule) in &self.in_force {
            if !rule.is_on(line) || !rule.acts(up) {
                continue;
            }
            // Parts of one strike are on lines of their own, and no two packets have one number.
            match rule.verdict(self.seed ^ strike.0, number) {
                Verdict::Pass => {}
                Verdict::Lose => return Fate::Lost,
                Verdict::Hold => return Fate::Held(*strike),
                Verdict::Twice => twice = true,
                Verdict::Late(by) => late += by,
            }
        }
        Fate::Goes { late, twice }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONCE: Fate = Fate::Goes {
        late: Duration::ZERO,
        twice: false,
    };

    #[test]
    fn a_rule_acts_on_its_line_and_its_way_and_the_first_that_stops_a_packet_wins() {
        let mut rules = Rules::new(7);
        let up = FaultPlan {
            way: Way::Up,
            ..FaultPlan::new(Fault::Partition)
        };
        rules.begin((3, 0), Some(1), up);
        rules.begin((2, 1), None, FaultPlan::new(Fault::DelayMsg));
        let late = Fate::Goes {
            late: Duration::from_millis(50),
            twice: false,
        };
        for (line, up, fate) in [(1, true, Fate::Lost), (1, false, late), (2, true, late)] {
            assert_eq!(rules.fate(line, up, 0), fate, "line {line}, up {up}");
        }
        rules.begin((1, 0), Some(1), FaultPlan::new(Fault::Clog));
        assert_eq!(rules.fate(1, true, 0), Fate::Held((1, 0)));
        [(1, 0), (2, 1)].into_iter().for_each(|key| rules.end(key));
        assert_eq!(rules.fate(1, false, 0), ONCE);
        assert!(rules.act(1, true) && !rules.act(1, false) && !rules.act(2, true));
    }

    #[test]
    fn a_share_is_drawn_packet_by_packet_and_the_same_again() {
        for (fault, whole) in [
            (Fault::DropMsg, Fate::Lost),
            (
                Fault::DupMsg,
                Fate::Goes {
                    late: Duration::ZERO,
                    twice: true,
                },
            ),
            (
                Fault::ReorderAcrossSenders,
                Fate::Goes {
                    late: Duration::from_millis(50),
                    twice: false,
                },
            ),
        ] {
            let mut rules = Rules::new(7);
            let share = 0.25;
            rules.begin(
                (9, 0),
                None,
                FaultPlan {
                    share,
                    ..FaultPlan::new(fault)
                },
            );
            let fates = || (0..4_000).map(|n| rules.fate(0, true, n));
            let hit = fates().filter(|fate| *fate == whole).count();
            assert!((800..1_200).contains(&hit), "{fault}: {hit} of 4,000");
            assert!(fates().all(|fate| fate == whole || fate == ONCE));
            assert!(fates().eq(fates()));
        }
    }
}
