//! A node's configuration: a file, a variable, an assignment. All is read, or every mistake is said
//! and can be shown.

use actorsim::config::{Layers, NodeConfig};

use super::Target;
use super::text::inputs;
use crate::script::{Script, Steps};

pub(crate) const TARGET: Target = Target {
    name: "config",
    about: "a node's configuration: file, variables, assignments",
    run,
    seeds,
    words: &[
        "[fleet]\n",
        "devices = ",
        "interval = \"1s\"\n",
        "[transport]\n",
        "[[supervision.supervisor]]\n",
        "[supervision.supervisor.backoff]\n",
        "path = \"/twin\"\n",
        "[targets]\n",
        "mqtt = \"mqtt://127.0.0.1:1883\"\n",
        "ACTORSIM__FLEET__DEVICES",
    ],
    len_max: 4_096,
    heap_max: 32 << 20,
};

fn seeds() -> Vec<Vec<u8>> {
    let files = inputs(&[
        include_str!("../../../config/node.toml"),
        include_str!("../../../config/node-twin.toml"),
        "[fleet]\ndevicez = 5\ninterval = 5\n\n[[supervision.supervisor]]\nstrategy = 1\n",
    ]);
    let file = |text: &Vec<u8>| Steps::new().byte(0).bytes(text).done();
    let mut seeds: Vec<_> = files.iter().map(file).collect();
    let assigned = Steps::new().byte(1).bytes(b"fleet.devices=17");
    seeds.push(
        assigned
            .byte(2)
            .bytes(b"ACTORSIM__FLEET__INTERVAL")
            .bytes(b"250ms")
            .done(),
    );
    seeds
}

fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let mut layers = Layers::built_in();
    while let Some(step) = script.step() {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match step % 3 {
            0 => layers.file("node.toml", &text(script.bytes())),
            1 => layers.set(&text(script.bytes())),
            _ => {
                let variable = text(script.bytes());
                layers.env([(variable, text(script.bytes()))]);
            }
        }
    }
    match layers.resolve() {
        Ok(settings) => drop(NodeConfig::from_settings(&settings)),
        Err(errors) => {
            assert!(!errors.errors.is_empty(), "refused without a reason");
            assert!(errors.render(true).contains("nothing was started"));
        }
    }
}
