//! Answers as text: tables for people, tab-separated for pipes, JSON for programs.
//!
//! JSON is the contract, tables are not. Bound: an answer is bounded by the protocol; a cell of a
//! table is cut to [`CELL_MAX`] characters.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use super::command::View;

/// Characters of a table cell: a path and a half; the whole text is in the other formats.
pub const CELL_MAX: usize = 120;

/// How answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns.
    Table,
    /// One object, with `"v": 1`.
    Json,
    /// One object a row.
    Jsonl,
    /// Tab-separated, without decoration.
    Tsv,
}

/// An answer as text, ending in a newline unless it is empty.
#[must_use]
pub fn render(data: &Json, view: View, format: Format) -> String {
    match format {
        Format::Json => whole(data),
        Format::Jsonl => lines(data),
        Format::Table | Format::Tsv => match view {
            View::Rows(columns) => rows(data, columns, format),
            View::Tree if format == Format::Table => tree(data) + notes(data).as_str(),
            View::Tree => rows(
                data,
                &["path", "host", "state", "incarnation", "restarts", "folded"],
                format,
            ),
            View::Record => record(data, format),
        },
    }
}

fn whole(data: &Json) -> String {
    let mut out = serde_json::Map::new();
    out.insert("v".into(), json!(super::protocol::VERSION));
    match data {
        Json::Object(map) => {
            out.extend(map.iter().map(|(key, value)| (key.clone(), value.clone())))
        }
        other => drop(out.insert("data".into(), other.clone())),
    }
    format!("{:#}\n", Json::Object(out))
}

fn lines(data: &Json) -> String {
    match data.get("rows").and_then(Json::as_array) {
        Some(rows) => rows.iter().map(|row| format!("{row}\n")).collect(),
        None => format!("{data}\n"),
    }
}

fn rows(data: &Json, columns: &[&str], format: Format) -> String {
    let empty = Vec::new();
    let rows = data.get("rows").and_then(Json::as_array).unwrap_or(&empty);
    let cells = rows
        .iter()
        .map(|row| columns.iter().map(|column| cell(&row[*column])).collect());
    if format == Format::Tsv {
        let lines = cells.map(|row: Vec<String>| {
            row.iter()
                .map(|cell| cell.replace(['\t', '\n'], " "))
                .collect::<Vec<_>>()
                .join("\t")
        });
        return lines.map(|line| line + "\n").collect();
    }
    let header = columns.iter().map(|column| column.to_uppercase()).collect();
    let mut text = aligned(&std::iter::once(header).chain(cells).collect::<Vec<_>>());
    if data.get("more") == Some(&Json::Bool(true))
        && let Some(last) = rows.last()
    {
        let _ = writeln!(
            text,
            "more follow; next page: --after {}",
            cell(&last["path"])
        );
    }
    text + notes(data).as_str()
}

/// What people should know beside a table.
fn notes(data: &Json) -> String {
    let notes = data.get("notes").and_then(Json::as_array);
    let notes = notes.into_iter().flatten();
    notes
        .map(|note| format!("note: {}\n", cell(note)))
        .collect()
}

fn cell(value: &Json) -> String {
    match value {
        Json::Null => "-".into(),
        Json::String(text) if text.is_empty() => "-".into(),
        Json::String(text) => text.clone(),
        Json::Array(items) if items.is_empty() => "-".into(),
        Json::Array(items) if items.iter().all(Json::is_string) => {
            items.iter().map(cell).collect::<Vec<_>>().join("; ")
        }
        other => other.to_string(),
    }
}

fn aligned(rows: &[Vec<String>]) -> String {
    let mut widths = Vec::new();
    let cut = |text: &String| {
        text.chars()
            .take(CELL_MAX)
            .collect::<String>()
            .replace('\n', " ")
    };
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(cut).collect())
        .collect();
    for row in &rows {
        widths.resize(row.len().max(widths.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn record(data: &Json, format: Format) -> String {
    let mut pairs = Vec::new();
    flatten("", data, &mut pairs);
    if format == Format::Tsv {
        return pairs.iter().map(|pair| pair.join("\t") + "\n").collect();
    }
    aligned(&pairs)
}

/// `books.offered  3` for nested objects; a list of objects becomes one line each.
fn flatten(prefix: &str, value: &Json, pairs: &mut Vec<Vec<String>>) {
    match value {
        Json::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let name = if prefix.is_empty() {
                    key.clone()
                } else {
                    format!("{prefix}.{key}")
                };
                flatten(&name, value, pairs);
            }
        }
        Json::Array(items) if items.iter().any(Json::is_object) => {
            for item in items {
                let words: Vec<_> = item
                    .as_object()
                    .into_iter()
                    .flat_map(|map| map.values().map(cell))
                    .collect();
                pairs.push(vec![prefix.to_owned(), words.join("  ")]);
            }
        }
        other => pairs.push(vec![prefix.to_owned(), cell(other)]),
    }
}

fn tree(data: &Json) -> String {
    let empty = Vec::new();
    let rows = data.get("rows").and_then(Json::as_array).unwrap_or(&empty);
    let depths: Vec<u64> = rows
        .iter()
        .map(|row| row["depth"].as_u64().unwrap_or(0))
        .collect();
    let mut table = vec![
        ["ACTOR", "HOST", "STATE", "INCARNATION", "RESTARTS"]
            .map(Into::into)
            .into(),
    ];
    for (at, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for level in 1..=depths[at] {
            // Whether another actor follows at this level, under the same parent.
            let next = depths[at + 1..].iter().find(|depth| **depth <= level);
            let more = next == Some(&level);
            line.push_str(match (level == depths[at], more) {
                (true, true) => "├── ",
                (true, false) => "└── ",
                (false, true) => "│   ",
                (false, false) => "    ",
            });
        }
        line.push_str(&cell(&row["name"]));
        let mut cells = vec![line];
        cells.extend(
            ["host", "state", "incarnation", "restarts"]
                .iter()
                .map(|key| {
                    if row[*key].is_null() {
                        String::new()
                    } else {
                        cell(&row[*key])
                    }
                }),
        );
        table.push(cells);
    }
    aligned(&table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Json {
        json!({ "more": true, "rows": [
            { "path": "/a", "state": "running", "depth": 1 },
            { "path": "/a/long-name", "state": null, "depth": 20 },
        ] })
    }

    #[test]
    fn the_same_answer_in_each_format() {
        let view = View::Rows(&["path", "depth", "state"]);
        let expected = "PATH          DEPTH  STATE\n/a            1      running\n\
                        /a/long-name  20     -\nmore follow; next page: --after /a/long-name\n";
        assert_eq!(render(&sample(), view, Format::Table), expected);
        let expected = "/a\t1\trunning\n/a/long-name\t20\t-\n";
        assert_eq!(render(&sample(), view, Format::Tsv), expected);
        let json: Json = serde_json::from_str(&render(&sample(), view, Format::Json)).unwrap();
        assert_eq!((&json["v"], &json["rows"]), (&json!(1), &sample()["rows"]));
        assert_eq!(render(&sample(), view, Format::Jsonl).lines().count(), 2);
    }

    #[test]
    fn a_tree_draws_its_branches() {
        let row = |name: &str, depth: u64| json!({ "name": name, "depth": depth, "host": "task" });
        let rows = [
            row("/", 0),
            row("a", 1),
            row("b", 2),
            row("c", 2),
            row("d", 1),
            row("e", 2),
        ];
        let shown = render(&json!({ "rows": rows }), View::Tree, Format::Table);
        let names: Vec<_> = shown
            .lines()
            .skip(1)
            .map(|l| l.split("  task").next().unwrap().trim_end())
            .collect();
        assert_eq!(
            names,
            ["/", "├── a", "│   ├── b", "│   └── c", "└── d", "    └── e"]
        );
    }

    #[test]
    fn a_record_is_flattened() {
        let data = json!({ "path": "/a", "books": { "offered": 3 }, "why": ["x", "y"] });
        let expected = "path\t/a\nbooks.offered\t3\nwhy\tx; y\n";
        assert_eq!(render(&data, View::Record, Format::Tsv), expected);
    }
}
