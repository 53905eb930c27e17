//! A server of HTTP/1.1 that has nothing to say: 204 for what is posted, and for who asks.
//!
//! Bodies have a length, as those of devices do. Bound: a request.

use super::{Garbled, Hearer, MESSAGE_MAX, Message, WAITING_MAX, garbled, parts};
use crate::profile::Protocol;
use crate::session::http::HEADERS_MAX;

/// All that it answers.
const NOTHING: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

#[derive(Debug, Default)]
pub(super) struct Peer {
    waiting: Vec<u8>,
}

fn no(why: impl std::fmt::Display) -> Garbled {
    garbled(Protocol::Http, why)
}

impl Peer {
    pub(super) fn hear(
        &mut self,
        bytes: &[u8],
        answer: &mut Vec<u8>,
        hearer: Hearer<'_>,
    ) -> Result<(), Garbled> {
        parts(&mut self.waiting, bytes, |rest| {
            let whole = request(rest, hearer)?;
            if whole.is_some() {
                answer.extend_from_slice(NOTHING);
            }
            Ok(whole)
        })
    }
}

/// Reads a request and tells what it posts.
fn request(bytes: &[u8], hearer: Hearer<'_>) -> Result<Option<usize>, Garbled> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(begin) = head.parse(bytes).map_err(no)? else {
        return match bytes.len() > WAITING_MAX {
            true => Err(no("a head without an end")),
            false => Ok(None),
        };
    };
    let length =
        |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case("content-length");
    let length = match head.headers.iter().find(length) {
        Some(header) => std::str::from_utf8(header.value)
            .ok()
            .and_then(|text| text.parse().ok()),
        None => Some(0),
    };
    let length = length.filter(|length| *length <= MESSAGE_MAX);
    let length = length.ok_or_else(|| no("a body of no length, or of more than 16 MiB"))?;
    let Some(payload) = bytes.get(begin..begin + length) else {
        return Ok(None);
    };
    if let (Some("POST"), Some(at)) = (head.method, head.path) {
        let retain = false;
        hearer(Message {
            at,
            payload,
            retain,
        });
    }
    Ok(Some(begin + length))
}
