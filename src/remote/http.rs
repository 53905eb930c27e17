//! HTTP: the REST page of `simulator.v1`, a stream of samples (SSE), every command of the table,
//! its OpenAPI page, health and metrics.
//!
//! Reading order: [`routes`] (the table: it routes, checks what is given, makes the OpenAPI page),
//! [`given`] (what a request gives, checked by it), [`devices`] (what each route does),
//! [`openapi`]. Here: who may, and how answers look. `/healthz`, `/readyz` and `/metrics` are for
//! everybody who names this node; all else is judged by [`super::access`].
//!
//! Bounds: [`BODY_MAX`] bytes of a request's body within [`BODY_TIME`]; streams as
//! [`devices::STREAMS_MAX`].

mod devices;
pub mod given;
pub mod openapi;
pub mod routes;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde_json::{Value as Json, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::access::{Access, Asked, Face, Right};
use super::desk::{Desk, DeskError};
use super::peer::Peer;
use super::serve::{Body, Respond, answer};
use crate::attach::control::ControlPlane;
use crate::attach::protocol::{Code, Refusal};
use crate::metrics::Page;
use given::Given;
use routes::{Does, Route};

/// Bytes of a request's body: the arguments of a command.
pub const BODY_MAX: usize = 64 * 1024;

/// Time for a request's body.
pub const BODY_TIME: Duration = Duration::from_secs(10);

/// What the API acts on.
pub struct Api {
    /// The devices.
    pub desk: Arc<dyn Desk>,
    /// The commands.
    pub plane: Arc<dyn ControlPlane>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

/// An HTTP listener's answers.
pub struct Http {
    access: Access,
    page: Page,
    api: Option<Api>,
    streams: Arc<Semaphore>,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http")
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

/// Why a request is not answered as it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    status: StatusCode,
    detail: String,
}

impl Failure {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { status, detail }
    }

    /// Something given is wrong.
    pub(super) fn wrong(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }
}

impl From<DeskError> for Failure {
    fn from(error: DeskError) -> Self {
        let status = match error {
            DeskError::Unavailable(_) | DeskError::Full(_) => StatusCode::SERVICE_UNAVAILABLE,
            DeskError::Wrong(_) => StatusCode::UNPROCESSABLE_ENTITY,
            DeskError::Broken(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.code {
            Code::Usage => StatusCode::UNPROCESSABLE_ENTITY,
            Code::Refused => StatusCode::FORBIDDEN,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::Failed => StatusCode::INTERNAL_SERVER_ERROR,
            Code::Unhealthy | Code::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Code::Timeout => StatusCode::GATEWAY_TIMEOUT,
        };
        Self::new(status, refusal.message)
    }
}

/// What a route answers.
type Outcome = Result<Response<Body>, Failure>;

fn json(status: StatusCode, value: &Json) -> Response<Body> {
    answer(status, "application/json", value.to_string() + "\n")
}

impl Http {
    /// Health and metrics only, or the API, too.
    #[must_use]
    pub fn new(access: Access, page: Page, api: Option<Api>) -> Self {
        Self {
            access,
            page,
            api,
            streams: Arc::new(Semaphore::new(devices::STREAMS_MAX)),
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let mut answer = match self.judged(request, &peer).await {
            Ok(answer) => answer,
            Err(Failure { status, detail }) => json(status, &json!({ "detail": detail })),
        };
        for (name, value) in [
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ] {
            let value = HeaderValue::from_static(value);
            answer.headers_mut().insert(name, value);
        }
        if answer.status() == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            answer
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, bearer);
        }
        answer
    }

    async fn judged(self: &Arc<Self>, request: Request<Incoming>, peer: &Peer) -> Outcome {
        let host = request.headers().get(header::HOST);
        let asked = Asked {
            face: Face::Http,
            peer,
            host: host.and_then(|host| host.to_str().ok()),
            headers: request.headers(),
        };
        let found = routes::find(request.method(), request.uri().path());
        let open =
            |route: &Route| matches!(route.does, Does::Healthz | Does::Readyz | Does::Metrics);
        if let Some((route, _)) = &found
            && open(route)
            && self.access.is_ours(asked.host, asked.headers)
        {
            return Ok(self.page.answer(route.does, request.headers()));
        }
        let right = self.access.judge(&asked);
        let Some(api) = self.api.as_ref().filter(|_| right > Right::Nothing) else {
            // The same for what is there and what is not.
            let who = "this node answers its own user, and acts for its token";
            return Err(Failure::new(StatusCode::UNAUTHORIZED, who));
        };
        let Some((route, path)) = found else {
            let detail = "there is nothing here; /docs lists what there is";
            return Err(Failure::new(StatusCode::NOT_FOUND, detail));
        };
        let query = request.uri().query().unwrap_or_default().to_owned();
        let body = match route.takes_body() {
            true => read(request.into_body()).await?,
            false => Bytes::new(),
        };
        let given = Given::read(route, &path, &query, &body).map_err(Failure::wrong)?;
        if right < devices::right(route, &given) {
            let token = "this needs the node's token: Authorization: Bearer, with the text of the \
                         file `token` in its state directory";
            return Err(Failure::new(StatusCode::FORBIDDEN, token));
        }
        devices::act(api, &self.streams, &self.page, route.does, &given).await
    }
}

impl Respond for Http {
    fn respond(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
    ) -> BoxFuture<'static, Response<Body>> {
        Box::pin(self.answer(request, peer))
    }
}

/// Reads a body within its bounds.
async fn read(incoming: Incoming) -> Result<Bytes, Failure> {
    let reading = Limited::new(incoming, BODY_MAX).collect();
    match timeout(BODY_TIME, reading).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let detail = format!("a body has at most {BODY_MAX} bytes");
            Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, detail))
        }
        Ok(Err(error)) => Err(Failure::new(StatusCode::BAD_REQUEST, error.to_string())),
        Err(_) => {
            let detail = format!("no body within {} s", BODY_TIME.as_secs());
            Err(Failure::new(StatusCode::REQUEST_TIMEOUT, detail))
        }
    }
}
