//! What devices and the node prove to brokers and servers who they are by: read from the files that
//! the configuration names or, without one, from variables of the environment.
//!
//! A simulation has none, wherever it runs. Bound: one line each.

use std::path::Path;

use actorsim_fleet::broker::Credentials;
use actorsim_fleet::session::http::Secret;
use actorsim_fleet::session::mqtt::Version;

use super::StartError;
use super::build::config_error;
use crate::config::NodeConfig;
use crate::config::node::MqttTarget;
use crate::config::target::{AmqpTarget, HttpTarget, SecretsFrom};

/// A secret, and the key or variable that it came from.
type Found = (Vec<u8>, &'static str);

/// Who devices are to an MQTT broker.
pub(super) fn mqtt_credentials(
    config: &NodeConfig,
    target: &MqttTarget,
) -> Result<Credentials, StartError> {
    let file = (
        "targets.mqtt.password_file",
        target.password_file.as_deref(),
    );
    let password = find(config, file, "ACTORSIM_MQTT_PASSWORD")?;
    let user = target.username.clone();
    Ok(match target.options.version {
        Version::V5 => Credentials {
            username: user,
            password: password.map(|(password, _)| password),
        },
        Version::V311 => of_user(user, password),
    })
}

/// Who the node is to its AMQP broker.
pub(super) fn amqp_credentials(
    config: &NodeConfig,
    target: &AmqpTarget,
) -> Result<Credentials, StartError> {
    let file = (
        "targets.amqp.password_file",
        target.password_file.as_deref(),
    );
    let password = find(config, file, "ACTORSIM_AMQP_PASSWORD")?;
    Ok(of_user(target.username.clone(), password))
}

/// The value of `Authorization`.
pub(crate) fn authorization(
    config: &NodeConfig,
    server: &HttpTarget,
) -> Result<Option<Secret>, StartError> {
    let file = (
        "targets.http.authorization_file",
        server.authorization_file.as_deref(),
    );
    let found = find(config, file, "ACTORSIM_HTTP_AUTHORIZATION")?;
    let line = |(value, from)| {
        let text = String::from_utf8(value).ok();
        let line = text.filter(|text| !text.chars().any(char::is_control));
        line.map(Secret)
            .ok_or_else(|| config_error(from, "is not one line of text"))
    };
    found.map(line).transpose()
}

/// A password is somebody's: without a user it is left out. That a file is given without a user
/// is a mistake of the configuration; a variable may be meant for another run.
fn of_user(username: Option<String>, found: Option<Found>) -> Credentials {
    let known = username.is_some();
    if let Some((_, from)) = found.as_ref().filter(|_| !known) {
        tracing::warn!("{from} is given, but no user that has it: it is left out");
    }
    Credentials {
        username,
        password: found.filter(|_| known).map(|(password, _)| password),
    }
}

/// A secret, in its file or, without one, in the environment, where an empty one is none.
fn find(
    config: &NodeConfig,
    (key, file): (&'static str, Option<&Path>),
    variable: &'static str,
) -> Result<Option<Found>, StartError> {
    if let Some(path) = file {
        let text = std::fs::read(path)
            .map_err(|error| config_error(key, format!("{}: {error}", path.display())))?;
        return Ok(Some((line(text), key)));
    }
    let given = match config.targets.secrets {
        SecretsFrom::Files => None,
        SecretsFrom::Environment => std::env::var_os(variable),
    };
    let given = given.map(|value| line(value.into_encoded_bytes()));
    let given = given.filter(|value| !value.is_empty());
    Ok(given.map(|value| (value, variable)))
}

/// Without the line break at its end.
fn line(mut text: Vec<u8>) -> Vec<u8> {
    for end in [b'\n', b'\r'] {
        text.pop_if(|last| *last == end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_at_the_end_is_no_part_of_a_secret() {
        for (text, secret) in [
            ("s", "s"),
            ("s\n", "s"),
            ("s\r\n", "s"),
            ("s\n\n", "s\n"),
            (" s ", " s "),
            ("\n", ""),
        ] {
            assert_eq!(line(text.into()), secret.as_bytes(), "{text:?}");
        }
    }

    #[test]
    fn a_password_without_a_user_is_left_out() {
        let found = || Some((b"p".to_vec(), "V"));
        assert_eq!(of_user(None, found()), Credentials::default());
        let both = of_user(Some("me".to_owned()), found());
        assert_eq!(both.password.as_deref(), Some(&b"p"[..]));
    }
}
