//! Rows in files, as a real node writes them, beside the rows of its world.

use std::collections::BTreeMap;
use std::future::pending;

use actorsim::NodeConfig;
use actorsim::config::Layers;
use actorsim::node::StopSource;
use actorsim_fleet::Selector;
use actorsim_transport::device_uuid;
use actorsim_world::RowView;
use actorsim_world::components::KIND_NAMES;

use super::*;

const DEVICES: u32 = 8;
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks once.
struct Now(bool);

impl StopSource for Now {
    async fn next(&mut self) {
        if std::mem::replace(&mut self.0, true) {
            pending::<()>().await;
        }
    }
}

/// Lines by device and sensor, the last of each; and how many there are.
fn last_lines(dir: &Path) -> (BTreeMap<(String, u64), Value>, u64) {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    files.sort();
    let (mut last, mut lines) = (BTreeMap::new(), 0);
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let digits = name.strip_prefix("rows-").unwrap();
        let digits = digits.strip_suffix(".ndjson").unwrap();
        assert!(
            digits.len() == 20 && digits.parse::<u64>().is_ok(),
            "{name}"
        );
        let text = std::fs::read_to_string(&file).unwrap();
        // the last one may be half written while the node runs
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for line in text[..whole].lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let key = (
                line["device"].as_str().unwrap().to_owned(),
                line["sensor"].as_u64().unwrap(),
            );
            last.insert(key, line);
            lines += 1;
        }
    }
    (last, lines)
}

/// The line that a row is expected to have.
fn line_of(row: &RowView) -> Value {
    let mut line = serde_json::json!({
        "at_us": row.at_us,
        "device": row.device.to_string(),
        "sensor": row.sensor,
        "type": KIND_NAMES[usize::from(row.kind)],
        "value": row.value,
        "smoothed": row.smoothed.map(|smoothed| smoothed.to_string().parse::<f64>().unwrap()),
    });
    if let Some(window) = row.window {
        line["window_mean"] = window.mean.into();
        line["window_min"] = window.min.into();
        line["window_max"] = window.max.into();
    }
    line
}

/// Whether two lines have the same keys, texts and numbers, but for the last bit of a fraction,
/// which is the reader's.
fn same(one: &Value, other: &Value) -> bool {
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else {
        return false;
    };
    one.len() == other.len()
        && one.iter().all(|(key, value)| {
            let other = other.get(key);
            match (value.as_f64(), other.and_then(Value::as_f64)) {
                (Some(one), Some(other)) => (one - other).abs() <= one.abs() * f64::EPSILON,
                _ => Some(value) == other,
            }
        })
}

async fn start(dir: &Path) -> actorsim::Node {
    let mut layers = Layers::built_in();
    let (state, rows) = (dir.join("state"), dir.join("rows"));
    for assignment in [
        "node.name=export",
        &format!("node.state_dir={}", state.display()),
        &format!("fleet.devices={DEVICES}"),
        "fleet.interval=50ms",
        "transport.listen=127.0.0.1:0",
        "metrics.enabled=false",
        "scan.priority=0",
        "scan.lock_memory=false",
        "world.windows=temperature:4",
        "export.format=ndjson",
        &format!("export.dir={}", rows.display()),
    ] {
        layers.set(assignment);
    }
    let settings = layers.resolve().unwrap();
    let node = actorsim::Node::start(NodeConfig::from_settings(&settings)).await;
    node.unwrap()
}

/// Waits until something holds, as long as a busy host may need.
async fn until(holds: impl AsyncFn() -> bool) {
    let held = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, held).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_line_of_each_row_is_what_the_world_holds() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = start(dir.path()).await;
    let (twin, fleet) = (node.twin().unwrap().clone(), node.fleet().unwrap());
    let sent = u64::from(DEVICES) * 7 * 10;
    until(async || twin.report().readings_applied > sent).await;
    let everybody = Selector::parse("industrial-*").unwrap();
    let stopped = fleet.stop_where(&everybody, true).await.unwrap();
    assert_eq!(stopped.stopped, u64::from(DEVICES));
    let rows = async || {
        let mut rows = Vec::new();
        for device in 0..DEVICES {
            let device = device_uuid(&format!("industrial-{device:04}"));
            rows.extend(twin.device(device).await.unwrap());
        }
        rows
    };
    let files = dir.path().join("rows");
    // what was under way is in the world, and the walk came to it
    until(async || {
        let (lines, _) = last_lines(&files);
        let rows = rows().await;
        rows.len() == lines.len()
            && rows.iter().all(|row| {
                let key = (row.device.to_string(), u64::from(row.sensor));
                lines
                    .get(&key)
                    .is_some_and(|line| same(line, &line_of(row)))
            })
    })
    .await;
    let ending = node.wait_or_stop(&mut Now(false)).await;
    let report = node.report(&ending);
    let mut why = report.why;
    why.retain(|why| !why.starts_with("left behind")); // other tests of this process have theirs
    assert!(why.is_empty(), "{why:?}");
    let (lines, count) = last_lines(&files);
    assert_eq!(lines.len(), DEVICES as usize * 7);
    let windows = lines
        .values()
        .filter(|line| line.get("window_mean").is_some());
    assert!(
        windows
            .map(|line| &line["type"])
            .all(|kind| kind == "temperature")
    );
    let export = report.world.export.unwrap();
    assert_eq!(
        (export.written, export.lapped, export.errors),
        (count, 0, 0)
    );
}
