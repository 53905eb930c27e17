//! `memory`: a registered process monitored by its supervisor, its timer by `send_after`.
//! One supervisor per 256 devices: its child list is searched linearly.

use peer_probe::{Device, Job, Line, MAILBOX, TIMER, name, resident_bytes};
use rusm_otp::{Context, Pid, Runtime, Strategy};
use tokio::sync::mpsc;

const GROUP: usize = 256;

async fn device(runtime: Runtime, mut context: Context, answers: mpsc::Sender<u64>) {
    let mut device = Device::new();
    loop {
        match context.recv().await.message().as_deref() {
            Some(b"tick") => {
                device.tick();
                runtime.send_after(context.pid(), TIMER, b"tick".to_vec());
            }
            Some(b"info") => drop(answers.send(device.ticks).await),
            _ => {}
        }
    }
}

async fn found(runtime: &Runtime, name: &str) -> Pid {
    loop {
        if let Some(pid) = runtime.whereis(name) {
            return pid;
        }
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn run(job: Job) -> Line {
    let actors = job.count();
    let runtime = Runtime::with_mailbox_capacity(MAILBOX);
    let (answers, mut answered) = mpsc::channel(64);
    let before = resident_bytes();
    for first in (0..actors).step_by(GROUP) {
        let mut supervisor = runtime.supervisor(Strategy::OneForOne);
        for index in first..actors.min(first + GROUP) {
            let answers = answers.clone();
            supervisor = supervisor.child(move |runtime| {
                let (inner, answers) = (runtime.clone(), answers.clone());
                let handle = runtime.spawn(move |context| device(inner, context, answers));
                runtime.register(name(index), handle.pid());
                handle
            });
        }
        supervisor.start();
    }
    for index in 0..actors {
        let pid = found(&runtime, &name(index)).await;
        assert!(runtime.send(pid, b"tick".to_vec()), "it lives");
    }
    for index in 0..actors {
        let pid = found(&runtime, &name(index)).await;
        assert!(runtime.send(pid, b"info".to_vec()), "it lives");
        assert!(answered.recv().await.is_some_and(|ticks| ticks >= 1));
    }
    Line::new().memory(actors, before, resident_bytes())
}
