//! Connections of a listener: accepted, bounded, served until they end.
//!
//! One future for all of them, which spawns nothing: the streams of an HTTP/2 connection live in
//! its own future. It knows no route; [`Respond`] does. The bounds, each against somebody who is
//! slow, silent or many: [`Limits`], [`HEAD_TIME`] for a request's head (and between requests) or
//! HTTP/2's first bytes, [`HANDSHAKE_TIME`], [`WRITE_TIME`] for a peer that does not read,
//! [`STREAMS_MAX`] requests of a connection at once, [`RESETS_MAX`] that it takes back,
//! [`HEAD_MAX`] bytes of a head.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep_until, timeout};
use tokio_rustls::server::TlsStream;

use super::peer::Peer;
use super::tls::Secure;

/// Time for the head of a request, and between the requests of a connection; for the preface of
/// HTTP/2, after which its pings tell who lives.
pub const HEAD_TIME: Duration = Duration::from_secs(5);

/// Time for a TLS handshake.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// Time for a peer to take something of what waits for it.
pub const WRITE_TIME: Duration = Duration::from_secs(30);

/// Requests of one HTTP/2 connection at once: a client's calls, and some streams.
pub const STREAMS_MAX: u32 = 32;

/// Requests that a peer has taken back and that were not yet looked at (rapid reset).
pub const RESETS_MAX: usize = 16;

/// Bytes of a request's head.
pub const HEAD_MAX: u32 = 16 * 1024;

/// Bytes that a peer sends first in HTTP/2 (RFC 9113, 3.4).
const PREFACE: usize = 24;

/// Bytes that wait for the peer of an HTTP/2 stream.
const SEND_MAX: usize = 256 * 1024;

/// Credit of an HTTP/2 stream and connection: a request of 60 MiB is sent in as many round trips.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// How often a silent HTTP/2 peer is pinged, and the time for its answer.
const PING_EVERY: Duration = Duration::from_secs(20);

/// Wait after a failed accept (out of descriptors): long enough not to spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What goes wrong in a body.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// A body that is there.
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    let body = Full::new(bytes.into());
    body.map_err(|never| match never {}).boxed_unsync()
}

/// An answer that is there.
pub fn answer(status: StatusCode, kind: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut answer = Response::new(whole(bytes));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// Limits of one listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; those above are closed unheard.
    pub connections_max: usize,
    /// Of these, those of strangers, so that they cannot take all. With TLS everybody is one until
    /// the handshake is done.
    pub strangers_max: usize,
}

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 from the first byte.
    Http2,
}

/// Answers requests.
pub trait Respond: Send + Sync + 'static {
    /// The answer to one request.
    fn respond(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
    ) -> BoxFuture<'static, Response<Body>>;
}

/// A bound listener and how it is served.
pub struct Served {
    /// The listener.
    pub listener: TcpListener,
    /// Beyond loopback.
    pub tls: Option<Secure>,
    /// Its protocol.
    pub speaks: Speaks,
    /// Its bounds.
    pub limits: Limits,
    /// Who answers.
    pub respond: Arc<dyn Respond>,
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served")
            .field("listener", &self.listener)
            .field("speaks", &self.speaks)
            .finish_non_exhaustive()
    }
}

/// Serves until the future is dropped.
pub async fn serve(served: Served) {
    let mut connections = FuturesUnordered::new();
    let limits = served.limits;
    let strangers = Arc::new(Semaphore::new(limits.strangers_max));
    let mut resume = tokio::time::Instant::now();
    loop {
        let accept = async {
            sleep_until(resume).await;
            served.listener.accept().await
        };
        tokio::select! {
            biased;
            Some(()) = connections.next(), if !connections.is_empty() => {}
            accepted = accept => match accepted {
                Ok((stream, remote)) => {
                    let Ok(local) = stream.local_addr() else { continue };
                    let peer = match served.tls {
                        Some(_) => Peer::Stranger, // until its certificate is seen
                        None => Peer::of(local, remote),
                    };
                    let place = match peer {
                        Peer::Stranger => Arc::clone(&strangers).try_acquire_owned().map(Some),
                        Peer::OwnUser | Peer::Site => Ok(None),
                    };
                    match place {
                        Ok(place) if connections.len() < limits.connections_max => {
                            connections.push(connection(stream, remote, (peer, place), &served));
                        }
                        _ => {
                            let full = connections.len();
                            tracing::debug!("{remote} is closed: {full} connections");
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!("remote control: accept failed: {error}");
                    // Those that are there go on.
                    resume = tokio::time::Instant::now() + ACCEPT_RETRY;
                }
            },
        }
    }
}

/// A place among the strangers.
type Place = Option<OwnedSemaphorePermit>;

fn connection(
    stream: TcpStream,
    remote: SocketAddr,
    (peer, place): (Peer, Place),
    served: &Served,
) -> impl Future<Output = ()> + Send + 'static {
    let (tls, speaks) = (served.tls.clone(), served.speaks);
    let respond = Arc::clone(&served.respond);
    async move {
        let _ = stream.set_nodelay(true);
        let ended = match tls {
            None => converse(stream, peer, speaks, respond).await,
            Some(tls) => match handshake(&tls, stream).await {
                Ok(stream) => {
                    let peer = super::tls::peer(&stream);
                    let _place = place.filter(|_| peer == Peer::Stranger);
                    let shown = super::tls::shown(&stream);
                    tokio::select! {
                        biased;
                        () = tls.revoked(shown) => Err("its certificate was revoked".to_owned()),
                        ended = converse(stream, peer, speaks, respond) => ended,
                    }
                }
                Err(error) => Err(error),
            },
        };
        if let Err(error) = ended {
            tracing::debug!("{remote}: {error}");
        }
    }
}

async fn handshake(tls: &Secure, stream: TcpStream) -> Result<TlsStream<TcpStream>, String> {
    let acceptor = tls.acceptor().map_err(|error| error.to_string())?;
    let done = timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await;
    let done = done.map_err(|_| "the handshake took too long".to_owned())?;
    done.map_err(|error| error.to_string())
}

/// Speaks HTTP on a connection until it ends, on whatever carries its bytes.
///
/// # Errors
/// Why it ended before its peer wanted it to.
pub async fn converse(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    peer: Peer,
    speaks: Speaks,
    respond: Arc<dyn Respond>,
) -> Result<(), String> {
    let hello = match speaks {
        Speaks::Http1 => 0, // its own timer sees to heads
        Speaks::Http2 => PREFACE,
    };
    let io = TokioIo::new(Patient::new(stream, hello));
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = Arc::clone(&respond).respond(request, peer.clone());
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let ended = match speaks {
        Speaks::Http1 => {
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .max_buf_size(HEAD_MAX as usize)
                .serve_connection(io, service);
            served.await
        }
        Speaks::Http2 => {
            let streams = Streams::default();
            let served = http2::Builder::new(streams.clone())
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS_MAX)
                .max_pending_accept_reset_streams(RESETS_MAX)
                .max_local_error_reset_streams(RESETS_MAX)
                .max_header_list_size(HEAD_MAX)
                .max_send_buf_size(SEND_MAX)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .keep_alive_interval(PING_EVERY)
                .keep_alive_timeout(PING_EVERY)
                .serve_connection(io, service);
            Within::new(served, streams).await
        }
    };
    ended.map_err(|error| error.to_string())
}

type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes the streams that an HTTP/2 connection begins, for [`Within`] to run.
#[derive(Clone, Default)]
struct Streams(Arc<Mutex<Vec<Stream>>>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.0.lock().push(Box::pin(stream));
    }
}

/// A connection with its streams inside: they end with it. At most [`STREAMS_MAX`] and what hyper
/// keeps for them.
struct Within<C> {
    connection: Pin<Box<C>>,
    begun: Streams,
    running: FuturesUnordered<Stream>,
}

impl<C> Within<C> {
    fn new(connection: C, begun: Streams) -> Self {
        Self {
            connection: Box::pin(connection),
            begun,
            running: FuturesUnordered::new(),
        }
    }
}

impl<C: Future> Future for Within<C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        if let Poll::Ready(ended) = self.connection.as_mut().poll(cx) {
            return Poll::Ready(ended);
        }
        loop {
            let begun = std::mem::take(&mut *self.begun.0.lock());
            self.running.extend(begun);
            match self.running.poll_next_unpin(cx) {
                Poll::Ready(Some(())) => {}
                // Asked before the lock was looked at again: a stream may begin another one.
                Poll::Ready(None) | Poll::Pending if self.begun.0.lock().is_empty() => {
                    return Poll::Pending;
                }
                Poll::Ready(None) | Poll::Pending => {}
            }
        }
    }
}

/// A stream that gives up on a peer that takes nothing for [`WRITE_TIME`], or does not send its
/// first bytes within [`HEAD_TIME`].
struct Patient<T> {
    stream: T,
    /// When a write has waited too long.
    until: Option<Pin<Box<Sleep>>>,
    /// The first bytes that are still to come, and when that is too late.
    hello: Option<(usize, Pin<Box<Sleep>>)>,
}

impl<T> Patient<T> {
    fn new(stream: T, hello: usize) -> Self {
        let late = || Box::pin(sleep_until(tokio::time::Instant::now() + HEAD_TIME));
        Self {
            stream,
            until: None,
            hello: (hello > 0).then(|| (hello, late())),
        }
    }

    /// Whether the first bytes are late; so many have come now.
    fn is_late(&mut self, came: usize, cx: &mut Context<'_>) -> bool {
        let Some((left, late)) = &mut self.hello else {
            return false;
        };
        *left = left.saturating_sub(came);
        if *left > 0 {
            return late.as_mut().poll(cx).is_ready();
        }
        self.hello = None;
        false
    }

    /// What a write came to, or that it has waited too long.
    fn wait<R>(&mut self, poll: Poll<io::Result<R>>, cx: &mut Context<'_>) -> Poll<io::Result<R>> {
        if poll.is_ready() {
            self.until = None;
            return poll;
        }
        let until = || Box::pin(sleep_until(tokio::time::Instant::now() + WRITE_TIME));
        let until = self.until.get_or_insert_with(until);
        match until.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Patient<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, into);
        match self.is_late(into.filled().len() - before, cx) {
            true => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            false => poll,
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Patient<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wait(poll, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(cx);
        self.wait(poll, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.wait(poll, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.wait(poll, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
