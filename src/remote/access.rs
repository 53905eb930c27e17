//! Who may do what: a pure judgement of one request.
//!
//! Any web page can reach loopback, by a name of its own (DNS rebinding) or from its visitor's
//! browser; any user of the machine can, too. So a request must name this node as its host, must
//! not come from another origin, and then has the rights of its token, or of who sent it. Whoever
//! has none learns nothing: every refusal is the same, before anything is looked up.
//!
//! | request | may |
//! |---|---|
//! | another host or origin | nothing |
//! | with the node's token | act |
//! | from a process of the node's own user, over gRPC | act |
//! | from a process of the node's own user, over HTTP | look |
//! | with a node certificate of the site | look |
//! | any other | nothing |
//!
//! gRPC takes the user's word because no browser speaks it, and because the clients of
//! `simulator.v1` send no token. Bound: headers as the server bounds them.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{self, HeaderMap};
use hyper::http::uri::Authority;

use super::peer::Peer;
use super::token::Token;

/// What a request may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Not even know what is here.
    Nothing,
    /// Commands that only look.
    Look,
    /// All commands.
    Act,
}

/// The way a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// REST, SSE, metrics: what a browser could have sent.
    Http,
    /// gRPC.
    Grpc,
}

/// What the judgement needs of a request.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Its way.
    pub face: Face,
    /// Who sent it.
    pub peer: &'a Peer,
    /// The host it names: `Host`, or `:authority`.
    pub host: Option<&'a str>,
    /// Its headers.
    pub headers: &'a HeaderMap,
}

/// The judge of one listener.
#[derive(Debug)]
pub struct Access {
    hosts: Vec<String>,
    /// Any address is this node's: a page can have a name made for it, but no address.
    addresses: bool,
    token: Token,
}

impl Access {
    /// For a listener at this address, as it was asked for and as it is bound.
    #[must_use]
    pub fn new(listen: &str, bound: SocketAddr, names: &[&str], token: Token) -> Self {
        let addresses = !bound.ip().is_loopback();
        let mut hosts = vec![bound.ip().to_string()];
        hosts.extend(host_of(listen));
        hosts.extend(names.iter().map(|name| name.to_ascii_lowercase()));
        if bound.ip().is_loopback() {
            hosts.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
        }
        Self {
            hosts,
            addresses,
            token,
        }
    }

    /// Whether a request names this node, and comes from no other origin.
    #[must_use]
    pub fn is_ours(&self, host: Option<&str>, headers: &HeaderMap) -> bool {
        let known = |text: &str| {
            let name = host_of(text);
            name.is_some_and(|name| {
                self.hosts.contains(&name) || self.addresses && name.parse::<IpAddr>().is_ok()
            })
        };
        let Some(host) = host.filter(|host| known(host)) else {
            return false;
        };
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let own = |origin: &str| {
            let rest = origin.strip_prefix("http://");
            let rest = rest.or_else(|| origin.strip_prefix("https://"));
            rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host))
        };
        // A browser says where a request comes from; who is no browser says nothing.
        let site = text(header::HeaderName::from_static("sec-fetch-site"));
        text(header::ORIGIN).is_none_or(own)
            && site.is_none_or(|site| ["same-origin", "none"].contains(&site))
    }

    /// What a request may do.
    #[must_use]
    pub fn judge(&self, asked: &Asked<'_>) -> Right {
        if !self.is_ours(asked.host, asked.headers) {
            return Right::Nothing;
        }
        if let Some(given) = asked.headers.get(header::AUTHORIZATION) {
            // One that is wrong is no reason to fall back on who sent it.
            let bearer = given.as_bytes().split_at_checked("Bearer ".len());
            return match bearer {
                Some((b"Bearer ", token)) if self.token.is(token) => Right::Act,
                _ => Right::Nothing,
            };
        }
        match (asked.peer, asked.face) {
            (Peer::OwnUser, Face::Grpc) => Right::Act,
            (Peer::OwnUser, Face::Http) | (Peer::Site, _) => Right::Look,
            (Peer::Stranger, _) => Right::Nothing,
        }
    }
}

/// The host of `HOST` or `HOST:PORT`, in lower case, without the brackets of an IPv6 address.
fn host_of(text: &str) -> Option<String> {
    let authority: Authority = text.parse().ok()?;
    if authority.as_str().contains('@') {
        return None;
    }
    let host = authority.host().trim_matches(['[', ']']);
    (!host.is_empty()).then(|| host.trim_end_matches('.').to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0f0e0d0c0b0a09080706050403020100";

    fn judged(face: Face, peer: Peer, host: Option<&str>, given: &[(&str, &str)]) -> Right {
        let bound = "127.0.0.1:8000".parse().unwrap();
        let access = Access::new("127.0.0.1:8000", bound, &["n1"], Token::of(TOKEN));
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.insert(
                header::HeaderName::try_from(*name).unwrap(),
                value.parse().unwrap(),
            );
        }
        let (peer, headers) = (&peer, &headers);
        access.judge(&Asked {
            face,
            peer,
            host,
            headers,
        })
    }

    const HERE: Option<&str> = Some("localhost:8000");

    #[test]
    fn who_may_do_what() {
        use Face::{Grpc, Http};
        use Peer::{OwnUser, Site, Stranger};
        use Right::{Act, Look, Nothing};
        let bearer = format!("Bearer {TOKEN}");
        let bearer: &[(&str, &str)] = &[("authorization", &bearer)];
        for (face, peer, host, headers, right) in [
            (Http, OwnUser, HERE, &[][..], Look),
            (Http, OwnUser, HERE, bearer, Act),
            (Grpc, OwnUser, HERE, &[], Act),
            (Http, Stranger, HERE, &[], Nothing),
            (Grpc, Stranger, HERE, &[], Nothing),
            (Grpc, Stranger, HERE, bearer, Act),
            (Http, Site, Some("n1:8000"), &[], Look),
            (Grpc, Site, Some("N1"), &[], Look),
            (Grpc, Site, Some("n1"), bearer, Act),
            // DNS rebinding: the page's own name leads here.
            (Http, OwnUser, Some("evil.example:8000"), bearer, Nothing),
            (Grpc, OwnUser, Some("evil.example:8000"), &[], Nothing),
            (Http, OwnUser, Some("evil@localhost"), bearer, Nothing),
            (Http, OwnUser, None, bearer, Nothing),
        ] {
            let got = judged(face, peer.clone(), host, headers);
            assert_eq!(got, right, "{face:?} {peer:?} {host:?} {headers:?}");
        }
    }

    #[test]
    fn a_page_of_another_origin_and_a_wrong_token_have_no_rights() {
        for (name, value, right) in [
            ("origin", "http://localhost:8000", Right::Look),
            ("origin", "http://localhost:3000", Right::Nothing),
            ("origin", "http://evil.example", Right::Nothing),
            ("origin", "null", Right::Nothing),
            ("sec-fetch-site", "same-origin", Right::Look),
            ("sec-fetch-site", "cross-site", Right::Nothing),
            ("authorization", "Bearer 00", Right::Nothing),
            ("authorization", "Basic eDp5", Right::Nothing),
        ] {
            let got = judged(Face::Http, Peer::OwnUser, HERE, &[(name, value)]);
            assert_eq!(got, right, "{name}: {value}");
        }
    }

    #[test]
    fn hosts_are_compared_without_port_case_and_brackets() {
        for (text, host) in [
            ("[::1]:8000", Some("::1")),
            ("LocalHost", Some("localhost")),
            ("localhost.:1", Some("localhost")),
            ("a b", None),
            ("", None),
        ] {
            assert_eq!(host_of(text).as_deref(), host, "{text}");
        }
    }
}
