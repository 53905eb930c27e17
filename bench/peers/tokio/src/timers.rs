//! `idle`, `timers`: tasks that sleep, spread over the period.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use peer_probe::{Job, Latencies, Line, MAILBOX, Meter, Payload, TICK_NS, TIMER};
use tokio::sync::mpsc::channel;
use tokio::time::{Instant, sleep, sleep_until};

/// Every so many tasks one notes how late it was.
const NOTED_EACH: u64 = 16;
/// When a timer is due that is set again at each tick.
const FAR: Duration = Duration::from_secs(30);
/// From the last start to the first tick that counts.
const SETTLE: Duration = Duration::from_secs(2);

type Noted = Arc<Mutex<Latencies>>;

pub(crate) async fn idle(job: Job) -> Line {
    let mut senders = Vec::new();
    let began = Instant::now();
    for index in 0..job.size {
        let (sender, mut messages) = channel::<Payload>(MAILBOX);
        senders.push(sender);
        tokio::spawn(async move {
            let mut due = began + TIMER.mul_f64(index as f64 / job.size as f64);
            loop {
                tokio::select! {
                    biased;
                    message = messages.recv() => if message.is_none() { return },
                    () = sleep_until(due) => due += TIMER,
                }
            }
        });
    }
    tokio::task::yield_now().await;
    let meter = Meter::start();
    sleep(job.time()).await;
    let spent = meter.stop();
    Line::new().with("core_share", spent.cpu_s / spent.wall_s)
}

pub(crate) async fn run(job: Job) -> Line {
    let (share, p99) = measure(&job, false).await;
    let line = Line::new()
        .with("core_share", share)
        .with("lateness_p99", p99);
    let (share, p99) = measure(&job, true).await;
    line.with("rescheduling_core_share", share)
        .with("rescheduling_lateness_p99", p99)
}

async fn measure(job: &Job, reschedules: bool) -> (f64, f64) {
    let noted = Noted::default();
    let from = Instant::now() + SETTLE + Duration::from_micros(job.size * 2);
    let (mut senders, mut tasks) = (Vec::new(), Vec::new());
    for index in 0..job.size {
        let (sender, messages) = channel::<Payload>(MAILBOX);
        senders.push(sender);
        let place = Duration::from_nanos(index * TICK_NS / job.size);
        let first = from - Duration::from_secs(1) + place;
        let noted = index.is_multiple_of(NOTED_EACH).then(|| Arc::clone(&noted));
        let ticks = async move {
            let (mut messages, mut due) = (messages, first);
            let mut tick = pin!(sleep_until(due));
            let mut other = pin!(sleep(FAR));
            loop {
                tokio::select! {
                    biased;
                    message = messages.recv() => if message.is_none() { return },
                    () = &mut tick => {
                        if let Some(noted) = noted.as_ref().filter(|_| due >= from) {
                            let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                            noted.push(due.elapsed().as_nanos() as u64);
                        }
                        due += Duration::from_nanos(TICK_NS);
                        tick.as_mut().reset(due);
                        if reschedules {
                            other.as_mut().reset(Instant::now() + FAR);
                        }
                    }
                    () = &mut other, if reschedules => {}
                }
            }
        };
        tasks.push(tokio::spawn(ticks));
    }
    sleep_until(from).await;
    let meter = Meter::start();
    sleep(job.time()).await;
    let spent = meter.stop();
    let p99 = noted
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .us(0.99);
    drop(senders);
    for task in tasks {
        task.await.expect("it does not panic");
    }
    (spent.cpu_s / spent.wall_s, p99)
}
