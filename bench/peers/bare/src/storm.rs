//! `storm`: two threads, each with half of the states, sorted by their place in the second.

use std::thread;
use std::time::{Duration, Instant};

use peer_probe::{Job, Latencies, Line, STORM_EACH, TICK_NS};

use crate::{State, step};

/// Pause between two looks at what is due.
const PAUSE: Duration = Duration::from_millis(1);
/// Each so many states one notes how late it was.
const NOTED_EACH: usize = 16;

pub(crate) fn run(job: &Job) -> Line {
    let began = Instant::now() + Duration::from_millis(100);
    let storm = began + job.time();
    let half = job.count() / 2;
    let threads = [0, 1].map(|n| thread::spawn(move || half_of(n * half, half, began, storm)));
    let (mut late, mut recovered) = (Latencies::default(), Duration::ZERO);
    for thread in threads {
        let (mut noted, took) = thread.join().expect("its panics are caught");
        late.append(&mut noted);
        recovered = recovered.max(took);
    }
    Line::new()
        .with("survivor_lateness_p99", late.us(0.99))
        .with("recovered", recovered.as_secs_f64())
}

fn half_of(first: usize, n: usize, began: Instant, storm: Instant) -> (Latencies, Duration) {
    let mut states: Vec<State> = (0..n).map(|_| State::default()).collect();
    let (mut late, mut recovered) = (Latencies::default(), None);
    let place = |index: usize| Duration::from_nanos(index as u64 * TICK_NS / n as u64);
    let (mut second, mut next) = (began, 0);
    let end = storm + Duration::from_nanos(TICK_NS);
    while second < end {
        let now = Instant::now();
        if now >= storm && recovered.is_none() {
            for index in (0..n).filter(|index| (first + index).is_multiple_of(STORM_EACH)) {
                step(&mut states[index], None);
            }
            recovered = Some(storm.elapsed());
        }
        while second + place(next) <= now {
            let (index, due) = (next, second + place(next));
            states[index].seen += 1;
            let survives = !(first + index).is_multiple_of(STORM_EACH);
            if survives && due >= storm && index.is_multiple_of(NOTED_EACH) {
                late.since(due);
            }
            next += 1;
            if next == n {
                (second, next) = (second + Duration::from_nanos(TICK_NS), 0);
            }
        }
        thread::sleep(PAUSE);
    }
    (late, recovered.unwrap_or_default())
}
