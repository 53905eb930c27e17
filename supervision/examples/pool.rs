//! A pool: workers of one kind under one supervisor, jobs dealt to whoever has room.
//!
//! `cargo run -p actorsim-supervision --example pool`
//!
//! Each worker has a small bounded mailbox of its own. A job goes to the next worker that has room;
//! where none has, the caller waits for one. A worker that dies of a job is back at once, without
//! that job: the pool shrinks by nobody, and the caller learns of it.
#![allow(clippy::unwrap_used, reason = "an example")]

use std::time::Duration;

use actorsim_actors::{
    ActorPath, Addr, Clock, Fault, Flow, MailboxSpec, Message, Overflow, Reply, SendError, System,
    TaskActor, TaskContext,
};
use actorsim_supervision::{ChildSpec, Strategy, SupervisorPolicy, SupervisorSpec, start_root};

const WORKERS: usize = 4;
/// Jobs that wait for one worker.
const ROOM: u32 = 2;
const JOBS: u64 = 200;
const DEADLINE: Duration = Duration::from_secs(5);

struct Job {
    number: u64,
    reply: Reply<u64>,
}
impl Message for Job {}

struct Worker;

impl TaskActor for Worker {
    type Msg = Job;

    async fn handle(&mut self, job: Job, _: &mut TaskContext<Job>) -> Result<Flow, Fault> {
        tokio::task::yield_now().await; // the work
        assert!(job.number % 50 != 7, "job {} is poisonous", job.number);
        job.reply.send(job.number * job.number);
        Ok(Flow::Continue)
    }
}

/// Deals jobs; clones deal to the same workers.
#[derive(Clone)]
struct Pool(Vec<Addr<Job>>);

impl Pool {
    /// The answer to a job, or none if it killed its worker.
    async fn run(&self, number: u64) -> Option<u64> {
        let (reply, answer) = Reply::channel();
        let mut job = Job { number, reply };
        for turn in 0..self.0.len() {
            let worker = &self.0[(number as usize + turn) % self.0.len()];
            job = match worker.try_send(job) {
                Ok(()) => return answer.await.ok(),
                Err(SendError::Full(job) | SendError::Restarting(job)) => job,
                Err(_) => return None,
            };
        }
        let worker = &self.0[number as usize % self.0.len()];
        worker.send(job, DEADLINE).await.ok()?;
        answer.await.ok()
    }
}

async fn work() {
    let system = System::new(Clock::wall(), tokio::runtime::Handle::current());
    let path = ActorPath::root().join("pool");
    let policy = SupervisorPolicy::new(Strategy::OneForOne).intensity(10, Duration::from_secs(1));
    let mut spec = SupervisorSpec::new(path.clone(), policy);
    let mut workers = Vec::new();
    for n in 0..WORKERS {
        let id = format!("worker-{n}");
        let addr = Addr::new(
            path.join(&id),
            MailboxSpec::new(ROOM, Overflow::Block).kept(),
        );
        spec = spec.child(ChildSpec::task(id, &addr, || Worker));
        workers.push(addr);
    }
    let root = start_root(&system, spec).await.unwrap();
    let pool = Pool(workers);

    let jobs = (0..JOBS).map(|number| {
        let pool = pool.clone();
        async move { (number, pool.run(number).await) }
    });
    let answers = futures_util::future::join_all(jobs).await;
    for (number, answer) in &answers {
        let poisonous = number % 50 == 7;
        assert_eq!(*answer, (!poisonous).then(|| number * number));
    }
    let done = answers
        .iter()
        .filter(|(_, answer)| answer.is_some())
        .count();
    assert_eq!(done, 196);
    // the last to die may be on its way back
    let all_up = async {
        while (root.count_children().await.unwrap().active as usize) < WORKERS {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, all_up).await.unwrap();
    println!("{done} jobs done, {WORKERS} workers up");
    for tally in root.supervision().tallies() {
        println!(
            "{}: {} times {}",
            tally.supervisor, tally.ends, tally.reason
        );
    }
    root.stop().await;
}

pub(crate) fn main() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all().build().unwrap().block_on(work());
}
