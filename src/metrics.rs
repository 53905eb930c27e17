//! Metrics and health of a node, as answers to HTTP requests: `/metrics` in Prometheus text,
//! `/healthz`, `/readyz`.
//!
//! It reads snapshots ([`crate::view`]) and owns no counters. Names and help are one table
//! ([`table`]), which is also the reference page; labels never name a device. Who may ask is judged
//! by [`crate::remote::http`], which serves it.
//!
//! Bound: one snapshot per request; at most [`REQUESTS_MAX`] requests at once, the rest get 503.

pub mod collector;
pub mod table;

use std::sync::Arc;

use hyper::{HeaderMap, Response, StatusCode, header};
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;

use crate::remote::http::routes::Does;
use crate::remote::serve::{Body, answer};
use crate::view::NodeView;

/// Requests at once: one or two scrapers and a probe; a page is made in well under a millisecond.
pub const REQUESTS_MAX: usize = 8;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// What is shown.
pub struct Page {
    view: Arc<dyn NodeView>,
    registry: Registry,
    requests: Semaphore,
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Page").finish_non_exhaustive()
    }
}

impl Page {
    /// Of this node.
    #[must_use]
    pub fn new(view: Arc<dyn NodeView>) -> Self {
        let mut registry = Registry::default();
        let collector = collector::NodeCollector::new(Arc::clone(&view));
        registry.register_collector(Box::new(collector));
        Self {
            view,
            registry,
            requests: Semaphore::new(REQUESTS_MAX),
        }
    }

    /// Whether the node is up, and what is wrong with it.
    #[must_use]
    pub fn health(&self) -> (bool, Vec<String>) {
        let brief = self.view.brief();
        (brief.ready, brief.unhealthy)
    }

    /// Metrics, health or readiness.
    #[must_use]
    pub fn answer(&self, does: Does, headers: &HeaderMap) -> Response<Body> {
        let busy = StatusCode::SERVICE_UNAVAILABLE;
        let Ok(_slot) = self.requests.try_acquire() else {
            return answer(busy, PLAIN, "too many requests at once\n");
        };
        if does == Does::Metrics {
            return self.metrics(headers);
        }
        match (does, self.health()) {
            (Does::Readyz, (true, _)) => answer(StatusCode::OK, PLAIN, "ready\n"),
            (Does::Readyz, (false, _)) => answer(busy, PLAIN, "starting\n"),
            (_, (_, wrong)) if wrong.is_empty() => answer(StatusCode::OK, PLAIN, "ok\n"),
            (_, (_, wrong)) => answer(busy, PLAIN, wrong.join("\n") + "\n"),
        }
    }

    fn metrics(&self, headers: &HeaderMap) -> Response<Body> {
        let mut page = String::new();
        if text::encode(&mut page, &self.registry).is_err() {
            let broken = StatusCode::INTERNAL_SERVER_ERROR;
            return answer(broken, PLAIN, "the page cannot be made\n");
        }
        let accepts = headers.get(header::ACCEPT);
        let accepts = accepts.and_then(|accept| accept.to_str().ok());
        let open = accepts.is_some_and(|accept| accept.contains("application/openmetrics-text"));
        match open {
            true => answer(StatusCode::OK, OPEN_METRICS, page),
            false => answer(StatusCode::OK, CLASSIC, classic(&page)),
        }
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
