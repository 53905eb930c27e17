//! Commands of a broker to a device, and its replies: JSON, both.
//!
//! `{"command_id": 7, "set": {"relay": 0}}` is answered by
//! `{"command_id": 7, "status": "executed", "reported": {"relay": 0.0}}`. Ids rise per device: one
//! at or below the last is `superseded`; a command without an id is always new. Bounds:
//! [`COMMAND_BYTES_MAX`], [`SETS_MAX`].

use actorsim_transport::AckStatus;
use serde_json::{Map, Value, json};

/// Longest command.
pub(crate) const COMMAND_BYTES_MAX: usize = 4_096;
/// Setpoints in one command.
pub(crate) const SETS_MAX: usize = 16;

/// A command that can be read.
#[derive(Debug, PartialEq)]
pub(crate) struct Command {
    pub(crate) id: Option<u64>,
    pub(crate) set: Vec<(String, f64)>,
}

impl Command {
    /// Reads a command.
    ///
    /// # Errors
    /// What is wrong, for the reply.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > COMMAND_BYTES_MAX {
            return Err(format!("longer than {COMMAND_BYTES_MAX} bytes"));
        }
        let Value::Object(command) =
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?
        else {
            return Err("not an object".to_owned());
        };
        let id = match command.get("command_id") {
            None | Some(Value::Null) => None,
            Some(id) => Some(
                id.as_u64()
                    .ok_or("`command_id` is not a whole number from 0")?,
            ),
        };
        let Some(Value::Object(set)) = command.get("set") else {
            return Err("`set` is missing or not an object".to_owned());
        };
        if set.is_empty() || set.len() > SETS_MAX {
            return Err(format!("`set` must have 1 to {SETS_MAX} setpoints"));
        }
        let setpoint = |(name, value): (&String, &Value)| match value {
            Value::Bool(on) => Ok((name.clone(), f64::from(u8::from(*on)))),
            other => match other.as_f64() {
                Some(value) => Ok((name.clone(), value)),
                None => Err(format!("`{name}` is not a number")),
            },
        };
        let set = set.iter().map(setpoint).collect::<Result<_, _>>()?;
        Ok(Self { id, set })
    }

    /// The reply to a command.
    pub(crate) fn reply(&self, status: AckStatus, reported: &[(String, f64)]) -> Vec<u8> {
        let status = match status {
            AckStatus::Executed => "executed",
            AckStatus::Superseded => "superseded",
            _ => "refused",
        };
        let reported: Map<String, Value> = reported
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        json!({"command_id": self.id, "status": status, "reported": reported})
            .to_string()
            .into_bytes()
    }
}

/// The reply to what is no command.
pub(crate) fn unreadable(why: &str) -> Vec<u8> {
    json!({"command_id": null, "status": "refused", "why": why})
        .to_string()
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_and_answered() {
        let command = Command::read(br#"{"command_id": 7, "set": {"relay": false}}"#).unwrap();
        assert_eq!(command.id, Some(7));
        assert_eq!(command.set, [("relay".to_owned(), 0.0)]);
        let reply = command.reply(AckStatus::Executed, &command.set);
        let wanted = r#"{"command_id":7,"status":"executed","reported":{"relay":0.0}}"#;
        assert_eq!(String::from_utf8(reply).unwrap(), wanted);
    }

    #[test]
    fn what_is_no_command_says_why() {
        for (text, why) in [
            ("reset", "expected value"),
            ("[1]", "not an object"),
            ("{}", "`set` is missing"),
            (r#"{"set": {}}"#, "1 to 16"),
            (r#"{"set": {"relay": "on"}}"#, "`relay` is not a number"),
            (r#"{"command_id": -1, "set": {"relay": 1}}"#, "`command_id`"),
        ] {
            let error = Command::read(text.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(Command::read(&[b' '; COMMAND_BYTES_MAX + 1]).is_err());
    }
}
