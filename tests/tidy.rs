//! Style as a test: sizes, banned calls, module documentation, links, configuration files,
//! crate arrows and reference pages.
//!
//! It shows every violation of the repository at once. It reads text, so it can be fooled; it is
//! there for slips. Bound: one pass over the repository's text files. Each check is itself tested
//! on a text that must fail and on one that must pass.

use std::collections::BTreeMap;
use std::path::Path;

#[path = "tidy/repository.rs"]
mod repository;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use repository::Repository;
use rules::Violation;
use source::{Place, Source};

#[test]
fn the_repository_is_tidy() {
    let repository = Repository::read(Path::new(env!("CARGO_MANIFEST_DIR")));
    let files = &repository.files;
    let sources = repository.sources();
    assert!(
        sources.len() > 10,
        "the walk found only {} Rust files",
        sources.len()
    );

    let mut found: Vec<Violation> = sources.iter().flat_map(rules::check).collect();
    found.extend(repository::machine_paths(files));
    found.extend(repository::page_links(files, &repository.root));
    found.extend(repository::crate_arrows(files));
    if let Some(page) = files.get("docs/reference/metrics.md") {
        found.extend(repository::metrics(&sources, page));
    }
    found.sort();
    let list: Vec<String> = found.iter().map(Violation::to_string).collect();
    assert!(
        list.is_empty(),
        "{} things to mend:\n{}",
        list.len(),
        list.join("\n")
    );
}

// ---- each check can fail ----

/// What the rules say about a text at a path; a module comment is put on top.
#[track_caller]
fn said(path: &str, place: Place, body: &str) -> Vec<String> {
    let text = format!("//! A module.\n{body}");
    let source = Source::new(path, place, &text);
    rules::check(&source)
        .into_iter()
        .map(|violation| violation.what)
        .collect()
}

/// The bad text is refused with `word` in the message, the good one passes.
#[track_caller]
fn refuses(word: &str, bad: &str, good: &str) {
    let what = said("world/src/row.rs", Place::Product, bad);
    assert!(
        what.iter().any(|what| what.contains(word)),
        "{bad:?} was let through: {what:?}"
    );
    let what = said("world/src/row.rs", Place::Product, good);
    assert_eq!(what, Vec::<String>::new(), "{good:?} was refused");
}

#[test]
fn a_long_file_a_long_line_and_a_long_function_are_refused() {
    refuses(
        "lines, at most 800",
        &"// x\n".repeat(800),
        &"// x\n".repeat(799),
    );
    let line = |chars: usize| format!("// {}", "x".repeat(chars - 3));
    refuses("101 characters", &line(101), &line(100));
    let function = |lines: usize| format!("fn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2));
    refuses("`f` has 71 lines", &function(71), &function(70));
}

#[test]
fn braces_in_literals_and_comments_do_not_count() {
    let body = "    g('{', \"}\", r#\"{\"#); // }\n    /* { */ let _ = b'\\'';\n";
    let text = format!("fn f<'a>(x: &'a [u8; 2]) {{\n{body}}}\nfn g() {{}}\n");
    let source = Source::new("x.rs", Place::Product, &text);
    let expected = vec![("f".to_owned(), 1, 4), ("g".to_owned(), 5, 5)];
    assert_eq!(source.functions(), expected);
    assert_eq!(
        source.strings,
        vec![(2, "}".to_owned()), (2, "{".to_owned())]
    );
}

#[test]
fn a_module_without_its_sentence_is_refused() {
    let bare = Source::new("x.rs", Place::Product, "\nuse std::fmt;\n");
    assert!(
        rules::check(&bare)
            .iter()
            .any(|found| found.what.contains("no `//!`"))
    );
    let empty = Source::new("x.rs", Place::Product, "");
    assert!(
        rules::check(&empty)
            .iter()
            .any(|found| found.what.contains("no `//!`"))
    );
}

#[test]
fn wall_clocks_are_refused_outside_the_clock() {
    refuses(
        "Clock",
        "fn f() { Instant::now(); }",
        "fn f() { clock.now(); }",
    );
    refuses(
        "unix_us",
        "fn f() { std::time::SystemTime::now(); }",
        "// SystemTime::now is banned",
    );
    let call = "fn f() { Instant::now(); }";
    assert!(said("actors/src/clock.rs", Place::Product, call).is_empty());
    assert!(said("bench/src/memory.rs", Place::Bench, call).is_empty());
    let in_tests = "#[cfg(test)]\nmod tests {\n    fn f() { Instant::now(); x.unwrap(); }\n}\n";
    assert!(said("world/src/row.rs", Place::Product, in_tests).is_empty());
    let after_tests = format!("{in_tests}fn g() {{ Instant::now(); }}");
    assert_eq!(
        said("world/src/row.rs", Place::Product, &after_tests).len(),
        1
    );
}

#[test]
fn tasks_are_spawned_only_by_the_task_host() {
    refuses(
        "start_task",
        "fn f() { tokio::spawn(x); }",
        "fn f() { my_tokio::spawned(x); }",
    );
    let call = "fn f() { tokio::spawn(x); }";
    assert!(said("actors/src/task.rs", Place::Product, call).is_empty());
    assert!(said("actors/src/task/pump.rs", Place::Product, call).is_empty());
}

#[test]
fn channels_without_a_bound_are_refused() {
    refuses(
        "capacity",
        "fn f() { mpsc::unbounded_channel(); }",
        "fn f() { mpsc::channel(8); }",
    );
    refuses(
        "sync_channel",
        "fn f() { mpsc::channel(); }",
        "fn f() { mpsc::sync_channel(8); }",
    );
}

#[test]
fn random_order_and_random_draws_are_refused() {
    let biased = "fn f() {\n    tokio::select! {\n        biased;\n        _ = a => {}\n    }\n}";
    refuses(
        "biased",
        "fn f() {\n    tokio::select! {\n        _ = a => {}\n    }\n}",
        biased,
    );
    refuses(
        "seed",
        "fn f() -> u8 { rand::random() }",
        "fn f() -> u8 { operand::get() }",
    );
}

#[test]
fn hash_collections_need_a_reason() {
    let reason = "// order: looked up by key only\nuse std::collections::HashMap;\n";
    refuses("BTreeMap", "use std::collections::HashMap;\n", reason);
    let group = "use std::collections::{\n    BTreeMap,\n    HashSet,\n};\n";
    refuses(
        "HashSet",
        group,
        "use std::collections::{BTreeMap, VecDeque};\n",
    );
    let inline = "struct A { x: std::collections::HashMap<u8, u8> } // order: counted only\n";
    refuses(
        "HashMap",
        "type A = std::collections::HashMap<u8, u8>;\n",
        inline,
    );
}

#[test]
fn left_over_work_is_refused() {
    refuses("todo!", "fn f() { todo!() }", "fn f() { g() }");
    refuses(
        "unimplemented!",
        "fn f() { unimplemented!() }",
        "fn f() { \"todo!\"; }",
    );
    refuses(
        "left over",
        concat!("// FIX", "ME later\n"),
        "// fixme is a word here\n",
    );
    refuses("dbg!", "fn f() { dbg!(1); }", "fn f() { g(1); }");
    refuses(
        "reason",
        "#[ignore]\nfn f() {}",
        "#[ignore = \"needs a broker\"]\nfn f() {}",
    );
}

#[test]
fn sleeping_tests_are_refused() {
    let sleeps = "fn f() { std::thread::sleep(x); }";
    assert_eq!(said("world/tests/scan.rs", Place::Test, sleeps).len(), 1);
    assert!(said("world/src/scan.rs", Place::Product, sleeps).is_empty());
}

#[test]
fn names_that_say_nothing_are_refused() {
    refuses("does not say", "struct LinkManager;", "struct Links;");
    refuses("does not say", "trait FrameHandler {}", "trait Downlink {}");
    let what = said("world/src/scan/mod.rs", Place::Product, "");
    assert!(what.iter().any(|what| what.contains("mod.rs")));
}

fn files(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
        .collect()
}

#[test]
fn machine_paths_are_refused() {
    let bad = concat!("see /ho", "me/me/notes");
    assert_eq!(
        repository::machine_paths(&files(&[("README.md", bad)])).len(),
        1
    );
    let good = "see https://example.org/home/notes and ~/notes";
    assert!(repository::machine_paths(&files(&[("README.md", good)])).is_empty());
}

#[test]
fn lost_pages_and_dead_links_are_refused() {
    let nowhere = Path::new("no-such-folder");
    let lost = files(&[
        ("README.md", "[a](docs/a.md#top)"),
        ("docs/a.md", ""),
        ("docs/b.md", ""),
    ]);
    let found = repository::page_links(&lost, nowhere);
    assert_eq!(
        found,
        vec![Violation::new("docs/b.md", 1, "no other page links here")]
    );
    let dead = files(&[
        ("docs/a.md", "[x](../y.md) [a](a.md)"),
        ("README.md", "[a](docs/a.md)"),
    ]);
    let found = repository::page_links(&dead, nowhere);
    assert_eq!(
        found,
        vec![Violation::new(
            "docs/a.md",
            1,
            "the link to `../y.md` leads nowhere"
        )]
    );
}

#[test]
fn a_turned_arrow_is_refused() {
    let manifest = "[dependencies]\nactorsim-world.workspace = true\n\n[lints]\nworkspace = true\n";
    let crates = ["actors", "supervision", "transport", "world", "fleet"];
    let all = |text: &str| -> BTreeMap<String, String> {
        crates
            .iter()
            .map(|name| (format!("{name}/Cargo.toml"), text.to_owned()))
            .collect()
    };
    assert_eq!(repository::crate_arrows(&all(manifest)).len(), 5);
    let tests_only = manifest.replace("[dependencies]", "[dev-dependencies]");
    assert!(repository::crate_arrows(&all(&tests_only)).is_empty());
    assert_eq!(repository::crate_arrows(&all("[dependencies]\n")).len(), 5);
    assert_eq!(repository::crate_arrows(&files(&[])).len(), 5);
}

#[test]
fn a_metric_without_its_row_is_refused() {
    let text = "//! x\nconst A: &str = \"actorsim_scan_rate_hz\";\nlet f = \"actorsim_world\";\n";
    let source = || vec![Source::new("src/metrics.rs", Place::Product, text)];
    assert_eq!(repository::metrics(&source(), "| other |").len(), 1);
    assert!(repository::metrics(&source(), "| `actorsim_scan_rate_hz` |").is_empty());
}
