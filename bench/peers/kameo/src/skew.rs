//! `skew`: actors on two workers that take work from each other.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};

use kameo::actor::{Actor, ActorRef, Spawn};
use kameo::error::Infallible;
use kameo::mailbox;
use kameo::message::{Context, Message};
use peer_probe::{Job, Line, Meter, Payload, Spread, payload};
use peer_runtimes::two_workers;

struct Token(Payload);

type All = Arc<OnceLock<Vec<ActorRef<Stop>>>>;

struct Stop {
    spread: Spread,
    all: All,
    done: SyncSender<()>,
}

impl Actor for Stop {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(stop: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(stop)
    }
}

impl Message<Token> for Stop {
    type Reply = ();

    async fn handle(&mut self, Token(mut token): Token, _: &mut Context<Self, ()>) {
        if token[0] == 0 {
            let _ = self.done.send(());
            return;
        }
        let next = self.spread.next(&mut token) as usize;
        let all = self.all.get().expect("set before the first token");
        all[next].tell(Token(token)).await.expect("it lives");
    }
}

pub(crate) fn run(job: &Job) -> Line {
    let rates = Spread::all(job.size).map(|spread| messages_per_s(spread, job.size));
    Spread::line(&rates)
}

fn messages_per_s(spread: Spread, messages: u64) -> f64 {
    let (done, over) = sync_channel(Spread::TOKENS as usize);
    let runtime = two_workers();
    let actors = runtime.block_on(async {
        let all = All::default();
        let spawn = |_| {
            let stop = Stop {
                spread,
                all: Arc::clone(&all),
                done: done.clone(),
            };
            Stop::spawn_with_mailbox(stop, mailbox::bounded(Spread::TOKENS as usize))
        };
        let actors: Vec<_> = (0..Spread::ACTORS).map(spawn).collect();
        drop(all.set(actors.clone()));
        actors
    });
    let meter = Meter::start();
    for token in 0..Spread::TOKENS {
        let mut ball = payload(messages / Spread::TOKENS);
        ball[1] = token;
        let sent = actors[token as usize].tell(Token(ball)).try_send();
        sent.expect("it lives");
    }
    for _ in 0..Spread::TOKENS {
        over.recv().expect("they go on");
    }
    messages as f64 / meter.stop().wall_s
}
