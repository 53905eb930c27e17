//! How far something long is: a bar on a terminal, plain lines elsewhere.
//!
//! What is over within a second is not shown at all, what stands still gives its place away.
//! Bound: one bar at a time; drawn at most ten
//! times a second on a terminal, told every [`PLAIN_EVERY`] elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use actorsim_actors::{Clock, Time};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;

use crate::status::{self, PLAIN_EVERY, grouped};
use crate::view::UnderWay;

/// What takes less is not worth a bar.
const SHOWN_AFTER: Duration = Duration::from_secs(1);
/// Draws of a bar a second.
const DRAWS_PER_S: u8 = 10;

/// One thing that takes its time.
#[derive(Debug)]
pub struct Bar {
    what: &'static str,
    clock: Clock,
    whole: u64,
    live: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bar: Option<ProgressBar>,
    next: Time,
}

impl Bar {
    /// So many of something that are to be done.
    #[must_use]
    pub fn new(what: &'static str, whole: u64) -> Self {
        Self::on(what, whole, is_live())
    }

    fn on(what: &'static str, whole: u64, live: bool) -> Self {
        let clock = Clock::wall();
        let wait = if live { SHOWN_AFTER } else { PLAIN_EVERY };
        let next = clock.monotonic() + wait;
        Self {
            what,
            clock,
            whole,
            live,
            state: Mutex::new(State { bar: None, next }),
        }
    }

    /// So many are done.
    pub fn at(&self, done: u64) {
        let state = &mut *self.state.lock();
        if let Some(bar) = &state.bar {
            bar.set_position(done);
            return;
        }
        let now = self.clock.monotonic();
        if now < state.next {
            return;
        }
        if self.live {
            status::show(""); // one line at a time
            let bar = ProgressBar::with_draw_target(
                Some(self.whole),
                ProgressDrawTarget::stderr_with_hz(DRAWS_PER_S),
            );
            bar.set_style(style());
            bar.set_message(self.what);
            bar.set_position(done);
            state.bar = Some(bar);
        } else {
            state.next = now + PLAIN_EVERY;
            let line = self.line(done);
            status::above(|stderr| writeln!(stderr, "{line}"));
        }
    }

    /// Takes it off the terminal, until more is done.
    fn hide(&self) {
        if let Some(bar) = self.state.lock().bar.take() {
            bar.finish_and_clear();
        }
    }

    fn line(&self, done: u64) -> String {
        let share = done as f64 / self.whole.max(1) as f64 * 100.0;
        let (done, whole) = (grouped(done), grouped(self.whole));
        format!("{}: {done} of {whole}  {share:.0} %", self.what)
    }
}

/// What a node is about that takes its time, as its snapshots tell it.
#[derive(Debug)]
pub struct Phases {
    live: bool,
    shown: Option<(UnderWay, Bar)>,
    /// Looks since it got on.
    still: u32,
}

/// Looks without getting on after which it is no news any more.
const STILL_MAX: u32 = 10;

impl Default for Phases {
    fn default() -> Self {
        Self::on(is_live())
    }
}

impl Phases {
    const fn on(live: bool) -> Self {
        Self {
            live,
            shown: None,
            still: 0,
        }
    }

    /// Shows what is under way; false if nothing is, or if it does not get on.
    pub fn show(&mut self, under_way: Option<UnderWay>) -> bool {
        let Some(now) = under_way else {
            (self.shown, self.still) = (None, 0);
            return false;
        };
        let same = |shown: &UnderWay| (shown.what, shown.whole) == (now.what, now.whole);
        let got_on = match &mut self.shown {
            Some((shown, _)) if same(shown) => std::mem::replace(shown, now) != now,
            _ => {
                let bar = Bar::on(now.what, now.whole, self.live);
                self.shown = Some((now, bar));
                true
            }
        };
        self.still = if got_on {
            0
        } else {
            self.still.saturating_add(1)
        };
        let shows = self.still < STILL_MAX;
        match &self.shown {
            Some((_, bar)) if shows => bar.at(now.done),
            Some((_, bar)) => bar.hide(),
            None => {}
        }
        shows
    }
}

/// Whether there is a terminal to draw on.
fn is_live() -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    std::io::stderr().is_terminal() && !dumb
}

fn style() -> ProgressStyle {
    let template = "{msg} [{bar:30}] {human_pos} of {human_len}  {per_sec}  {eta} left";
    let plain = ProgressStyle::default_bar;
    let styled = ProgressStyle::with_template(template);
    styled.map_or_else(|_| plain(), |style| style.progress_chars("=> "))
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.state.get_mut().bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_line_names_what_is_done_and_the_share() {
        let bar = Bar::on("starting devices", 100_000, false);
        assert_eq!(
            bar.line(25_000),
            "starting devices: 25,000 of 100,000  25 %"
        );
        bar.at(3); // too soon to be told
        assert!(style().get_tick_str(0).len() < 100);
    }

    #[test]
    fn what_stands_still_gives_its_place_to_the_status_line_and_takes_it_again() {
        for live in [false, true] {
            let mut phases = Phases::on(live);
            let at = |what, done| {
                let whole = 100_000;
                Some(UnderWay { what, done, whole })
            };
            assert!(!phases.show(None));
            assert!(phases.show(at("starting devices", 10)));
            assert!(phases.show(at("connecting devices", 10)), "the next phase");
            let shown = (0..20).filter(|_| phases.show(at("connecting devices", 10)));
            assert_eq!(shown.count() as u32, STILL_MAX - 1, "live {live}");
            assert!(phases.show(at("connecting devices", 11)));
            assert!(!phases.show(None), "all are there");
            assert!(phases.shown.is_none());
        }
    }
}
