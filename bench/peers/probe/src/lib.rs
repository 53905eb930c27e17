//! What every peer is measured with: the command line, the device's state, resident memory and
//! the one JSON line. It is std only, so that it adds nothing to a peer's process.

use std::fs;
use std::time::Duration;

/// The timer every actor holds while memory is read.
pub const TIMER: Duration = Duration::from_secs(60);

/// The state of a device with seven sensors: the last value of each, and how often it ticked.
#[derive(Clone, Debug)]
pub struct Device {
    /// Last value per sensor.
    pub values: [f64; 7],
    /// Ticks so far.
    pub ticks: u64,
}

impl Device {
    /// A device that has not ticked.
    #[must_use]
    pub fn new() -> Self {
        Self {
            values: [0.0; 7],
            ticks: 0,
        }
    }

    /// One tick: every sensor gets a new value.
    pub fn tick(&mut self) {
        self.ticks += 1;
        for (sensor, value) in self.values.iter_mut().enumerate() {
            *value += sensor as f64;
        }
    }
}

impl Default for Device {
    fn default() -> Self {
        Self::new()
    }
}

/// The name under which actor `index` answers.
#[must_use]
pub fn name(index: usize) -> String {
    format!("industrial-{index:04}")
}

/// `PEER memory N`: the number of actors asked for.
///
/// # Panics
/// On any other command line: the harness is the only caller.
#[must_use]
pub fn actors_from_args() -> usize {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [command, count] if command == "memory" => count.parse().expect("a number of actors"),
        other => panic!("usage: memory N, not {other:?}"),
    }
}

/// Resident memory of this process in bytes.
///
/// # Panics
/// Where there is no `/proc`.
#[must_use]
pub fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has /proc/self/status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.expect("VmRSS is given in kB") << 10
}

/// The one line the harness reads.
pub fn report(actors: usize, before: u64, after: u64) {
    let bytes = after.saturating_sub(before) as f64 / actors as f64;
    println!(
        "{{\"actors\":{actors},\"rss_before\":{before},\"rss_after\":{after},\
         \"bytes_per_actor\":{bytes:.1}}}"
    );
}
