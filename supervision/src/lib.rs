//! OTP supervision as data, pure decisions, and thin shells for task actors and for cells.
//!
//! In reading order:
//! - [`policy`]: strategies, restart types, intensity, backoff, shutdown, in OTP's words.
//! - [`spec`]: child specs and supervisor specs.
//! - [`intensity`]: the restart window, the backoff and the restart budget, each O(1).
//! - [`strategy`]: what to do when a child ends; pure, and the same everywhere.
//! - [`supervisor`]: the supervisor of task actors, and what a program calls.
//! - [`cells`]: the supervisor of cells on a shard, in groups of 256.
//! - [`report`]: crash reports and counters.
//! - [`governance`]: what governs one supervisor, and what a change of it would change.
//! - [`config`]: policy files, and the error type of every configuration file.
//! - [`chaos`]: faults on purpose: the vocabulary, seeded plans, and their pure schedule.
//!
//! # Invariants
//! - Decisions read no clock and hold no randomness; shells carry them out.
//! - A child's next incarnation starts only when the former one is gone.
//! - Children start in order, one after the other; they stop in reverse order, each within its
//!   shutdown time. That holds for a killed supervisor, too, and before its own end is told.
//! - More than `intensity` restarts within `period` are never made.
//! - A failed restart is decided anew, never looped; no restart waits for a sleep of its handler.
//!
//! # Examples
//! `examples/supervised_counter.rs`: where to start. `examples/pool.rs`: workers of one kind.
//! `examples/chaos_test.rs`: a chaos test of one's own actor on virtual time. The smallest one:
//! ```
//! use std::time::Duration;
//! use actorsim_actors::{
//!     ActorPath, Addr, Clock, Fault, Flow, MailboxSpec, Message, Overflow, Reply, System,
//!     TaskActor, TaskContext,
//! };
//! use actorsim_supervision::{
//!     ChildSpec, Restart, Shutdown, Strategy, SupervisorPolicy, SupervisorSpec, start_root,
//! };
//!
//! struct Worker(u64);
//! enum Job { Count(Reply<u64>), Fail }
//! impl Message for Job {}
//! impl TaskActor for Worker {
//!     type Msg = Job;
//!     async fn handle(&mut self, job: Job, _: &mut TaskContext<Job>) -> Result<Flow, Fault> {
//!         match job {
//!             Job::Count(reply) => { self.0 += 1; reply.send(self.0) }
//!             Job::Fail => return Err(Fault::new("bad_job")),
//!         }
//!         Ok(Flow::Continue)
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let system = System::new(Clock::wall(), tokio::runtime::Handle::current());
//! let mailbox = MailboxSpec::new(8, Overflow::Block).kept();
//! let worker = Addr::new(ActorPath::root().join("worker"), mailbox);
//! let child = ChildSpec::task("worker", &worker, || Worker(0))
//!     .restart(Restart::Transient)
//!     .shutdown(Shutdown::After(Duration::from_secs(1)));
//! let policy = SupervisorPolicy::new(Strategy::OneForOne).intensity(3, Duration::from_secs(5));
//! let root = start_root(&system, SupervisorSpec::new(ActorPath::root(), policy).child(child))
//!     .await
//!     .unwrap();
//!
//! let deadline = Duration::from_secs(5);
//! assert_eq!(worker.ask(Job::Count, deadline).await, Ok(1));
//! worker.try_send(Job::Fail).unwrap();
//! assert_eq!(worker.ask(Job::Count, deadline).await, Ok(1), "a fresh life, the same address");
//! assert_eq!(worker.incarnation().0, 2);
//! root.stop().await;
//! # });
//! ```

pub mod cells;
pub mod chaos;
pub mod config;
pub mod governance;
pub mod intensity;
pub mod policy;
pub mod report;
pub mod spec;
pub mod strategy;
pub mod supervisor;

pub use cells::{CellGovernor, CellPolicy, CellPolicyError};
pub use config::{ChildPolicy, ConfigError, Policies};
pub use governance::{Change, Governance, Governed, Labels};
pub use policy::{
    AutoShutdown, Backoff, Behaviour, IntensityScope, PolicyError, Restart, Shutdown, Strategy,
    SupervisorPolicy,
};
pub use report::{CrashPlan, CrashReport, News, Parking, Supervision, SupervisionStats, Tally};
pub use spec::{
    ChildSpec, ChildStart, Kind, SpecError, StartContext, SupervisorSpec, Terms, check_childspecs,
};
pub use strategy::{ChildId, Decision, Plan, Tree, Why, plan};
pub use supervisor::{
    CallError, ChildInfo, ChildState, Counts, DeleteChildError, GetChildspecError, GovernError,
    Preview, ReleaseChildError, RestartChildError, StartChildError, StartError, SupervisorRef,
    TerminateChildError, start_root,
};
