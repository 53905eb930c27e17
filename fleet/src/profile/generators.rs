//! A field's generator: `type` and the keys of that kind.
//!
//! Each kind's function reads its keys and says what is wrong with them. Bounds:
//! [`COMPOSITE_DEPTH_MAX`], [`COMPOSITE_PARTS_MAX`], [`FOLLOW_LAG_SAMPLES_MAX`].

use std::path::Path;
use std::time::Duration;

use super::duration::{DURATION_HELP, parse_duration};
use super::findings::{Findings, Section, number};
use super::tree::{Node, Place, Value};
use crate::generator::{
    Brownian, COMPOSITE_DEPTH_MAX, COMPOSITE_PARTS_MAX, FOLLOW_LAG_SAMPLES_MAX, Generator, Markov,
    REPLAY_BYTES_MAX, Replay,
};
use crate::text;

/// What names in a generator are resolved against.
pub(super) struct Names<'a> {
    pub(super) fields: Vec<&'a str>,
    pub(super) interval: Duration,
    /// Where replayed files lie; none for a text that stands in no file: it names no other.
    pub(super) folder: Option<&'a Path>,
}

impl Names<'_> {
    pub(super) fn index(&self, name: &str, at: Place, findings: &mut Findings<'_>) -> Option<u16> {
        let found = self.fields.iter().position(|field| *field == name);
        if found.is_none() {
            let help = format!("fields: {}", self.fields.join(", "));
            findings.error(at, format!("there is no field `{name}`"), help);
        }
        found.map(|at| at as u16)
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Gaussian,
    Brownian,
    Diurnal,
    Markov,
    Static,
    Composite,
    Replay,
    Follow,
}

const KINDS: [(&str, Kind); 8] = [
    ("gaussian", Kind::Gaussian),
    ("brownian", Kind::Brownian),
    ("diurnal", Kind::Diurnal),
    ("markov", Kind::Markov),
    ("static", Kind::Static),
    ("composite", Kind::Composite),
    ("replay", Kind::Replay),
    ("follow", Kind::Follow),
];

/// Reads the generator in a section. `depth` counts the composites around it.
pub(super) fn read(
    section: &mut Section<'_>,
    names: &Names<'_>,
    depth: usize,
    findings: &mut Findings<'_>,
) -> Option<Generator> {
    section.need("type", findings)?;
    let Some(kind) = section.choice("type", &KINDS, findings) else {
        section.forgive();
        return None;
    };
    match kind {
        Kind::Gaussian => Some(Generator::Gaussian {
            mean: section.need_number("mean", findings),
            stddev: section.scale("stddev", true, findings),
        }),
        Kind::Brownian => Some(brownian(section, findings)),
        Kind::Diurnal => Some(diurnal(section, findings)),
        Kind::Markov => markov(section, findings),
        Kind::Static => {
            let null = section.take_any("value");
            let node = null.or_else(|| section.need("value", findings))?;
            Some(Generator::Static(node.json()))
        }
        Kind::Composite => composite(section, names, depth, findings),
        Kind::Replay => replay(section, names, findings),
        Kind::Follow => follow(section, names, findings),
    }
}

fn brownian(section: &mut Section<'_>, findings: &mut Findings<'_>) -> Generator {
    let start = section.number_or("start", 0.0, findings);
    let drift = section.number_or("drift", 0.0, findings);
    let volatility = section.scale("volatility", true, findings);
    let mean_reversion = section.scale("mean_reversion", false, findings);
    let mean = section.number_or("mean", start, findings);
    let min = section.number("min", findings);
    let max = section.number("max", findings);
    if let (Some((min, _)), Some((max, at))) = (min, max)
        && min > max
    {
        let message = format!("`min` {min} is above `max` {max}");
        findings.error(at, message, "swap the two, or leave one out");
    }
    let min = min.map_or(f64::MIN, |(min, _)| min);
    let max = max.map_or(f64::MAX, |(max, _)| max).max(min);
    Generator::Brownian(Brownian {
        start,
        drift,
        volatility,
        mean_reversion,
        mean,
        min,
        max,
    })
}

fn diurnal(section: &mut Section<'_>, findings: &mut Findings<'_>) -> Generator {
    let baseline = section.need_number("baseline", findings);
    let amplitude = section.need_number("amplitude", findings);
    let peak_hour = match section.take("peak_hour") {
        None => 0.0,
        Some(node) => {
            let hour = number("peak_hour", node, findings).unwrap_or(0.0);
            if !(0.0..24.0).contains(&hour) {
                let message = format!("`peak_hour` must lie in 0..23, is {hour}");
                findings.error(
                    node.at,
                    message,
                    "hours of the day, UTC: from 0 to below 24",
                );
            }
            hour
        }
    };
    // The original client renames `noise_stddev` to `stddev` on its way to gRPC.
    let renamed = section.scale("stddev", false, findings);
    let own = section.scale("noise_stddev", false, findings);
    let noise_stddev = if own == 0.0 { renamed } else { own };
    Generator::Diurnal {
        baseline,
        amplitude,
        peak_hour,
        noise_stddev,
    }
}

fn markov(section: &mut Section<'_>, findings: &mut Findings<'_>) -> Option<Generator> {
    let states = section.need("states", findings);
    let matrix = section.need("transition_matrix", findings);
    let initial = section.take("initial_state");
    let (states, matrix_node) = (states?, matrix?);
    let Value::List(states) = &states.value else {
        findings.wrong_type("states", states, "a list");
        return None;
    };
    let matrix = rows(matrix_node, findings)?;
    let count = states.len();
    let states = states.iter().map(Node::json).collect();
    match Markov::new(states, &matrix, initial.map(Node::json).as_ref()) {
        Ok(chain) => Some(Generator::Markov(Box::new(chain))),
        Err(wrong) => {
            for message in wrong {
                let of_initial = initial.filter(|_| message.contains("initial"));
                let at = of_initial.map_or(matrix_node.at, |initial| initial.at);
                let mend = markov_mend(&message, count);
                findings.error(at, message, mend);
            }
            None
        }
    }
}

/// How a chain is mended.
fn markov_mend(message: &str, states: usize) -> String {
    match message {
        _ if message.contains("initial") => "name one of `states`, written as there".to_owned(),
        _ if message.contains("sums to") => "each row is the chances of one state: make it add up \
                                             to 1"
            .to_owned(),
        _ => format!("write {states} rows of {states} numbers, one of each for every state"),
    }
}

fn rows(node: &Node, findings: &mut Findings<'_>) -> Option<Vec<Vec<f64>>> {
    let key = "transition_matrix";
    let Value::List(rows) = &node.value else {
        findings.wrong_type(key, node, "a list of rows");
        return None;
    };
    let mut matrix = Vec::with_capacity(rows.len());
    for row in rows {
        let Value::List(cells) = &row.value else {
            findings.wrong_type(key, row, "a list of numbers in each row");
            return None;
        };
        let numbers: Option<Vec<f64>> = cells
            .iter()
            .map(|cell| number(key, cell, findings))
            .collect();
        matrix.push(numbers?);
    }
    Some(matrix)
}

fn composite(
    section: &mut Section<'_>,
    names: &Names<'_>,
    depth: usize,
    findings: &mut Findings<'_>,
) -> Option<Generator> {
    let node = section.need("of", findings)?;
    let Value::List(parts) = &node.value else {
        findings.wrong_type("of", node, "a list of generators");
        return None;
    };
    if depth == COMPOSITE_DEPTH_MAX {
        let message = format!("composites nested more than {COMPOSITE_DEPTH_MAX} deep");
        findings.error(
            node.at,
            message,
            "sums can be written out: move the inner parts up",
        );
        return None;
    }
    if parts.is_empty() || parts.len() > COMPOSITE_PARTS_MAX {
        let message = format!("`of` needs 1 to {COMPOSITE_PARTS_MAX} generators");
        findings.error(
            node.at,
            message,
            "give each part as a generator with its `type`",
        );
    }
    let mut generators = Vec::with_capacity(parts.len());
    for part in parts {
        let owner = format!("a part of {}", section.owner);
        let Some(mut inner) = Section::of(&owner, part, findings) else {
            continue;
        };
        let generator = read(&mut inner, names, depth + 1, findings);
        inner.finish(findings);
        let Some(generator) = generator else { continue };
        if !generator.numeric() {
            let message = "only numbers can be added up";
            findings.error(part.at, message, "use numbers as `value` or `states`");
        }
        generators.push(generator);
    }
    Some(Generator::Composite(generators.into()))
}

fn replay(
    section: &mut Section<'_>,
    names: &Names<'_>,
    findings: &mut Findings<'_>,
) -> Option<Generator> {
    let file = section.need("file", findings).is_some();
    let column = section.need("column", findings).is_some();
    let file = section.text("file", findings).filter(|_| file);
    let column = section.text("column", findings).filter(|_| column);
    let again = match section.take("loop") {
        None => false,
        Some(Node {
            value: Value::Bool(again),
            ..
        }) => *again,
        Some(node) => {
            findings.wrong_type("loop", node, "true or false");
            false
        }
    };
    let ((file, at), (column, column_at)) = (file?, column?);
    let Some(folder) = names.folder else {
        let message = "a replay stands in a profile's file only";
        findings.error(at, message, "use another generator");
        return None;
    };
    let text = match text::read(&folder.join(file), REPLAY_BYTES_MAX) {
        Ok(text) => text,
        Err(error) => {
            let help = "the path starts at the profile's folder";
            findings.error(at, format!("cannot read `{file}`: {error}"), help);
            return None;
        }
    };
    match Replay::parse(&text, column, again) {
        Ok(rows) => Some(Generator::Replay(Box::new(rows))),
        Err(error) => {
            let help = "the first line names the columns; the values below are numbers";
            findings.error(column_at, format!("`{file}`: {error}"), help);
            None
        }
    }
}

fn follow(
    section: &mut Section<'_>,
    names: &Names<'_>,
    findings: &mut Findings<'_>,
) -> Option<Generator> {
    section.need("field", findings);
    let field = section
        .text("field", findings)
        .and_then(|(name, at)| names.index(name, at, findings));
    let gain = section.number_or("gain", 1.0, findings);
    let offset = section.number_or("offset", 0.0, findings);
    let lag = section.text("lag", findings).map(|(text, at)| {
        let lag = parse_duration(text).unwrap_or_else(|message| {
            findings.error(at, message, DURATION_HELP);
            Duration::ZERO
        });
        (lag, at)
    });
    let mut generator = Generator::Follow {
        field: field?,
        gain,
        offset,
        lag: lag.map_or(Duration::ZERO, |(lag, _)| lag),
        samples: 0,
    };
    if let (Err(samples), Some((_, at))) = (generator.pace(names.interval), lag) {
        let message = format!("`lag` is {samples} samples; at most {FOLLOW_LAG_SAMPLES_MAX}");
        let help = "a shorter lag, or a longer `telemetry_interval`";
        findings.error(at, message, help);
    }
    Some(generator)
}
