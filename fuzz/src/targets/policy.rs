//! Supervision policies in TOML: read, or every mistake said with its place. What was read is
//! written and read again as the same.

use actorsim_actors::ActorPath;
use actorsim_supervision::Policies;

use super::Target;
use super::text::{inputs, placed, text};

pub(crate) const TARGET: Target = Target {
    name: "policy",
    about: "supervision policies in TOML",
    run,
    seeds,
    words: &[
        "[[supervisor]]\n",
        "path = \"/twin\"\n",
        "strategy = \"one_for_all\"\n",
        "\"rest_for_one\"",
        "intensity = 3\n",
        "period = \"5s\"\n",
        "restart = \"transient\"\n",
        "[supervisor.backoff]\n",
        "[[supervisor.child]]\n",
        "\"infinity\"",
        "significant = true\n",
        "auto_shutdown = \"any_significant\"\n",
    ],
    len_max: 4_096,
    heap_max: 16 << 20,
};

fn seeds() -> Vec<Vec<u8>> {
    inputs(&[
        include_str!("../../../config/supervision/default.toml"),
        "[[supervisor]]\npath = \"/twin\"\nstrategy = \"one_for_all\"\nintensity = 3\n",
        "[[supervisor]]\npath = \"/fleet/*\"\nperiod = \"5s\"\n",
        "[[supervisor]]\npath = \"/twni\"\nstrategy = \"one_for_two\"\nintensity = -1\nx = 1\n",
    ])
}

fn run(input: &[u8]) {
    let Some(text) = text(input) else {
        return;
    };
    match Policies::from_toml("policy.toml", text) {
        Err(errors) => placed(&errors, text),
        Ok(policies) => {
            let paths = ["/", "/twin", "/fleet/default", "/transport"];
            let paths = paths.map(|path| ActorPath::new(path).expect("a path"));
            let written = policies.to_toml("supervisor", false);
            let again = Policies::from_toml("written.toml", &written);
            let again = again.unwrap_or_else(|errors| panic!("{errors:?} of\n{written}"));
            for path in &paths {
                assert_eq!(policies.for_path(path), again.for_path(path), "{path}");
                let child = |of: &Policies| format!("{:?}", of.for_child(path, "scan"));
                assert_eq!(child(&policies), child(&again), "{path}");
            }
        }
    }
    for error in actorsim::config::policy::check("policy.toml", text, text) {
        assert!(!error.message.is_empty());
    }
}
