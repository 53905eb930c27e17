//! The reference pages are what the tables say. `ACTORSIM_BLESS=1 cargo test --test reference`
//! rewrites them.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::path::Path;

fn holds(page: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs/reference")
        .join(page);
    if std::env::var_os("ACTORSIM_BLESS").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/reference/{page} is not what the table says; \
         run ACTORSIM_BLESS=1 cargo test --test reference"
    );
}

#[test]
fn the_page_of_commands_is_the_command_tables() {
    holds("commands.md", &actorsim::cli::reference::commands());
}

#[test]
fn the_page_of_metrics_is_the_metric_table() {
    holds("metrics.md", &actorsim::metrics::table::reference());
}

#[test]
fn the_page_of_configuration_is_the_key_table() {
    holds("config.md", &actorsim::config::print::reference());
}

#[test]
fn the_page_of_chaos_plans_is_the_fault_vocabulary() {
    holds("chaos.md", &actorsim::cli::reference::chaos());
}

#[test]
fn every_shipped_node_file_is_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut found = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("node") && name.ends_with(".toml") {
            let mut layers = actorsim::config::Layers::built_in();
            layers.path(&path);
            layers.resolve().unwrap();
            found += 1;
        }
    }
    assert!(found > 0, "no node file is shipped");
}

/// Texts of every source file of the workspace's crates.
fn sources() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = ["actors", "supervision", "transport", "world", "fleet"];
    let mut folders: Vec<_> = crates
        .iter()
        .map(|name| root.join(name).join("src"))
        .collect();
    folders.push(root.join("src"));
    let mut texts = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                texts.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }
    texts
}

#[test]
fn every_event_that_is_published_is_listed() {
    let mut seen = 0;
    for text in sources() {
        for (at, _) in text.match_indices(".publish(") {
            let call = text[at..].split(';').next().unwrap_or_default();
            if !call.contains("Level::") {
                continue; // another kind of publishing
            }
            let Some(name) = call.split('"').nth(1) else {
                continue;
            };
            seen += 1;
            let listed = actorsim::logging::EVENTS
                .iter()
                .any(|(event, _)| *event == name);
            assert!(
                listed,
                "the event `{name}` is not in actorsim::logging::EVENTS"
            );
        }
    }
    assert!(seen > 5, "only {seen} calls were found");
}
