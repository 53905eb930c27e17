//! The metrics endpoint: `/metrics` in Prometheus text, `/healthz`, `/readyz`, over loopback HTTP.
//!
//! It reads snapshots ([`crate::view`]) and owns no counters. Names and help are one table
//! ([`table`]), which is also the reference page; labels never name a device.
//!
//! Bound: one snapshot per request; at most [`REQUESTS_MAX`] requests at once, the rest get 503.

pub mod collector;
pub mod table;

use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::view::NodeView;

/// Requests at once: one or two scrapers and a probe; a page is made in well under a millisecond.
pub const REQUESTS_MAX: usize = 8;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

struct Endpoint {
    view: Arc<dyn NodeView>,
    registry: Registry,
    requests: Semaphore,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").finish_non_exhaustive()
    }
}

/// Serves until the future is dropped.
///
/// # Errors
/// Whatever the listener says.
pub fn serve(
    listener: TcpListener,
    view: Arc<dyn NodeView>,
) -> impl Future<Output = io::Result<()>> + Send + 'static {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(collector::NodeCollector::new(Arc::clone(&view))));
    let endpoint = Arc::new(Endpoint {
        view,
        registry,
        requests: Semaphore::new(REQUESTS_MAX),
    });
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .with_state(endpoint);
    async move { axum::serve(listener, router).await }
}

async fn metrics(State(endpoint): State<Arc<Endpoint>>, headers: HeaderMap) -> Response {
    let Ok(_slot) = endpoint.requests.try_acquire() else {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "too many requests at once\n",
        )
            .into_response();
    };
    let mut page = String::new();
    if text::encode(&mut page, &endpoint.registry).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let accepts = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    if accepts.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
        ([(header::CONTENT_TYPE, OPEN_METRICS)], page).into_response()
    } else {
        ([(header::CONTENT_TYPE, CLASSIC)], classic(&page)).into_response()
    }
}

async fn health(State(endpoint): State<Arc<Endpoint>>) -> Response {
    let unhealthy = endpoint.view.brief().unhealthy;
    if unhealthy.is_empty() {
        (StatusCode::OK, "ok\n").into_response()
    } else {
        let mut text = unhealthy.join("\n");
        text.push('\n');
        (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
    }
}

async fn ready(State(endpoint): State<Arc<Endpoint>>) -> Response {
    if endpoint.view.brief().ready {
        (StatusCode::OK, "ready\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response()
    }
}

/// OpenMetrics text as the older Prometheus text: a counter's family carries `_total` there, and
/// there is no end mark.
fn classic(open: &str) -> String {
    let mut page = String::with_capacity(open.len() + 1024);
    let mut lines = open.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" {
            continue;
        }
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
            let counter = lines.peek().is_some_and(|next| next.ends_with(" counter"));
            let suffix = if counter { "_total" } else { "" };
            page.push_str(&format!("# HELP {name}{suffix} {help}\n"));
        } else if let Some(name) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.strip_suffix(" counter"))
        {
            page.push_str(&format!("# TYPE {name}_total counter\n"));
        } else {
            page.push_str(line);
            page.push('\n');
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_family_is_named_as_its_samples_in_the_older_text() {
        let open = "# HELP a Of a.\n# TYPE a counter\na_total{tier=\"t1\"} 3\n\
                    # HELP b Of b.\n# TYPE b gauge\nb 1\n# EOF\n";
        let expected = "# HELP a_total Of a.\n# TYPE a_total counter\na_total{tier=\"t1\"} 3\n\
                        # HELP b Of b.\n# TYPE b gauge\nb 1\n";
        assert_eq!(classic(open), expected);
    }
}
