//! Statuses and numbers of the contract, whatever the node behind it does.

use tonic::Code;
use tonic::server::{ServerStreamingService, UnaryService};

use super::super::message::{DeviceIdList, DeviceSpec};
use super::super::{Many, Once};
use super::*;
use crate::remote::desk::{Batch, Count, DeskError, Done, Runtime, Spawned};
use crate::remote::stream::BatchSizes;
use actorsim_fleet::watch::{Block, News, Watcher};

/// A node that fails in one way, or in none.
#[derive(Clone)]
enum Node {
    Says(DeskError),
    Panics,
    Refuses(Unspawned),
    IsHuge,
}

impl Node {
    fn desk(self) -> Arc<dyn Desk> {
        Arc::new(self)
    }

    fn fails<T>(&self) -> Result<T, DeskError> {
        match self {
            Self::Says(error) => Err(error.clone()),
            _ => panic!("a handler has a bug"),
        }
    }

    fn fails_later<T: Send + 'static>(&self) -> Done<'_, T> {
        Box::pin(async { self.fails() })
    }
}

impl Desk for Node {
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
    fn audit(&self, _: &str) {}
    fn spawn(&self, batches: Vec<Batch>) -> Done<'_, Spawned> {
        let Self::Refuses(why) = self else {
            return self.fails_later();
        };
        let crate::remote::desk::Devices::Named(ids) = &batches[0].devices else {
            panic!("gRPC names its devices");
        };
        let failed = ids.iter().map(|id| (id.clone(), why.clone())).collect();
        Box::pin(async { Ok(Spawned { started: 0, failed }) })
    }
    fn stop(&self, _: Who, _: bool) -> Done<'_, (u64, Vec<String>)> {
        match self {
            Self::IsHuge => Box::pin(async { Ok((1 << 40, Vec::new())) }),
            _ => self.fails_later(),
        }
    }
    fn counts(&self) -> Result<Vec<Count>, DeskError> {
        self.fails()
    }
    fn path(&self, _: &str) -> Option<String> {
        None
    }
    fn list(&self, _: Who) -> Done<'_, Vec<Row>> {
        self.fails_later()
    }
    fn inject(&self, _: Who, _: FaultSpec) -> Done<'_, u64> {
        self.fails_later()
    }
    fn update(&self, _: Who, _: String) -> Done<'_, u64> {
        self.fails_later()
    }
    fn runtime(&self) -> Result<Runtime, DeskError> {
        match self {
            Self::IsHuge => Ok(Runtime {
                devices: 1 << 40,
                actors: 1 << 41,
                sent: u64::MAX,
                ..Runtime::default()
            }),
            _ => self.fails(),
        }
    }
    fn watch(&self) -> Result<Watcher<Arc<Block>>, DeskError> {
        self.fails()
    }
    fn batches(&self) -> Arc<BatchSizes> {
        Arc::default()
    }
    fn news(&self) -> Result<Watcher<News>, DeskError> {
        self.fails()
    }
    fn mishaps(&self, _: u64) -> (u64, Vec<News>) {
        (0, Vec::new())
    }
}

fn specs_of(ids: &[&str]) -> SpawnDevicesRequest {
    let spec = |id: &&str| {
        let spec = DeviceSpec {
            device_id: (*id).to_owned(),
            device_type: "lamp".to_owned(),
            ..DeviceSpec::default()
        };
        prost::Message::encode_to_vec(&spec).into()
    };
    SpawnDevicesRequest {
        specs: ids.iter().map(spec).collect(),
        ..SpawnDevicesRequest::default()
    }
}

/// The code of each method's answer, as a client gets it.
async fn codes(node: &Node) -> Vec<Code> {
    let desk = || node.clone().desk();
    async fn code<R, T, F, W>(mut method: Once<F>, request: R) -> Code
    where
        Once<F>: UnaryService<R, Response = T, Future = W>,
        W: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let answer = method.call(tonic::Request::new(request)).await;
        answer.map_or_else(|status| status.code(), |_| Code::Ok)
    }
    let fault = InjectFaultRequest {
        fault_type: FaultType::Disconnect.into(),
        ..InjectFaultRequest::default()
    };
    let mut codes = vec![
        code(Once(|m| spawn(desk(), m)), specs_of(&["a", "b"])).await,
        code(Once(|m| stop(desk(), m)), StopDevicesRequest::default()).await,
        code(
            Once(|m| fleet_status(desk(), m)),
            GetFleetStatusRequest::default(),
        )
        .await,
        code(Once(|m| inject(desk(), m)), fault).await,
        code(Once(|m| runtime_status(desk(), m)), Empty {}).await,
    ];
    let mut streams = Many {
        desk: desk(),
        begin: telemetry,
        until: None,
    };
    let begun = streams.call(tonic::Request::new(StreamTelemetryRequest::default()));
    codes.push(
        begun
            .await
            .map_or_else(|status| status.code(), |_| Code::Ok),
    );
    codes
}

#[tokio::test]
async fn what_a_node_cannot_do_has_the_status_of_the_contract_whatever_was_asked() {
    let why = || "why".to_owned();
    for (node, code) in [
        (Node::Says(DeskError::Unavailable(why())), Code::Unavailable),
        (Node::Says(DeskError::Wrong(why())), Code::InvalidArgument),
        (Node::Says(DeskError::Full(why())), Code::ResourceExhausted),
        (Node::Says(DeskError::Broken(why())), Code::Internal),
        (Node::Panics, Code::Internal), // and its caller is there to see it
    ] {
        assert_eq!(codes(&node).await, [code; 6]);
    }
}

#[tokio::test]
async fn a_spawn_fails_as_its_devices_do_if_all_of_them_do_alike() {
    for (why, code) in [
        (Unspawned::Exists("a".to_owned()), Code::AlreadyExists),
        (
            Unspawned::Full("no room".to_owned()),
            Code::ResourceExhausted,
        ),
        (Unspawned::Wrong("no".to_owned()), Code::InvalidArgument),
        (Unspawned::Stopping("soon".to_owned()), Code::Unavailable),
    ] {
        let node = Node::Refuses(why.clone());
        let refused = spawn(node.clone().desk(), specs_of(&["a", "b"])).await;
        assert_eq!(refused.unwrap_err().code(), code, "{why}");
        // one that is refused for another reason: each says why
        let mixed = spawn(node.desk(), specs_of(&["a", "b", "no/id"]))
            .await
            .unwrap();
        assert_eq!((mixed.spawned, mixed.failed_device_ids.len()), (0, 3));
        assert_eq!(mixed.failure_reasons["b"], why.to_string());
    }
}

#[tokio::test]
async fn counts_past_what_the_contract_can_say_saturate() {
    let desk = || Node::IsHuge.desk();
    let all = StopDevicesRequest {
        selector: Some(DeviceSelector {
            selector: Some(Selector::DeviceIds(DeviceIdList::default())),
        }),
        graceful: true,
    };
    assert_eq!(stop(desk(), all).await.unwrap().stopped, i32::MAX);
    let runtime = runtime_status(desk(), Empty {}).await.unwrap();
    assert_eq!(runtime.active_devices, i32::MAX);
    assert_eq!(runtime.goroutine_count, i32::MAX);
    assert_eq!(runtime.messages_sent_total, i64::MAX);
}
