//! `fan-out`: a process to 10,000; the join form sends to all branches and counts their answers.
//!
//! Mailboxes are unbounded: with a bound of 64 messages are shed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use peer_probe::{FAN_OUT_ROUNDS, Job, Join, Latencies, Line, Meter, payload};
use peer_runtimes::{hosted, two_workers};
use rusm_otp::{Context, Pid, Runtime};

use crate::{bytes, words};

pub(crate) fn run(job: &Job) -> Line {
    let line = messages(job.size);
    let joined = |skewed| two_workers().block_on(joined(Join { skewed }));
    line.with("join_balanced", joined(false))
        .with("join_skewed", joined(true))
}

fn messages(actors: u64) -> Line {
    let (done, over) = sync_channel(1);
    let (runtime, left) = (Runtime::new(), Arc::new(AtomicU64::new(actors)));
    let inner = runtime.clone();
    let source = hosted(move || async move {
        let spawn = |_| {
            let (left, done) = (Arc::clone(&left), done.clone());
            let handle = inner.spawn(move |mut context: Context| async move {
                let mut seen = 0;
                while seen < FAN_OUT_ROUNDS {
                    seen += u64::from(context.recv().await.message().is_some());
                }
                if left.fetch_sub(1, Ordering::AcqRel) == 1 {
                    let _ = done.send(());
                }
            });
            handle.pid()
        };
        let counters: Vec<Pid> = (0..actors).map(spawn).collect();
        let sending = inner.clone();
        let source = inner.spawn(move |mut context: Context| async move {
            let _begin = context.recv().await;
            for _ in 0..FAN_OUT_ROUNDS {
                for counter in &counters {
                    assert!(sending.send(*counter, bytes(payload(0))), "it lives");
                }
                tokio::task::yield_now().await; // the counters are on this thread, too
            }
        });
        source.pid()
    });
    let meter = Meter::start();
    assert!(runtime.send(source, Vec::new()), "it lives");
    over.recv().expect("they count");
    let all = actors * FAN_OUT_ROUNDS;
    Line::new().per("per_message", "cpu_per_message", all, meter.stop())
}

async fn joined(join: Join) -> f64 {
    let runtime = Runtime::new();
    let inner = runtime.clone();
    let (sender, mut measured) = tokio::sync::mpsc::channel(1);
    runtime.spawn(move |mut context: Context| async move {
        let asker = context.pid();
        let spawn = |number| {
            let runtime = inner.clone();
            let branch = inner.spawn(move |mut context: Context| async move {
                while let Some(request) = context.recv().await.message() {
                    let answer = join.branch(words(&request)[0], number);
                    runtime.send(asker, bytes(payload(answer)));
                }
            });
            branch.pid()
        };
        let branches: Vec<Pid> = (0..Join::BRANCHES).map(spawn).collect();
        let (mut took, sum) = (Latencies::default(), join.sum());
        for _ in 0..Join::REPEATS {
            let (began, mut all) = (Instant::now(), 0_u64);
            for request in 0..Join::REQUESTS {
                for branch in &branches {
                    assert!(inner.send(*branch, bytes(payload(request))), "it lives");
                }
                for _ in &branches {
                    let answer = context.recv().await.message().expect("an answer");
                    all = all.wrapping_add(words(&answer)[0]);
                }
            }
            assert_eq!(all, sum);
            took.since(began);
        }
        let _ = sender.send(took.us(0.5)).await;
    });
    measured.recv().await.expect("it does not panic")
}
