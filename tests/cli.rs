//! The command line as scripts see it: exit codes and messages.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::io::{BufRead, BufReader, Read as _, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use actorsim::attach::protocol::{Answer, Code, Refusal};

#[path = "cli/config.rs"]
mod config;

/// Time for anything that must happen at all.
const PATIENCE: Duration = Duration::from_secs(60);

fn actorsim(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_actorsim"));
    command
        .args(args)
        .env("NO_COLOR", "1")
        .env_remove("RUST_LOG");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ACTORSIM__")) {
        command.env_remove(name);
    }
    command
}

fn run(args: &[&str]) -> (i32, String, String) {
    outcome(&actorsim(args).output().unwrap())
}

fn outcome(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap_or(-1),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Commands and flags that scripts rely on; more may exist.
const KEPT: &[(&str, &str)] = &[
    (
        "start",
        "config X devices profile interval seed for report json-logs join listen node state-dir \
         no-world no-fleet speed chaos port-offset run-id twin server-name identity t1-rate \
         t2-rate mqtt-url http-endpoint amqp-url coap-url",
    ),
    ("attach", "c f o"),
    ("scenario run", "seed speed report"),
    ("scenario list", ""),
    (
        "replay",
        "speed mqtt-url http-endpoint amqp-url coap-url twin",
    ),
    (
        "sim",
        "scenario devices profile interval seed hours chaos shards no-world until report wire-log",
    ),
    (
        "scan bench",
        "period cycles entities tasks load ndjson report",
    ),
    ("config check", ""),
    ("config print", "origin"),
    ("config explain", ""),
    ("config schema", ""),
    ("certs init", ""),
    ("certs issue", "devices out"),
    ("certs show", ""),
    ("doctor", "o"),
];

#[test]
fn commands_and_flags_that_scripts_rely_on_are_kept() {
    for (path, flags) in KEPT {
        let all = actorsim::cli::definition();
        let mut command = &all;
        for name in path.split(' ') {
            let found = command.find_subcommand(name);
            command = found.unwrap_or_else(|| panic!("no `{path}`"));
        }
        for flag in flags.split_whitespace() {
            let is_it = |arg: &clap::Arg| {
                let longs = arg.get_long_and_visible_aliases().unwrap_or_default();
                let short = arg.get_short().map(String::from);
                longs.contains(&flag) || short.as_deref() == Some(flag)
            };
            assert!(command.get_arguments().any(is_it), "{path}: {flag}");
        }
    }
}

#[test]
fn help_lists_what_works_and_only_that() {
    let (code, out, _) = run(&["--help"]);
    assert_eq!(code, 0);
    for shown in [
        "start", "attach", "config", "certs", "scan", "scenario", "replay", "doctor",
    ] {
        assert!(out.contains(&format!("  {shown} ")), "{shown}: {out}");
    }
    let (code, out, _) = run(&["start", "--help"]);
    assert_eq!(code, 0);
    assert!(out.contains("--devices") && out.contains("--t2-rate"));
    assert!(out.contains("--chaos") && out.contains("--amqp-url"));
    assert!(!out.contains("--join"));
}

#[test]
fn what_this_build_lacks_is_refused_by_name() {
    let (code, _, err) = run(&["start", "--join", "h:1"]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("is not available in this build"), "{err}");
}

#[test]
fn a_misspelt_flag_or_command_exits_2() {
    assert_eq!(run(&["start", "--devces", "3"]).0, 2);
    assert_eq!(run(&["strat"]).0, 2);
    assert_eq!(run(&[]).0, 2);
}

#[test]
fn attach_without_a_node_exits_3_and_a_wrong_command_2() {
    let dir = tempfile::tempdir().unwrap();
    let attach = |args: &[&str]| {
        outcome(
            &actorsim(args)
                .env("XDG_STATE_HOME", dir.path())
                .output()
                .unwrap(),
        )
    };
    let (code, _, err) = attach(&["attach", "-c", "ps"]);
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("no node runs under"), "{err}");
    let (code, _, err) = attach(&["attach", "nowhere", "-c", "ps"]);
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("cannot connect to"), "{err}");
    let (code, _, err) = attach(&["attach", "-c", "kil /x"]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("did you mean `kill`?"), "{err}");
}

#[test]
fn a_node_that_does_not_answer_in_time_exits_4_and_one_that_hangs_up_3() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("attach.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let node = thread::spawn(move || {
        let late = Refusal::new(Code::Timeout, "no answer within 10 s");
        for answer in [Some(Answer::new(1, Err(late))), None] {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let mut request = String::new();
            stream.read_line(&mut request).unwrap();
            let line = answer.map(|answer| serde_json::to_string(&answer).unwrap() + "\n");
            let line = line.unwrap_or_default();
            stream.get_mut().write_all(line.as_bytes()).unwrap();
        }
    });
    for (code, words) in [(4, "no answer within 10 s"), (3, "closed the connection")] {
        let (got, _, err) = run(&["attach", &socket.display().to_string(), "-c", "health"]);
        assert_eq!(got, code, "{err}");
        assert!(err.contains(words), "{err}");
    }
    node.join().unwrap();
}

#[test]
fn an_authority_is_made_once_and_signs_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let certs = |args: &[&str]| {
        outcome(
            &actorsim(args)
                .env("XDG_STATE_HOME", dir.path())
                .output()
                .unwrap(),
        )
    };
    let (code, out, _) = certs(&["certs", "show"]);
    assert_eq!(code, 0);
    assert!(out.contains("no authority in"), "{out}");
    let (code, first, err) = certs(&["certs", "init"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(
        certs(&["certs", "init"]).1,
        first,
        "a second init keeps the authority"
    );
    let out = dir.path().join("fleet-1").display().to_string();
    let (code, issued, err) = certs(&[
        "certs",
        "issue",
        "fleet-1",
        "--devices",
        "pump-*",
        "--out",
        &out,
    ]);
    assert_eq!(code, 0, "{err}");
    assert!(issued.contains("devices      pump-*"), "{issued}");
    assert_eq!(certs(&["certs", "show", &out]).1, issued);
    let (code, _, err) = certs(&["certs", "issue", "a b", "--out", &out]);
    assert_eq!(code, 2, "{err}");
}

#[test]
fn a_rate_that_never_comes_and_a_name_that_is_taken_are_refused() {
    for (setting, words) in [
        ("tiers.t1_rate=1e-30", "less than one reading a day"),
        ("tiers.t2_rate=1e-9", "less than one reading a day"),
        ("node.name=..", "is not a name"),
        ("node.name=history", "is not a name"),
    ] {
        let (code, _, err) = run(&["config", "print", "-X", setting]);
        assert_eq!(code, 2, "{setting}: {err}");
        assert!(err.contains(words), "{setting}: {err}");
    }
}

#[test]
fn an_address_that_is_none_or_of_another_protocol_is_refused_whoever_uses_it() {
    let flags = [
        "--mqtt-url",
        "localhost:1883",
        "--http-endpoint",
        "mqtt://localhost",
    ];
    let more = [
        "-X",
        "targets.coap.url=coaps://localhost",
        "--amqp-url",
        "amqps://",
    ];
    let (code, _, err) = run(&[&["config", "print"][..], &flags, &more].concat());
    assert_eq!(code, 2, "{err}");
    for words in [
        "`targets.mqtt.url`: `localhost:1883` is not a URL",
        "in flag --mqtt-url",
        "`targets.http.url`: `mqtt://localhost` is mqtt, not http",
        "`targets.coap.url`: `coaps` is not built",
        "`targets.amqp.url`: `amqps://` is not a URL",
        "such as mqtt://127.0.0.1:1883",
        "such as http://127.0.0.1:8080/ingest",
        "such as coap://127.0.0.1:5683",
        "such as amqp://127.0.0.1:5672",
    ] {
        assert!(err.contains(words), "{words}: {err}");
    }
    let (code, _, err) = run(&["config", "print", "--mqtt-url", "me:secret@broker:1883"]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("credentials do not belong") && !err.contains("secret"));
}

#[test]
fn a_password_without_a_user_is_refused_where_the_protocol_has_none() {
    for (setting, user) in [
        ("targets.mqtt.password_file=f", "set targets.mqtt.username"),
        ("targets.amqp.password_file=f", "set targets.amqp.username"),
    ] {
        let (code, _, err) = run(&["config", "print", "-X", setting]);
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(user), "{err}");
    }
    let of_5 = ["targets.mqtt.version=5", "targets.mqtt.password_file=f"];
    let (code, _, err) = run(&["config", "print", "-X", of_5[0], "-X", of_5[1]]);
    assert_eq!(code, 0, "{err}");
}

/// Waits for a secret on the first connection, after a greeting.
fn hears(listener: &TcpListener, (greeting, after): (&[u8], usize), secret: &[u8]) -> bool {
    let began = Instant::now();
    let mut stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(_) if began.elapsed() < PATIENCE => thread::park_timeout(PATIENCE / 6_000),
            Err(error) => panic!("nobody calls: {error}"),
        }
    };
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut heard = vec![0; after];
    stream.read_exact(&mut heard).unwrap();
    stream.write_all(greeting).unwrap();
    let mut more = [0; 4_096];
    while !heard.windows(secret.len()).any(|window| window == secret) {
        match stream.read(&mut more) {
            Ok(count @ 1..) => heard.extend_from_slice(&more[..count]),
            _ => return false,
        }
    }
    true
}

#[test]
fn credentials_come_from_the_environment_where_no_file_has_them() {
    // connection.start of an AMQP broker that takes a user and a password
    let start = b"\x01\0\0\0\0\0\x1c\0\x0a\0\x0a\0\x09\0\0\0\0\0\0\0\x05PLAIN\0\0\0\x05en_US\xce";
    let dir = tempfile::tempdir().unwrap();
    for (protocol, flag, variable, greeting) in [
        (
            "mqtt",
            "--mqtt-url",
            "ACTORSIM_MQTT_PASSWORD",
            (&b""[..], 0),
        ),
        (
            "http",
            "--http-endpoint",
            "ACTORSIM_HTTP_AUTHORIZATION",
            (b"", 0),
        ),
        ("amqp", "--amqp-url", "ACTORSIM_AMQP_PASSWORD", (start, 8)),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("{protocol}://{}", listener.local_addr().unwrap());
        let text = format!(
            "type: t\nprotocol: {protocol}\ntelemetry_interval: 100ms\ntelemetry_fields:\n  \
             a: {{type: static, value: 1}}\n"
        );
        let profile = write(dir.path(), &format!("{protocol}.yaml"), &text);
        let state = dir.path().join(protocol).display().to_string();
        let node = [
            "start",
            "--no-world",
            "--devices",
            "1",
            "--for",
            "90s", // it ends even if this test does not get to that
            "--listen",
            "127.0.0.1:0",
        ];
        let of_test = ["--state-dir", &state, "--profile", &profile, flag, &url];
        let off = ["metrics", "http", "grpc"].map(|face| format!("{face}.enabled=false"));
        let mut command = actorsim(&[&node[..], &of_test].concat());
        command.args(off.iter().flat_map(|off| ["-X", off]));
        for user in ["mqtt", "amqp"] {
            command.args(["-X", &format!("targets.{user}.username=me")]);
        }
        command.env(variable, "open sesame\n").stderr(Stdio::null());
        let mut node = command.spawn().unwrap();
        let heard = hears(&listener, greeting, b"open sesame");
        node.kill().unwrap();
        node.wait().unwrap();
        assert!(heard, "{protocol}");
    }
}

#[test]
fn a_report_that_has_nowhere_to_go_is_refused_before_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none/r.json").display().to_string();
    let state = folder.path().join("state").display().to_string();
    let (code, _, err) = run(&["start", "--report", &path, "--state-dir", &state]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("there is no directory"), "{err}");
}

#[test]
fn a_reader_that_leaves_early_is_no_panic() {
    let mut child = actorsim(&["config", "schema"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let (code, _, err) = outcome(&child.wait_with_output().unwrap());
    assert!(code != 101 && !err.contains("panicked"), "{code}: {err}");
}

#[test]
fn a_bad_profile_is_listed_with_the_other_mistakes_at_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let text = "device_type: pump\ninterval: soon\nfields: []\n";
    let profile = write(folder.path(), "pump.yaml", text);
    let setting = format!("fleet.profile={profile}");
    let (code, _, err) = run(&["config", "print", "-X", &setting, "--devices", "9999999999"]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("pump.yaml:1:1"), "{err}");
    assert!(err.contains("--devices"), "{err}");
    let (code, _, err) = run(&["config", "print", "--profile", "nosuch"]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("cannot read the profile"), "{err}");
    assert_eq!(err.matches("error:").count(), 1, "{err}");
}

#[path = "../fleet/src/profile/tests/wrong.rs"]
mod wrong;

#[test]
fn a_wrong_profile_ends_with_2_and_says_each_line_and_how_to_mend_it() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text, expected) in wrong::WRONG {
        let profile = write(folder.path(), name, text);
        let (code, _, err) = run(&["config", "print", "--profile", &profile]);
        assert_eq!(code, 2, "{text}\n{err}");
        for (line, column, part) in *expected {
            let place = format!("{name}:{line}:{column}");
            assert!(err.contains(&place) && err.contains(part), "{place}\n{err}");
        }
        let mended = err.matches("help:").count();
        assert_eq!(mended, err.matches("error:").count(), "{text}\n{err}");
    }
}

/// The JSON of each line, and which device it is of.
fn samples(text: &str) -> Vec<(String, serde_json::Value)> {
    let sample = |line: &str| {
        let sample: serde_json::Value = serde_json::from_str(line).unwrap();
        (sample["device_id"].as_str().unwrap().to_owned(), sample)
    };
    text.lines().map(sample).collect()
}

#[test]
fn a_simulated_fleet_prints_every_sample_as_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let mut printed = Vec::new();
    for shards in ["1", "3"] {
        let path = dir.path().join(shards).display().to_string();
        let flags = ["--devices", "700", "--interval", "10s", "--until", "60s"];
        let to = ["sim", "--no-world", "--shards", shards, "--console", &path];
        let (code, out, err) = run(&[&to[..], &flags].concat());
        assert_eq!(code, 0, "{out}{err}");
        printed.push(samples(&std::fs::read_to_string(&path).unwrap()));
    }
    assert_eq!(printed[0].len() / 700, 6, "each device, each interval");
    let last = printed[0].last().unwrap();
    assert_eq!(last.1["fields"].as_object().unwrap().len(), 7);
    // Lines of one device are in order; which device is first depends on the shards.
    for lines in &mut printed {
        lines.sort_by(|a, b| a.0.cmp(&b.0));
    }
    assert!(
        printed[0] == printed[1],
        "the same samples on any number of shards"
    );
}

#[test]
fn a_simulated_day_has_a_day_of_samples_and_its_warmest_hour_is_the_profile_s() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("day").display().to_string();
    let flags = ["--devices", "4", "--interval", "10m", "--hours", "24"];
    let to = ["sim", "--no-world", "--console", &path];
    let (code, out, err) = run(&[&to[..], &flags].concat());
    assert_eq!(code, 0, "{out}{err}");
    let all = samples(&std::fs::read_to_string(&path).unwrap());
    assert_eq!(all.len(), 4 * 24 * 6);
    let mut hours = [0.0; 24];
    for (_, sample) in &all {
        let stamp = sample["timestamp"].as_str().unwrap();
        let hour = stamp.strip_prefix("2026-01-01T").unwrap();
        let hour: usize = hour[..2].parse().unwrap();
        hours[hour] += sample["fields"]["temperature"].as_f64().unwrap() / 24.0;
    }
    let warmest = (0..24).max_by(|a, b| hours[*a].total_cmp(&hours[*b]));
    assert!((14..=15).contains(&warmest.unwrap()), "{hours:?}"); // the peak is at 15:00
    assert!(hours[2] < 21.0 && hours[14] > 27.0, "{hours:?}");
}

#[test]
fn a_seed_of_0_is_drawn_and_said_and_repeats_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let run_of = |seed: &str| {
        let path = dir.path().join("lines").display().to_string();
        let flags = ["--devices", "2", "--until", "10s", "--seed", seed];
        let to = ["sim", "--no-world", "--console", &path];
        let (code, out, err) = run(&[&to[..], &flags].concat());
        assert_eq!(code, 0, "{out}{err}");
        (std::fs::read_to_string(&path).unwrap(), err)
    };
    let [first, second] = [run_of("0"), run_of("0")];
    assert_ne!(first.0, second.0, "it is another one each time");
    let said = first.1.split_once(" was chosen at random").unwrap().0;
    let seed = said.rsplit_once("seed ").unwrap().1;
    assert_eq!(run_of(seed).0, first.0);
}

#[test]
fn a_simulation_whose_lines_cannot_be_written_does_not_pass() {
    let flags = ["--devices", "9", "--until", "60s", "--console", "/dev/full"];
    let (code, out, err) = run(&[&["sim", "--no-world"][..], &flags].concat());
    assert!(code != 0 && err.contains("/dev/full"), "{code} {out}{err}");
}

#[test]
fn a_fleet_without_a_broker_prints_to_standard_output_and_accounts_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let template = "'{device_id} {sequence} {fields.level} {labels.site}'";
    let text = format!(
        "type: tank\nprotocol: console\nlabels: {{site: north}}\npayload: template\n\
         payload_template: {template}\ntelemetry_fields:\n  level: {{type: static, value: 7}}\n"
    );
    let profile = write(dir.path(), "tank.yaml", &text);
    let (state, report) = (dir.path().join("state"), dir.path().join("r.json"));
    let (state, report) = (state.display().to_string(), report.display().to_string());
    let fleet = ["--no-world", "--devices", "10", "--interval", "100ms"];
    let ends = ["--for", "1s", "--state-dir", &state, "--report", &report];
    let to = ["start", "--console", "-", "--profile", &profile];
    let off = ["metrics", "http", "grpc"].map(|face| format!("{face}.enabled=false"));
    let off: Vec<&str> = off.iter().flat_map(|off| ["-X", off]).collect();
    let (code, out, err) = run(&[&to[..], &fleet, &ends, &off].concat());
    assert_eq!(code, 0, "{out}{err}");
    let report = std::fs::read_to_string(report).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let console = &report["publish"]["console"];
    assert_eq!(console["acked"], out.lines().count(), "{console}");
    assert_eq!(console["sent"], console["acked"]);
    let of_one: Vec<_> = out
        .lines()
        .filter(|l| l.starts_with("tank-0003 "))
        .collect();
    assert!(of_one.len() > 2, "{out}");
    for (number, line) in of_one.iter().enumerate() {
        assert_eq!(*line, format!("tank-0003 {number} 7 north"));
    }
}

#[test]
fn a_scan_bench_accounts_for_every_cycle_and_leaves_null_what_it_did_not_measure() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (ndjson, report, svg) = (file("c.ndjson"), file("r.json"), file("j.svg"));
    let flags = "scan bench --period 1ms --cycles 50 --entities 70 --tasks 2";
    let files = ["--ndjson", &ndjson, "--report", &report, "--svg", &svg];
    let args: Vec<_> = flags.split(' ').chain(files).collect();
    let (code, out, err) = run(&args);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("scan: 50 cycles of 1000 us"), "{out}");
    let text = std::fs::read_to_string(&ndjson).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for task in ["scan", "scan-2"] {
        let of_task = lines.iter().filter(|line| line["task_id"] == task);
        let cycles: Vec<_> = of_task.map(|line| line["cycle_index"].as_u64()).collect();
        assert_eq!(cycles, (0..50).map(Some).collect::<Vec<_>>(), "{task}");
    }
    assert!(lines[0]["jitter_ns"].is_null() && lines[0]["lateness_ns"].is_u64());
    let text = std::fs::read_to_string(&report).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["verdict"], "pass");
    let scan = &report["scan"];
    let host = &scan["host"];
    assert_eq!(host["asked"]["policy"], "fifo:80");
    for key in ["pinned", "locked"] {
        assert_eq!(host["asked"][key], true, "{key}");
        assert!(host[key].is_boolean(), "{key}");
    }
    assert!(out.contains("asked for  core "), "{out}");
    assert_eq!(scan["jitter_us"]["count"], 49);
    assert_eq!(scan["lateness_us"]["count"], 50);
    assert_eq!(scan["records_lapped"], 0);
    assert!(scan["allocations_per_cycle"].is_null(), "nobody counts");
    assert_eq!(
        scan["host_gaps"].is_null(),
        scan["no_witness"].is_string(),
        "gaps are known or it is said why not"
    );
    assert!(report["load"].is_null() && report["cyclictest"].is_null());
    let picture = std::fs::read_to_string(&svg).unwrap();
    assert!(picture.contains("class=\"bar\""));
}

#[test]
fn a_load_whose_program_is_missing_names_its_package() {
    let output = actorsim(&["scan", "bench", "--cycles", "1", "--load", "cyclictest"])
        .env("PATH", "/nonexistent")
        .output()
        .unwrap();
    let (code, _, err) = outcome(&output);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("package rt-tests"), "{err}");
    for args in [["--period", "1us"], ["--load", "heavy"], ["--tasks", "0"]] {
        let (code, _, err) = run(&[&["scan", "bench"][..], &args[..]].concat());
        assert_eq!(code, 2, "{args:?}: {err}");
    }
}
