//! No library: states in a row, each step under `catch_unwind`, a state that dies is made anew:
//! what any supervisor of panics pays at least. A table of rows as plain arrays, and a file that is
//! written and synced.

mod journal;
mod restart;
mod scan;
mod storm;

use std::panic::{AssertUnwindSafe, catch_unwind};

use peer_probe::{Deaths, Job, quiet_panics};

/// An actor's state, as far as there is one.
#[derive(Default)]
struct State {
    seen: u64,
}

/// What a handler returns.
enum End {
    Fault,
}

impl State {
    #[inline(never)] // as a handler that is not known when the library is compiled
    fn handle(&mut self, deaths: Option<&Deaths>) -> Result<(), End> {
        self.seen += 1;
        match deaths {
            Some(deaths) => deaths.die(),
            None => panic!("the storm"),
        }
        Err(End::Fault)
    }
}

/// One step of a state that dies of it; the state is a new one then.
fn step(state: &mut State, deaths: Option<&Deaths>) {
    let handle = AssertUnwindSafe(|| state.handle(deaths));
    if !matches!(catch_unwind(handle), Ok(Ok(()))) {
        *state = State::default();
    }
}

fn main() {
    let job = Job::of_args();
    quiet_panics();
    let line = match job.scenario.as_str() {
        "journal" => journal::run(&job),
        "restart" => restart::run(&job),
        "scan" => scan::run(&job),
        "storm" => storm::run(&job),
        other => panic!("no {other}"),
    };
    line.report();
}
