//! Credentials never stand in a profile: profiles are shared, committed and printed.
//!
//! It looks at names of keys and at URLs, not at values that merely look random. Bound: the tree.

use super::findings::Findings;
use super::tree::{Node, Value};

/// Words of a key that mean a credential.
const WORDS: [&str; 11] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "token",
    "secret",
    "secrets",
    "key",
    "apikey",
    "credential",
    "credentials",
];

const HELP: &str =
    "credentials belong to the node's configuration or environment, not to a profile";

/// Refuses each credential in the tree.
pub(super) fn refuse(node: &Node, findings: &mut Findings<'_>) {
    match &node.value {
        Value::Map(entries) => {
            for (key, value) in entries {
                // A telemetry field may be called `token`: what holds a map holds no credential
                // itself, and its inside is searched as well.
                let scalar = !matches!(value.value, Value::Map(_));
                if scalar && is_credential(&key.text) {
                    let message = format!("`{}` is a credential", key.text);
                    findings.error(key.at, message, HELP);
                }
                refuse(value, findings);
            }
        }
        Value::List(nodes) => nodes.iter().for_each(|node| refuse(node, findings)),
        Value::Text(text) if has_userinfo(text) => {
            let message = "a URL with a password in it";
            findings.error(node.at, message, HELP);
        }
        _ => {}
    }
}

/// Whether one of the key's words (`api_key`, `apiKey`, `API-KEY`) means a credential.
fn is_credential(key: &str) -> bool {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for c in key.chars() {
        if !c.is_alphanumeric() || (was_lower && c.is_uppercase()) {
            words.push(String::new());
        }
        was_lower = c.is_lowercase();
        if let Some(word) = words.last_mut().filter(|_| c.is_alphanumeric()) {
            word.extend(c.to_lowercase());
        }
    }
    words.iter().any(|word| WORDS.contains(&word.as_str()))
}

/// `scheme://user:password@host`.
fn has_userinfo(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    authority
        .rsplit_once('@')
        .is_some_and(|(user, _)| user.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_key_are_looked_at_and_not_its_letters() {
        for key in [
            "password",
            "mqtt_password",
            "apiKey",
            "API-KEY",
            "token",
            "client.secret",
        ] {
            assert!(is_credential(key), "{key}");
        }
        for key in ["monkey", "keyboard", "tokens_seen", "secretary", "state"] {
            assert!(!is_credential(key), "{key}");
        }
        assert!(has_userinfo("mqtt://me:pw@host:1883/x"));
        assert!(!has_userinfo("mqtt://host:1883/a@b:c"));
    }
}
