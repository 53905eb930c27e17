//! A node inside another program: a hundred devices and their twin for five seconds, then the
//! verdict.
//!
//! `cargo run --example embedded_node`

use std::process::ExitCode;

use actorsim::config::Layers;
use actorsim::node::RunOut;
use actorsim::report::Verdict;
use actorsim::{Node, NodeConfig};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut layers = Layers::built_in();
    for assignment in [
        "node.name=embedded",
        "node.run_for=5s",
        "fleet.devices=100",
        "fleet.interval=500ms",
        "transport.listen=127.0.0.1:0",
        "metrics.enabled=false",
    ] {
        layers.set(assignment);
    }
    let settings = match layers.resolve() {
        Ok(settings) => settings,
        Err(errors) => {
            eprint!("{errors}");
            return ExitCode::from(2);
        }
    };
    let mut node = match Node::start(NodeConfig::from_settings(&settings)).await {
        Ok(node) => node,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let ending = node.wait_or_stop(&mut RunOut).await;
    let report = node.report(&ending);
    println!("readings applied: {:?}", report.world.readings_applied);
    println!("verdict: {:?} {:?}", report.verdict, report.why);
    match report.verdict {
        Verdict::Pass => ExitCode::SUCCESS,
        Verdict::Fail => ExitCode::FAILURE,
    }
}
