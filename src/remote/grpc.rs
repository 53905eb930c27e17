//! gRPC `simulator.v1`: the runtime service of the virtual-iot-simulator, whose clients drive a
//! node unchanged.
//!
//! Reading order: [`message`] (what is on the wire), [`specs`] (a hundred thousand specs as a few
//! batches), [`service`] (the methods), and here the table of methods and what is common to their
//! calls: rights, deadlines, sizes, panics. A call that is cancelled is dropped where it waits.
//!
//! Bounds: a request of at most [`Method::request_max`] bytes, of the largest kind one at a time;
//! [`LISTS_MAX`] lists of devices and [`STREAMS_MAX`] streams at once; [`CALL_TIME`] a call.

pub(crate) mod message;
mod service;
pub(crate) mod specs;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{HeaderMap, Request, Response, StatusCode, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, timeout_at};
use tonic::Status;
use tonic::server::{ServerStreamingService, UnaryService};
use tonic_prost::ProstCodec;

use super::access::{Access, Asked, Face, Right};
use super::desk::{self, Ask, Desk, DeskError};
use super::peer::Peer;
use super::serve::{self, Body, BodyError, Respond};

/// Time for a call, but for streams: far above the start of a million devices.
pub const CALL_TIME: Duration = Duration::from_secs(300);

/// Lists of devices at once, from the question until the last byte is sent: each may be as large as
/// an answer.
pub const LISTS_MAX: usize = 4;

/// Streams at once, of all connections: each makes its own text of what it tells.
pub const STREAMS_MAX: usize = 64;

/// Bytes of an answer: what the service's client takes at most.
const ANSWER_MAX: usize = 200 << 20;

/// Bytes of a request that names devices: their ids.
const IDS_MAX: usize = 32 << 20;

const PREFIX: &str = "/simulator.v1.DeviceRuntimeService/";

/// One method.
#[derive(Debug)]
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// The command it stands for.
    pub ask: Ask,
    /// Bytes of its request at most.
    pub request_max: usize,
}

const fn method(name: &'static str, ask: Ask, request_max: usize) -> Method {
    Method {
        name,
        ask,
        request_max,
    }
}

/// Every method.
pub const METHODS: &[Method] = &[
    method("SpawnDevices", desk::SPAWN, 200 << 20),
    method("StopDevices", desk::STOP, IDS_MAX),
    method("GetFleetStatus", desk::LOOK, IDS_MAX),
    method("InjectFault", desk::FAULT, IDS_MAX),
    method("UpdateDeviceBehavior", desk::UPDATE, IDS_MAX),
    method("StreamTelemetry", desk::LOOK, IDS_MAX),
    method("StreamEvents", desk::LOOK, IDS_MAX),
    method("GetRuntimeStatus", desk::LOOK, 64 << 10),
];

/// The service.
pub struct Grpc {
    desk: Arc<dyn Desk>,
    access: Access,
    /// Requests of the largest kind: one at a time, so that memory is bounded.
    spawns: Semaphore,
    lists: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl std::fmt::Debug for Grpc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grpc")
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

impl Grpc {
    /// A node's service.
    #[must_use]
    pub fn new(desk: Arc<dyn Desk>, access: Access) -> Self {
        Self {
            desk,
            access,
            spawns: Semaphore::new(1),
            lists: Arc::new(Semaphore::new(LISTS_MAX)),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let asked = Asked {
            face: Face::Grpc,
            peer: &peer,
            host: request.uri().authority().map(|host| host.as_str()),
            headers: request.headers(),
        };
        let right = self.access.judge(&asked);
        if right == Right::Nothing {
            let refusal = "this node is driven by its own user, or with its token";
            return Status::unauthenticated(refusal).into_http::<Body>();
        }
        let kind = request.headers().get(header::CONTENT_TYPE);
        if !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
            return serve::answer(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "text/plain",
                "gRPC only\n",
            );
        }
        let name = request.uri().path().strip_prefix(PREFIX);
        let Some(method) = METHODS.iter().find(|method| name == Some(method.name)) else {
            return Status::unimplemented("no such method in simulator.v1").into_http::<Body>();
        };
        if right < method.ask.right() {
            let refusal = "this needs the node's token";
            return Status::permission_denied(refusal).into_http::<Body>();
        }
        let given = match deadline(request.headers()) {
            Ok(given) => given,
            Err(status) => return status.into_http::<Body>(),
        };
        let now = tokio::time::Instant::now();
        let until = now + given.unwrap_or(CALL_TIME).min(CALL_TIME);
        let answering = self.route(method, request, given.map(|given| now + given));
        match timeout_at(until, answering).await {
            Ok(answer) => answer,
            Err(_) => late().into_http::<Body>(),
        }
    }
}

impl Respond for Grpc {
    fn respond(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
    ) -> BoxFuture<'static, Response<Body>> {
        Box::pin(self.answer(request, peer))
    }
}

fn late() -> Status {
    Status::deadline_exceeded("the deadline has passed")
}

impl From<DeskError> for Status {
    fn from(error: DeskError) -> Self {
        let text = error.to_string();
        match error {
            DeskError::Unavailable(_) => Self::unavailable(text),
            DeskError::Wrong(_) => Self::invalid_argument(text),
            DeskError::Full(_) => Self::resource_exhausted(text),
            DeskError::Broken(_) => Self::internal(text),
        }
    }
}

/// The client's deadline: at most eight digits and a unit.
fn deadline(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(text) = headers.get("grpc-timeout") else {
        return Ok(None);
    };
    let parsed = text.to_str().ok().and_then(|text| {
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let short = (1..=8).contains(&digits.len());
        let number: u64 = digits.parse().ok().filter(|_| short)?;
        Some(match unit {
            "H" => Duration::from_secs(number * 3_600),
            "M" => Duration::from_secs(number * 60),
            "S" => Duration::from_secs(number),
            "m" => Duration::from_millis(number),
            "u" => Duration::from_micros(number),
            "n" => Duration::from_nanos(number),
            _ => return None,
        })
    });
    let bad = || Status::invalid_argument("grpc-timeout cannot be read");
    parsed.map(Some).ok_or_else(bad)
}

/// Runs a method's work; a panic in it is an internal error, and the service lives.
async fn guarded<T>(work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let ended = AssertUnwindSafe(work).catch_unwind().await;
    ended.unwrap_or_else(|_| Err(broken()))
}

fn broken() -> Status {
    Status::internal("the node failed to answer; it goes on")
}

/// A method that answers once.
struct Once<F>(F);

impl<R, T, F, W> UnaryService<R> for Once<F>
where
    R: Send + 'static,
    T: Send + 'static,
    F: FnMut(R) -> W,
    W: Future<Output = Result<T, Status>> + Send + 'static,
{
    type Response = T;
    type Future = BoxFuture<'static, Result<tonic::Response<T>, Status>>;

    fn call(&mut self, request: tonic::Request<R>) -> Self::Future {
        let work = guarded((self.0)(request.into_inner()));
        Box::pin(async move { work.await.map(tonic::Response::new) })
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Begins a stream.
type Begin<R, T> = fn(&Arc<dyn Desk>, R) -> Result<Answers<T>, Status>;

/// A method that answers with a stream.
struct Many<R, T> {
    desk: Arc<dyn Desk>,
    begin: Begin<R, T>,
    until: Option<tokio::time::Instant>,
}

impl<R: Send + 'static, T: Send + 'static> ServerStreamingService<R> for Many<R, T> {
    type Response = T;
    type ResponseStream = Ending<T>;
    type Future = std::future::Ready<Result<tonic::Response<Ending<T>>, Status>>;

    fn call(&mut self, request: tonic::Request<R>) -> Self::Future {
        let until = self.until;
        let begin = || (self.begin)(&self.desk, request.into_inner());
        let begun = std::panic::catch_unwind(AssertUnwindSafe(begin));
        let stream = begun.unwrap_or_else(|_| Err(broken()));
        std::future::ready(stream.map(|stream| {
            tonic::Response::new(Ending {
                stream,
                until: until.map(|at| Box::pin(tokio::time::sleep_until(at))),
                over: false,
            })
        }))
    }
}

/// A stream that ends at its deadline, and with an internal error if it panics.
struct Ending<T> {
    stream: Answers<T>,
    until: Option<Pin<Box<Sleep>>>,
    over: bool,
}

impl<T> Stream for Ending<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        let is_late = |until: &mut Pin<Box<Sleep>>| until.as_mut().poll(cx).is_ready();
        if self.until.as_mut().is_some_and(is_late) {
            self.over = true;
            return Poll::Ready(Some(Err(late())));
        }
        let stream = &mut self.stream;
        let next = std::panic::catch_unwind(AssertUnwindSafe(|| stream.poll_next_unpin(cx)));
        next.unwrap_or_else(|_| {
            self.over = true;
            Poll::Ready(Some(Err(Status::internal("the stream failed"))))
        })
    }
}

/// An answer, and its place among those of its kind, which it keeps until it is sent.
struct Placed {
    body: tonic::body::Body,
    #[expect(dead_code, reason = "given back when the answer is sent")]
    place: Option<OwnedSemaphorePermit>,
}

impl http_body::Body for Placed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body)
            .poll_frame(cx)
            .map_err(BodyError::from)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

fn placed(
    answer: Response<tonic::body::Body>,
    place: Option<OwnedSemaphorePermit>,
) -> Response<Body> {
    answer.map(|body| Placed { body, place }.boxed_unsync())
}

/// Answers a request once.
async fn once<R, T, W>(
    method: &Method,
    request: Request<Incoming>,
    work: impl FnMut(R) -> W,
) -> Response<tonic::body::Body>
where
    R: prost::Message + Default + 'static,
    T: prost::Message + 'static,
    W: Future<Output = Result<T, Status>> + Send + 'static,
{
    let codec = ProstCodec::<T, R>::new();
    let mut grpc = tonic::server::Grpc::new(codec)
        .max_decoding_message_size(method.request_max)
        .max_encoding_message_size(ANSWER_MAX);
    grpc.unary(Once(work), request).await
}

/// Answers a request with a stream.
async fn many<R, T>(
    method: &Method,
    request: Request<Incoming>,
    (desk, until): (Arc<dyn Desk>, Option<tokio::time::Instant>),
    begin: Begin<R, T>,
) -> Response<tonic::body::Body>
where
    R: prost::Message + Default + 'static,
    T: prost::Message + 'static,
{
    let codec = ProstCodec::<T, R>::new();
    let mut grpc = tonic::server::Grpc::new(codec).max_decoding_message_size(method.request_max);
    let many = Many { desk, begin, until };
    grpc.server_streaming(many, request).await
}
