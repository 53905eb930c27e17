//! `memory`: supervised actors (restarted when their context stops) on one arbiter; names are a
//! map beside it, since it registers types only.

use std::collections::BTreeMap;

use actix::{Actor, AsyncContext, Context, Handler, Message, Supervised, Supervisor, System};
use peer_probe::{Device, Job, Line, MAILBOX, TIMER, name, resident_bytes};

struct DeviceActor(Device);

impl Actor for DeviceActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.set_mailbox_capacity(MAILBOX);
    }
}

impl Supervised for DeviceActor {}

struct Tick;

impl Message for Tick {
    type Result = ();
}

struct Info;

impl Message for Info {
    type Result = u64;
}

impl Handler<Tick> for DeviceActor {
    type Result = ();

    fn handle(&mut self, _: Tick, context: &mut Context<Self>) {
        self.0.tick();
        context.run_later(TIMER, |device, _| device.0.tick());
    }
}

impl Handler<Info> for DeviceActor {
    type Result = u64;

    fn handle(&mut self, _: Info, _: &mut Context<Self>) -> u64 {
        self.0.ticks
    }
}

pub(crate) fn run(job: &Job) -> Line {
    let actors = job.count();
    System::new().block_on(async move {
        let before = resident_bytes();
        let mut by_name = BTreeMap::new();
        for index in 0..actors {
            let device = Supervisor::start(|_| DeviceActor(Device::new()));
            device.send(Tick).await.expect("it lives");
            by_name.insert(name(index), device);
        }
        for device in by_name.values() {
            assert!(device.send(Info).await.expect("an answer") >= 1);
        }
        Line::new().memory(actors, before, resident_bytes())
    })
}
