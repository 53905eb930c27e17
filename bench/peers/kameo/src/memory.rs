//! `memory`: a supervised, registered actor; kameo has no timer, so a tokio task sleeps and tells.

use kameo::actor::{Actor, ActorRef, Spawn};
use kameo::error::Infallible;
use kameo::mailbox;
use kameo::message::{Context, Message};
use peer_probe::{Device, Job, Line, MAILBOX, TIMER, name, resident_bytes};

use crate::supervisor;

struct DeviceActor(Device);

impl Actor for DeviceActor {
    type Args = ();
    type Error = Infallible;

    async fn on_start((): (), _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(Self(Device::new()))
    }
}

struct Tick;
struct Info;

impl Message<Tick> for DeviceActor {
    type Reply = ();

    async fn handle(&mut self, _: Tick, context: &mut Context<Self, ()>) {
        self.0.tick();
        let device = context.actor_ref().downgrade();
        tokio::spawn(async move {
            tokio::time::sleep(TIMER).await;
            if let Some(device) = device.upgrade() {
                drop(device.tell(Tick).await);
            }
        });
    }
}

impl Message<Info> for DeviceActor {
    type Reply = u64;

    async fn handle(&mut self, _: Info, _: &mut Context<Self, u64>) -> u64 {
        self.0.ticks
    }
}

pub(crate) async fn run(job: Job) -> Line {
    let actors = job.count();
    let supervisor = supervisor().await;
    let before = resident_bytes();
    for index in 0..actors {
        let device = DeviceActor::supervise(&supervisor, ())
            .spawn_with_mailbox(mailbox::bounded(MAILBOX))
            .await;
        device.register(name(index)).expect("a free name");
        device.tell(Tick).await.expect("it lives");
    }
    for index in 0..actors {
        let found = ActorRef::<DeviceActor>::lookup(name(index).as_str()).expect("a registry");
        let device = found.expect("a registered name");
        assert!(device.ask(Info).await.expect("an answer") >= 1);
    }
    Line::new().memory(actors, before, resident_bytes())
}
