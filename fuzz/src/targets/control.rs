//! The control stream: hello, registrations and the other messages of `bincode`. What is read keeps
//! its bounds and is written the same again.

use actorsim_transport::codec;
use actorsim_transport::frames::{FRAME_HEADER_LEN, FrameError, NODE_NAME_LEN_MAX, ToLink, ToTwin};
use actorsim_transport::{
    DeviceRange, PREFIX_LEN_MAX, RANGE_DEVICES_MAX, SENSORS_MAX, SensorSpec, SensorType,
};

use super::Target;
use crate::script::Steps;

/// Devices of a registration that are named here.
const NAMED: u32 = 64;

pub(crate) const TARGET: Target = Target {
    name: "control",
    about: "the handshake's names and registrations; the control codec",
    run,
    seeds,
    words: &[],
    len_max: 4_096,
    // a length inside the bytes may make serde take a mebibyte before it reads what is not there
    heap_max: 3 << 19,
};

fn body(frame: Result<Vec<u8>, FrameError>) -> Vec<u8> {
    frame.expect("it is short")[FRAME_HEADER_LEN..].to_vec()
}

fn seeds() -> Vec<Vec<u8>> {
    let sensors = |count: u16| {
        let sensor = |sensor| SensorSpec {
            sensor,
            kind: SensorType::ALL[usize::from(sensor) % SensorType::ALL.len()],
        };
        (0..count).map(sensor).collect()
    };
    let register = |devices, count| ToTwin::Register {
        devices,
        sensors: sensors(count),
    };
    let range = DeviceRange {
        prefix: "pump-".into(),
        first: 0,
        count: 1_000,
        width: 4,
    };
    let to_twin = [
        ToTwin::Hello {
            version: 1,
            node: "fleet".into(),
            session: 7,
            acked: 3,
            t1_readings: 12,
        },
        register(range, 7),
        register(DeviceRange::single("gateway"), 1),
        ToTwin::Bye { t1_readings: 9 },
        ToTwin::Clock {
            asked_us: 1,
            came_us: 2,
            left_us: 3,
        },
        ToTwin::Join { connection: 300 },
    ];
    let to_link = [
        ToLink::Welcome {
            node: "twin".into(),
            acked: 3,
        },
        ToLink::Acked { sequence: 5 },
        ToLink::Farewell,
        ToLink::Clock { asked_us: 1 },
        ToLink::Commands {
            port: 40_000,
            connection: 300,
        },
        ToLink::Joined,
    ];
    let to_twin = to_twin
        .iter()
        .map(|one| Steps::new().byte(0).rest(&body(one.frame())));
    let to_link = to_link
        .iter()
        .map(|one| Steps::new().byte(1).rest(&body(one.frame())));
    to_twin.chain(to_link).collect()
}

fn run(input: &[u8]) {
    let Some((first, bytes)) = input.split_first() else {
        return;
    };
    match first % 3 {
        0 => {
            if let Ok(message) = ToTwin::parse(bytes) {
                within(&message);
                assert_eq!(ToTwin::parse(&body(message.frame())).ok(), Some(message));
            }
        }
        1 => {
            if let Ok(message) = ToLink::parse(bytes) {
                assert_eq!(ToLink::parse(&body(message.frame())).ok(), Some(message));
            }
        }
        _ => {
            // what no message has, and the codec knows
            let _ = codec::decode::<Vec<(u32, String, Option<i64>)>>(bytes);
            let _ = codec::decode::<(bool, char, f64, Vec<u128>)>(bytes);
        }
    }
}

fn within(message: &ToTwin) {
    match message {
        ToTwin::Hello { node, .. } => {
            assert!((1..=NODE_NAME_LEN_MAX).contains(&node.len()));
        }
        ToTwin::Register { devices, sensors } => {
            assert!(devices.count <= RANGE_DEVICES_MAX && sensors.len() <= SENSORS_MAX);
            let some = DeviceRange {
                count: devices.count.min(NAMED),
                ..devices.clone()
            };
            let mut named = 0;
            some.for_each(|_, name| {
                named += 1;
                assert!(name.len() <= PREFIX_LEN_MAX + 10);
            });
            assert_eq!(named, some.count);
            let pieces: u32 = some.pieces(7).map(|piece| piece.count).sum();
            assert_eq!(pieces, some.count);
        }
        ToTwin::Bye { .. } | ToTwin::Clock { .. } | ToTwin::Join { .. } => {}
    }
}
