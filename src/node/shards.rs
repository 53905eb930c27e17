//! The shards in the tree: `/fleet/shards/<n>` stands for the thread of shard `n`.
//!
//! It ends when its thread dies, and its next incarnation starts the next thread, so backoff,
//! intensity and escalation are those of any child. To kill it is to kill the thread. Ended in
//! order, with its supervisor, it leaves the thread alone, for the next one to stand for. Bound:
//! [`HANDOVER`] for a thread to end.

use std::time::Duration;

use actorsim_actors::shard::{ReviveError, ShardHandle};
use actorsim_actors::{
    ActorPath, Addr, Fault, Flow, MailboxSpec, Overflow, TaskActor, TaskContext,
};
use actorsim_supervision::{ChildSpec, Policies, SupervisorSpec};

use super::control::Nothing;

/// Time for a thread that was killed to end its step.
const HANDOVER: Duration = Duration::from_secs(5);

fn shards_path() -> ActorPath {
    ActorPath::root().join("fleet").join("shards")
}

/// Who stands for the thread of a shard.
pub(crate) fn shard_path(index: usize) -> ActorPath {
    shards_path().join(&index.to_string())
}

/// The `/fleet/shards` subtree.
pub(super) fn subtree(shards: &[ShardHandle], policies: &Policies) -> ChildSpec {
    let mut spec = SupervisorSpec::new(shards_path(), Default::default());
    for shard in shards {
        let (path, shard) = (shard_path(shard.index()), shard.clone());
        let address = Addr::new(path.clone(), MailboxSpec::new(1, Overflow::Reject));
        let start = move || ShardActor::new(shard.clone());
        spec = spec.child(ChildSpec::task(path.name(), &address, start));
    }
    ChildSpec::supervisor("shards", spec.configured(policies))
}

/// One life of a shard.
#[derive(Debug)]
struct ShardActor {
    shard: ShardHandle,
    /// It was not ended in order.
    takes_thread: bool,
}

impl ShardActor {
    const fn new(shard: ShardHandle) -> Self {
        let takes_thread = true;
        Self {
            shard,
            takes_thread,
        }
    }

    /// Takes over the thread that runs, or starts one in the place of one that has died.
    async fn revive(&self) -> Result<(), Fault> {
        if !self.shard.is_down() && !self.shard.is_dying() {
            return Ok(());
        }
        let died = tokio::time::timeout(HANDOVER, self.shard.died()).await;
        died.map_err(|_| Fault::with("shard_stuck", "its thread does not end its step"))?;
        match self.shard.revive() {
            Ok(()) | Err(ReviveError::Stopped) => Ok(()),
            Err(error) => Err(Fault::with("shard_thread", error)),
        }
    }
}

/// A kill, or a fault, ends here: the thread ends with it.
impl Drop for ShardActor {
    fn drop(&mut self) {
        if self.takes_thread {
            self.shard.kill();
        }
    }
}

impl TaskActor for ShardActor {
    type Msg = Nothing;

    async fn started(&mut self, cx: &mut TaskContext<Nothing>) -> Result<(), Fault> {
        self.revive().await?;
        let shard = self.shard.clone();
        cx.pump(async move {
            let why = shard.died().await;
            if !shard.is_up() {
                // The node stops: nobody wants another one.
                std::future::pending::<()>().await;
            }
            Err(Fault::with("shard_down", why))
        });
        Ok(())
    }

    async fn handle(&mut self, msg: Nothing, _: &mut TaskContext<Nothing>) -> Result<Flow, Fault> {
        match msg {}
    }

    async fn stopping(&mut self, _: &mut TaskContext<Nothing>) {
        self.takes_thread = false;
    }
}
