//! What the pages and `config/` show is accepted by the code: every console line parses, every
//! attach command exists, every shipped file loads.
//!
//! It does not run the commands: `.ci/run` and the whole-node tests do. Bound: the repository's
//! pages and configuration files.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::fs;
use std::path::{Path, PathBuf};

use actorsim::attach::parse::parse;
use actorsim::cli;
use actorsim::config::Layers;
use actorsim::scenario::Script;
use actorsim_fleet::profile::Profile;
use actorsim_supervision::Policies;
use actorsim_supervision::chaos::{Place, Plan};
use actorsim_world::rules::RuleSet;

/// Files below a folder with one of these extensions, in order.
fn files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|e| extensions.iter().any(|x| e == *x))
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<(String, String)> {
    let mut paths = files(&root().join("docs"), &["md"]);
    paths.extend(["README.md", "ARCHITECTURE.md"].map(|page| root().join(page)));
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (
            path.strip_prefix(root()).unwrap().display().to_string(),
            text,
        )
    };
    paths.into_iter().map(read).collect()
}

/// Lines inside fences of one kind, without what follows ` # ` or two spaces.
fn fenced<'a>(text: &'a str, kind: &'a str) -> impl Iterator<Item = &'a str> {
    let mut inside = false;
    text.lines().filter(move |line| {
        if let Some(fence) = line.strip_prefix("```") {
            inside = !inside && fence == kind;
            return false;
        }
        inside
    })
}

/// Lines inside fences of any kind.
fn in_fences(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.lines().filter(move |line| {
        let fence = line.starts_with("```");
        inside ^= fence;
        inside && !fence
    })
}

fn without_comment(line: &str) -> &str {
    let end = line
        .find(" #")
        .into_iter()
        .chain(line.find("   "))
        .min()
        .unwrap_or(line.len());
    line[..end].trim()
}

/// Words as a shell gives them, for quotes that do not nest.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// The arguments after the program, if the line runs `actorsim`.
fn arguments(line: &str) -> Option<Vec<String>> {
    let rest = line.strip_prefix("actorsim ").or_else(|| {
        line.strip_prefix("cargo run --release -- ")
            .or_else(|| line.strip_prefix("cargo run -- "))
    })?;
    Some(words(rest))
}

#[test]
fn every_documented_command_line_is_accepted() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for (page, text) in pages() {
        // Of every fence: one that is no console shows commands for who has a broker or a server.
        for line in in_fences(&text) {
            let line = line.strip_prefix("$ ").unwrap_or(line);
            let line = line.split(" | ").next().unwrap_or(line);
            let Some(arguments) = arguments(without_comment(line)) else {
                continue;
            };
            seen += 1;
            let all = std::iter::once("actorsim".to_owned()).chain(arguments);
            if let Err(error) = cli::definition().try_get_matches_from(all) {
                wrong.push(format!("{page}: {line}: {error}"));
            }
        }
    }
    assert!(seen > 30, "only {seen} lines were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_documented_attach_command_exists() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    let tutorial = pages()
        .into_iter()
        .filter(|(page, _)| page.starts_with("docs/tutorial/"));
    for (page, text) in tutorial {
        for line in fenced(&text, "text")
            .map(without_comment)
            .filter(|line| !line.is_empty())
        {
            seen += 1;
            if let Err(error) = parse(line) {
                wrong.push(format!("{page}: {line}: {error}"));
            }
        }
    }
    assert!(seen > 3, "only {seen} lines were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_line_that_the_command_line_refuses_is_noticed() {
    let line = arguments(without_comment(
        "actorsim start --no-such-flag   # as shown",
    ))
    .unwrap();
    let all = std::iter::once("actorsim".to_owned()).chain(line);
    assert!(cli::definition().try_get_matches_from(all).is_err());
    assert!(parse("no-such-command /twin").is_err());
    assert_eq!(
        words("-c 'kill /a' -o json"),
        ["-c", "kill /a", "-o", "json"]
    );
    let shown: Vec<&str> = fenced("```console\n$ a\n```\nb\n```text\nc\n```\n", "text").collect();
    assert_eq!(shown, ["c"]);
}

/// Loads a shipped file by its folder; none if nothing knows what it is.
fn load(path: &Path) -> Option<Result<(), String>> {
    let relative = path.strip_prefix(root()).unwrap();
    let name = relative.display().to_string();
    let text = fs::read_to_string(path).unwrap();
    let folder = relative.parent().unwrap().file_name()?.to_str()?;
    let extension = path.extension()?.to_str()?;
    match (folder, extension) {
        ("supervision", "toml") => {
            let loaded = Policies::from_toml(&name, &text);
            Some(loaded.map(drop).map_err(|errors| format!("{errors:?}")))
        }
        ("rules", "toml") => {
            let loaded = RuleSet::from_toml(&name, &text);
            Some(loaded.map(drop).map_err(|errors| format!("{errors:?}")))
        }
        ("chaos", "toml") => {
            // Each in the place it is shipped for.
            let live = path.file_stem().and_then(|stem| stem.to_str());
            let live = live.is_some_and(|stem| stem.starts_with("live"));
            let place = if live { Place::Live } else { Place::Sim };
            let loaded = Plan::from_toml(&name, &text, place);
            Some(loaded.map(drop).map_err(|errors| format!("{errors:?}")))
        }
        ("profiles", "yaml" | "yml" | "toml") => Some(match Profile::parse(&name, &text) {
            Ok(loaded) if loaded.warnings.is_empty() => Ok(()),
            Ok(loaded) => Err(format!("{:?}", loaded.warnings)),
            Err(errors) => Err(format!("{errors:?}")),
        }),
        ("scenarios", "rhai") => {
            let compiled = Script::compile(&name, text, None);
            Some(compiled.map(drop).map_err(|error| error.to_string()))
        }
        ("config", "toml") => {
            let mut layers = Layers::built_in();
            layers.file(&name, &text);
            Some(
                layers
                    .resolve()
                    .map(drop)
                    .map_err(|errors| errors.render(false)),
            )
        }
        _ => None,
    }
}

#[test]
fn every_shipped_configuration_file_loads() {
    let every = ["toml", "yaml", "yml", "json", "rhai", "csv"];
    let shipped = files(&root().join("config"), &every);
    assert!(shipped.len() >= 3, "only {shipped:?}");
    let mut wrong = Vec::new();
    for path in shipped {
        match load(&path) {
            Some(Ok(())) => {}
            Some(Err(error)) => wrong.push(format!("{}: {error}", path.display())),
            None => wrong.push(format!("{}: nothing loads it", path.display())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_documented_profile_loads() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for (page, text) in pages() {
        for fence in text.split("\n```yaml\n").skip(1) {
            seen += 1;
            let profile = fence.split("\n```").next().unwrap_or_default();
            match Profile::parse("page.yaml", profile) {
                Ok(loaded) if loaded.warnings.is_empty() => {}
                Ok(loaded) => wrong.push(format!("{page}: {:?}", loaded.warnings)),
                Err(errors) => wrong.push(format!("{page}: {errors:?}")),
            }
        }
    }
    assert!(seen > 3, "only {seen} were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Tests that a page names as `file.rs::test`.
fn named_tests(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let code = text.split('`').skip(1).step_by(2);
    code.filter_map(|span| {
        let (file, test) = span.split_once(".rs::")?;
        Some((&span[..file.len() + 3], test))
    })
}

#[test]
fn every_test_that_a_page_names_is_there() {
    let mut missing = Vec::new();
    for (page, text) in pages() {
        for (file, test) in named_tests(&text) {
            let source = fs::read_to_string(root().join(file)).unwrap_or_default();
            if !source.contains(&format!("fn {test}()")) {
                missing.push(format!("{page}: {file}::{test}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    let one: Vec<_> = named_tests("see `a/b.rs::c` and `d.rs`").collect();
    assert_eq!(one, [("a/b.rs", "c")]);
}
