//! What a server answers: status, the few headers that matter, and the body by its length, in
//! chunks, or to the end of the connection (RFC 9112, 6.3).
//!
//! Heads are parsed by `httparse`. It is called again with all bytes so far until an answer is
//! whole. Bounds: [`HEADERS_MAX`], [`HEAD_BYTES_MAX`], and the caller's bytes of an answer.

use std::time::Duration;

/// Headers of one answer.
pub const HEADERS_MAX: usize = 64;
/// Bytes of the head of one answer.
pub const HEAD_BYTES_MAX: usize = 16_384;
/// Bytes of the line that begins a chunk: its length in hexadecimal and what it is followed by.
const CHUNK_LINE_MAX: usize = 128;

/// Bytes that are no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The head cannot be read.
    #[error("{0}")]
    Head(#[from] httparse::Error),
    /// The head has no end.
    #[error("a head of more than {HEAD_BYTES_MAX} bytes")]
    HeadTooLong,
    /// The answer is larger than was allowed.
    #[error("an answer of more than {most} bytes")]
    TooLarge {
        /// Bytes allowed.
        most: usize,
    },
    /// A length that is none, or more than one.
    #[error("a length that cannot be read")]
    Length,
    /// A coding of the body other than chunks.
    #[error("an unknown transfer coding")]
    Coding,
    /// The connection ended within an answer.
    #[error("an answer that ends too early")]
    Short,
    /// An answer to nothing.
    #[error("an answer that nobody asked for")]
    Unasked,
}

/// One whole answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// The server closes the connection after it.
    pub(super) closes: bool,
    /// How long the server asks to wait, if it says so in seconds.
    pub(super) retry_after: Option<Duration>,
    /// Bytes of the whole answer.
    pub(super) len: usize,
}

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Bytes(usize),
    Chunks,
    ToTheEnd,
}

/// The first answer in `bytes`; `None`: it is not whole yet. `at_end`: nothing follows.
pub(super) fn parse(
    bytes: &[u8],
    at_end: bool,
    most: usize,
) -> Result<Option<Response>, Malformed> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let parsed = head.parse(bytes)?;
    // Whole or not, and however it is cut: the same bytes are refused.
    let so_far = match parsed {
        httparse::Status::Complete(len) => len,
        httparse::Status::Partial => bytes.len(),
    };
    if so_far > HEAD_BYTES_MAX {
        return Err(Malformed::HeadTooLong);
    }
    let head_len = match parsed {
        httparse::Status::Complete(len) => len,
        httparse::Status::Partial if at_end => return Err(Malformed::Short),
        httparse::Status::Partial => return Ok(None),
    };
    let status = head.code.unwrap_or_default();
    let mut response = Response {
        status,
        body: Vec::new(),
        closes: head.version == Some(0),
        retry_after: None,
        len: head_len,
    };
    let mut length = None;
    for header in head.headers.iter() {
        take(header, &mut response, &mut length)?;
    }
    let bodiless = status < 200 || matches!(status, 204 | 304);
    let length = match length {
        _ if bodiless => Length::Bytes(0),
        Some(length) => length,
        None => Length::ToTheEnd,
    };
    let rest = &bytes[head_len..];
    let whole = match length {
        Length::Bytes(len) => {
            if head_len.saturating_add(len) > most {
                return Err(Malformed::TooLarge { most });
            }
            rest.get(..len).map(|body| (body.to_vec(), len))
        }
        Length::Chunks => chunks(rest)?,
        Length::ToTheEnd => {
            response.closes = true;
            at_end.then(|| (rest.to_vec(), rest.len()))
        }
    };
    let Some((body, used)) = whole else {
        if bytes.len() > most {
            return Err(Malformed::TooLarge { most });
        }
        return if at_end {
            Err(Malformed::Short)
        } else {
            Ok(None)
        };
    };
    response.body = body;
    response.len += used;
    if response.len > most {
        return Err(Malformed::TooLarge { most });
    }
    Ok(Some(response))
}

fn take(
    header: &httparse::Header<'_>,
    response: &mut Response,
    length: &mut Option<Length>,
) -> Result<(), Malformed> {
    let value = header.value.trim_ascii();
    let text = std::str::from_utf8(value).unwrap_or_default();
    let is = |name: &str| header.name.eq_ignore_ascii_case(name);
    if is("content-length") {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let len = text
            .parse()
            .ok()
            .filter(|_| digits)
            .ok_or(Malformed::Length)?;
        match length {
            // chunks win (RFC 9112, 6.3)
            Some(Length::Chunks) => {}
            Some(Length::Bytes(before)) if *before != len => return Err(Malformed::Length),
            _ => *length = Some(Length::Bytes(len)),
        }
    } else if is("transfer-encoding") {
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Malformed::Coding);
        }
        *length = Some(Length::Chunks);
    } else if is("connection") {
        for option in text.split(',').map(str::trim) {
            response.closes |= option.eq_ignore_ascii_case("close");
            response.closes &= !option.eq_ignore_ascii_case("keep-alive");
        }
    } else if is("retry-after") {
        response.retry_after = text.parse().ok().map(Duration::from_secs);
    }
    Ok(())
}

/// A body in chunks (RFC 9112, 7.1), and how many bytes it took; `None`: it is not whole yet.
fn chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Malformed> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let Some(line) = line(&bytes[at..])? else {
            return Ok(None);
        };
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let digits = std::str::from_utf8(digits.trim_ascii()).unwrap_or_default();
        let signed = digits.starts_with('+');
        let len = usize::from_str_radix(digits, 16).ok().filter(|_| !signed);
        let len = len
            .filter(|len| *len <= u32::MAX as usize)
            .ok_or(Malformed::Length)?;
        at += line.len() + 2;
        if len == 0 {
            break;
        }
        let Some(chunk) = bytes.get(at..at + len + 2) else {
            return Ok(None);
        };
        let chunk = chunk.strip_suffix(b"\r\n").ok_or(Malformed::Length)?;
        body.extend_from_slice(chunk);
        at += len + 2;
    }
    // trailers up to an empty line
    loop {
        let Some(line) = line(&bytes[at..])? else {
            return Ok(None);
        };
        at += line.len() + 2;
        if line.is_empty() {
            return Ok(Some((body, at)));
        }
    }
}

fn line(bytes: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    let most = bytes.len().min(CHUNK_LINE_MAX + 2);
    let end = bytes[..most].windows(2).position(|pair| pair == b"\r\n");
    match end {
        None if bytes.len() >= CHUNK_LINE_MAX + 2 => Err(Malformed::Length),
        _ => Ok(end.map(|end| &bytes[..end])),
    }
}
