//! The stage for all cases: children that write down what they do, and do what they are told.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use actorsim_actors::{
    ActorPath, Addr, CensusFilter, Clock, Fault, Flow, MailboxSpec, Message, Overflow, System,
    TaskActor, TaskContext,
};
use actorsim_supervision::spec::IGNORE;
use actorsim_supervision::{
    ChildInfo, ChildSpec, ChildState, SupervisorPolicy, SupervisorRef, SupervisorSpec, start_root,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Longer than any case takes on a slow machine.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(300);
/// A window that no test outlives.
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

/// What a child is told to do.
#[derive(Debug)]
pub(crate) enum Order {
    /// Exit as `normal`.
    Normal,
    /// Fail with a fault.
    Fail,
    /// Panic.
    Panic,
    /// Never return from this handler.
    Hang,
    /// Nothing.
    Nop,
}

impl Message for Order {
    fn kind(&self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Fail => "fail",
            Self::Panic => "panic",
            Self::Hang => "hang",
            Self::Nop => "nop",
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    log: Mutex<Vec<String>>,
    changed: Notify,
    /// Starts that are to fail, by child.
    fails: Mutex<BTreeMap<String, u32>>,
    /// Starts that decline, by child.
    declines: Mutex<BTreeMap<String, u32>>,
    /// Children whose start hangs until they are let go.
    hangs: Mutex<BTreeMap<String, u32>>,
    stops_slowly: Mutex<BTreeMap<String, Duration>>,
    made: AtomicU32,
}

/// The log, the addresses and the levers of one case.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    pub(crate) system: System,
    shared: Arc<Shared>,
    addrs: Arc<Mutex<BTreeMap<String, Addr<Order>>>>,
}

pub(crate) struct Player {
    name: String,
    shared: Arc<Shared>,
    life: u32,
    up: bool,
}

impl Shared {
    fn write(&self, line: String) {
        self.log.lock().push(line);
        self.changed.notify_waiters();
    }
}

fn take_one(map: &Mutex<BTreeMap<String, u32>>, name: &str) -> bool {
    match map.lock().get_mut(name) {
        Some(left) if *left > 0 => {
            *left -= 1;
            true
        }
        _ => false,
    }
}

impl TaskActor for Player {
    type Msg = Order;

    async fn started(&mut self, cx: &mut TaskContext<Order>) -> Result<(), Fault> {
        self.life = cx.incarnation().0;
        if take_one(&self.shared.hangs, &self.name) {
            self.shared.write(format!("{} hangs", self.name));
            std::future::pending::<()>().await;
        }
        if take_one(&self.shared.fails, &self.name) {
            self.shared.write(format!("{} fails", self.name));
            return Err(Fault::new("start_fails"));
        }
        if take_one(&self.shared.declines, &self.name) {
            return Err(Fault::new(IGNORE));
        }
        self.up = true;
        self.shared.write(format!("+{}", self.name));
        Ok(())
    }

    async fn handle(&mut self, order: Order, _: &mut TaskContext<Order>) -> Result<Flow, Fault> {
        match order {
            Order::Normal => return Ok(Flow::Stop),
            Order::Fail => return Err(Fault::new("told_to_fail")),
            Order::Panic => panic!("told to panic"),
            Order::Hang => std::future::pending().await,
            Order::Nop => {}
        }
        Ok(Flow::Continue)
    }

    async fn stopping(&mut self, _: &mut TaskContext<Order>) {
        let slow = self.shared.stops_slowly.lock().get(&self.name).copied();
        if let Some(time) = slow {
            tokio::time::sleep(time).await;
        }
        self.shared.write(format!("~{}", self.name));
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        if self.up {
            self.shared.write(format!("-{}", self.name));
        }
    }
}

impl Stage {
    pub(crate) fn new() -> Self {
        let system = System::new(Clock::of_runtime(0), tokio::runtime::Handle::current());
        Self {
            system,
            shared: Arc::default(),
            addrs: Arc::default(),
        }
    }

    /// A permanent child of this name, found at `/{name}`.
    pub(crate) fn child(&self, name: &str) -> ChildSpec {
        let path = ActorPath::root().join(name);
        let addr = Addr::new(path, MailboxSpec::new(8, Overflow::Block));
        self.addrs.lock().insert(name.to_owned(), addr.clone());
        let (shared, player) = (Arc::clone(&self.shared), name.to_owned());
        ChildSpec::task(name, &addr, move || {
            shared.made.fetch_add(1, Ordering::Relaxed);
            Player {
                name: player.clone(),
                shared: Arc::clone(&shared),
                life: 0,
                up: false,
            }
        })
    }

    pub(crate) fn spec(&self, policy: SupervisorPolicy, children: &[&str]) -> SupervisorSpec {
        let spec = SupervisorSpec::new(ActorPath::root(), policy);
        children
            .iter()
            .fold(spec, |spec, name| spec.child(self.child(name)))
    }

    pub(crate) async fn start(&self, policy: SupervisorPolicy, children: &[&str]) -> SupervisorRef {
        start_root(&self.system, self.spec(policy, children))
            .await
            .unwrap()
    }

    pub(crate) fn addr(&self, name: &str) -> Addr<Order> {
        self.addrs.lock()[name].clone()
    }

    pub(crate) fn tell(&self, name: &str, order: Order) {
        self.addr(name).try_send(order).unwrap();
    }

    pub(crate) fn kill(&self, name: &str) {
        self.system
            .census()
            .task(&ActorPath::root().join(name))
            .unwrap()
            .kill();
    }

    /// What `ps` shows; none if it is not listed.
    pub(crate) fn shown(&self, name: &str) -> Option<&'static str> {
        let path = ActorPath::root().join(name);
        let rows = self
            .system
            .census()
            .task_rows(&CensusFilter::default(), None, 100)
            .rows;
        rows.iter()
            .find(|row| row.path == path)
            .map(|row| row.state)
    }

    pub(crate) fn stop(&self, name: &str) {
        self.system
            .census()
            .task(&ActorPath::root().join(name))
            .unwrap()
            .stop();
    }

    pub(crate) fn life(&self, name: &str) -> u32 {
        self.addr(name).incarnation().0
    }

    pub(crate) fn made(&self) -> u32 {
        self.shared.made.load(Ordering::Relaxed)
    }

    pub(crate) fn next_starts_fail(&self, name: &str, times: u32) {
        self.shared.fails.lock().insert(name.to_owned(), times);
    }

    pub(crate) fn next_starts_decline(&self, name: &str, times: u32) {
        let mut declines = self.shared.declines.lock();
        declines.insert(name.to_owned(), times);
    }

    pub(crate) fn next_starts_hang(&self, name: &str, times: u32) {
        self.shared.hangs.lock().insert(name.to_owned(), times);
    }

    pub(crate) fn stops_slowly(&self, name: &str, time: Duration) {
        self.shared
            .stops_slowly
            .lock()
            .insert(name.to_owned(), time);
    }

    pub(crate) fn log(&self) -> String {
        self.shared.log.lock().join(" ")
    }

    /// The log since the last time it was taken.
    pub(crate) fn take_log(&self) -> String {
        std::mem::take(&mut *self.shared.log.lock()).join(" ")
    }

    /// Waits until the log is exactly this.
    pub(crate) async fn logs(&self, expected: &str) {
        self.until(
            || self.log() == expected,
            || format!("log {:?}, not {expected:?}", self.log()),
        )
        .await;
    }

    async fn until(&self, holds: impl Fn() -> bool, otherwise: impl Fn() -> String) {
        let waiting = async {
            loop {
                let changed = self.shared.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if holds() {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(WATCHDOG, waiting).await.is_err() {
            panic!("{}", otherwise());
        }
    }
}

/// Waits until a child is in this state; `None`: until it is forgotten.
pub(crate) async fn becomes(
    sup: &SupervisorRef,
    id: &str,
    state: Option<ChildState>,
) -> Option<ChildInfo> {
    watched(async {
        loop {
            let children = sup.which_children().await.unwrap();
            let info = children.into_iter().find(|c| c.id == id);
            if info.as_ref().map(|c| c.state) == state {
                return info;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

/// Runs a case under the watchdog.
pub(crate) async fn watched<T>(case: impl Future<Output = T>) -> T {
    tokio::time::timeout(WATCHDOG, case)
        .await
        .expect("the watchdog barked")
}
