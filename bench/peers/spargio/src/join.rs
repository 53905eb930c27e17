//! `fan-out`, the join form: a stealable task for each branch, as in spargio's own benchmark.

use std::time::Instant;

use futures::executor::block_on;
use peer_probe::{Join, Latencies, Line};

use crate::runtime;

pub(crate) fn run() -> Line {
    Line::new()
        .with("join_balanced", joined(Join { skewed: false }))
        .with("join_skewed", joined(Join { skewed: true }))
}

fn joined(join: Join) -> f64 {
    let runtime = runtime(2);
    let handle = runtime.handle();
    let asker = runtime.spawn_on(0, async move {
        let (mut took, sum) = (Latencies::default(), join.sum());
        for _ in 0..Join::REPEATS {
            let (began, mut all) = (Instant::now(), 0_u64);
            for request in 0..Join::REQUESTS {
                let mut branches = Vec::new();
                for branch in 0..Join::BRANCHES {
                    let task = async move { join.branch(request, branch) };
                    branches.push(handle.spawn_stealable(task).expect("a free place"));
                }
                for branch in branches {
                    all = all.wrapping_add(branch.await.expect("it does not panic"));
                }
            }
            assert_eq!(all, sum);
            took.since(began);
        }
        took.us(0.5)
    });
    block_on(asker.expect("shard 0 lives")).expect("it does not panic")
}
