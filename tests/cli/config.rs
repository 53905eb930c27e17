//! `actorsim config`: files checked, printed and explained.

use super::*;

#[test]
fn an_unknown_key_a_wrong_type_and_a_bad_policy_are_three_errors_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[fleet]\ndevces = 10\ninterval = 5\n\n\
                [[supervision.supervisor]]\npath = \"/twin\"\nstrategy = \"one_for_noone\"\n";
    let file = write(dir.path(), "node.toml", text);
    let state = dir.path().join("state").display().to_string();
    for args in [
        &["config", "check", &file][..],
        &[
            "start",
            "--config",
            &file,
            "--state-dir",
            &state,
            "--for",
            "1s",
        ],
    ] {
        let (code, _, err) = run(args);
        assert_eq!(code, 2, "{err}");
        for place in ["node.toml:2:1", "node.toml:3:12", "node.toml:7:"] {
            assert!(err.contains(place), "{place} is missing:\n{err}");
        }
        assert!(err.contains("did you mean `devices`?"), "{err}");
        assert!(err.contains("3 errors; nothing was started"), "{err}");
    }
    assert!(!Path::new(&state).exists(), "nothing was started");
}

#[test]
fn a_missing_file_and_bad_flags_are_named() {
    let (code, _, err) = run(&[
        "start",
        "--config",
        "/no/such.toml",
        "--devices",
        "many",
        "-X",
        "a",
    ]);
    assert_eq!(code, 2);
    for words in ["/no/such.toml", "flag --devices", "expected KEY=VALUE"] {
        assert!(err.contains(words), "{words}: {err}");
    }
}

#[test]
fn a_good_file_checks_and_prints_with_its_origins() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "n.toml", "[fleet]\ndevices = 10\n");
    let (code, out, err) = run(&["config", "check", &file]);
    assert_eq!(
        (code, out.as_str()),
        (0, format!("{file}: ok\n").as_str()),
        "{err}"
    );
    let args = [
        "config",
        "print",
        "--origin",
        "--config",
        &file,
        "--interval",
        "2s",
        "-X",
        "scan.period=1ms",
    ];
    let output = actorsim(&args)
        .env("ACTORSIM__LOG__LEVEL", "warn")
        .output()
        .unwrap();
    let (code, out, err) = outcome(&output);
    assert_eq!(code, 0, "{err}");
    for line in [
        format!("devices = 10  # {file}:2:11"),
        "interval = \"2s\"  # flag --interval".into(),
        "period = \"1ms\"  # flag -X".into(),
        "level = \"warn\"  # environment ACTORSIM__LOG__LEVEL".into(),
        "speed = 1.0  # built-in".into(),
    ] {
        assert!(out.contains(&line), "{line}:\n{out}");
    }
    let printed = write(dir.path(), "printed.toml", &run(&["config", "print"]).1);
    assert_eq!(
        run(&["config", "check", &printed]).0,
        0,
        "what is printed can be read again"
    );
}

#[test]
fn keys_are_explained_and_described() {
    let (code, out, _) = run(&["config", "explain", "fleet.devices"]);
    assert_eq!(code, 0);
    assert!(
        out.contains("default:  1000") && out.contains("ACTORSIM__FLEET__DEVICES"),
        "{out}"
    );
    let (code, _, err) = run(&["config", "explain", "fleet.devics"]);
    assert_eq!(code, 2);
    assert!(err.contains("did you mean `fleet.devices`?"), "{err}");
    let (code, out, _) = run(&["config", "explain", "supervisor.backoff.min"]);
    assert_eq!(code, 0);
    assert!(out.contains("default:  50ms"), "{out}");
    let (code, out, _) = run(&["config", "explain", "supervisor"]);
    assert_eq!((code, out.contains("supervisor.child.shutdown")), (0, true));
    let (code, _, err) = run(&["config", "explain", "supervisor.intensty"]);
    assert_eq!(code, 2);
    assert!(
        err.contains("did you mean `supervisor.intensity`?"),
        "{err}"
    );
    let (code, out, _) = run(&["config", "schema", "policy"]);
    assert_eq!(code, 0);
    let schema: serde_json::Value = serde_json::from_str(&out).unwrap();
    let table = &schema["properties"]["supervisor"]["items"]["properties"];
    assert_eq!(table["backoff"]["properties"]["factor"]["maximum"], 1000.0);
    assert_eq!(table["child"]["items"]["required"][0], "id");
    let (code, out, _) = run(&["config", "explain", "chaos.faults.hang.for"]);
    assert_eq!(code, 0);
    assert!(out.contains("how long it lasts"), "{out}");
    let (code, _, err) = run(&["config", "explain", "chaos.rtae"]);
    assert_eq!(code, 2);
    assert!(err.contains("did you mean `chaos.rate`?"), "{err}");
    let (code, out, _) = run(&["config", "schema", "chaos"]);
    assert_eq!(code, 0);
    let schema: serde_json::Value = serde_json::from_str(&out).unwrap();
    let faults = &schema["properties"]["faults"]["properties"];
    assert!(
        faults["node_crash"]["anyOf"][1]["properties"]["for"].is_object(),
        "{out}"
    );

    let (code, out, _) = run(&["config", "schema"]);
    assert_eq!(code, 0);
    let schema: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        schema["properties"]["fleet"]["properties"]["devices"]["default"],
        1000
    );
}

#[test]
fn a_policy_file_is_checked_against_the_tree_and_printed_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let bad = "[[supervisor]]\npath = \"/twin\"\nstrategy = \"one_for_all\"\n\n\
               [[supervisor]]\npath = \"/transprt\"\nbackoff = { factor = 0x10 }\n";
    let bad = write(dir.path(), "bad.toml", bad);
    let (code, _, err) = run(&["config", "check", &bad]);
    assert_eq!(code, 2);
    for place in ["bad.toml:3:12", "bad.toml:6:8", "bad.toml:7:22", "3 errors"] {
        assert!(err.contains(place), "{place}, whoever shows it: {err}");
    }
    let unfit = "[[supervisor]]\npath = \"/twin\"\nstrategy = \"one_for_all\"\n\n\
                 [[supervisor]]\npath = \"/transprt\"\n";
    let unfit = write(dir.path(), "unfit.toml", unfit);
    let (code, _, err) = run(&["config", "check", &unfit]);
    assert_eq!(code, 2);
    for words in [
        "unfit.toml:3:12",
        "made for rest_for_one",
        "did you mean \"/transport\"?",
    ] {
        assert!(err.contains(words), "{words}: {err}");
    }
    let text = "[[supervisor]]\npath = \"/twin\"\nintensity = 7\n";
    let good = write(dir.path(), "good.toml", text);
    let set = format!("supervision.policies={good}");
    let (code, out, err) = run(&["config", "print", "--origin", "-X", &set]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains(&format!("[[supervision.supervisor]]  # {good}:1")),
        "{out}"
    );
    assert!(out.contains("intensity = 7"), "{out}");
    let endless = "[[supervisor]]\npath = \"/twin\"\n[[supervisor.child]]\nid = \"scan\"\n\
                   shutdown = \"infinity\"\n";
    let endless = write(dir.path(), "endless.toml", endless);
    let (code, out, err) = run(&["config", "check", &endless]);
    assert_eq!((code, out), (0, format!("{endless}: ok\n")));
    let warning = format!("warning: {endless}:5:12: scan is a worker");
    assert!(err.starts_with(&warning), "{err}");
}

#[test]
fn a_chaos_plan_is_checked_and_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/chaos");
    for plan in ["live.toml", "kill-anything.toml"] {
        let (code, _, err) = run(&["config", "check", shipped.join(plan).to_str().unwrap()]);
        assert_eq!(code, 0, "{plan}: {err}");
    }
    let bad = write(
        dir.path(),
        "bad.toml",
        "rate = \"often\"\n[faults]\nkil = 1\n",
    );
    let state = dir.path().join("state").display().to_string();
    let start = ["start", "--chaos", &bad, "--state-dir", &state];
    for args in [&["config", "check", &bad][..], &start] {
        let (code, _, err) = run(args);
        assert_eq!(code, 2, "{err}");
        for words in ["bad.toml:1:8", "bad.toml:3:1", "did you mean \"kill\"?"] {
            assert!(err.contains(words), "{words}: {err}");
        }
    }
    let broken = write(
        dir.path(),
        "broken.toml",
        "rate = \"1/1s\n[faults]\nkil = 1\n",
    );
    let (code, _, err) = run(&["config", "check", &broken]);
    assert_eq!(code, 2);
    for words in [
        "broken.toml:1:",
        "put the text in quotes",
        "did you mean \"kill\"?",
    ] {
        assert!(err.contains(words), "a plan's mistakes, {words}: {err}");
    }
}
