//! A measurement in a network namespace of its own whose loopback loses packets, both ways.
//!
//! Loss is nftables' on each packet that arrives, UDP and TCP alike; frames are those of Ethernet
//! and nothing travels in one piece that a wire would carry in many. Needs root, `ip` and `nft`; no
//! rule of the host is touched. [`prove`] shows that packets are lost in both directions before
//! anything is measured. Bound: the child's own.

use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};

use peer_probe::Job;
use serde_json::Value;

use crate::process::CHILD;

/// Set for the child inside: packets lost, of a hundred.
const LOSS: &str = "ACTORSIM_BENCH_LOSS";
/// Packets each way by which loss is proved.
const PROBES: u32 = 4_000;

/// What is run as root of the new namespace; its arguments are the program and its job.
const SET_UP: &str = r#"set -e
ip link set lo mtu 1500 gso_max_segs 1
ip link set lo up
nft add table inet lossy
nft add chain inet lossy arriving '{ type filter hook input priority 0; policy accept; }'
if [ "$ACTORSIM_BENCH_LOSS" -gt 0 ]; then
    nft add rule inet lossy arriving meta l4proto '{ tcp, udp }' \
        numgen random mod 100 '<' "$ACTORSIM_BENCH_LOSS" counter drop
fi
exec "$@""#;

/// The loss of the namespace that this process was put into.
pub(crate) fn loss() -> Option<u32> {
    std::env::var(LOSS).ok()?.parse().ok()
}

/// Whether this process was put into one.
pub(crate) fn inside() -> bool {
    loss().is_some()
}

/// Runs a job in a namespace of its own, where `percent` of all packets are lost.
pub(crate) fn lossy(percent: u32, job: &Job) -> Result<Value, String> {
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
        return Err(format!(
            "in a network namespace (needs root, `ip` and `nft`): {}",
            output.status
        ));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next_back().unwrap_or_default();
    serde_json::from_str(line).map_err(|error| format!("not a JSON line ({error}): {line:?}"))
}

/// Shows that packets are lost at the rate asked for, there and back.
pub(crate) fn prove(percent: u32) -> Result<(), String> {
    let text = |error: std::io::Error| format!("probe: {error}");
    let socket = || -> std::io::Result<(UdpSocket, SocketAddr)> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_nonblocking(true)?;
        let at = socket.local_addr()?;
        Ok((socket, at))
    };
    let ((here, at_here), (there, at_there)) = (socket().map_err(text)?, socket().map_err(text)?);
    for (way, from, to, at) in [
        ("there", &here, &there, at_there),
        ("back", &there, &here, at_here),
    ] {
        let mut came = 0;
        for _ in 0..PROBES {
            from.send_to(&[0; 39], at).map_err(text)?;
            // loopback delivers in the call that sends
            came += u32::from(to.recv(&mut [0; 64]).is_ok());
        }
        let lost = f64::from(PROBES - came) / f64::from(PROBES) * 100.0;
        // four standard deviations of a binomial share, which chance passes once in 16,000
        let share = f64::from(percent) / 100.0;
        let spread = 400.0 * (share * (1.0 - share) / f64::from(PROBES)).sqrt();
        if (lost - f64::from(percent)).abs() > spread {
            return Err(format!("{lost:.2} % are lost {way}, not {percent} %"));
        }
    }
    Ok(())
}
