//! The commands that start, change, stop and count devices.
//!
//! Rows of the one table. Bound: fixed at compile time.

use super::{Arg, Command, Impact, Takes, View, arg};

/// Who is meant, as in `fault`.
const SELECTOR: Arg = arg(
    "SELECTOR",
    Takes::Pattern,
    true,
    "devices: ids, patterns, a population, label=value, 10%, joined by commas",
);

pub(super) const FLEET: Command = Command {
    name: "fleet",
    args: &[],
    impact: Impact::Ro,
    help: "The devices by population, and what all of them have counted.",
    example: "fleet",
    view: View::Rows(&[
        "population",
        "type",
        "protocol",
        "devices",
        "running",
        "starting",
        "restarting",
        "quarantined",
        "restarts",
    ]),
};

pub(super) const SPAWN: Command = Command {
    name: "spawn",
    args: &[
        arg(
            "PROFILE",
            Takes::Text,
            true,
            "what each device is: a shipped name or a file",
        ),
        arg("COUNT", Takes::Number, true, "how many"),
        arg(
            "LABEL=VALUE",
            Takes::Assignments,
            false,
            "labels of these devices, over those of the profile",
        ),
        arg(
            "--name",
            Takes::Text,
            false,
            "name of the population; else that of the type, or with a number",
        ),
        arg(
            "--interval",
            Takes::Text,
            false,
            "time between samples, such as 5s; else the profile's",
        ),
        arg("--seed", Takes::Number, false, "seed; else the node's"),
    ],
    impact: Impact::Rw,
    help: "Start devices as a population of their own; ids go on where those of the type end.",
    example: "spawn industrial 1000 site=north --interval 5s",
    view: View::Record,
};

pub(super) const RETIRE: Command = Command {
    name: "retire",
    args: &[
        SELECTOR,
        arg(
            "--now",
            Takes::Nothing,
            false,
            "break off, as if the power had gone: brokers publish the will",
        ),
    ],
    impact: Impact::Rw,
    help: "Stop devices for good: they say goodbye, leave the fleet and free what they held.",
    example: "retire site=north,10%",
    view: View::Record,
};

pub(super) const UPDATE: Command = Command {
    name: "update",
    args: &[
        SELECTOR,
        arg(
            "FIELD.KEY=VALUE",
            Takes::Assignments,
            false,
            "the generators of fields, as in a profile",
        ),
        arg(
            "--fields",
            Takes::Text,
            false,
            "the same as one JSON object: {\"temperature\":{\"type\":\"static\",\"value\":20}}",
        ),
    ],
    impact: Impact::Rw,
    help: "Make devices behave otherwise while they run; their other series go on.",
    example: "update lock-* firmware.type=static firmware.value=2",
    view: View::Record,
};
