//! What a running node does about its supervision: chaos, policies, OTP's words, crash reports.

use actorsim_supervision::config::Children;

use super::*;

#[test]
fn under_constant_kills_nothing_is_lost_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let plan = concat!(env!("CARGO_MANIFEST_DIR"), "/config/chaos/live.toml");
    let mut node = Node::start(dir.path(), "n1", &[SMALL, &["--chaos", plan]].concat());
    node.wait_for("\"chaos_started\"");
    // Every kind of actor once: the node's own plan hits the attach server, too.
    let least = |node: &Node| -> Option<u64> {
        let output = node.attach(&["chaos status"]);
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        status["least"].as_u64()
    };
    let each = (0..2_000).any(|_| least(&node).is_some_and(|least| least >= 1));
    assert!(each, "a kind was never hit:\n{}", node.seen);
    node.signal(Signal::INT);
    let (code, report) = node.end();
    passes(code, &report);
    let kinds = report["chaos"]["strikes"].as_object().unwrap();
    assert!(
        kinds.len() > 15 && number(&report, "/chaos/least") >= 1,
        "{kinds:?}"
    );
    assert_eq!(number(&report, "/tiers/t2/lost"), 0);
    assert_eq!(number(&report, "/leaks/tasks"), 0);
    assert!(
        number(&report, "/supervision/restart_us/count") > 10,
        "{report:#}"
    );
    let p99 = |key: &str| report.pointer(&format!("/supervision/{key}/p99"));
    let p99 = |key| p99(key).and_then(Value::as_f64).unwrap();
    assert!(p99("restart_work_us") <= p99("restart_us"), "{report:#}");
}

#[test]
fn a_plan_over_attach_ends_when_its_session_goes_and_policies_outlive_what_it_kills() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path(), "n1", SMALL);
    node.ready();
    let plan = "[[supervisor]]\npath = \"/twin\"\nintensity = \"many\"\n";
    let bad = dir.path().join("bad.toml");
    std::fs::write(&bad, plan).unwrap();
    let refused = node.attach(&[&format!("chaos start --plan {}", bad.display())]);
    assert_eq!(refused.status.code(), Some(2));
    node.ask("policy set /twin intensity=1000 backoff=none");
    let over = node.ask("chaos start --seed 7 --kill 50/1s --scope /twin --for 3s");
    assert_eq!(over["running"], false, "{over}");
    assert_eq!(over["over"], "its time is over", "{over}");
    assert!(over["total"].as_u64().unwrap() > 10, "{over}");
    node.ready_again();
    let rows = node.ask("policy show /twin")["rows"].to_string();
    assert!(rows.contains("1000") && !rows.contains("backoff"), "{rows}");
    let twin = node.ask("info /twin");
    assert!(number(&twin, "/incarnation") > 1, "{twin}");
    let crash = twin["crash"]["reason"].to_string();
    assert!(crash.contains("killed"), "{twin}");
    let reloaded = node.ask("policy reload")["rows"].to_string();
    assert!(reloaded.contains("\"from\":\"1000\""), "{reloaded}");
    for name in [
        "chaos_started",
        "chaos_stopped",
        "policy_changed",
        "fault_injected",
    ] {
        let events = node.ask("events --limit 1000").to_string();
        assert!(events.contains(name), "{name}: {events}");
    }
    node.signal(Signal::TERM);
    let (code, report) = node.end();
    passes(code, &report);
}

/// What policies are checked against is what runs: a supervisor with its children.
fn is_known(path: &str, children: &[Value]) {
    let mut posts = actorsim::config::tree::POSTS.iter();
    let post = posts.find(|post| post.path == path);
    let post = post.unwrap_or_else(|| panic!("{path}: no policy is checked"));
    let mut before = None;
    for child in children {
        let [id, restart] = ["id", "restart"].map(|key| child[key].as_str().unwrap());
        let known = match post.children {
            Children::Named(named) => {
                let place = named.iter().position(|(name, _)| *name == id);
                assert!(place.is_some() && place > before, "{path}: {id}: {named:?}");
                before = place;
                named[place.unwrap()].1
            }
            Children::Coming(restart) => restart,
            Children::Cells => panic!("{path} supervises cells"),
        };
        assert_eq!(restart, known.word(), "{path}: {id}");
    }
}

#[test]
fn policies_are_read_again_at_a_signal_and_no_change_of_them_comes_without_its_plan() {
    let dir = tempfile::tempdir().unwrap();
    let policies = dir.path().join("policies.toml");
    let write = |text: &str| std::fs::write(&policies, text).unwrap();
    write("[[supervisor]]\npath = \"/twin\"\nintensity = 7\n");
    let config = dir.path().join("node.toml");
    let text = format!(
        "[supervision]\npolicies = [{:?}]\n",
        policies.display().to_string()
    );
    std::fs::write(&config, text).unwrap();
    let args = [SMALL, &["--config", config.to_str().unwrap()]].concat();
    let mut node = Node::start(dir.path(), "n1", &args);
    node.ready();
    let intensity = |node: &Node| {
        let shown = node.ask("policy show /twin")["rows"].clone();
        let mut rows = shown.as_array().unwrap().iter();
        let row = rows.find(|row| row["key"] == "intensity").unwrap();
        row["value"].as_str().unwrap().to_owned()
    };
    assert_eq!(intensity(&node), "7");
    write("[[supervisor]]\npath = \"/twin\"\nintensity = 8\n");
    node.signal(Signal::HUP);
    node.wait_for("\"policy_planned\"");
    let planned = node.seen.lines().last().unwrap().to_owned();
    assert!(planned.contains("/twin: intensity 7 -> 8"), "{planned}");
    node.wait_for("\"policy_changed\"");
    assert_eq!(intensity(&node), "8");
    write("[[supervisor]]\npath = \"/twin\"\nintensity = many\n");
    node.signal(Signal::HUP);
    node.wait_for("policies are as they were");
    assert_eq!(intensity(&node), "8");
    let set = node.attach(&["policy set /twin intensity=9"]);
    let told = String::from_utf8_lossy(&set.stderr).into_owned();
    let plan = told.lines().skip_while(|line| *line != "plan:").nth(2);
    let plan: Vec<&str> = plan.unwrap_or_default().split_whitespace().collect();
    assert_eq!(plan, ["/twin", "5", "intensity", "8", "9"], "{told}");
    assert_eq!(intensity(&node), "9");
    let again = node.attach(&["policy set /twin intensity=9"]);
    let told = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(told.contains("plan: no value changes"), "{told}");
    node.signal(Signal::TERM);
    let (code, report) = node.end();
    passes(code, &report);
}

#[test]
fn otp_s_words_work_on_tasks_and_devices_and_its_errors_are_closed() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path(), "n1", SMALL);
    node.ready();
    for post in node.ask("ps --state running")["rows"].as_array().unwrap() {
        let path = post["path"].as_str().unwrap();
        let supervisor = node.attach(&[&format!("which_children {path}")]);
        if supervisor.status.success() && !path.starts_with("/fleet/default") {
            let children: Value = serde_json::from_slice(&supervisor.stdout).unwrap();
            is_known(path, children["rows"].as_array().unwrap());
        }
    }
    let device = "/fleet/default/industrial-0001";
    let refused = |line: &str, words: &str| {
        let output = node.attach(&[line]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && error.contains(words),
            "{line}: {error}"
        );
    };
    assert_eq!(node.ask("count_children /fleet/default")["active"], 40);
    assert_eq!(node.ask("get_childspec /twin/scan")["restart"], "permanent");
    refused("restart_child /twin/scan", "running: terminate it first");
    refused("delete_child /twin/scan", "running: terminate it first");
    refused("start_child /twin/scan", "already_started");
    refused("terminate_child /twin/nobody", "not_found");
    refused("which_children /twin/scan", "is no supervisor");
    refused(&format!("restart_child {device}"), "running");
    refused(&format!("delete_child {device}"), "simple_one_for_one");
    refused("release /", "nobody is quarantined");
    node.ask(&format!("terminate_child {device}"));
    refused(&format!("start_child {device}"), "already_present");
    assert_eq!(node.ask("count_children /fleet/default")["active"], 39);
    node.ask(&format!("restart_child {device}"));
    let sent = &node.ask("fault inject default,10% hang for=1h")["rows"][0]["reached"]["sent"];
    assert_eq!(*sent, 4);
    node.ask("fault revert /fleet/* hang");
    let told = node.ask("fault list").to_string();
    for words in [
        "fault_injected",
        "fault_reverted",
        "sent to 40 of 40 devices",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    refused("fault inject nobody-* hang", "`ps /fleet/*` lists them");
    refused("fault inject * hung for=soon", "known: disconnect");
    let plan = node.ask("kill /twin/route --dry-run")["plan"].to_string();
    assert!(plan.contains("will also restart apply, actuate"), "{plan}");
    node.ask("policy set /fleet/default intensity=0");
    node.ask(&format!("kill {device}"));
    let row = |state: &str| node.ask(&format!("ps --state {state}"))["rows"].to_string();
    assert!(row("quarantined").contains(device));
    assert_eq!(node.ask("release /fleet/*")["rows"][0]["now"], "released");
    assert!(!row("quarantined").contains(device));
    node.signal(Signal::TERM);
    let (code, report) = node.end();
    passes(code, &report);
}

#[test]
fn child_specs_are_checked_against_policies_that_are_not_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path(), "n1", SMALL);
    node.ready();
    let refused = |line: &str, words: &str| {
        let output = node.attach(&[line]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && error.contains(words),
            "{line}: {error}"
        );
    };
    let checked = node.ask("check_childspecs /twin intensity=7");
    let (answer, children) = (
        &checked["rows"][0]["answer"],
        &checked["rows"][0]["children"],
    );
    assert_eq!((answer, children), (&"ok".into(), &5.into()));
    let all = node.ask("check_childspecs /*")["rows"].clone();
    let answers = all.as_array().unwrap().iter().map(|row| &row["answer"]);
    assert!(
        answers.clone().count() > 5 && answers.clone().all(|a| a == "ok"),
        "{all}"
    );
    let significant = "auto_shutdown=any_significant child.*.significant=true";
    refused(
        &format!("check_childspecs /twin {significant}"),
        "its end cannot be significant",
    );
    refused(
        "check_childspecs /tw* max_children=2",
        "too many children: 5, at most 2",
    );
    refused(
        "check_childspecs /twin intensty=7",
        "did you mean \"intensity\"?",
    );
    refused(
        "check_childspecs /nobody",
        "no supervisor and no population",
    );
    let intensity = node.ask("policy show /twin")["rows"].to_string();
    assert!(
        !intensity.contains("\"value\":\"7\""),
        "only checked: {intensity}"
    );
    node.signal(Signal::TERM);
    let (code, report) = node.end();
    passes(code, &report);
}

#[test]
fn a_crash_is_told_by_the_log_the_events_the_metrics_and_info() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let scrape = format!("metrics.listen=127.0.0.1:{port}");
    let args = ["--devices", "20", "--listen", "127.0.0.1:0", "-X", &scrape];
    let mut node = Node::start(dir.path(), "n1", &args);
    node.ready();
    node.ask("kill /twin/route");
    node.ask("fault crash /fleet/default/industrial-0003");
    for (path, supervisor, reason) in [
        ("/twin/route", "/twin", "killed"),
        ("/fleet/default/industrial-0003", "/fleet/default", "crash"),
    ] {
        let crash = (0..2_000).find_map(|_| {
            let info = node.ask(&format!("info {path}"));
            info["crash"].is_object().then(|| info["crash"].clone())
        });
        let crash = crash.unwrap_or_else(|| panic!("no crash report of {path}"));
        assert_eq!(
            (&crash["supervisor"], &crash["count"]),
            (&supervisor.into(), &1.into())
        );
        assert!(
            crash["plan"].as_str().unwrap().starts_with("restart"),
            "{crash}"
        );
        let of_path = |event: &&Value| event["path"] == path && event["name"] == "crash";
        let events = node.ask("events --limit 1000")["rows"].clone();
        let told = events.as_array().unwrap().iter().find(of_path).unwrap();
        let text = told["text"].as_str().unwrap().to_owned();
        assert!(
            text.starts_with(&format!("incarnation 1 ended: {reason}")),
            "{text}"
        );
        assert!(text.contains("failure 1 in a row"), "{text}");
        let counted = ["crashes", "restarts"].map(|what| {
            format!("actorsim_{what}_total{{supervisor=\"{supervisor}\",reason=\"{reason}\"}} 1\n")
        });
        let page = get(port, "/metrics").1;
        assert!(
            counted.iter().all(|line| page.contains(line)),
            "{counted:?}: {page}"
        );
        node.wait_for(&text);
        let line = node.seen.lines().last().unwrap();
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&line["event"], &line["path"]),
            (&"crash".into(), &path.into())
        );
        assert_eq!(line["level"], "WARN");
    }
    let all = (0..2_000).any(|_| number(&node.ask("fleet"), "/total/running") == 20);
    assert!(all, "not all devices came back");
    node.signal(Signal::INT);
    let (code, report) = node.end();
    passes(code, &report);
}
