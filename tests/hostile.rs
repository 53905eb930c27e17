//! Whatever a file, a variable, a flag or an attach line holds: it is read or refused, and the
//! refusal can be shown. Nothing panics.

use actorsim::attach::parse;
use actorsim::attach::protocol::Request;
use actorsim::config::{Layers, NodeConfig};
use proptest::prelude::*;

/// Pieces of node files, whole and broken, so that random text gets past the first character.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("[fleet]\n".to_owned()),
        Just("[[supervision.supervisor]]\n".to_owned()),
        Just("[supervision.supervisor.backoff]\n".to_owned()),
        Just("[[supervisor]]\n".to_owned()),
        Just("path = \"/twin\"\n".to_owned()),
        Just("strategy = 3\n".to_owned()),
        Just("devices = -1\n".to_owned()),
        Just("supervision = { supervisor = [1, 2] }\n".to_owned()),
        Just("fleet.interval = \"\u{e9}5s\"\n".to_owned()),
        Just("fleet = 7\n".to_owned()),
        Just("\"\"\"\n[[supervision.supervisor]]\n".to_owned()),
        "[a-z_.\\[\\] =\"'\n#{},0-9\u{e9}\u{1f600}-]{0,40}",
        any::<String>(),
    ]
}

proptest! {
    #[test]
    fn any_file_is_read_or_refused_in_words(pieces in prop::collection::vec(piece(), 0..8)) {
        let mut layers = Layers::built_in();
        layers.file("node.toml", &pieces.concat());
        match layers.resolve() {
            Ok(settings) => drop(NodeConfig::from_settings(&settings)),
            Err(errors) => prop_assert!(errors.render(true).contains("nothing was started")),
        }
    }

    #[test]
    fn any_assignment_is_taken_or_refused(text in any::<String>(), key in 0..64_usize) {
        let key = actorsim::config::key::KEYS.get(key).map_or("x.y", |key| key.name);
        let mut layers = Layers::built_in();
        layers.set(&format!("{key}={text}"));
        layers.set(&text);
        layers.env([(format!("ACTORSIM__{text}"), text.clone())]);
        if let Err(errors) = layers.resolve() {
            prop_assert!(!errors.render(false).is_empty());
        }
    }

    #[test]
    fn any_attach_line_is_parsed_or_refused(line in any::<String>(), bytes in any::<Vec<u8>>()) {
        let _ = parse::parse(&line);
        for command in ["ps", "kill", "fault", "tree"] {
            let _ = parse::parse(&format!("{command} {line}"));
        }
        if let Ok(request) = serde_json::from_slice::<Request>(&bytes)
            && let Some(command) = actorsim::attach::command::find(&request.cmd)
        {
            let _ = parse::check(command, &request.args);
        }
    }
}
