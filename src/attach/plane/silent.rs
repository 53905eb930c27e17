//! Shards that stand still: who asks about their devices is told so, and need not wait.
//!
//! Each host is asked for a sign of life first, all at once. Bound: [`PATIENCE`].

use std::sync::Arc;
use std::time::Duration;

use actorsim_actors::census::CensusSource;
use futures_util::future::join_all;

/// Time for a sign of life: a shard looks at its requests in each of its steps, and a step takes
/// milliseconds, also in a storm.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// What a host answers, if it does so soon: it may begin to stand still at any time.
pub(crate) async fn soon<T>(asked: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(PATIENCE, asked).await.ok()
}

/// Hosts, by whether they answer.
pub(crate) struct Hosts {
    /// They do.
    pub(crate) awake: Vec<Arc<dyn CensusSource>>,
    /// They do not.
    pub(crate) silent: Vec<Arc<dyn CensusSource>>,
}

impl Hosts {
    /// Asks all of them.
    pub(crate) async fn ask(sources: Vec<Arc<dyn CensusSource>>) -> Self {
        let signs = sources
            .iter()
            .map(|source| async { soon(source.answers()).await.is_some() });
        let signs = join_all(signs).await;
        let (mut awake, mut silent) = (Vec::new(), Vec::new());
        for (source, answers) in sources.into_iter().zip(signs) {
            match answers {
                true => awake.push(source),
                false => silent.push(source),
            }
        }
        Self { awake, silent }
    }

    /// A line for each that is silent.
    pub(crate) fn notes(&self) -> Vec<String> {
        let note = |source: &Arc<dyn CensusSource>| {
            let (place, within) = (source.place(), source.within());
            format!(
                "{place} has not answered for {PATIENCE:?}: its {} actors below {within} as last \
                 told",
                source.live()
            )
        };
        self.silent.iter().map(note).collect()
    }
}

#[cfg(test)]
mod tests {
    use actorsim_actors::census::{ActorRow, CensusFilter, Page, Verb};
    use actorsim_actors::{ActorPath, Books};
    use futures_util::future::BoxFuture;

    use super::*;

    /// A host that answers, or stands still.
    struct Host(ActorPath, bool);

    impl CensusSource for Host {
        fn within(&self) -> &ActorPath {
            &self.0
        }
        fn rows(
            &self,
            _: CensusFilter,
            _: Option<ActorPath>,
            _: usize,
        ) -> BoxFuture<'_, Page<ActorRow>> {
            let rows = Vec::new();
            Box::pin(async { Page { rows, more: false } })
        }
        fn row(&self, _: ActorPath) -> BoxFuture<'_, Option<ActorRow>> {
            Box::pin(async { None })
        }
        fn act(&self, _: ActorPath, _: Verb) -> BoxFuture<'_, bool> {
            Box::pin(async { false })
        }
        fn books(&self) -> Books {
            Books::default()
        }
        fn live(&self) -> u64 {
            7
        }
        fn host(&self) -> &'static str {
            "shard"
        }
        fn answers(&self) -> BoxFuture<'_, ()> {
            match self.1 {
                true => Box::pin(async {}),
                false => Box::pin(std::future::pending()),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_stands_still_is_named_and_the_others_are_not_waited_for_longer() {
        let at = || ActorPath::root().join("fleet").join("default");
        let host = |answers| Arc::new(Host(at(), answers)) as Arc<dyn CensusSource>;
        let before = tokio::time::Instant::now();
        let hosts = Hosts::ask(vec![host(false), host(true), host(false)]).await;
        assert_eq!(before.elapsed(), PATIENCE, "all at once");
        assert_eq!((hosts.awake.len(), hosts.silent.len()), (1, 2));
        assert!(hosts.notes()[0].contains("7 actors below /fleet/default"));
    }
}
