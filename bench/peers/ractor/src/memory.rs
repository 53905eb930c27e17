//! `memory`: a named actor linked to a supervisor, its timer by `send_after`.

use peer_probe::{Device, Job, Line, TIMER, name, resident_bytes};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, call, registry};

use crate::supervisor;

enum Message {
    Tick,
    Info(RpcReplyPort<u64>),
}

struct DeviceActor;

impl Actor for DeviceActor {
    type Msg = Message;
    type State = Device;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<Device, ActorProcessingErr> {
        Ok(Device::new())
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        device: &mut Device,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Tick => {
                device.tick();
                drop(myself.send_after(TIMER, || Message::Tick));
            }
            Message::Info(reply) => reply.send(device.ticks)?,
        }
        Ok(())
    }
}

pub(crate) async fn run(job: Job) -> Line {
    let actors = job.count();
    let supervisor = supervisor().await;
    let before = resident_bytes();
    for index in 0..actors {
        let parent = supervisor.get_cell();
        let (device, _) = Actor::spawn_linked(Some(name(index)), DeviceActor, (), parent)
            .await
            .expect("a free name");
        device.send_message(Message::Tick).expect("it lives");
    }
    for index in 0..actors {
        let cell = registry::where_is(name(index)).expect("a registered name");
        let device: ActorRef<Message> = cell.into();
        assert!(call!(device, Message::Info).expect("an answer") >= 1);
    }
    Line::new().memory(actors, before, resident_bytes())
}
