//! The scenarios in `config/scenarios`, built in.
//!
//! Bound: the table.

/// Name and text.
pub const SHIPPED: [(&str, &str); 4] = [
    (
        "day-in-a-minute",
        include_str!("../../config/scenarios/day-in-a-minute.rhai"),
    ),
    (
        "ramp-up",
        include_str!("../../config/scenarios/ramp-up.rhai"),
    ),
    (
        "reconnect-storm",
        include_str!("../../config/scenarios/reconnect-storm.rhai"),
    ),
    (
        "rolling-update",
        include_str!("../../config/scenarios/rolling-update.rhai"),
    ),
];

/// The text of a shipped scenario.
#[must_use]
pub fn text(name: &str) -> Option<&'static str> {
    let mut all = SHIPPED.iter();
    all.find(|(known, _)| *known == name).map(|(_, text)| *text)
}
