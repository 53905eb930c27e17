//! Remote control: HTTP with REST and SSE, and gRPC `simulator.v1`, in front of the one command
//! table.
//!
//! Reading order: [`serve`] (connections, bounded; TLS beyond loopback), [`peer`] (who is at the
//! other end), [`token`] (what an action takes), [`access`] (who may do what: pure), then the two
//! faces. They decide nothing about devices: what they are asked for goes through
//! [`crate::attach::control`], as at the prompt.
//!
//! Bound: each face has its own connections, streams and bodies, named where they are.

pub mod access;
pub mod desk;
#[cfg(feature = "grpc")]
pub mod grpc;
pub mod http;
pub mod peer;
pub mod serve;
pub mod stream;
pub mod tls;
pub mod token;

/// Words of the census for the states of a device.
const STATES: [&str; 5] = [
    "starting",
    "running",
    "restarting",
    "quarantined",
    "stopped",
];

/// The words of the census for a state: it may be one of them, or that of `simulator.v1`, with its
/// prefix or without.
///
/// # Errors
/// What there is instead.
pub fn states(asked: &str) -> Result<Vec<&'static str>, String> {
    let short = |name: &'static str| name.trim_start_matches("DEVICE_STATE_");
    let bare = asked.trim_start_matches("DEVICE_STATE_");
    let meant = |word: &&str| *word == asked || short(state(word).1).eq_ignore_ascii_case(bare);
    let found: Vec<_> = STATES.into_iter().filter(meant).collect();
    match found.is_empty() {
        false => Ok(found),
        true => Err(format!(
            "`state`: there is no `{asked}`; known: idle, running, error, stopped, starting, \
             restarting, quarantined"
        )),
    }
}

/// Number and name of a state in `simulator.v1`, by the census's word for it.
#[must_use]
pub fn state(census: &str) -> (i32, &'static str) {
    match census {
        "starting" | "idle" => (1, "DEVICE_STATE_IDLE"),
        "running" => (2, "DEVICE_STATE_RUNNING"),
        "restarting" | "quarantined" => (3, "DEVICE_STATE_ERROR"),
        "stopped" => (4, "DEVICE_STATE_STOPPED"),
        _ => (0, "DEVICE_STATE_UNSPECIFIED"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_asked_for_in_words_of_the_census_and_of_the_contract() {
        for (asked, words) in [
            ("running", &["running"][..]),
            ("idle", &["starting"]),
            ("error", &["restarting", "quarantined"]),
            ("quarantined", &["quarantined"]),
            ("DEVICE_STATE_STOPPED", &["stopped"]),
        ] {
            assert_eq!(states(asked).as_deref(), Ok(words), "{asked}");
        }
        assert!(states("runing").unwrap_err().contains("known: idle"));
        assert!(STATES.iter().all(|word| state(word).0 > 0));
    }
}
