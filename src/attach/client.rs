//! The attach client: finds the node, sends commands, waits for answers with a deadline.
//!
//! It prints nothing (see [`super::output`] and [`super::repl`]).
//!
//! Bound: one request at a time; an answer within [`ANSWER_TIME`] and [`protocol::ANSWER_MAX`].

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::RecvFlags;
use serde_json::{Map, Value as Json};
use thiserror::Error;

use super::protocol::{self, Answer, Refusal, Request};
use crate::cli::Exit;
use crate::state_dir;

/// Time for an answer: the server's own deadlines together, and a margin.
pub const ANSWER_TIME: Duration = Duration::from_secs(20);

/// Why a command has no answer.
#[derive(Debug, Error)]
pub enum AttachError {
    /// No node was found.
    #[error("{0}")]
    NoNode(String),
    /// The socket does not answer.
    #[error("cannot connect to {path}: {source}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection ended.
    #[error("the node closed the connection: {0}")]
    Lost(io::Error),
    /// No answer in time.
    #[error("no answer within {} s", ANSWER_TIME.as_secs())]
    TimedOut,
    /// Not an answer.
    #[error("not an answer of this protocol: {0}")]
    Garbled(String),
    /// The node says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl AttachError {
    /// The exit code of `attach -c`.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::NoNode(_) | Self::Connect { .. } | Self::Lost(_) => Exit::Unreachable,
            Self::TimedOut => Exit::TimedOut,
            Self::Garbled(_) => Exit::Failed,
            Self::Refused(refusal) => refusal.exit(),
        }
    }
}

/// A connection to a node.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    socket: PathBuf,
    next: u64,
    /// An answer did not come in time: the next line of the stream would be that one.
    owed: bool,
}

impl Client {
    /// Connects to a socket.
    ///
    /// # Errors
    /// [`AttachError::Connect`].
    pub fn connect(socket: &Path) -> Result<Self, AttachError> {
        Ok(Self {
            stream: open(socket)?,
            socket: socket.into(),
            next: 1,
            owed: false,
        })
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends a command and waits for its answer. A session that the node ended since the last one
    /// (it was idle, or the attach server was restarted) is opened again first.
    ///
    /// # Errors
    /// A lost connection, a deadline, or the node's refusal.
    pub fn call(&mut self, cmd: &str, args: Map<String, Json>) -> Result<Json, AttachError> {
        if self.owed || is_closed(self.stream.get_ref()) {
            self.stream = open(&self.socket)?;
            self.owed = false;
        }
        let answer = self.ask(cmd, args);
        self.owed = matches!(answer, Err(AttachError::TimedOut | AttachError::Garbled(_)));
        answer
    }

    fn ask(&mut self, cmd: &str, args: Map<String, Json>) -> Result<Json, AttachError> {
        let id = self.next;
        self.next += 1;
        let request = Request {
            v: protocol::VERSION,
            id,
            cmd: cmd.to_owned(),
            args,
        };
        let mut line = serde_json::to_vec(&request)
            .map_err(|error| AttachError::Garbled(error.to_string()))?;
        line.push(b'\n');
        // A refused session is answered and closed before it reads: read that answer first.
        let sent = self.stream.get_mut().write_all(&line).map_err(lost);
        let mut text = String::new();
        let limit = protocol::ANSWER_MAX as u64 + 1;
        let read = Read::by_ref(&mut self.stream)
            .take(limit)
            .read_line(&mut text)
            .map_err(lost);
        match (read, sent) {
            (Ok(read), _) if read > 0 => {}
            (_, Err(error)) | (Err(error), _) => return Err(error),
            (Ok(_), Ok(())) => return Err(lost(io::ErrorKind::UnexpectedEof.into())),
        }
        let answer: Answer =
            serde_json::from_str(&text).map_err(|error| AttachError::Garbled(error.to_string()))?;
        match (answer.data, answer.error) {
            (_, Some(refusal)) => Err(refusal.into()),
            (Some(data), None) if answer.id == id => Ok(data),
            _ => Err(AttachError::Garbled(
                "neither data nor error for this request".into(),
            )),
        }
    }
}

fn open(socket: &Path) -> Result<BufReader<UnixStream>, AttachError> {
    let connect = || {
        let stream = connect_any_length(socket)?;
        stream.set_read_timeout(Some(ANSWER_TIME))?;
        stream.set_write_timeout(Some(ANSWER_TIME))?;
        Ok(BufReader::new(stream))
    };
    connect().map_err(|source| AttachError::Connect {
        path: socket.into(),
        source,
    })
}

/// True at the end of the stream; what waits to be read (a refusal) is left there.
fn is_closed(stream: &UnixStream) -> bool {
    let mut byte = [0];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    rustix::net::recv(stream, &mut byte[..], flags).is_ok_and(|(_, read)| read == 0)
}

fn lost(error: io::Error) -> AttachError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => AttachError::TimedOut,
        _ => AttachError::Lost(error),
    }
}

/// Unix socket addresses hold 108 bytes; a longer path is reached through its directory.
fn connect_any_length(socket: &Path) -> io::Result<UnixStream> {
    let (Some(directory), Some(name)) = (socket.parent(), socket.file_name()) else {
        return UnixStream::connect(socket);
    };
    if socket.as_os_str().len() < 100 {
        return UnixStream::connect(socket);
    }
    let directory = File::open(directory)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    UnixStream::connect(short)
}

/// The socket of the node meant by ADDR: a socket, a state directory, or a node's name; without
/// ADDR the only running node's.
///
/// # Errors
/// [`AttachError::NoNode`] if none runs, or several do.
pub fn locate(address: Option<&str>) -> Result<PathBuf, AttachError> {
    let Some(address) = address else {
        let running = state_dir::running();
        return match running.as_slice() {
            [one] => Ok(one.join(state_dir::SOCKET)),
            [] => Err(AttachError::NoNode(format!(
                "no node runs under {}; start one with `actorsim start`, or give its state \
                 directory",
                state_dir::root().display()
            ))),
            several => {
                let names: Vec<_> = several
                    .iter()
                    .filter_map(|path| path.file_name())
                    .map(|name| name.to_string_lossy().into_owned())
                    .collect();
                let names = names.join(", ");
                Err(AttachError::NoNode(format!(
                    "several nodes run: {names}; name one"
                )))
            }
        };
    };
    if address.contains('/') || Path::new(address).exists() {
        let path = Path::new(address);
        let socket = if path.is_dir() {
            path.join(state_dir::SOCKET)
        } else {
            path.to_path_buf()
        };
        return Ok(socket);
    }
    Ok(state_dir::default_path(address).join(state_dir::SOCKET))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_the_node_ended_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join(state_dir::SOCKET);
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let node = std::thread::spawn(move || {
            for session in 1..=2 {
                let mut stream = BufReader::new(listener.accept().unwrap().0);
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                let request: Request = serde_json::from_str(&line).unwrap();
                let answer = Answer::new(request.id, Ok(session.into()));
                let text = serde_json::to_string(&answer).unwrap() + "\n";
                stream.get_mut().write_all(text.as_bytes()).unwrap();
            }
        });
        let mut client = Client::connect(&socket).unwrap();
        assert_eq!(client.call("ps", Map::new()).unwrap(), 1);
        // The end of the first session is seen, not raced.
        while !is_closed(client.stream.get_ref()) {
            std::thread::yield_now();
        }
        assert_eq!(client.call("ps", Map::new()).unwrap(), 2);
        node.join().unwrap();
    }
}
