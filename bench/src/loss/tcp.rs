//! The baseline: the same readings, events and commands over a plain TCP connection each.
//!
//! Nagle is off; readings that are due are written together every 3 ms, as our devices do. Each
//! end has a thread of its own; nothing is decoded but the stamp. Bound: the window.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use peer_probe::{Job, Latencies};
use serde_json::{Value, json};

use super::{COMMANDS, EVENTS, Offered, warm_up};

/// Bytes of a reading, and of an event.
const READING: usize = 39;
const EVENT: usize = 51;
/// Where the stamp is in both.
const STAMP: usize = 26;
/// Writes are this far apart at least, as blocks of our devices are.
const STEP: Duration = Duration::from_millis(3);

/// What both ends of all lines look at.
struct Window {
    origin: Instant,
    open: AtomicBool,
    over: AtomicBool,
}

impl Window {
    fn now_us(&self) -> u64 {
        self.at_us(Instant::now())
    }

    fn at_us(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.origin).as_micros() as u64
    }

    fn is_open(&self) -> bool {
        self.open.load(Relaxed)
    }

    fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }
}

pub(super) fn measure(job: &Job) -> Result<Value, String> {
    let window = Arc::new(Window {
        origin: Instant::now(),
        open: AtomicBool::new(false),
        over: AtomicBool::new(false),
    });
    let readings = Offered::of(job).readings.max(1);
    let t1 = Line::start(&window, readings, READING)?;
    let t2 = Line::start(&window, EVENTS, EVENT)?;
    let t3 = Line::of_commands(&window)?;
    thread::sleep(warm_up(job));
    window.open.store(true, Relaxed);
    thread::sleep(job.time());
    window.open.store(false, Relaxed);
    window.over.store(true, Relaxed);
    let (mut t1_times, t1_ratio) = t1.finish()?;
    let (mut t2_times, t2_ratio) = t2.finish()?;
    let (mut t3_times, t3_ratio) = t3.finish()?;
    Ok(json!({
        "t1_latency_p50": t1_times.us(0.5),
        "t1_latency_p99": t1_times.us(0.99),
        "t1_delivered_ratio": t1_ratio,
        "t2_latency_p50": t2_times.us(0.5),
        "t2_latency_p99": t2_times.us(0.99),
        "t2_delivered_ratio": t2_ratio,
        "t3_rtt_p50": t3_times.us(0.5),
        "t3_rtt_p99": t3_times.us(0.99),
        "t3_delivered_ratio": t3_ratio,
    }))
}

/// Records of one kind, one way, or there and back.
struct Line {
    sent: Arc<AtomicU64>,
    came: Arc<AtomicU64>,
    reader: thread::JoinHandle<Latencies>,
}

fn pair() -> Result<(TcpStream, TcpStream), String> {
    let text = |error: std::io::Error| format!("tcp: {error}");
    let listener = TcpListener::bind("127.0.0.1:0").map_err(text)?;
    let at = listener.local_addr().map_err(text)?;
    let here = TcpStream::connect(at).map_err(text)?;
    let (there, _) = listener.accept().map_err(text)?;
    here.set_nodelay(true).map_err(text)?;
    there.set_nodelay(true).map_err(text)?;
    Ok((here, there))
}

impl Line {
    fn start(window: &Arc<Window>, rate: u64, length: usize) -> Result<Self, String> {
        let (out, into) = pair()?;
        let (sent, came) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (at, count) = (Arc::clone(window), Arc::clone(&sent));
        thread::spawn(move || write(&at, out, rate, length, &count));
        let (at, count) = (Arc::clone(window), Arc::clone(&came));
        let reader = thread::spawn(move || read(&at, into, length, &count));
        Ok(Self { sent, came, reader })
    }

    /// Commands at an even rate, each answered at once; times round trips. A line that is behind
    /// makes the next ones late, and that is part of their time.
    fn of_commands(window: &Arc<Window>) -> Result<Self, String> {
        let (asker, mut device) = pair()?;
        let answers = asker.try_clone();
        let answers = answers.map_err(|error| format!("tcp: {error}"))?;
        thread::spawn(move || {
            let mut bytes = [0; EVENT];
            while device.read_exact(&mut bytes).is_ok() && device.write_all(&bytes).is_ok() {}
        });
        let (sent, came) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (at, count) = (Arc::clone(window), Arc::clone(&sent));
        thread::spawn(move || ask(&at, asker, &count));
        let (at, count) = (Arc::clone(window), Arc::clone(&came));
        let reader = thread::spawn(move || hear(&at, answers, &count));
        Ok(Self { sent, came, reader })
    }

    fn finish(self) -> Result<(Latencies, f64), String> {
        let times = self.reader.join().map_err(|_| "a thread died".to_owned())?;
        let (came, sent) = (self.came.load(Relaxed), self.sent.load(Relaxed));
        Ok((times, came as f64 / sent.max(1) as f64))
    }
}

/// Writes what is due. A line that is behind blocks here; records that are due meanwhile are as old
/// as if it had not.
fn write(window: &Window, mut out: TcpStream, rate: u64, length: usize, sent: &AtomicU64) {
    let began = Instant::now();
    let (mut step, mut free, mut made) = (began, began, 0);
    let mut bytes = Vec::new();
    while !window.is_over() {
        step += STEP;
        thread::sleep(step.saturating_duration_since(Instant::now()));
        let due = ((step - began).as_secs_f64() * rate as f64) as u64;
        let stamp = if step < free { step } else { Instant::now() };
        bytes.clear();
        let mut record = [0; EVENT];
        record[STAMP..STAMP + 8].copy_from_slice(&window.at_us(stamp).to_le_bytes());
        (made..due).for_each(|_| bytes.extend_from_slice(&record[..length]));
        made = due;
        if out.write_all(&bytes).is_err() {
            return;
        }
        free = Instant::now();
        sent.store(made, Relaxed);
    }
}

/// Reads records; times one of each write, as ours times one of each datagram: whatever a lost
/// packet holds up comes in one piece, and each write in it is late.
fn read(window: &Window, mut into: TcpStream, length: usize, came: &AtomicU64) -> Latencies {
    let mut times = Latencies::default();
    let mut bytes = vec![0; 64 * 1024];
    let (mut held, mut last) = (0, 0);
    while let Ok(count @ 1..) = into.read(&mut bytes[held..]) {
        let (now, end) = (window.now_us(), held + count);
        let whole = end / length * length;
        for record in bytes[..whole].chunks_exact(length) {
            let stamp = record[STAMP..STAMP + 8].try_into();
            let stamp = stamp.map_or(now, u64::from_le_bytes);
            if window.is_open() && stamp != last {
                times.push(now.saturating_sub(stamp) * 1_000);
            }
            last = stamp;
        }
        came.fetch_add((whole / length) as u64, Relaxed);
        bytes.copy_within(whole..end, 0);
        held = end - whole;
    }
    times
}

/// Sends a command at an even rate.
fn ask(window: &Window, mut asker: TcpStream, sent: &AtomicU64) {
    let every = Duration::from_secs(1) / COMMANDS as u32;
    while !window.is_over() {
        thread::sleep(every);
        let mut bytes = [0; EVENT];
        bytes[STAMP..STAMP + 8].copy_from_slice(&window.now_us().to_le_bytes());
        if asker.write_all(&bytes).is_err() {
            return;
        }
        sent.fetch_add(1, Relaxed);
    }
    drop(asker.shutdown(Shutdown::Write));
}

/// Times the answers.
fn hear(window: &Window, mut answers: TcpStream, came: &AtomicU64) -> Latencies {
    let (mut times, mut bytes) = (Latencies::default(), [0; EVENT]);
    while answers.read_exact(&mut bytes).is_ok() {
        came.fetch_add(1, Relaxed);
        if window.is_open() {
            let stamp = bytes[STAMP..STAMP + 8].try_into();
            let stamp = stamp.map_or(0, u64::from_le_bytes);
            times.push(window.now_us().saturating_sub(stamp) * 1_000);
        }
    }
    times
}
