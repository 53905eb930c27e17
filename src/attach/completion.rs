//! Paths that continue what is typed by one segment, for Tab.
//!
//! It asks a host for its actors only when the typed path is within the host's own, so that a large
//! fleet does not hide what is listed after it. Bound: [`LIMIT_DEFAULT`] paths.

use std::collections::BTreeSet;

use actorsim_actors::census::{Census, CensusFilter};

use super::control::LIMIT_DEFAULT;
use super::plane::silent::soon;

/// The paths that continue `prefix`, in order.
pub(super) async fn paths(census: &Census, prefix: &str) -> Vec<String> {
    let filter = CensusFilter {
        glob: Some(format!("{prefix}*")),
        ..CensusFilter::default()
    };
    let mut found = BTreeSet::new();
    let mut after = None;
    loop {
        let page = census.task_rows(&filter, after.as_ref(), usize::MAX);
        found.extend(
            page.rows
                .iter()
                .filter_map(|row| step(row.path.as_str(), prefix)),
        );
        after = page.rows.last().map(|row| row.path.clone());
        if !page.more {
            break;
        }
    }
    for source in census.sources() {
        let within = source.within().as_str();
        found.extend(step(within, prefix));
        if prefix.starts_with(within) {
            let page = soon(source.rows(filter.clone(), None, LIMIT_DEFAULT)).await;
            let rows = page.map(|page| page.rows).unwrap_or_default();
            found.extend(
                rows.iter()
                    .filter_map(|row| step(row.path.as_str(), prefix)),
            );
        }
    }
    found.into_iter().take(LIMIT_DEFAULT).collect()
}

/// `path` up to the end of the segment that `prefix` is in, or of the next one if it is complete.
fn step(path: &str, prefix: &str) -> Option<String> {
    let rest = path.strip_prefix(prefix)?;
    let next = rest.char_indices().skip(1).find(|(_, c)| *c == '/');
    let end = next.map_or(rest.len(), |(at, _)| at);
    path.get(..prefix.len() + end).map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use actorsim_actors::census::{ActorRow, CensusSource, Page, Verb};
    use actorsim_actors::{ActorPath, Clock, System};
    use futures_util::future::BoxFuture;

    use super::*;

    struct Host(ActorPath, u64);

    impl CensusSource for Host {
        fn within(&self) -> &ActorPath {
            &self.0
        }
        fn rows(
            &self,
            _: CensusFilter,
            _: Option<ActorPath>,
            limit: usize,
        ) -> BoxFuture<'_, Page<ActorRow>> {
            let row = |at: u64| ActorRow {
                path: self.0.join(&format!("d-{at:04}")),
                host: "shard",
                incarnation: actorsim_actors::Incarnation(1),
                state: "running",
                depth: 0,
                capacity: 1,
                highest: 0,
                books: Default::default(),
                restarts: 0,
                last_exit: None,
                attributes: Default::default(),
            };
            let rows: Vec<_> = (0..self.1).take(limit).map(row).collect();
            let more = (rows.len() as u64) < self.1;
            Box::pin(async move { Page { rows, more } })
        }
        fn row(&self, _: ActorPath) -> BoxFuture<'_, Option<ActorRow>> {
            Box::pin(async { None })
        }
        fn act(&self, _: ActorPath, _: Verb) -> BoxFuture<'_, bool> {
            Box::pin(async { false })
        }
        fn books(&self) -> actorsim_actors::Books {
            Default::default()
        }
        fn live(&self) -> u64 {
            self.1
        }
        fn host(&self) -> &'static str {
            "shard"
        }
    }

    #[tokio::test]
    async fn a_large_fleet_does_not_hide_what_comes_after_it() {
        let system = System::new(Clock::wall(), tokio::runtime::Handle::current());
        let census = system.census();
        for (path, cells) in [
            ("/fleet/default", 1_000),
            ("/fleet/other", 1),
            ("/twin/x", 1),
        ] {
            let path = ActorPath::new(path).unwrap();
            census.register_source(Arc::new(Host(path, cells)));
        }
        assert_eq!(paths(census, "/").await, ["/fleet", "/twin"]);
        let populations = ["/fleet/default", "/fleet/other"];
        assert_eq!(paths(census, "/fleet/").await, populations);
        let devices = paths(census, "/fleet/default/").await;
        assert_eq!(
            (devices.len(), devices[0].as_str()),
            (100, "/fleet/default/d-0000")
        );
        assert!(paths(census, "/none").await.is_empty());
    }
}
