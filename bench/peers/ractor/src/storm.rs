//! `storm`: with the smallest supervisor there can be; each actor ticks by `send_interval`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use peer_probe::{Job, Latencies, Line, STORM_EACH, TICK_NS};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

/// Every so many actors one notes how late it was.
const NOTED_EACH: usize = 16;

struct Storm {
    began: Instant,
    at: Instant,
    back: AtomicU64,
    late: Mutex<Latencies>,
}

enum Order {
    Tick,
    Die,
}

struct Ticker {
    index: usize,
    place: Duration,
    storm: Arc<Storm>,
}

impl Actor for Ticker {
    type Msg = Order;
    type State = Instant;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<Order>,
        (): (),
    ) -> Result<Instant, ActorProcessingErr> {
        let mut due = self.storm.began + self.place;
        while due < Instant::now() {
            due += Duration::from_nanos(TICK_NS);
        }
        myself.send_after(due - Instant::now(), || Order::Tick);
        Ok(due)
    }

    async fn handle(
        &self,
        myself: ActorRef<Order>,
        order: Order,
        due: &mut Instant,
    ) -> Result<(), ActorProcessingErr> {
        if matches!(order, Order::Die) {
            panic!("the storm");
        }
        let Storm { at, late, .. } = &*self.storm;
        let second = Duration::from_nanos(TICK_NS);
        let survives = !self.index.is_multiple_of(STORM_EACH);
        let noted = self.index.is_multiple_of(NOTED_EACH) && survives;
        if noted && *due >= *at && *due < *at + second {
            late.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .since(*due);
        }
        *due += second;
        let wait = due.saturating_duration_since(Instant::now());
        myself.send_after(wait, || Order::Tick);
        Ok(())
    }
}

struct Supervisor(Arc<Storm>);

impl Actor for Supervisor {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<()>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(..) = event {
            // which one it was does not matter here: none has a name or a state to come back to
            let back = self.0.back.fetch_add(1, Ordering::AcqRel);
            let ticker = Ticker {
                index: 0,
                place: Duration::from_nanos(back % 1_000 * 1_000_000),
                storm: Arc::clone(&self.0),
            };
            Actor::spawn_linked(None, ticker, (), myself.get_cell()).await?;
        }
        Ok(())
    }
}

pub(crate) async fn run(job: Job) -> Line {
    tokio::spawn(measure(job)).await.expect("it does not panic")
}

async fn measure(job: Job) -> Line {
    // a start takes about 10 us
    let began = Instant::now();
    let at = began + job.time() + Duration::from_micros(job.size * 50);
    let storm = Arc::new(Storm {
        began,
        at,
        back: AtomicU64::new(0),
        late: Mutex::default(),
    });
    let supervisor = Actor::spawn(None, Supervisor(Arc::clone(&storm)), ()).await;
    let supervisor = supervisor.expect("a supervisor").0.get_cell();
    let mut victims = Vec::new();
    for index in 0..job.count() {
        let ticker = Ticker {
            index,
            place: Duration::from_nanos(index as u64 * TICK_NS / job.size),
            storm: Arc::clone(&storm),
        };
        let started = Actor::spawn_linked(None, ticker, (), supervisor.clone()).await;
        let (actor, _) = started.expect("an actor");
        if index.is_multiple_of(STORM_EACH) {
            victims.push(actor);
        }
    }
    assert!(Instant::now() < at, "the actors did not start in time");
    tokio::time::sleep_until(at.into()).await;
    for victim in &victims {
        victim.send_message(Order::Die).expect("it lives");
    }
    while storm.back.load(Ordering::Acquire) < victims.len() as u64 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let recovered = at.elapsed();
    let rest = Duration::from_secs(2).saturating_sub(recovered);
    tokio::time::sleep(rest).await;
    let mut late = storm.late.lock().unwrap_or_else(PoisonError::into_inner);
    Line::new()
        .with("survivor_lateness_p99", late.us(0.99))
        .with("recovered", recovered.as_secs_f64())
}
