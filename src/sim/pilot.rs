//! A script that pilots a simulation.
//!
//! The script has a thread of its own, but only one of the two runs at a time: the simulation
//! stands still at an instant of virtual time while the script thinks, and the script while time
//! passes. So what happens depends on script and seed alone. It moves no time itself: it tells
//! until when the script waits. Bound: one question at a time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use actorsim_actors::Time;
use serde_json::{Map, Value as Json};

use super::plane::SimPlane;
use super::{SimConfig, Stop};
use crate::attach::control::dispatch;
use crate::report;
use crate::scenario::{self, Host, HostError, Script};
use crate::status;

/// A script's question.
enum Question {
    Command(String, Map<String, Json>),
    Wait(Duration),
}

type Answer = Result<Json, HostError>;

/// The simulation as the script sees it.
struct SimHost {
    questions: SyncSender<Question>,
    answers: parking_lot::Mutex<Receiver<Answer>>,
    /// Virtual nanoseconds; written only while the script waits for an answer.
    now: Arc<AtomicU64>,
    stop: Stop,
    seed: u64,
    quiet: bool,
}

impl SimHost {
    fn ask(&self, question: Question) -> Answer {
        let sent = self.questions.send(question);
        sent.map_err(|_| HostError::Over)?;
        self.answers.lock().recv().map_err(|_| HostError::Over)?
    }
}

impl Host for SimHost {
    fn command(&self, name: &str, args: Map<String, Json>) -> Answer {
        self.ask(Question::Command(name.to_owned(), args))
    }

    fn wait(&self, time: Duration) -> Result<(), HostError> {
        self.ask(Question::Wait(time)).map(drop)
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.now.load(Ordering::Acquire))
    }

    fn log(&self, line: &str) {
        if !self.quiet {
            status::above(|stderr| std::io::Write::write_fmt(stderr, format_args!("{line}\n")));
        }
    }

    fn is_over(&self) -> bool {
        self.stop.is_asked()
    }

    fn seed(&self) -> u64 {
        self.seed
    }
}

/// What the script is about.
enum State {
    /// It thinks; its next question is waited for.
    Thinks,
    /// It waits for a time.
    Waits(Time),
    /// It waits for a command.
    Asked(Pin<Box<dyn Future<Output = Answer>>>),
    /// The answer of the command is there, and is given at the next look.
    Answered(Answer),
    /// It has ended.
    Over,
}

/// A script under way.
pub(super) struct Pilot {
    state: State,
    questions: Receiver<Question>,
    answers: SyncSender<Answer>,
    now: Arc<AtomicU64>,
    plane: Arc<SimPlane>,
    thread: Option<JoinHandle<report::Scenario>>,
    outcome: Option<report::Scenario>,
}

/// Until when the simulation may go on.
pub(super) enum Leave {
    /// The script waits until then.
    Until(Time),
    /// The script waits for its command.
    Command,
    /// The script is over.
    Over,
}

/// Resolves when the command that a script waits for has its answer; never without one.
pub(super) async fn answered(pilot: &mut Option<&mut Pilot>) {
    match pilot {
        Some(pilot) => std::future::poll_fn(|cx| pilot.poll(cx)).await,
        None => std::future::pending().await,
    }
}

impl Pilot {
    /// The script of a run, begun, if it has one.
    ///
    /// # Errors
    /// The host gives no thread.
    pub(super) fn of(
        config: &SimConfig,
        plane: impl FnOnce() -> SimPlane,
        stop: &Stop,
    ) -> std::io::Result<Option<Self>> {
        let begun = config
            .scenario
            .as_ref()
            .map(|script| Self::start(script, config, plane(), stop));
        begun.transpose()
    }

    fn start(
        script: &Script,
        config: &SimConfig,
        plane: SimPlane,
        stop: &Stop,
    ) -> std::io::Result<Self> {
        let (ask, questions) = sync_channel(1);
        let (answers, told) = sync_channel(1);
        let now = Arc::new(AtomicU64::new(0));
        let host = SimHost {
            questions: ask,
            answers: parking_lot::Mutex::new(told),
            now: Arc::clone(&now),
            stop: stop.clone(),
            seed: config.seed,
            quiet: config.quiet,
        };
        let thread = scenario::begin(script.clone(), Arc::new(host), |outcome| outcome)?;
        Ok(Self {
            state: State::Thinks,
            questions,
            answers,
            now,
            plane: Arc::new(plane),
            thread: Some(thread),
            outcome: None,
        })
    }

    /// Lets the script go on at this instant, as far as it can. The shards must be settled before.
    pub(super) fn go(&mut self, now: Time) -> Leave {
        self.now.store(now.0, Ordering::Release);
        loop {
            match std::mem::replace(&mut self.state, State::Thinks) {
                State::Waits(until) if now < until => {
                    self.state = State::Waits(until);
                    return Leave::Until(until);
                }
                State::Waits(_) => self.answer(Ok(Json::Null)),
                State::Answered(answer) => self.answer(answer),
                State::Asked(command) => {
                    self.state = State::Asked(command);
                    return Leave::Command;
                }
                State::Over => {
                    self.state = State::Over;
                    return Leave::Over;
                }
                State::Thinks => self.listen(now),
            }
        }
    }

    fn answer(&mut self, answer: Answer) {
        // Nobody listens any more: the next look finds that it has ended.
        let _ = self.answers.send(answer);
    }

    /// Waits for the script's next question; virtual time stands still meanwhile.
    fn listen(&mut self, now: Time) {
        self.state = match self.questions.recv() {
            Ok(Question::Wait(time)) => State::Waits(now + time),
            Ok(Question::Command(name, args)) => {
                let plane = Arc::clone(&self.plane);
                State::Asked(Box::pin(async move {
                    let answer = dispatch(&*plane, &name, &args, 0).await;
                    answer.map_err(|refusal| HostError::Refused(refusal.message))
                }))
            }
            Err(_) => {
                self.outcome = self.thread.take().map(joined);
                State::Over
            }
        };
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let State::Asked(command) = &mut self.state else {
            return Poll::Pending;
        };
        match command.as_mut().poll(cx) {
            Poll::Ready(answer) => {
                self.state = State::Answered(answer);
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// What the script said and expected; one that is under way is ended first.
    pub(super) fn finish(mut self) -> Option<report::Scenario> {
        drop(self.answers);
        drop(self.questions);
        let ended = self.thread.take().map(joined);
        self.outcome.or(ended)
    }
}

/// The outcome of a script's thread.
fn joined(thread: JoinHandle<report::Scenario>) -> report::Scenario {
    thread.join().unwrap_or_else(|_| scenario::lost())
}
