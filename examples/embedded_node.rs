//! A node inside another program: a hundred devices and their twin for five seconds, then the
//! verdict.
//!
//! `cargo run --example embedded_node`

use std::process::ExitCode;

use actorsim::config::Layers;
use actorsim::node::RunOut;
use actorsim::report::Verdict;
use actorsim::{Node, NodeConfig};

fn main() -> ExitCode {
    let mut layers = Layers::built_in();
    layers.set("node.name=embedded");
    layers.set("fleet.devices=100");
    layers.set("fleet.interval=500ms");
    layers.set("node.run_for=5s");
    layers.set("transport.listen=127.0.0.1:0");
    layers.set("metrics.enabled=false");
    let settings = match layers.resolve() {
        Ok(settings) => settings,
        Err(errors) => {
            eprint!("{errors}");
            return ExitCode::from(2);
        }
    };
    let mut node = match Node::start(NodeConfig::from_settings(&settings)) {
        Ok(node) => node,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let ending = runtime.block_on(node.wait_or_stop(&mut RunOut));
    let report = node.report(&ending);
    println!("readings in the world: {:?}", report.world.readings_applied);
    println!("verdict: {:?} {:?}", report.verdict, report.why);
    if report.verdict == Verdict::Pass {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
