//! `skew`: actors on two workers that take work from each other.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};

use peer_probe::{Job, Line, Meter, Payload, Spread, payload};
use peer_runtimes::two_workers;
use ractor::{Actor, ActorProcessingErr, ActorRef};

struct Token(Payload);

type All = Arc<OnceLock<Vec<ActorRef<Token>>>>;

struct Stop {
    spread: Spread,
    all: All,
    done: SyncSender<()>,
}

impl Actor for Stop {
    type Msg = Token;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Token>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Token>,
        Token(mut token): Token,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if token[0] == 0 {
            return Ok(self.done.send(())?);
        }
        let next = self.spread.next(&mut token) as usize;
        let all = self.all.get().expect("set before the first token");
        Ok(all[next].send_message(Token(token))?)
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
        let (all, mut actors) = (All::default(), Vec::new());
        for _ in 0..Spread::ACTORS {
            let stop = Stop {
                spread,
                all: Arc::clone(&all),
                done: done.clone(),
            };
            let started = Actor::spawn(None, stop, ()).await;
            actors.push(started.expect("an actor").0);
        }
        drop(all.set(actors.clone()));
        actors
    });
    let meter = Meter::start();
    for token in 0..Spread::TOKENS {
        let mut ball = payload(messages / Spread::TOKENS);
        ball[1] = token;
        let sent = actors[token as usize].send_message(Token(ball));
        sent.expect("it lives");
    }
    for _ in 0..Spread::TOKENS {
        over.recv().expect("they go on");
    }
    messages as f64 / meter.stop().wall_s
}
