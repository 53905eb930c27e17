//! How far a link's clock is ahead of the twin's, from questions and their answers.
//!
//! As NTP does it (RFC 5905, sections 8 and 10): four stamps give an offset that is wrong by half
//! of the round trip at most, and of the last few the one with the shortest trip is believed. It
//! asks nothing itself. Bounds: [`EXCHANGES`] exchanges a link, [`CONNECTIONS_MAX`] links.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;

use crate::registry::CONNECTIONS_MAX;

/// Exchanges of which the best is believed.
const EXCHANGES: usize = 8;

/// The stamps of one question, microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange {
    /// The twin asked, by its clock.
    pub(crate) asked_us: u64,
    /// The question came, by the link's clock.
    pub(crate) came_us: u64,
    /// The answer left, by the link's clock.
    pub(crate) left_us: u64,
    /// The answer came, by the twin's clock.
    pub(crate) answered_us: u64,
}

/// How far one clock is ahead of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockOffset {
    /// Microseconds that the link's clock is ahead of the twin's.
    pub offset_us: i64,
    /// Wrong by this at most.
    pub within_us: u64,
}

impl Exchange {
    /// `None` for stamps that no two clocks give.
    fn offset(self) -> Option<ClockOffset> {
        let [asked, came, left, answered] =
            [self.asked_us, self.came_us, self.left_us, self.answered_us].map(i128::from);
        let trip = (answered - asked) - (left - came);
        if trip < 0 || left < came {
            return None;
        }
        Some(ClockOffset {
            offset_us: i64::try_from(((came - asked) + (left - answered)) / 2).ok()?,
            within_us: u64::try_from(trip / 2 + 1).ok()?,
        })
    }
}

impl ClockOffset {
    /// Whether both may be of clocks that did not move between them.
    fn agrees(self, other: Self) -> bool {
        let apart = self.offset_us.abs_diff(other.offset_us);
        apart <= self.within_us.saturating_add(other.within_us)
    }

    /// What to correct stamps by: an offset that the trip alone may explain is none, so that two
    /// ends that share a clock are left alone.
    #[must_use]
    pub fn correction_us(self) -> i64 {
        if self.offset_us.unsigned_abs() > self.within_us {
            self.offset_us
        } else {
            0
        }
    }
}

/// What is known of one link's clock.
#[derive(Debug, Default)]
pub(crate) struct OffsetFilter(VecDeque<ClockOffset>);

impl OffsetFilter {
    /// Takes an exchange in; returns what is believed now.
    pub(crate) fn take(&mut self, exchange: Exchange) -> Option<ClockOffset> {
        if let Some(seen) = exchange.offset() {
            if self.0.iter().any(|other| !other.agrees(seen)) {
                // One of the clocks was set meanwhile.
                self.0.clear();
            }
            if self.0.len() == EXCHANGES {
                self.0.pop_front();
            }
            self.0.push_back(seen);
        }
        self.0.iter().min_by_key(|seen| seen.within_us).copied()
    }
}

/// What is known of the clocks of all links that are up, by connection.
#[derive(Debug, Default)]
pub struct Clocks(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    up: BTreeMap<u32, ClockOffset>,
    /// Of those that are gone, the furthest since none was up: for whoever asks after the last.
    gone: Option<ClockOffset>,
}

impl Clocks {
    /// Keeps what is believed of the clock at the other end of a connection.
    pub(crate) fn note(&self, connection: u32, offset: ClockOffset) {
        let mut known = self.0.lock();
        if known.up.is_empty() {
            known.gone = None;
        }
        if known.up.len() < CONNECTIONS_MAX || known.up.contains_key(&connection) {
            known.up.insert(connection, offset);
        }
    }

    /// The connection is over.
    pub(crate) fn forget(&self, connection: u32) {
        let mut known = self.0.lock();
        let over = known.up.remove(&connection);
        known.gone = furthest(known.gone.into_iter().chain(over));
    }

    /// Of the links that are up the clock that is furthest from ours, or of those that were, if
    /// none is; `None` while no link has told its time.
    #[must_use]
    pub fn furthest(&self) -> Option<ClockOffset> {
        let known = self.0.lock();
        furthest(known.up.values().copied()).or(known.gone)
    }
}

fn furthest(offsets: impl Iterator<Item = ClockOffset>) -> Option<ClockOffset> {
    offsets.max_by_key(|offset| offset.offset_us.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There in `there`, answered after 5, back in `back`; the link's clock is `ahead`.
    fn exchange(asked_us: u64, ahead: i64, there: u64, back: u64) -> Exchange {
        let came = asked_us + there;
        Exchange {
            asked_us,
            came_us: came.checked_add_signed(ahead).unwrap(),
            left_us: (came + 5).checked_add_signed(ahead).unwrap(),
            answered_us: came + 5 + back,
        }
    }

    #[test]
    fn the_offset_is_right_within_half_a_round_trip() {
        for ahead in [-3_000_000, -40, 0, 40, 90_000_000] {
            for (there, back) in [(100, 100), (10, 1_000), (1_000, 10)] {
                let found = OffsetFilter::default().take(exchange(1 << 40, ahead, there, back));
                let found = found.unwrap();
                let wrong = found.offset_us.abs_diff(ahead);
                assert!(wrong <= found.within_us, "{ahead} {there} {back} {found:?}");
            }
        }
    }

    #[test]
    fn the_shortest_of_the_last_trips_is_believed() {
        let mut filter = OffsetFilter::default();
        filter.take(exchange(1 << 40, 7_000, 50, 50));
        for n in 1..EXCHANGES as u64 {
            let found = filter.take(exchange((1 << 40) + n, 7_000, 9_000, 100));
            assert_eq!(found.unwrap().within_us, 51);
        }
        let found = filter.take(exchange(1 << 41, 7_000, 9_000, 100)).unwrap();
        assert_eq!(found.within_us, 4_551, "the first one is too old");
    }

    #[test]
    fn a_clock_that_was_set_is_believed_at_once() {
        let mut filter = OffsetFilter::default();
        filter.take(exchange(1 << 40, 0, 10, 10));
        let found = filter.take(exchange(1 << 41, -5_000_000, 300, 300));
        assert_eq!(found.unwrap().offset_us, -5_000_000);
    }

    #[test]
    fn clocks_that_are_one_are_not_corrected_and_a_lie_is_not_taken() {
        let found = OffsetFilter::default().take(exchange(1 << 40, 0, 10, 900));
        assert_eq!(found.unwrap().correction_us(), 0);
        let lie = Exchange {
            asked_us: 100,
            came_us: 0,
            left_us: u64::MAX,
            answered_us: 110,
        };
        assert_eq!(OffsetFilter::default().take(lie), None);
        let far = Exchange {
            asked_us: 0,
            came_us: u64::MAX,
            left_us: u64::MAX,
            answered_us: 10,
        };
        assert_eq!(
            OffsetFilter::default().take(far),
            None,
            "no calendar is so far off"
        );
    }

    #[test]
    fn a_clock_is_forgotten_with_its_connection_and_the_last_ones_are_still_told() {
        let clocks = Clocks::default();
        let ahead = |offset_us| ClockOffset {
            offset_us,
            within_us: 1,
        };
        assert_eq!(clocks.furthest(), None);
        clocks.note(1, ahead(-9_000));
        clocks.note(2, ahead(40));
        assert_eq!(clocks.furthest(), Some(ahead(-9_000)));
        clocks.forget(1);
        assert_eq!(clocks.furthest(), Some(ahead(40)), "the other is gone");
        clocks.forget(2);
        clocks.forget(2);
        assert_eq!(clocks.furthest(), Some(ahead(-9_000)), "nobody is up");
        clocks.note(3, ahead(7));
        clocks.forget(3);
        assert_eq!(clocks.furthest(), Some(ahead(7)), "of others than before");
    }

    #[test]
    fn links_that_come_and_go_leave_nothing() {
        let clocks = Clocks::default();
        for connection in 0..3 * CONNECTIONS_MAX as u32 {
            clocks.note(connection, ClockOffset::default());
            clocks.forget(connection);
        }
        assert!(clocks.0.lock().up.is_empty());
    }
}
