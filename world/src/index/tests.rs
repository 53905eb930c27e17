//! What the index promises: same rows again, no row twice, none beyond the bound.

use std::collections::BTreeSet;

use actorsim_transport::{DeviceRange, device_uuid};

use super::*;

fn range(prefix: &str, count: u32) -> DeviceRange {
    DeviceRange {
        prefix: prefix.to_owned(),
        first: 0,
        count,
        width: 4,
    }
}

fn industrial() -> Arc<[SensorSpec]> {
    let specs = SensorType::ALL.into_iter().enumerate();
    specs
        .map(|(sensor, kind)| SensorSpec {
            sensor: sensor as u16,
            kind,
        })
        .collect()
}

fn reading(device: Uuid, sensor: u16, kind: SensorType) -> Reading {
    Reading {
        device,
        sensor,
        kind,
        value: 0.0,
        at_us: 0,
        sequence: 0,
    }
}

#[test]
fn readings_that_overtake_their_announcement_cost_no_more_afterwards() {
    let mut index = DeviceIndex::new(1_000);
    let early = device_uuid("pump-0001");
    let partly = device_uuid("pump-0002");
    let sensors = industrial();
    let rows: Vec<_> = (sensors.iter())
        .map(|spec| index.row(early, spec.sensor, spec.kind))
        .collect();
    let sixth = index.row(partly, 5, SensorType::Presence);
    let told: Vec<_> = index.undelivered().drain(..).collect();
    index.register(&Registration {
        devices: range("pump-", 3),
        sensors: sensors.clone(),
    });
    assert_eq!(index.rows_of(early), rows, "no row moves");
    assert_eq!(index.layout_of(early), Some(sensors.clone()));
    assert!(
        index.loose.keys().all(|(asset, _)| *asset == 1),
        "{index:?}"
    );
    assert_eq!(index.row(partly, 5, SensorType::Presence), sixth);
    let of_partly = index.layout_of(partly).map(|sensors| sensors.len());
    assert_eq!(of_partly, Some(1), "its rows are not neighbours");
    let mut fills = Vec::new();
    index.for_each_fill(|fill| fills.push(fill));
    assert!(
        told.iter().all(|fill| fills.contains(fill)),
        "nothing changed of what was told"
    );
}

#[test]
fn neighbours_and_strangers_are_told_apart() {
    let mut index = DeviceIndex::new(1_000);
    index.register(&Registration {
        devices: range("pump-", 5),
        sensors: industrial(),
    });
    let ids = [0, 1, 2, 4, 3, 3, 0, 9, 1].map(|at| device_uuid(&format!("pump-{at:04}")));
    let assets = ids.map(|device| index.asset(device));
    let expected = [0, 1, 2, 4, 3, 3, 0, 5, 1].map(Some);
    assert_eq!(assets, expected, "the stranger is the sixth");
}

#[test]
fn an_announced_device_has_neighbouring_rows() {
    let mut index = DeviceIndex::new(1_000);
    index.register(&Registration {
        devices: range("pump-", 100),
        sensors: industrial(),
    });
    assert_eq!((index.devices(), index.rows()), (100, 700));
    let device = device_uuid("pump-0017");
    assert_eq!(index.rows_of(device), (119..126).collect::<Vec<_>>());
    assert_eq!(
        index.resolve(&reading(device, 5, SensorType::Presence)),
        124
    );
    assert_eq!(
        index.rows(),
        700,
        "resolving a known sensor gives out nothing"
    );
}

#[test]
fn announcing_again_changes_nothing() {
    let mut index = DeviceIndex::new(1_000);
    let registration = Registration {
        devices: range("pump-", 10),
        sensors: industrial(),
    };
    index.register(&registration);
    let fills = index.undelivered().len();
    index.register(&registration);
    assert_eq!((index.devices(), index.rows()), (10, 70));
    assert_eq!(index.undelivered().len(), fills);
}

#[test]
fn a_device_seen_first_gets_rows_one_sensor_at_a_time() {
    let mut index = DeviceIndex::new(1_000);
    let device = Uuid::from_u128(7);
    assert_eq!(index.resolve(&reading(device, 900, SensorType::Voltage)), 0);
    assert_eq!(index.resolve(&reading(device, 3, SensorType::Current)), 1);
    assert_eq!(index.resolve(&reading(device, 900, SensorType::Voltage)), 0);
    let fill = index.undelivered()[0];
    assert_eq!((fill.sensor, fill.kind, fill.relay), (900, 3, RELAY_SENSOR));
    index.register(&Registration {
        devices: DeviceRange::single("x"),
        sensors: industrial(),
    });
    assert_eq!(index.rows_of(device), [0, 1]);
}

#[test]
fn devices_that_announce_nothing_share_layouts_too_unless_their_sensors_come_mixed() {
    let mut index = DeviceIndex::new(10_000);
    let devices: Vec<_> = (0..100).map(Uuid::from_u128).collect();
    let all = |index: &mut DeviceIndex, device: Uuid| -> Vec<u32> {
        let sensors = industrial();
        let of = sensors
            .iter()
            .map(|spec| reading(device, spec.sensor, spec.kind));
        let (readings, mut rows) = (of.collect::<Vec<_>>(), Vec::new());
        index.resolve_all(&readings, &mut rows);
        rows.iter().map(|reading| reading.row).collect()
    };
    for (at, device) in (0..).zip(&devices) {
        let rows = all(&mut index, *device);
        assert_eq!(rows, (7 * at..7 * at + 7).collect::<Vec<_>>());
    }
    assert!(index.loose.is_empty());
    assert_eq!(index.layouts.len(), 7, "one more sensor each");
    assert_eq!(all(&mut index, devices[50]), (350..357).collect::<Vec<_>>());
    for sensor in 0..3 {
        for device in [1_000, 1_001].map(Uuid::from_u128) {
            index.resolve(&reading(device, sensor, SensorType::Voltage));
        }
    }
    assert_eq!(index.rows_of(Uuid::from_u128(1_000)), [700, 702, 704]);
    assert_eq!(index.rows_of(Uuid::from_u128(1_001)), [701, 703, 705]);
    let mut fills = Vec::new();
    index.for_each_fill(|fill| fills.push(fill));
    assert!(index.undelivered().iter().all(|fill| fills.contains(fill)));
}

#[test]
fn sparse_sensor_ids_resolve_by_position() {
    let mut index = DeviceIndex::new(10);
    let spec = |sensor, kind| SensorSpec { sensor, kind };
    let sensors: Arc<[_]> = [spec(40, SensorType::Presence), spec(9, SensorType::Relay)]
        .into_iter()
        .collect();
    index.register(&Registration {
        devices: DeviceRange::single("gate"),
        sensors,
    });
    let device = device_uuid("gate");
    assert_eq!(index.resolve(&reading(device, 9, SensorType::Relay)), 1);
    assert_eq!(index.undelivered()[0].relay, 9);
}

#[test]
fn beyond_the_bound_there_is_no_row_and_it_is_counted() {
    let mut index = DeviceIndex::new(10);
    index.register(&Registration {
        devices: range("pump-", 2),
        sensors: industrial(),
    });
    assert_eq!((index.devices(), index.rows(), index.refused()), (1, 7, 1));
    for sensor in 0..5 {
        index.resolve(&reading(Uuid::from_u128(1), sensor, SensorType::Voltage));
    }
    assert_eq!((index.rows(), index.refused()), (10, 3));
}

#[test]
fn a_device_that_shows_ever_more_sensors_takes_no_more_rows_than_it_could_announce() {
    let mut index = DeviceIndex::new(100_000);
    let most = SENSORS_MAX as u16;
    for device in [1, 2] {
        for sensor in 0..most + 50 {
            let reading = reading(Uuid::from_u128(device), sensor, SensorType::Voltage);
            assert_eq!(index.resolve(&reading) == NO_ROW, sensor >= most);
        }
    }
    assert_eq!((index.rows(), index.refused()), (2 * u32::from(most), 100));
}

#[test]
fn a_rebuilt_world_is_given_each_row_exactly_once() {
    let mut index = DeviceIndex::new(100_000);
    index.register(&Registration {
        devices: range("pump-", 3_000),
        sensors: industrial(),
    });
    for ordinal in 0..500 {
        let device = Uuid::from_u128(ordinal << 64);
        index.resolve(&reading(device, ordinal as u16, SensorType::Voltage));
    }
    let mut rows = BTreeSet::new();
    index.for_each_fill(|fill| assert!(rows.insert(fill.row)));
    assert_eq!(rows, (0..index.rows()).collect());
    let mut delivered = BTreeSet::new();
    delivered.extend(index.undelivered().iter().map(|fill| fill.row));
    assert_eq!(delivered, rows);
}
