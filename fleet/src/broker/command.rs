//! Commands of a broker to a device, and its replies: JSON, both.
//!
//! `{"command_id": 7, "set": {"relay": 0}}` is answered by
//! `{"command_id": 7, "status": "executed", "reported": {"relay": 0.0}}`. Ids rise per device: one
//! at or below the last is `superseded`; a command without an id is always new.
//!
//! `{"desired": {"relay": 0}}` says how the device shall be, and can be kept by the broker for
//! one that comes back: it is answered by what was desired and by all that the device has,
//! `{.., "desired": {"relay": 0.0}, "reported": {..}}`. An empty one only asks. Bounds:
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
    /// A desired state: the reply says everything that the device has.
    pub(crate) is_desired: bool,
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
        let (is_desired, set) = match (command.get("set"), command.get("desired")) {
            (Some(Value::Object(set)), None) => (false, set),
            (None, Some(Value::Object(desired))) => (true, desired),
            (Some(_), Some(_)) => return Err("either `set` or `desired`".to_owned()),
            (None, Some(_)) => return Err("`desired` is not an object".to_owned()),
            (_, None) => return Err("`set` is missing or not an object".to_owned()),
        };
        if (set.is_empty() && !is_desired) || set.len() > SETS_MAX {
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
        Ok(Self {
            id,
            set,
            is_desired,
        })
    }

    /// The reply to a command.
    pub(crate) fn reply(&self, status: AckStatus, reported: &[(String, f64)]) -> Vec<u8> {
        let status = match status {
            AckStatus::Executed => "executed",
            AckStatus::Superseded => "superseded",
            _ => "refused",
        };
        let object = |state: &[(String, f64)]| -> Map<String, Value> {
            let state = state.iter();
            state
                .map(|(name, value)| (name.clone(), json!(value)))
                .collect()
        };
        let reported = object(reported);
        let reply = match self.is_desired {
            false => json!({"command_id": self.id, "status": status, "reported": reported}),
            true => json!({
                "command_id": self.id,
                "status": status,
                "desired": object(&self.set),
                "reported": reported,
            }),
        };
        reply.to_string().into_bytes()
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
    fn a_desired_state_is_answered_with_everything_that_the_device_has() {
        let has = [("relay".to_owned(), 0.0), ("valve".to_owned(), 0.5)];
        let command = Command::read(br#"{"desired": {"relay": 0}}"#).unwrap();
        assert_eq!((command.id, command.set.len()), (None, 1));
        let reply: Value =
            serde_json::from_slice(&command.reply(AckStatus::Executed, &has)).unwrap();
        assert_eq!(reply["desired"], json!({"relay": 0.0}));
        assert_eq!(reply["reported"], json!({"relay": 0.0, "valve": 0.5}));
        let ask = Command::read(br#"{"desired": {}}"#).unwrap();
        assert!(ask.set.is_empty() && ask.is_desired);
    }

    #[test]
    fn what_is_no_command_says_why() {
        for (text, why) in [
            ("reset", "expected value"),
            ("[1]", "not an object"),
            ("{}", "`set` is missing"),
            (r#"{"set": {}}"#, "1 to 16"),
            (r#"{"set": {}, "desired": {}}"#, "either"),
            (r#"{"desired": 7}"#, "`desired` is not"),
            (r#"{"set": {"relay": "on"}}"#, "`relay` is not a number"),
            (r#"{"command_id": -1, "set": {"relay": 1}}"#, "`command_id`"),
        ] {
            let error = Command::read(text.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(Command::read(&[b' '; COMMAND_BYTES_MAX + 1]).is_err());
    }
}
