//! What is in files after a run, a cut, a full disk; in every format of this build.

use super::*;

fn record(n: u64) -> RowRecord {
    RowRecord {
        device: [n as u8; 16],
        at_us: n,
        value: n as f64,
        smoothed: n as f32,
        window: [f64::NAN; 3],
        sensor: n as u16 % 7,
        kind: n as u8 % 7,
    }
}

fn formats() -> Vec<Format> {
    ["ndjson", "parquet"]
        .into_iter()
        .filter_map(Format::named)
        .collect()
}

/// Stamps in a file, as another program reads them.
fn stamps(format: Format, bytes: &[u8]) -> Vec<u64> {
    match format {
        Format::Ndjson => std::str::from_utf8(bytes)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|line| line["at_us"].as_u64().unwrap())
            .collect(),
        #[cfg(feature = "parquet")]
        Format::Parquet => {
            use ::parquet::file::reader::FileReader;
            use ::parquet::record::RowAccessor;
            let bytes = bytes::Bytes::copy_from_slice(bytes);
            let file = ::parquet::file::serialized_reader::SerializedFileReader::new(bytes);
            let rows = file.unwrap();
            let rows = rows.get_row_iter(None).unwrap();
            rows.map(|row| row.unwrap().get_ulong(0).unwrap()).collect()
        }
    }
}

/// A file of `groups` times 1,000 records, each a group where the format has some.
fn written(format: Format, groups: u64) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows");
    let mut sink = open(format, File::create(&path).unwrap()).unwrap();
    for group in 0..groups {
        let records: Vec<_> = (group * 1_000..(group + 1) * 1_000).map(record).collect();
        sink.write(&records).unwrap();
        sink.end_group().unwrap();
    }
    sink.finish().unwrap();
    (dir, path)
}

#[test]
fn what_was_written_is_read_back() {
    for format in formats() {
        let (_dir, path) = written(format, 3);
        let bytes = fs::read(&path).unwrap();
        let expected: Vec<u64> = (0..3_000).collect();
        assert_eq!(stamps(format, &bytes), expected, "{}", format.name());
        assert_eq!(whole(format, &path).unwrap(), bytes.len() as u64);
    }
}

#[test]
fn a_file_that_was_cut_is_read_up_to_its_last_whole_part() {
    for format in formats() {
        let (_dir, path) = written(format, 4);
        let bytes = fs::read(&path).unwrap();
        let mut most = 0;
        for twelfth in (0..=12).rev() {
            let cut = bytes.len() * twelfth / 12;
            fs::write(&path, &bytes[..cut]).unwrap();
            let whole = whole(format, &path).unwrap() as usize;
            assert!(whole <= cut);
            let found = if whole == 0 {
                Vec::new()
            } else {
                stamps(format, &bytes[..whole])
            };
            let expected: Vec<u64> = (0..found.len() as u64).collect();
            assert_eq!(found, expected, "{} cut at {cut}", format.name());
            if twelfth == 6 {
                most = found.len();
            }
        }
        assert!(
            most >= 1_000,
            "{}: half a file has {most} records",
            format.name()
        );
    }
}

#[test]
fn a_value_that_is_not_finite_is_null_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows");
    let mut sink = open(Format::Ndjson, File::create(&path).unwrap()).unwrap();
    let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    let records = values.map(|value| RowRecord {
        value,
        smoothed: f32::NAN,
        ..record(3)
    });
    sink.write(&records).unwrap();
    sink.finish().unwrap();
    let text = fs::read_to_string(&path).unwrap();
    for (line, name) in text.lines().zip(["nan", "inf", "-inf"]) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&line["value"], &line["smoothed"]),
            (&().into(), &().into()),
            "{line}"
        );
        assert_eq!(line["non_finite"], name);
        assert_eq!(line["type"], "voltage");
        assert!(line.get("window_mean").is_none());
    }
}

#[test]
fn a_window_is_in_the_line_of_its_row() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows");
    let mut sink = open(Format::Ndjson, File::create(&path).unwrap()).unwrap();
    let window = [2.0, 1.0, 3.0];
    sink.write(&[RowRecord {
        window,
        ..record(3)
    }])
    .unwrap();
    sink.finish().unwrap();
    let line: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let seen = ["window_mean", "window_min", "window_max"].map(|name| line[name].as_f64().unwrap());
    assert_eq!(seen, window);
}

fn desk(dir: &Path, format: Format) -> (Desk, Arc<Lanes>) {
    let lanes = Arc::new(Lanes::new(Duration::from_millis(10), 16).unwrap());
    let desk = Desk {
        config: RowFilesConfig {
            dir: dir.to_owned(),
            format,
            file_max: 500,
            files_max: 3,
        },
        lanes: Arc::clone(&lanes),
        clock: actorsim_actors::Clock::wall(),
        sink: None,
        torn: true,
        taken: 0,
        retry_ns: 0,
        chunk: Vec::new(),
        tell: Box::new(|_| {}),
    };
    (desk, lanes)
}

#[test]
fn files_follow_each_other_and_the_oldest_goes() {
    let dir = tempfile::tempdir().unwrap();
    let (mut desk, lanes) = desk(dir.path(), Format::Ndjson);
    let mut ends = lanes.scan.take().unwrap();
    for n in 0..80 {
        assert!(ends.rows.push(record(n)).is_ok());
        if n % 8 == 7 {
            desk.pass();
        }
    }
    let left = files(dir.path(), Format::Ndjson).unwrap();
    assert_eq!(left.len(), 3);
    let last = fs::read(left.last().unwrap()).unwrap();
    assert_eq!(stamps(Format::Ndjson, &last).last(), Some(&79));
    assert_eq!(lanes.row_counts.report().written, 80);
}

#[test]
fn a_disk_that_refuses_costs_records_that_are_counted_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("file");
    fs::write(&place, "in the way").unwrap();
    let (mut desk, lanes) = desk(&place, Format::Ndjson);
    let mut ends = lanes.scan.take().unwrap();
    for n in 0..3 {
        ends.rows.push(record(n)).unwrap();
    }
    desk.pass();
    let report = lanes.row_counts.report();
    assert_eq!((report.written, report.lapped, report.errors), (0, 3, 1));
    fs::remove_file(&place).unwrap();
    desk.retry_ns = 0;
    ends.rows.push(record(3)).unwrap();
    desk.pass();
    assert_eq!(lanes.row_counts.report().written, 1);
}

/// A disk that takes a file, and nothing that goes into it.
fn full(desk: &mut Desk) {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    desk.sink = Some(open(desk.config.format, full).unwrap());
}

#[test]
fn what_a_full_disk_did_not_take_is_not_counted_as_written() {
    for format in formats() {
        let dir = tempfile::tempdir().unwrap();
        let (mut desk, lanes) = desk(dir.path(), format);
        let mut ends = lanes.scan.take().unwrap();
        full(&mut desk);
        (0..3).for_each(|n| ends.rows.push(record(n)).unwrap());
        desk.pass();
        // a group of Parquet waits for more
        desk.attempt(Desk::finish);
        let report = lanes.row_counts.report();
        assert_eq!((report.written, report.lapped, report.errors), (0, 3, 1));
        ends.rows.push(record(3)).unwrap();
        desk.pass();
        assert_eq!(
            lanes.row_counts.report().lapped,
            4,
            "it waits before it tries again"
        );
        desk.retry_ns = 0;
        ends.rows.push(record(4)).unwrap();
        desk.pass();
        desk.attempt(Desk::finish);
        let report = lanes.row_counts.report();
        assert_eq!((report.written, report.lapped, report.errors), (1, 4, 1));
        let left = files(dir.path(), format).unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!(stamps(format, &fs::read(&left[0]).unwrap()), [4]);
    }
}

#[test]
fn a_disk_that_stays_full_pushes_no_older_file_out() {
    let dir = tempfile::tempdir().unwrap();
    let (mut desk, lanes) = desk(dir.path(), Format::Ndjson);
    let mut ends = lanes.scan.take().unwrap();
    let name = |at| dir.path().join(format!("rows-{at:020}.ndjson"));
    let (old, begun) = ([1, 2].map(name), name(3));
    old.iter().for_each(|file| fs::write(file, "{}\n").unwrap());
    for part in ["", "{\"at"] {
        // what such a disk leaves of a file that was begun
        fs::write(&begun, part).unwrap();
        full(&mut desk);
        ends.rows.push(record(0)).unwrap();
        desk.pass();
        desk.retry_ns = 0;
        ends.rows.push(record(1)).unwrap();
        desk.pass();
        assert!(!begun.exists());
        let left = files(dir.path(), Format::Ndjson).unwrap();
        assert_eq!((&left[..2], left.len()), (&old[..], 3));
        fs::remove_file(&left[2]).unwrap();
    }
}

#[test]
fn a_writer_brings_the_newest_file_back_to_its_whole_part() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (
        dir.path().join("rows-1.ndjson"),
        dir.path().join("rows-2.ndjson"),
    );
    fs::write(&old, "{}\n{").unwrap();
    fs::write(&new, "{}\n{}\n{\"at").unwrap();
    let (mut desk, lanes) = desk(dir.path(), Format::Ndjson);
    desk.prepare().unwrap();
    assert_eq!(fs::read_to_string(&new).unwrap(), "{}\n{}\n");
    assert_eq!(lanes.row_counts.report().repaired, 1);
}
