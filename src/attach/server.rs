//! The attach server: a Unix socket in the state directory, one future for all sessions.
//!
//! It runs on the control thread and spawns nothing: a slow or stuck session costs only itself.
//!
//! Bounds: `sessions_max` at once (more get `busy`), [`protocol::LINE_MAX`] bytes a request,
//! [`COMMAND_TIME`] a command, [`WRITE_TIME`] an answer, `idle` between commands.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::control::{ControlPlane, dispatch};
use super::protocol::{self, Answer, Code, Refusal, Request};

/// Time for a command: a page of a million actors is far below; beyond it something is stuck.
pub const COMMAND_TIME: Duration = Duration::from_secs(10);

/// Time for a client to take an answer.
pub const WRITE_TIME: Duration = Duration::from_secs(5);

/// Wait after a failed accept (out of descriptors): long enough not to spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Limits of the server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Sessions at once.
    pub sessions_max: usize,
    /// Time between commands of a session.
    pub idle: Duration,
}

/// Binds the socket with mode 0600. A socket left over by an earlier node is replaced, which is
/// safe because the caller holds the state directory.
///
/// # Errors
/// Whatever the file system says.
pub fn bind(socket: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until the future is dropped.
pub async fn serve(listener: UnixListener, plane: Arc<dyn ControlPlane>, limits: Limits) {
    let mut sessions = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(()) = sessions.next(), if !sessions.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let full = sessions.len() >= limits.sessions_max;
                    if full && sessions.len() >= limits.sessions_max * 2 {
                        continue; // the refusals themselves are bounded: this one is just closed
                    }
                    sessions.push(session(stream, Arc::clone(&plane), limits, full));
                }
                Err(error) => {
                    tracing::warn!("attach: accept failed: {error}");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            },
        }
    }
}

async fn session(stream: UnixStream, plane: Arc<dyn ControlPlane>, limits: Limits, full: bool) {
    let uid = stream.peer_cred().map(|peer| peer.uid());
    let own = rustix::process::geteuid().as_raw();
    let (read, mut write) = stream.into_split();
    let refusal = match uid {
        Ok(uid) if uid != own && uid != 0 => {
            tracing::warn!("attach: user {uid} was refused");
            Some(Refusal::new(
                Code::Refused,
                "this node belongs to another user",
            ))
        }
        Err(ref error) => Some(Refusal::new(
            Code::Refused,
            format!("no peer credentials: {error}"),
        )),
        Ok(_) if full => Some(Refusal::new(
            Code::Busy,
            format!(
                "{} sessions are open already (control.sessions_max)",
                limits.sessions_max
            ),
        )),
        Ok(_) => None,
    };
    if let Some(refusal) = refusal {
        let _ = reply(&mut write, &Answer::new(0, Err(refusal))).await;
        return;
    }
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    while let Ok(Ok(true)) = timeout(limits.idle, read_line(&mut read, &mut line)).await {
        let too_long = line.len() > protocol::LINE_MAX;
        let answer = if too_long {
            let message = format!("a request is at most {} bytes", protocol::LINE_MAX);
            Answer::new(0, Err(Refusal::new(Code::Usage, message)))
        } else {
            answer(&*plane, &line, uid.as_ref().copied().unwrap_or(own)).await
        };
        if reply(&mut write, &answer).await.is_err() || too_long {
            return;
        }
    }
}

async fn answer(plane: &dyn ControlPlane, line: &[u8], uid: u32) -> Answer {
    let request: Request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => {
            let message = format!("not a request: {error}");
            return Answer::new(0, Err(Refusal::new(Code::Usage, message)));
        }
    };
    if request.v != protocol::VERSION {
        let message = format!(
            "version {} is not spoken here, only {}",
            request.v,
            protocol::VERSION
        );
        return Answer::new(request.id, Err(Refusal::new(Code::Usage, message)));
    }
    let done = timeout(
        COMMAND_TIME,
        dispatch(plane, &request.cmd, &request.args, uid),
    )
    .await;
    let result = done.unwrap_or_else(|_| {
        let message = format!("no answer within {} s", COMMAND_TIME.as_secs());
        Err(Refusal::new(Code::Timeout, message))
    });
    Answer::new(request.id, result)
}

async fn reply(write: &mut (impl AsyncWrite + Unpin), answer: &Answer) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(answer)?;
    if bytes.len() >= protocol::ANSWER_MAX {
        let refusal = Refusal::new(
            Code::Failed,
            "the answer is too large; use a smaller --limit",
        );
        bytes = serde_json::to_vec(&Answer::new(answer.id, Err(refusal)))?;
    }
    bytes.push(b'\n');
    timeout(WRITE_TIME, write.write_all(&bytes))
        .await
        .map_err(|_| io::ErrorKind::TimedOut)?
}

/// Reads one line without its end; false at the end of the stream. A line that is too long is
/// returned cut, one byte over the limit.
async fn read_line(read: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    loop {
        let chunk = read.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(false);
        }
        let newline = chunk.iter().position(|byte| *byte == b'\n');
        let room = (protocol::LINE_MAX + 1).saturating_sub(line.len());
        let part = &chunk[..newline.unwrap_or(chunk.len())];
        line.extend_from_slice(&part[..part.len().min(room)]);
        let used = newline.map_or(chunk.len(), |at| at + 1);
        read.consume(used);
        if newline.is_some() || line.len() > protocol::LINE_MAX {
            return Ok(true);
        }
    }
}
