//! The keys of a plan as a page.

/// The keys of a plan, for the reference page.
#[must_use]
pub fn reference() -> String {
    const KEYS: [(&str, &str, &str); 12] = [
        (
            "seed",
            "`0`",
            "seed of every draw; 0 draws one when it starts and tells it",
        ),
        (
            "rate",
            "`\"1/10s\"`",
            "strikes per time, one in each slot, at a drawn moment of it",
        ),
        (
            "scope",
            "`\"/\"`",
            "a path with all below it, or a pattern with `*` and `?`",
        ),
        ("for", "until stopped", "how long strikes are made"),
        (
            "max_concurrent",
            "`1`",
            "victims that are not back yet; no strike above it",
        ),
        (
            "blast_radius",
            "`1.0`",
            "share of one kind that may be down at once (at least one may)",
        ),
        (
            "stop_if",
            "never",
            "`health`, `escalations`, `quarantined` or `lost`, `<` or `>`, a number",
        ),
        (
            "lease",
            "`\"10s\"`",
            "dead-man's switch: not renewed for so long, it stops and heals",
        ),
        (
            "protect",
            "`[]`",
            "paths and patterns that are never hit; the root never is",
        ),
        (
            "swarm",
            "`false`",
            "the seed changes the weights of faults: each run has its own mix",
        ),
        (
            "[faults]",
            "`kill = 1`",
            "weight of each fault, or a table with its numbers",
        ),
        (
            "[kinds]",
            "1 each",
            "weight of each kind of actors, by name",
        ),
    ];
    let mut text = String::from("| key | default | meaning |\n|---|---|---|\n");
    for (key, default, meaning) in KEYS {
        text += &format!("| `{key}` | {default} | {meaning} |\n");
    }
    text += "\nA fault is a weight (`kill = 8`) or a table: `weight`, and where it has them ";
    text += "`for` (how long it lasts,\n`\"2s\"`), `share` (of packets, `0.05`; of values, ";
    text += "`0.5`), `delay` (`\"50ms\"`), `by` (`\"10s\"`), `times`\n(`1`) and `way` ";
    text += "(`\"both\"`, `\"up\"` to the twin, `\"down\"` to the devices).\n\n";
    text + &crate::chaos::fault::reference()
}
