//! One node's actor system, as a value: clock, census, events and a tokio runtime.
//!
//! There are no process-global registries, so several systems live side by side in one process. The
//! first one puts a panic hook in front of the present one, for [`crate::destructor_panics`].
//! Clones share everything; [`System::on_runtime`] is the same node on another runtime.

use std::future::Future;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::census::Census;
use crate::clock::Clock;
use crate::events::Events;
use crate::guard;
use crate::hindrance::Hindrances;

#[derive(Debug)]
struct Node {
    clock: Clock,
    census: Census,
    events: Events,
    hindrances: Hindrances,
}

/// The actor system of one node.
#[derive(Debug, Clone)]
pub struct System {
    node: Arc<Node>,
    handle: Handle,
}

impl System {
    /// A system without actors; its task actors run on `handle`.
    #[must_use]
    pub fn new(clock: Clock, handle: Handle) -> Self {
        guard::install();
        let events = Events::new(clock.clone());
        Self {
            node: Arc::new(Node {
                clock,
                census: Census::default(),
                events,
                hindrances: Hindrances::default(),
            }),
            handle,
        }
    }

    /// The same node, with task actors on another runtime.
    #[must_use]
    pub fn on_runtime(&self, handle: Handle) -> Self {
        Self {
            node: Arc::clone(&self.node),
            handle,
        }
    }

    /// The node's time.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.node.clock
    }

    /// Who is alive.
    #[must_use]
    pub fn census(&self) -> &Census {
        &self.node.census
    }

    /// What happened.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.node.events
    }

    /// What holds task actors up on purpose.
    #[must_use]
    pub fn hindrances(&self) -> &Hindrances {
        &self.node.hindrances
    }

    /// The runtime of this system's task actors.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs a short, bounded piece of work that outlives the actor that asked for it (taking the
    /// children of a killed supervisor, starting a child). Everything else belongs to an actor.
    pub fn detached(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.handle.spawn(work));
    }
}
