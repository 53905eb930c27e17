//! Whose turn it is: what is due at a time, in which order children start and stop.
//!
//! One step of the state machine without an event. It decides about nobody's restart and never
//! waits. Bound: each turn starts or stops those that are due, one at a time where order matters.

use actorsim_actors::{Fault, Time};

use super::{Core, Effect, Fate, KILL_WAIT, Mode, Phase};
use crate::policy::{Shutdown, Strategy};
use crate::spec::Kind;
use crate::strategy::ChildId;

impl Core {
    /// Does everything that is due at `now`; the shell then carries out the effects.
    pub(crate) fn settle(&mut self, now: Time) {
        self.lose_patience(now);
        self.stop_turn(now);
        if matches!(self.mode, Mode::Ending(_)) {
            if self.alive == 0 && !self.finished {
                self.finished = true;
                self.effects.push_back(Effect::Finished);
            }
            return;
        }
        self.start_turn(now);
        let quiet = self.pending.is_empty() && self.starting == 0 && self.none_to_stop();
        self.ordered &= !quiet;
        if self.mode == Mode::Initial && quiet {
            self.mode = Mode::Serving;
            self.effects.push_back(Effect::Ready);
        }
    }

    /// When [`Core::settle`] has something to do without an event.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let kill = self.kill_at.first().map(|(at, _)| *at);
        let start = match (self.in_order(), self.mode == Mode::Initial) {
            _ if matches!(self.mode, Mode::Ending(_)) => None,
            (false, _) => self.due.first().map(|(at, _)| *at),
            (true, _) if self.starting > 0 || !self.none_to_stop() => None,
            (true, _) => self.pending.first().and_then(|id| self.pending_at(*id)),
        };
        kill.into_iter().chain(start).min()
    }

    /// Whether children start and stop one at a time.
    fn in_order(&self) -> bool {
        match self.tree.policy.strategy {
            Strategy::OneForAll | Strategy::RestForOne => true,
            Strategy::OneForOne => self.ordered || self.mode != Mode::Serving,
            Strategy::SimpleOneForOne => false,
        }
    }

    fn none_to_stop(&self) -> bool {
        self.condemned.is_empty() && self.stopping.is_empty()
    }

    fn lose_patience(&mut self, now: Time) {
        while let Some((at, id)) = self.kill_at.first().copied().filter(|(at, _)| *at <= now) {
            self.kill_at.remove(&(at, id));
            let Some(kid) = self.kids.get_mut(&id) else {
                continue;
            };
            kid.kill_at = None;
            if kid.forced {
                self.effects.push_back(Effect::Stuck(id));
                if matches!(self.mode, Mode::Ending(_)) {
                    kid.attempt += 1; // whatever it still says is ignored
                    let starts = matches!(kid.phase, Phase::Starting { .. });
                    self.starting -= usize::from(starts);
                    self.leave_life(id);
                    if starts {
                        self.give_up(id, Fate::Down, Fault::new("start_hangs"), now);
                    } else {
                        self.settle_fate(id, Fate::Down, now);
                    }
                }
            } else {
                self.force(id, now);
            }
        }
    }

    fn force(&mut self, id: ChildId, now: Time) {
        let Some(kid) = self.kids.get_mut(&id) else {
            return;
        };
        kid.forced = true;
        // a killed subtree still takes its children in order, each within its own time
        if kid.kind == Kind::Worker {
            kid.kill_at = Some(now + KILL_WAIT);
            self.kill_at.insert((now + KILL_WAIT, id));
        }
        let starting = matches!(kid.phase, Phase::Starting { .. });
        self.effects.push_back(if starting {
            Effect::Cancel(id)
        } else {
            Effect::Kill(id)
        });
    }

    fn stop_turn(&mut self, now: Time) {
        if self.in_order() {
            if self.stopping.is_empty()
                && let Some(id) = self.condemned.pop_last()
            {
                self.tell_to_stop(id, now);
            }
        } else {
            while let Some(id) = self.condemned.pop_last() {
                self.tell_to_stop(id, now);
            }
        }
    }

    fn tell_to_stop(&mut self, id: ChildId, now: Time) {
        let Some(kid) = self.kids.get_mut(&id) else {
            return;
        };
        self.stopping.insert(id);
        kid.told = true;
        let starting = matches!(kid.phase, Phase::Starting { .. });
        let patience = match kid.shutdown {
            Shutdown::BrutalKill => return self.force(id, now),
            Shutdown::After(time) => Some(now + time),
            Shutdown::Infinity => None,
        };
        match (starting, kid.kind) {
            (false, _) => self.effects.push_back(Effect::Stop(id)),
            // a subtree ends its own start in order
            (true, Kind::Supervisor) => self.effects.push_back(Effect::Cancel(id)),
            // a worker may finish its start and is stopped then
            (true, Kind::Worker) => {}
        }
        if let Some(at) = patience {
            kid.kill_at = Some(at);
            self.kill_at.insert((at, id));
        }
    }

    fn start_turn(&mut self, now: Time) {
        if !self.in_order() {
            while let Some((at, id)) = self.due.first().copied() {
                if at > now {
                    return;
                }
                self.begin(id);
            }
            return;
        }
        if self.starting > 0 || !self.none_to_stop() {
            return;
        }
        if let Some(id) = self.pending.first().copied()
            && self.pending_at(id).is_some_and(|at| at <= now)
        {
            self.begin(id);
        }
    }

    fn begin(&mut self, id: ChildId) {
        self.unqueue(id);
        let Some(kid) = self.kids.get_mut(&id) else {
            return;
        };
        kid.attempt += 1;
        let attempt = kid.attempt;
        self.starting += 1;
        self.alive += 1;
        self.set(
            id,
            Phase::Starting {
                gone: None,
                failed: None,
            },
        );
        self.effects.push_back(Effect::Start(id, attempt));
    }
}
