//! A measurement in a network namespace of its own whose loopback loses packets, both ways.
//!
//! Loss is netem's where the kernel has it, else nftables' on each packet that arrives, UDP and TCP
//! alike; frames are those of Ethernet and nothing travels in one piece that a wire would carry in
//! many. Needs root, `ip`, and `tc` or `nft`; no rule of the host is touched. [`prove`] shows that
//! packets of both protocols are lost in both directions before anything is measured. Bound: the
//! child's own, and [`PROBES`] for each proof.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use peer_probe::Job;
use serde_json::{Value, json};

use crate::process::CHILD;

/// Set for the child inside: packets lost, of a hundred; and by whom.
const LOSS: &str = "ACTORSIM_BENCH_LOSS";
const LOST_BY: &str = "ACTORSIM_BENCH_LOST_BY";
/// The key of a child's line that says by whom.
pub(crate) const LOST_BY_KEY: &str = "lost_by";
/// Packets each way by which loss is proved.
const PROBES: u32 = 10_000;
/// So many of them at once: a socket's buffer holds them all.
const AT_ONCE: u32 = 50;
/// Connections by which it is proved for TCP, some six segments each: so many listeners, and so
/// many to one.
const LISTENERS: u32 = 20;
const CONNECTIONS: u32 = 100;
/// One whose handshake lost a packet is given up after this,
const HANDSHAKE_MAX: Duration = Duration::from_millis(1);
/// and a packet that is still not there after this is lost.
const LATE: Duration = Duration::from_millis(300);
/// Between two looks whether one is there.
const LOOK: Duration = Duration::from_millis(5);
/// Standard deviations of a share that chance has: it passes them once in a million and more.
const DEVIATIONS: f64 = 5.0;

/// What is run as root of the new namespace; its arguments are the program and its job.
const SET_UP: &str = r#"set -e
loss="$ACTORSIM_BENCH_LOSS"
export PATH="$PATH:/usr/sbin:/sbin"
ip link set lo mtu 1500 gso_max_segs 1
ip link set lo up
if tc qdisc add dev lo root netem loss "$loss%" limit 1000000 2>/dev/null; then
    ACTORSIM_BENCH_LOST_BY=netem
else
    nft add table inet lossy
    nft add chain inet lossy arriving '{ type filter hook input priority 0; policy accept; }'
    if [ "$loss" -gt 0 ]; then
        nft add rule inet lossy arriving meta l4proto '{ tcp, udp }' \
            numgen random mod 100 '<' "$loss" counter drop
    fi
    ACTORSIM_BENCH_LOST_BY=nftables
fi
export ACTORSIM_BENCH_LOST_BY
exec "$@""#;

/// What must be possible for that.
const TRY: &str = r#"PATH="$PATH:/usr/sbin:/sbin"
ip link set lo up && { tc qdisc add dev lo root netem loss 1% || nft add table inet lossy; }"#;

/// The loss of the namespace that this process was put into.
pub(crate) fn loss() -> Option<u32> {
    std::env::var(LOSS).ok()?.parse().ok()
}

/// Whether this process was put into one.
pub(crate) fn inside() -> bool {
    loss().is_some()
}

/// Why there can be none here.
fn missing() -> Option<String> {
    let tried = Command::new("unshare")
        .args(["--net", "sh", "-c", TRY])
        .stdin(Stdio::null())
        .output();
    let why = match tried {
        Ok(output) if output.status.success() => return None,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => format!("unshare: {error}"),
    };
    let last = why.lines().next_back().unwrap_or_default();
    Some(format!(
        "needs root, `ip`, and `nft` or a kernel with netem: {last}"
    ))
}

/// Runs a job in a namespace of its own, where `percent` of all packets are lost. Where there can
/// be none it has no numbers, and CI fails.
pub(crate) fn lossy(percent: u32, job: &Job) -> Result<Value, String> {
    if let Some(why) = missing() {
        if std::env::var_os("CI").is_some() {
            return Err(why);
        }
        eprintln!("{} {}: left out, it {why}", job.scenario, job.shape);
        return Ok(json!({}));
    }
    let own = std::env::current_exe().map_err(|error| format!("own binary: {error}"))?;
    let numbers = [job.size, job.seconds].map(|number| number.to_string());
    let output = Command::new("unshare")
        .args(["--net", "sh", "-c", SET_UP, "sh"])
        .arg(own)
        .args([CHILD, &job.scenario, &job.shape])
        .args(numbers)
        .env(LOSS, percent.to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("unshare: {error}"))?;
    if !output.status.success() {
        return Err(format!("in a network namespace: {}", output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next_back().unwrap_or_default();
    serde_json::from_str(line).map_err(|error| format!("not a JSON line ({error}): {line:?}"))
}

/// The numbers of a child, and by whom its packets were lost.
pub(crate) fn with(mut numbers: Value, lost_by: &str) -> Value {
    numbers[LOST_BY_KEY] = json!(lost_by);
    numbers
}

/// Shows that UDP and TCP lose packets at the rate asked for, there and back; returns by whom, and
/// says so on standard error.
pub(crate) fn prove(percent: u32) -> Result<String, String> {
    let text = |error: io::Error| format!("probe: {error}");
    let (here, there) = (probe().map_err(text)?, probe().map_err(text)?);
    let shares = [
        ("UDP there", udp(&here, &there, LATE).map_err(text)?),
        ("UDP back", udp(&there, &here, LATE).map_err(text)?),
        ("TCP", tcp().map_err(text)?),
    ];
    let by = std::env::var(LOST_BY).map_err(|_| "nobody loses packets here".to_owned())?;
    let lost: Vec<String> = shares
        .iter()
        .map(|(way, seen)| format!("{way} {:.2} %", seen.lost() * 100.0))
        .collect();
    eprintln!("{by} loses {percent} %: {}", lost.join(", "));
    for (way, seen) in shares {
        seen.judge(percent).map_err(|why| format!("{way}: {why}"))?;
    }
    Ok(by)
}

/// What was sent, and what of it came.
#[derive(Clone, Copy, Debug)]
struct Seen {
    sent: u64,
    came: u64,
}

impl Seen {
    fn lost(self) -> f64 {
        1.0 - self.came as f64 / self.sent as f64
    }

    /// Whether so many of a hundred are lost, as far as chance lets one tell.
    fn judge(self, percent: u32) -> Result<(), String> {
        let share = f64::from(percent) / 100.0;
        let deviation = (share * (1.0 - share) / self.sent as f64).sqrt();
        if (self.lost() - share).abs() <= DEVIATIONS * deviation {
            return Ok(());
        }
        let lost = self.lost() * 100.0;
        Err(format!(
            "{lost:.2} % of {} are lost, not {percent} %",
            self.sent
        ))
    }
}

fn probe() -> io::Result<(UdpSocket, SocketAddr)> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    let at = socket.local_addr()?;
    Ok((socket, at))
}

/// Datagrams from one socket to another.
fn udp(
    from: &(UdpSocket, SocketAddr),
    to: &(UdpSocket, SocketAddr),
    late: Duration,
) -> io::Result<Seen> {
    let mut bytes = [0; 64];
    let mut arrived = || std::iter::from_fn(|| to.0.recv(&mut bytes).ok()).count() as u64;
    let (sent, mut came) = (u64::from(PROBES), 0);
    for _ in 0..PROBES / AT_ONCE {
        for _ in 0..AT_ONCE {
            from.0.send_to(&[0; 39], to.1)?;
        }
        // loopback delivers in the call that sends, but for what a thread of the kernel has taken
        came += arrived();
    }
    let patience = Instant::now() + late;
    while came < sent && Instant::now() < patience {
        thread::sleep(LOOK);
        came += arrived();
    }
    Ok(Seen { sent, came })
}

/// Segments of short connections, which lose there as well as back, by the books of this namespace:
/// what is lost on its way is sent and never received.
fn tcp() -> io::Result<Seen> {
    let before = segments()?;
    for _ in 0..LISTENERS {
        // with a listener goes what it would send again after a second, which the books count twice
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let at = listener.local_addr()?;
        for _ in 0..CONNECTIONS {
            // what becomes of it is in the books
            let connected = TcpStream::connect_timeout(&at, HANDSHAKE_MAX);
            drop((connected, listener.accept()));
        }
    }
    let patience = Instant::now() + LATE;
    loop {
        let now = segments()?;
        let seen = Seen {
            sent: now.sent - before.sent,
            came: now.came - before.came,
        };
        if seen.came >= seen.sent || Instant::now() > patience {
            return Ok(seen);
        }
        thread::sleep(LOOK);
    }
}

/// What the kernel calls segments that were sent, that were sent again, and that came.
const COUNTS: [&str; 3] = ["OutSegs", "RetransSegs", "InSegs"];

/// TCP's segments so far, of this namespace.
fn segments() -> io::Result<Seen> {
    let books = fs::read_to_string("/proc/self/net/snmp")?;
    let wrong = || io::Error::other("the kernel keeps no books of TCP");
    let [first, again, came] = COUNTS.map(|name| tcp_count(&books, name).ok_or_else(wrong));
    Ok(Seen {
        sent: first? + again?,
        came: came?,
    })
}

/// A count of the kernel's books, which have a line of names and a line of numbers.
fn tcp_count(books: &str, name: &str) -> Option<u64> {
    let mut of_tcp = books.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, numbers) = (of_tcp.next()?, of_tcp.next()?);
    let at = names.split(' ').position(|one| one == name)?;
    numbers.split(' ').nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(sent: u64, lost: f64) -> Seen {
        let came = sent - (sent as f64 * lost) as u64;
        Seen { sent, came }
    }

    #[test]
    fn a_line_that_loses_nothing_or_one_way_only_is_refused() {
        for percent in [1, 2, 5] {
            let share = f64::from(percent) / 100.0;
            for sent in [u64::from(PROBES), u64::from(6 * LISTENERS * CONNECTIONS)] {
                assert_eq!(seen(sent, share).judge(percent), Ok(()));
                // chance is forgiven
                assert_eq!(seen(sent, share * 0.9).judge(percent), Ok(()));
                assert!(seen(sent, 0.0).judge(percent).is_err(), "lossless");
                // half of TCP's segments go each way
                assert!(seen(sent, share / 2.0).judge(percent).is_err(), "one way");
                assert!(seen(sent, share * 2.0).judge(percent).is_err(), "twice");
            }
        }
        assert_eq!(seen(10_000, 0.0).judge(0), Ok(()));
        assert!(seen(10_000, 0.001).judge(0).is_err(), "nothing may be lost");
    }

    #[test]
    fn segments_are_read_from_the_books_by_name() {
        let books = "Ip: Forwarding InSegs\nIp: 1 9\nTcp: RtoMin InSegs OutSegs\nTcp: 200 7 8\n";
        assert_eq!(tcp_count(books, "InSegs"), Some(7));
        assert_eq!(tcp_count(books, "OutSegs"), Some(8));
        assert_eq!(tcp_count(books, "Absent"), None);
        assert!(segments().is_ok());
    }

    #[test]
    fn a_probe_counts_what_comes() {
        // the machine's own loopback loses nothing
        let (here, there) = (probe().unwrap(), probe().unwrap());
        let seen = udp(&here, &there, Duration::from_secs(20)).unwrap();
        assert_eq!(seen.judge(0), Ok(()));
    }
}
