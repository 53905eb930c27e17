//! Lines of the prompt, and requests of the attach protocol: a command with arguments that its
//! table allows, or words that say why not.

use actorsim::attach::protocol::Request;
use actorsim::attach::{command, parse};
use actorsim_fleet::Selector;

use super::Target;
use super::text::text;
use crate::script::Steps;

pub(crate) const TARGET: Target = Target {
    name: "attach",
    about: "lines and requests of the prompt",
    run,
    seeds,
    words: &[
        "--limit",
        "--for=",
        "for=",
        " key=value",
        "/twin/scan",
        "\"cmd\":\"",
        "\"args\":{",
    ],
    len_max: 2_048,
    heap_max: 4 << 20,
};

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for command in command::COMMANDS {
        seeds.push(Steps::new().byte(0).rest(command.example.as_bytes()));
        if let Ok(Some((command, args))) = parse::parse(command.example) {
            let request = Request {
                v: 1,
                id: 7,
                cmd: command.name.to_owned(),
                args,
            };
            let bytes = serde_json::to_vec(&request).expect("a request is JSON");
            seeds.push(Steps::new().byte(1).rest(&bytes));
        }
    }
    for selector in [
        "*",
        "site=north,10%",
        "pump-0001",
        "device_type=lock,site=a",
        "a=b,c=d",
    ] {
        seeds.push(Steps::new().byte(2).rest(selector.as_bytes()));
    }
    seeds
}

fn run(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else {
        return;
    };
    match kind % 3 {
        0 => {
            let Some(line) = text(rest) else {
                return;
            };
            match parse::parse(line) {
                Ok(None) => assert!(line.trim().is_empty() || line.trim().starts_with('#')),
                Ok(Some((command, args))) => {
                    let checked = parse::check(command, &args);
                    assert_eq!(
                        checked,
                        Ok(()),
                        "what the prompt reads the node refuses: {line}"
                    );
                }
                Err(why) => assert!(!why.is_empty()),
            }
        }
        1 => {
            if let Ok(request) = serde_json::from_slice::<Request>(rest)
                && let Some(command) = command::find(&request.cmd)
                && let Err(why) = parse::check(command, &request.args)
            {
                assert!(!why.is_empty());
            }
        }
        _ => {
            if let Some(selector) = text(rest)
                && let Err(why) = Selector::parse(selector)
            {
                assert!(!why.is_empty());
            }
        }
    }
}
