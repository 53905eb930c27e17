//! `restart`: 256 states by turns, then one.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;

use peer_probe::{Deaths, Job, Line};

use crate::{State, step};

pub(crate) fn run(job: &Job) -> Line {
    let measured = Deaths::measure(job, |actors, deaths| {
        run_until_over(actors, deaths);
        Ok::<_, Infallible>(())
    });
    measured.unwrap_or_else(|never| match never {})
}

/// As an actor would: each incarnation is handed one message.
fn run_until_over(actors: usize, deaths: &Arc<Deaths>) {
    let mut states: Vec<State> = (0..actors).map(|_| State::default()).collect();
    for index in (0..actors).cycle() {
        if !deaths.next() {
            return;
        }
        step(black_box(&mut states[index]), Some(deaths));
    }
}
