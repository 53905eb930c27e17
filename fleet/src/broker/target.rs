//! Where a broker or server is: `mqtt://127.0.0.1:1883`, `mqtts://broker.example`,
//! `https://127.0.0.1:8443/ingest`.
//!
//! Names are resolved once, at the start. Credentials have no place in a URL, which every user of
//! the machine can read in the process table. Bound: one address is used.

use std::net::{SocketAddr, ToSocketAddrs};

use thiserror::Error;

use crate::profile::Protocol;

/// A scheme, its port, what is spoken there, and whether that is over TLS.
type Scheme = (&'static str, u16, Protocol, bool);

/// Schemes that devices speak.
const SCHEMES: [Scheme; 7] = [
    ("mqtt", 1_883, Protocol::Mqtt, false),
    ("mqtts", 8_883, Protocol::Mqtt, true),
    ("http", 80, Protocol::Http, false),
    ("https", 443, Protocol::Http, true),
    ("coap", 5_683, Protocol::Coap, false),
    ("amqp", 5_672, Protocol::Amqp, false),
    ("amqps", 5_671, Protocol::Amqp, true),
];

/// A broker's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// As it was given, for people.
    pub url: String,
    /// Which protocol is spoken there.
    pub protocol: Protocol,
    /// Host and port as given, without the port where it is the scheme's own.
    pub host: String,
    /// From its `/` on; empty if there is none.
    pub path: String,
    /// Where that is.
    pub address: SocketAddr,
    /// Whether it is called over TLS.
    pub tls: bool,
}

/// What is wrong with a broker's URL.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TargetError {
    /// Not `scheme://host`.
    #[error("`{0}` is not a URL; write SCHEME://HOST[:PORT]")]
    Form(String),
    /// A scheme for which there is no protocol.
    #[error("`{scheme}` is not built; known: mqtt, mqtts, http, https, coap, amqp, amqps")]
    Scheme {
        /// As given.
        scheme: String,
    },
    /// CoAP over DTLS, which no well-kept library in Rust speaks.
    #[error(
        "`coaps` is not built: there is no well-kept DTLS in Rust; write coap:// and the address \
         of a proxy on this machine that speaks DTLS to `{0}`, or use mqtts:// or https://"
    )]
    Dtls(String),
    /// A user or a password stands in it.
    #[error(
        "credentials do not belong in a URL, which other users of this machine can read; \
         set username and password_file of targets.mqtt or targets.amqp, or \
         targets.http.authorization_file"
    )]
    Credentials,
    /// Of another protocol than the one that is asked for.
    #[error("`{url}` is {}, not {}", found.name(), wanted.name())]
    Protocol {
        /// As given.
        url: String,
        /// What its scheme says.
        found: Protocol,
        /// What it should say.
        wanted: Protocol,
    },
    /// A path, which this protocol has no use for.
    #[error("`{0}` has a path, which an MQTT broker has no use for; topics are the profile's")]
    Path(String),
    /// No such host.
    #[error("`{host}` cannot be resolved: {why}")]
    Host {
        /// As given.
        host: String,
        /// In the system's words.
        why: String,
    },
}

impl Target {
    /// Reads a URL and resolves its host.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn parse(url: &str) -> Result<Self, TargetError> {
        let Parts {
            scheme: (_, port, protocol, tls),
            host,
            path,
        } = Parts::of(url)?;
        let has_port = host.rsplit_once(':').is_some_and(|(name, port)| {
            port.parse::<u16>().is_ok() && (!name.contains(':') || name.ends_with(']'))
        });
        let resolved = match has_port {
            true => host.to_socket_addrs(),
            false => (host.trim_matches(['[', ']']), port).to_socket_addrs(),
        };
        let unresolved = |why: String| TargetError::Host {
            host: host.to_owned(),
            why,
        };
        let address = resolved
            .map_err(|error| unresolved(error.to_string()))?
            .next()
            .ok_or_else(|| unresolved("it has no address".to_owned()))?;
        Ok(Self {
            url: url.to_owned(),
            protocol,
            host: host.to_owned(),
            path: path.to_owned(),
            address,
            tls,
        })
    }

    /// What is wrong with a URL of a protocol, as far as that shows before names are resolved.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn check(url: &str, wanted: Protocol) -> Result<(), TargetError> {
        let found = Parts::of(url)?.scheme.2;
        match found == wanted {
            true => Ok(()),
            false => Err(TargetError::Protocol {
                url: url.to_owned(),
                found,
                wanted,
            }),
        }
    }

    /// The host without its port: what its certificate must carry.
    #[must_use]
    pub fn name(&self) -> &str {
        let parts = self.host.rsplit_once(':');
        let parts = parts.filter(|(name, _)| !name.contains(':') || name.ends_with(']'));
        let name = parts.map_or(&*self.host, |(name, _)| name);
        name.trim_matches(['[', ']'])
    }
}

/// A URL taken apart.
struct Parts<'a> {
    scheme: Scheme,
    host: &'a str,
    path: &'a str,
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Result<Self, TargetError> {
        let form = || TargetError::Form(url.to_owned());
        let Some((scheme, rest)) = url.split_once("://") else {
            // Nothing is shown of what may be a password.
            return Err(match url.contains('@') {
                true => TargetError::Credentials,
                false => form(),
            });
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if host.contains('@') {
            return Err(TargetError::Credentials);
        }
        if scheme == "coaps" {
            return Err(TargetError::Dtls(host.to_owned()));
        }
        let Some(known) = SCHEMES.iter().find(|(known, ..)| *known == scheme) else {
            let scheme = scheme.to_owned();
            return Err(TargetError::Scheme { scheme });
        };
        if known.2 == Protocol::Mqtt && path.len() > 1 {
            return Err(match path.contains('@') {
                true => TargetError::Credentials, // whose password has a slash
                false => TargetError::Path(url.to_owned()),
            });
        }
        if host.is_empty() {
            return Err(form());
        }
        Ok(Self {
            scheme: *known,
            host,
            path,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_an_address() {
        for (url, address) in [
            ("mqtt://127.0.0.1:1884", "127.0.0.1:1884"),
            ("mqtt://127.0.0.1", "127.0.0.1:1883"),
            ("mqtt://127.0.0.1/", "127.0.0.1:1883"),
            ("mqtt://[::1]:7", "[::1]:7"),
            ("mqtt://[::1]", "[::1]:1883"),
            ("http://127.0.0.1/a@b?c={device_id}", "127.0.0.1:80"),
            ("coap://127.0.0.1", "127.0.0.1:5683"),
            ("mqtts://127.0.0.1", "127.0.0.1:8883"),
            ("mqtts://[::1]:7", "[::1]:7"),
            ("https://127.0.0.1/ingest", "127.0.0.1:443"),
            ("amqps://127.0.0.1/vhost", "127.0.0.1:5671"),
        ] {
            let target = Target::parse(url).unwrap();
            assert_eq!(target.address, address.parse().unwrap());
            assert_eq!(target.name().parse(), Ok(target.address.ip()));
            assert_eq!(target.tls, url.contains("s://"));
        }
    }

    #[test]
    fn wrong_urls_say_what_to_write() {
        for (url, said) in [
            ("127.0.0.1:1883", "write SCHEME://HOST[:PORT]"),
            ("mqtt://", "is not a URL"),
            ("ws://127.0.0.1", "`ws` is not built"),
            (
                "coaps://10.0.0.9",
                "a proxy on this machine that speaks DTLS to `10.0.0.9`",
            ),
            ("mqtt://me:secret@127.0.0.1", "password_file"),
            ("mqtt://me:secret/s@127.0.0.1", "password_file"),
            ("me:secret@127.0.0.1:1883", "password_file"),
            ("mqtt:me:secret@127.0.0.1", "password_file"),
            ("mqtt:/me:secret@127.0.0.1", "password_file"),
            ("mqtt://127.0.0.1/topic", "has a path"),
            ("mqtt://127.0.0.1:99999", "cannot be resolved"),
        ] {
            let error = Target::parse(url).unwrap_err().to_string();
            assert!(error.contains(said), "{url}: {error}");
            assert!(!error.contains("secret"));
        }
    }

    #[test]
    fn a_url_is_checked_for_its_protocol_without_a_look_at_its_name() {
        let check = |url| Target::check(url, Protocol::Mqtt).map_err(|error| error.to_string());
        assert_eq!(check("mqtts://nowhere.invalid"), Ok(()));
        let error = check("http://127.0.0.1/x").unwrap_err();
        assert_eq!(error, "`http://127.0.0.1/x` is http, not mqtt");
        assert!(check("nowhere").unwrap_err().contains("is not a URL"));
    }
}
