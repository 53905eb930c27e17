//! Durations of profiles: a number and `ms`, `s`, `m` or `h`.
//!
//! One number, one unit; nothing else. Bounds: [`INTERVAL_MIN`], [`INTERVAL_MAX`] for intervals.

use std::time::Duration;

/// Shortest interval of a device: the timers' grain is a millisecond.
pub const INTERVAL_MIN: Duration = Duration::from_millis(1);
/// Longest interval of a device.
pub const INTERVAL_MAX: Duration = Duration::from_secs(86_400);

/// How one is written, for who has written something else.
pub(super) const DURATION_HELP: &str = "a number and ms, s, m or h, as in `5s` or `500ms`";

/// Reads `5s`, `500ms`, `1.5m`, `2h`.
///
/// # Errors
/// A sentence for the user.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("`{text}` is not a duration")),
    };
    let plain = number.chars().all(|c| c.is_ascii_digit() || c == '.');
    number
        .parse::<f64>()
        .ok()
        .filter(|_| plain)
        .and_then(|number| Duration::try_from_secs_f64(number * seconds).ok())
        .ok_or_else(|| format!("`{text}` is not a duration"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_number_and_one_unit() {
        for (text, ms) in [
            ("500ms", 500),
            ("5s", 5_000),
            ("1.5m", 90_000),
            ("2h", 7_200_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(ms)),
                "{text}"
            );
        }
        for text in [
            "", "5", "s", "-1s", "5 s", "5d", "1e3s", "5s5s", "infs", "..s",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
