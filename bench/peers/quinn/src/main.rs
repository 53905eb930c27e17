//! Bare quinn: what QUIC itself gives on this machine, with the buffers, the stream window and the
//! acknowledgement delay of our endpoint, and nothing around it.
//!
//! A client and a server on a thread and a runtime each. It decodes nothing: it counts lengths.

mod ends;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use peer_probe::{Job, Latencies, Line, Meter};
use quinn::Connection;

use ends::Ends;

/// Bytes of a reading.
const READING: usize = 39;
/// Bytes of an event, and events in a frame with its header, as a link writes them.
const EVENT: usize = 51;
const EVENTS: usize = 1_024;
const FRAME: usize = 16 + EVENTS * EVENT;
/// Before the measured time.
const WARM_UP: Duration = Duration::from_secs(1);
/// Commands a second beside telemetry.
const COMMANDS: Duration = Duration::from_millis(1);

fn main() {
    let job = Job::of_args();
    assert_eq!(job.scenario, "quic", "there is no other");
    let ends = Ends::start();
    let line = match job.shape.as_str() {
        "t1-single" => flood(&ends, &job, Some(1)),
        "t1-packed" => flood(&ends, &job, None),
        "t2" => stream(&ends, &job),
        "t3" => commands(&ends, &job),
        other => panic!("no {other:?}"),
    };
    line.report();
}

/// Readings of one datagram now.
fn packed(connection: &Connection) -> usize {
    connection.max_datagram_size().unwrap_or(0) / READING
}

/// Datagrams as fast as QUIC takes them.
fn flood(ends: &Ends, job: &Job, each: Option<usize>) -> Line {
    let (counted, sent) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    receive_datagrams(ends, &counted);
    let (connection, out) = (ends.client.clone(), Arc::clone(&sent));
    ends.client_runtime.spawn(async move {
        let bytes = Bytes::from(vec![0; 64 * READING]);
        loop {
            let count = each.unwrap_or_else(|| packed(&connection));
            for _ in 0..64 {
                let datagram = bytes.slice(..count * READING);
                if connection.send_datagram_wait(datagram).await.is_err() {
                    break; // the path got narrower
                }
                out.fetch_add(count as u64, Relaxed);
            }
        }
    });
    measured(job, &counted, Some(&sent))
}

fn receive_datagrams(ends: &Ends, counted: &Arc<AtomicU64>) {
    let (connection, counted) = (ends.server.clone(), Arc::clone(counted));
    ends.server_runtime.spawn(async move {
        while let Ok(datagram) = connection.read_datagram().await {
            counted.fetch_add((datagram.len() / READING) as u64, Relaxed);
        }
    });
}

/// Frames of events over one stream.
fn stream(ends: &Ends, job: &Job) -> Line {
    let counted = Arc::new(AtomicU64::new(0));
    let (server, bytes_in) = (ends.server.clone(), Arc::clone(&counted));
    ends.server_runtime.spawn(async move {
        let mut stream = server.accept_uni().await.expect("a stream");
        let mut bytes = 0;
        while let Ok(Some(chunk)) = stream.read_chunk(FRAME, true).await {
            bytes += chunk.bytes.len() as u64;
            bytes_in.store(bytes / FRAME as u64 * EVENTS as u64, Relaxed);
        }
    });
    let client = ends.client.clone();
    ends.client_runtime.spawn(async move {
        let mut stream = client.open_uni().await.expect("a stream");
        let frame = Bytes::from(vec![0; FRAME]);
        while stream.write_chunk(frame.clone()).await.is_ok() {}
    });
    measured(job, &counted, None)
}

/// Commands beside telemetry at `size` readings a second: 51 bytes there, 40 back, each on a
/// stream of its own.
fn commands(ends: &Ends, job: &Job) -> Line {
    let counted = Arc::new(AtomicU64::new(0));
    receive_datagrams(ends, &counted);
    let (client, rate) = (ends.client.clone(), job.size);
    ends.client_runtime.spawn(async move {
        let bytes = Bytes::from(vec![0; 64 * READING]);
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        let (began, mut sent) = (Instant::now(), 0);
        loop {
            ticks.tick().await;
            let due = (began.elapsed().as_secs_f64() * rate as f64) as u64;
            while sent < due {
                let count = packed(&client);
                let datagram = bytes.slice(..count * READING);
                drop(client.send_datagram_wait(datagram).await);
                sent += count as u64;
            }
        }
    });
    let client = ends.client.clone();
    ends.client_runtime.spawn(async move {
        while let Ok((mut send, mut receive)) = client.accept_bi().await {
            tokio::spawn(async move {
                let mut bytes = [0; 51];
                if receive.read_exact(&mut bytes).await.is_ok() {
                    drop(send.write_all(&bytes[..40]).await);
                }
            });
        }
    });
    std::thread::sleep(WARM_UP);
    let (server, time) = (ends.server.clone(), job.time());
    let asked = ends.server_runtime.spawn(async move {
        let mut ticks = tokio::time::interval(COMMANDS);
        let (began, mut asking) = (Instant::now(), tokio::task::JoinSet::new());
        while began.elapsed() < time {
            ticks.tick().await;
            asking.spawn(ask(server.clone(), Instant::now()));
        }
        let mut times = Latencies::default();
        while let Some(ns) = asking.join_next().await {
            ns.ok().flatten().into_iter().for_each(|ns| times.push(ns));
        }
        times
    });
    let mut times = ends.client_runtime.block_on(asked).expect("the askers");
    Line::new()
        .with("rtt_p99", times.us(0.99))
        .with("decide_p50", times.us(0.5))
        .with("decide_p99", times.us(0.99))
}

async fn ask(server: Connection, decided: Instant) -> Option<u64> {
    let (mut send, mut receive) = server.open_bi().await.ok()?;
    send.write_all(&[0; 51]).await.ok()?;
    send.finish().ok()?;
    receive.read_exact(&mut [0; 40]).await.ok()?;
    Some(decided.elapsed().as_nanos() as u64)
}

/// What was counted in the measured time.
fn measured(job: &Job, counted: &AtomicU64, sent: Option<&AtomicU64>) -> Line {
    std::thread::sleep(WARM_UP);
    let (meter, before) = (Meter::start(), counted.load(Relaxed));
    let sent_before = sent.map(|sent| sent.load(Relaxed));
    std::thread::sleep(job.time());
    let (count, spent) = (counted.load(Relaxed) - before, meter.stop());
    let line = Line::new()
        .with("readings_per_s", count as f64 / spent.wall_s)
        .with("cpu_s_per_million", spent.cpu_s / count as f64 * 1e6);
    match sent.zip(sent_before) {
        Some((sent, before)) => {
            let sent = sent.load(Relaxed) - before;
            line.with("delivered", (count as f64 / sent as f64).min(1.0))
        }
        None => line,
    }
}
