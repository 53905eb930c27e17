//! A stopwatch for what is too short for the clock: it reads the processor's own counter.
//!
//! Only where the kernel itself keeps its time by that counter, which then runs evenly and alike on
//! all cores; elsewhere it reads the clock. It measures how long the parts of a cycle take and
//! never decides when one begins. Bound: [`CALIBRATION_NS`] once in a process.

#![expect(unsafe_code, reason = "the counter is read by an instruction")]

use std::sync::OnceLock;

use super::clock::now_ns;

/// How long the counter is compared with the clock: their error is below one in a thousand then.
const CALIBRATION_NS: u64 = 200_000;

/// Readings of which the closest counts.
#[cfg(target_arch = "x86_64")]
const READINGS: usize = 4;

/// By what the kernel keeps its time.
#[cfg(target_arch = "x86_64")]
const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/// Where one lap ends the next begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch {
    last: u64,
    /// Length of a tick; none where ticks are nanoseconds of the clock.
    tick_ns: Option<f64>,
}

impl Stopwatch {
    /// It runs.
    pub(crate) fn new() -> Self {
        static TICK_NS: OnceLock<Option<f64>> = OnceLock::new();
        let mut watch = Self {
            last: 0,
            tick_ns: *TICK_NS.get_or_init(calibrate),
        };
        watch.restart();
        watch
    }

    /// Begins anew.
    #[inline]
    pub(crate) fn restart(&mut self) {
        self.last = self.read();
    }

    /// Nanoseconds of the lap that ends here.
    #[inline]
    pub(crate) fn lap_ns(&mut self) -> u64 {
        let now = self.read();
        let ticks = now.saturating_sub(std::mem::replace(&mut self.last, now));
        self.tick_ns
            .map_or(ticks, |tick_ns| (ticks as f64 * tick_ns) as u64)
    }

    #[inline]
    fn read(&self) -> u64 {
        if self.tick_ns.is_some() {
            counter()
        } else {
            now_ns()
        }
    }
}

/// The length of a tick, if ticks may be used.
#[cfg(target_arch = "x86_64")]
fn calibrate() -> Option<f64> {
    let source = std::fs::read_to_string(CLOCK_SOURCE).ok()?;
    if source.trim() != "tsc" {
        return None;
    }
    let (from_ns, from) = at_once();
    loop {
        let (to_ns, to) = at_once();
        if to_ns - from_ns >= CALIBRATION_NS {
            return Some((to_ns - from_ns) as f64 / (to - from) as f64);
        }
    }
}

/// Clock and counter at the same moment: a thread may lose its core between the two, so that of a
/// few readings the closest counts.
#[cfg(target_arch = "x86_64")]
fn at_once() -> (u64, u64) {
    let readings = std::array::from_fn::<_, READINGS, _>(|_| {
        let (before, ns, after) = (counter(), now_ns(), counter());
        (after - before, ns, before + (after - before) / 2)
    });
    let (_, ns, ticks) = readings.into_iter().min().unwrap_or_default();
    (ns, ticks)
}

#[cfg(not(target_arch = "x86_64"))]
fn calibrate() -> Option<f64> {
    None
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn counter() -> u64 {
    // SAFETY: every x86_64 has the instruction, and a kernel that keeps its time by the counter
    // does not forbid to read it; it touches no memory.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn counter() -> u64 {
    now_ns()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laps_add_up_to_what_the_clock_says() {
        let around = now_ns();
        let mut watch = Stopwatch::new();
        watch.restart();
        let (began, mut laps) = (now_ns(), 0);
        while now_ns() - began < 2_000_000 {
            laps += watch.lap_ns();
        }
        let within = now_ns() - began;
        laps += watch.lap_ns();
        let around = now_ns() - around;
        let (least, most) = (within / 100 * 90, around / 100 * 105);
        assert!((least..=most).contains(&laps), "{laps}: {least}..{most}");
    }

    #[test]
    fn a_lap_of_nothing_is_short_and_never_backwards() {
        let mut watch = Stopwatch::new();
        let shortest = (0..1_000).map(|_| watch.lap_ns()).min();
        assert!(shortest < Some(1_000), "{shortest:?}");
    }
}
