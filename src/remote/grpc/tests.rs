//! Tests of the service: bytes of protobuf's own library, and specs as clients send them.

use std::fmt::Debug;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;

use super::message::*;
use super::{METHODS, deadline, specs};
use crate::attach::command;
use crate::remote::desk::{Devices, Unspawned};

/// Made by `tests/remote/golden.py` from the descriptor that protobuf's own compiler made of the
/// pages of the contract; CI makes it again and compares.
const GOLDEN: &str = include_str!("../../../tests/remote/golden.txt");

fn bytes(message: &str) -> Vec<u8> {
    let mut lines = GOLDEN.lines().map(|line| line.split(' '));
    let hex = lines.find_map(|mut words| {
        let found = words.next() == Some("bytes") && words.next() == Some(message);
        words.next().filter(|_| found)
    });
    let digits = hex.expect("the message is in the file").as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
    digits.chunks(2).map(|pair| byte(pair).unwrap()).collect()
}

/// Every field is there under its number and kept: what is unknown would be lost. Texts are their
/// fields' names.
fn holds<M: Message + Default + Debug>(message: &str) {
    let bytes = bytes(message);
    let read = M::decode(&bytes[..]).unwrap();
    assert_eq!(read.encode_to_vec(), bytes, "{message}: {read:?}");
    let shown = format!("{read:?}");
    for line in GOLDEN.lines() {
        let words: Vec<_> = line.split(' ').collect();
        if let ["field", owner, _, "string", name] = words[..]
            && owner.ends_with(&format!(".{message}"))
        {
            assert!(
                shown.contains(&format!("{name}: \"{name}\"")),
                "{name} of {shown}"
            );
        }
    }
}

#[test]
fn every_message_is_that_of_the_contract() {
    holds::<DeviceProfile>("DeviceProfile");
    holds::<DeviceSpec>("DeviceSpec");
    holds::<TelemetryPoint>("TelemetryPoint");
    holds::<TelemetryBatch>("TelemetryBatch");
    holds::<SpawnDevicesRequest>("SpawnDevicesRequest");
    holds::<SpawnDevicesResponse>("SpawnDevicesResponse");
    holds::<DeviceIdList>("DeviceIdList");
    holds::<DeviceSelector>("DeviceSelector");
    holds::<StopDevicesRequest>("StopDevicesRequest");
    holds::<StopDevicesResponse>("StopDevicesResponse");
    holds::<GetFleetStatusRequest>("GetFleetStatusRequest");
    holds::<FleetStatus>("FleetStatus");
    holds::<InjectFaultRequest>("InjectFaultRequest");
    holds::<UpdateDeviceBehaviorRequest>("UpdateDeviceBehaviorRequest");
    holds::<StreamTelemetryRequest>("StreamTelemetryRequest");
    holds::<StreamEventsRequest>("StreamEventsRequest");
    holds::<DeviceEvent>("DeviceEvent");
    holds::<RuntimeStatus>("RuntimeStatus");
    assert_eq!(
        GOLDEN
            .lines()
            .filter(|line| line.starts_with("bytes "))
            .count(),
        18
    );
    for state in ["starting", "running", "quarantined", "stopped", "?"] {
        let (number, name) = crate::remote::state(state);
        let line = format!("enum simulator.v1.DeviceState {number} {name}");
        assert!(GOLDEN.lines().any(|found| found == line), "{line}");
    }
}

#[test]
fn every_method_is_that_of_the_contract_and_stands_for_a_command() {
    let mut of_contract: Vec<_> = GOLDEN
        .lines()
        .filter_map(|line| line.strip_prefix("rpc simulator.v1.DeviceRuntimeService."))
        .filter_map(|line| line.split(' ').next())
        .collect();
    let mut ours: Vec<_> = METHODS.iter().map(|method| method.name).collect();
    of_contract.sort_unstable();
    ours.sort_unstable();
    assert_eq!(ours, of_contract);
    assert!(
        METHODS
            .iter()
            .all(|method| command::find(method.ask.0).is_some())
    );
}

#[test]
fn a_deadline_is_a_number_and_a_unit() {
    let read = |text: &str| {
        let mut headers = hyper::HeaderMap::new();
        headers.insert("grpc-timeout", text.parse().unwrap());
        deadline(&headers)
            .ok()
            .flatten()
            .map(|time| time.as_nanos())
    };
    assert_eq!(read("5S"), Some(5_000_000_000));
    assert_eq!(read("99999999H"), Some(99_999_999 * 3_600 * 1_000_000_000));
    assert_eq!(read("20m"), Some(20_000_000));
    for wrong in ["", "S", "5", "5s", "-5S", "123456789S", "5 S"] {
        assert_eq!(read(wrong), None, "{wrong:?}");
    }
    assert!(matches!(deadline(&hyper::HeaderMap::new()), Ok(None)));
}

fn spec(id: &str, device_type: &str, mean: f64) -> DeviceSpec {
    let number = |number| Value {
        kind: Some(Kind::Number(number)),
    };
    let text = |text: &str| Value {
        kind: Some(Kind::Text(text.to_owned())),
    };
    let of = |fields: &[(&str, Value)]| Struct {
        fields: fields
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.clone()))
            .collect(),
    };
    let inside = |of: Struct| Value {
        kind: Some(Kind::Struct(of)),
    };
    let gaussian = of(&[
        ("type", text("gaussian")),
        ("mean", number(mean)),
        ("stddev", number(1.0)),
    ]);
    let fields = of(&[("temperature", inside(gaussian))]);
    DeviceSpec {
        device_id: id.to_owned(),
        device_type: device_type.to_owned(),
        labels: [("device_type".to_owned(), device_type.to_owned())].into(),
        telemetry_interval: Some(Duration {
            seconds: 1,
            nanos: 500_000_000,
        }),
        behavior_params: Some(of(&[("fields", inside(fields))])),
        ..DeviceSpec::default()
    }
}

fn encoded(specs: &[DeviceSpec]) -> Vec<Bytes> {
    let bytes = |spec: &DeviceSpec| Bytes::from(spec.encode_to_vec());
    specs.iter().map(bytes).collect()
}

#[test]
fn specs_that_say_the_same_are_one_batch_however_their_fields_are_ordered() {
    let mut all = encoded(&[
        spec("lamp-0000", "lamp", 20.0),
        spec("lamp-0001", "lamp", 20.0),
        spec("hot-0000", "lamp", 90.0),
        spec("lamp-0001", "lamp", 20.0),
        spec("a/b", "lamp", 20.0),
        spec("lamp-0003", "l/mp", 20.0),
    ]);
    // The id at the end: the rest is the same.
    let mut turned = all[0].slice(11..).to_vec();
    turned.extend(
        DeviceIdList {
            ids: vec!["lamp-0002".into()],
        }
        .encode_to_vec(),
    );
    all.push(turned.into());
    all.push(Bytes::from_static(&[0xff; 3]));
    let read = specs::read(&all);
    let batches: Vec<_> = read
        .batches
        .iter()
        .map(|batch| match &batch.devices {
            Devices::Named(ids) => ids.join(" "),
            Devices::Count(_) => unreachable!(),
        })
        .collect();
    assert_eq!(batches, ["lamp-0000 lamp-0001 lamp-0002", "hot-0000"]);
    let interval = read.batches[0].profile.interval;
    assert_eq!(interval, std::time::Duration::from_millis(1_500));
    let failed: Vec<_> = read
        .failed
        .iter()
        .map(|(id, why)| (id.as_str(), why))
        .collect();
    assert!(
        matches!(failed[0], ("lamp-0001", Unspawned::Exists(_))),
        "{failed:?}"
    );
    assert!(matches!(failed[1], ("a/b", Unspawned::Id(_))), "{failed:?}");
    assert!(
        matches!(failed[2], ("lamp-0003", Unspawned::Wrong(_))),
        "{failed:?}"
    );
    assert!(matches!(failed[3], ("", Unspawned::Wrong(_))), "{failed:?}");
}

#[test]
fn a_request_of_many_shapes_is_bounded() {
    let specs: Vec<_> = (0..1_100)
        .map(|at| spec(&format!("lamp-{at:04}"), "lamp", f64::from(at)))
        .collect();
    let read = specs::read(&encoded(&specs));
    assert_eq!((read.batches.len(), read.failed.len()), (1_024, 76));
    assert!(
        read.failed
            .iter()
            .all(|(_, why)| matches!(why, Unspawned::Full(_)))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever bytes are a spec, they are read or refused, and ids are those that were sent.
    #[test]
    fn no_bytes_make_the_reader_of_specs_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let good = spec("lamp-0001", "lamp", 20.0).encode_to_vec();
        let mut bad = good.clone();
        for (at, byte) in changes {
            let at = at.index(bad.len());
            bad[at] = byte;
        }
        bad.truncate(cut.index(bad.len()) + 1);
        let read = specs::read(&[Bytes::from(good), Bytes::from(bad.clone())]);
        let started: usize = read.batches.iter().map(|batch| match &batch.devices {
            Devices::Named(ids) => ids.len(),
            Devices::Count(_) => 0,
        }).sum();
        prop_assert_eq!(started + read.failed.len(), 2);
        let _ = SpawnDevicesRequest::decode(&bad[..]);
        let _ = FleetStatus::decode(&bad[..]);
        let _ = InjectFaultRequest::decode(&bad[..]);
    }
}
