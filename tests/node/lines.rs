//! What a running node does when the packets of its links are hit.

use super::*;

const PLAN: &str = r#"
seed = 5
rate = "5/1s"
max_concurrent = 4
[faults]
partition = { for = "500ms" }
clog = { for = "300ms" }
swizzle = { for = "300ms" }
drop_msg = { for = "300ms", share = 0.3 }
dup_msg = { for = "300ms", share = 0.3 }
delay_msg = { for = "300ms", delay = "10ms" }
reorder = { for = "300ms", share = 0.3, delay = "5ms" }
"#;
const FAULTS: usize = 7;

#[test]
fn each_fault_of_packets_hits_the_links_of_a_running_node_and_no_event_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let plan = dir.path().join("plan.toml");
    std::fs::write(&plan, PLAN).unwrap();
    let links = &["-X", "shards.count=4", "--chaos", plan.to_str().unwrap()];
    let mut node = Node::start(dir.path(), "n1", &[SMALL, links].concat());
    node.wait_for("\"chaos_started\"");
    let all_struck = |node: &Node| {
        let status = node.ask("chaos status");
        let struck = status["strikes"]["link"].as_object();
        struck.is_some_and(|faults| faults.len() == FAULTS)
    };
    let each = (0..2_000).any(|_| all_struck(&node));
    assert!(each, "a fault never struck:\n{}", node.seen);
    let over = node.ask("chaos stop");
    assert_eq!(over["over"], "it was stopped", "{over}");
    node.ready_again();
    node.signal(Signal::INT);
    let (code, report) = node.end();
    passes(code, &report);
    let chaos = &report["chaos"];
    let struck: Vec<_> = chaos["strikes"].as_object().unwrap().keys().collect();
    assert_eq!(struck, ["link"], "{chaos:#}");
    assert_eq!(chaos["found_nobody"], Value::Array(Vec::new()));
    assert!(number(&report, "/chaos/packets_lost") > 0, "{chaos:#}");
    assert_eq!(number(&report, "/tiers/t2/lost"), 0);
    assert_eq!(
        number(&report, "/tiers/t2/acked"),
        number(&report, "/tiers/t2/created")
    );
}

#[test]
fn a_fault_that_never_finds_a_victim_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let plan = dir.path().join("plan.toml");
    let text = "rate = \"50/1s\"\nmax_concurrent = 2\n[faults]\nswizzle = 1\nkill = 1\n";
    std::fs::write(&plan, format!("scope = \"/fleet/links\"\n{text}")).unwrap();
    let one = &["-X", "shards.count=1", "--chaos", plan.to_str().unwrap()];
    let mut node = Node::start(dir.path(), "n1", &[SMALL, one].concat());
    node.wait_for("\"chaos_started\"");
    let named =
        |node: &Node| node.ask("chaos status")["found_nobody"] == serde_json::json!(["swizzle"]);
    assert!((0..2_000).any(|_| named(&node)), "{}", node.seen);
    node.ask("chaos stop");
    node.signal(Signal::INT);
    let (_, report) = node.end();
    let why = report["why"].to_string();
    assert!(why.contains("swizzle found no victim"), "{why}");
}
