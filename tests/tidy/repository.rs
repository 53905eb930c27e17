//! The rules that need the whole repository: links, machine paths, configuration, crate arrows,
//! reference pages.
//!
//! It reads files and never the network, the environment or git. Bound: every file once, files
//! above one MiB are not read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::rules::Violation;
use crate::source::{Place, Source};

/// A file above this is data, not something people read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Every text file of the repository by its path from the root.
pub(crate) struct Repository {
    pub(crate) root: PathBuf,
    pub(crate) files: BTreeMap<String, String>,
}

impl Repository {
    pub(crate) fn read(root: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder).expect("a folder of the repository can be listed");
            for entry in entries {
                let entry = entry.expect("an entry of the repository can be read");
                let name = entry.file_name().to_string_lossy().into_owned();
                let skipped = name == "target" || (name.starts_with('.') && name != ".ci");
                let kind = entry.file_type().expect("an entry has a type");
                if skipped || kind.is_symlink() {
                    continue;
                }
                let path = entry.path();
                if kind.is_dir() {
                    folders.push(path);
                } else if entry
                    .metadata()
                    .is_ok_and(|data| data.len() <= FILE_BYTES_MAX)
                    && let Ok(text) = fs::read_to_string(&path)
                {
                    let path = path.strip_prefix(root).expect("found below the root");
                    files.insert(path.to_string_lossy().into_owned(), text);
                }
            }
        }
        Self {
            root: root.to_owned(),
            files,
        }
    }

    /// All Rust files, each with its place.
    pub(crate) fn sources(&self) -> Vec<Source> {
        let rust = || self.files.iter().filter(|(path, _)| path.ends_with(".rs"));
        let mut test_files = BTreeSet::new();
        for (path, text) in rust() {
            let source = Source::new(path, Place::Product, text);
            let stem = path.strip_suffix(".rs").expect("filtered by suffix");
            let (folder, name) = stem.rsplit_once('/').unwrap_or(("", stem));
            let base = if ["lib", "main"].contains(&name) {
                folder
            } else {
                stem
            };
            for module in source.test_modules() {
                test_files.insert(format!("{base}/{module}"));
            }
        }
        let is_test_file = |path: &str| {
            let inside = |file: &String| {
                path.strip_prefix(file.as_str())
                    .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
            };
            test_files.iter().any(inside)
        };
        rust()
            .map(|(path, text)| {
                let place = match place_by_path(path) {
                    Place::Product if is_test_file(path) => Place::Test,
                    place => place,
                };
                Source::new(path, place, text)
            })
            .collect()
    }
}

fn place_by_path(path: &str) -> Place {
    let within = |folder: &str| path.split('/').rev().skip(1).any(|part| part == folder);
    let is_fuzz = path.starts_with("fuzz/");
    if path.starts_with("bench/") {
        Place::Bench
    } else if is_fuzz || within("tests") || within("examples") || path.ends_with("/tests.rs") {
        Place::Test
    } else {
        Place::Product
    }
}

/// Paths that exist on one machine only.
pub(crate) fn machine_paths(files: &BTreeMap<String, String>) -> Vec<Violation> {
    let roots = ["home", "root", "work", "Users"];
    let mut found = Vec::new();
    for (path, text) in files
        .iter()
        .filter(|(path, _)| !path.ends_with("Cargo.lock"))
    {
        for (index, line) in text.lines().enumerate() {
            for root in roots {
                let needle = format!("/{root}/");
                let alone = |at: usize| {
                    let before = line[..at].chars().next_back();
                    before.is_none_or(|c| " \"'`(=:<[".contains(c))
                };
                if line.match_indices(&needle).any(|(at, _)| alone(at)) {
                    let what = format!("`{needle}` is a path of one machine");
                    found.push(Violation::new(path, index + 1, what));
                }
            }
        }
    }
    found
}

/// Every relative link leads to a file, and every page under `docs/` is reached by one.
pub(crate) fn page_links(files: &BTreeMap<String, String>, root: &Path) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut reached = BTreeSet::new();
    for (path, text) in files.iter().filter(|(path, _)| path.ends_with(".md")) {
        for (line, target) in links(text) {
            let target = target.split('#').next().unwrap_or_default();
            let is_remote = target.contains("://") || target.starts_with("mailto:");
            if target.is_empty() || is_remote {
                continue;
            }
            let resolved = resolve(path, target);
            if files.contains_key(&resolved) || root.join(&resolved).exists() {
                if resolved != *path {
                    reached.insert(resolved);
                }
            } else {
                let what = format!("the link to `{target}` leads nowhere");
                found.push(Violation::new(path, line, what));
            }
        }
    }
    let pages = files
        .keys()
        .filter(|path| path.starts_with("docs/") && path.ends_with(".md"));
    for page in pages.filter(|page| !reached.contains(*page)) {
        found.push(Violation::new(page, 1, "no other page links here"));
    }
    found
}

fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for (at, _) in line.match_indices("](") {
            let rest = &line[at + 2..];
            if let Some(end) = rest.find([')', ' ']) {
                found.push((index + 1, rest[..end].to_owned()));
            }
        }
    }
    found
}

fn resolve(page: &str, target: &str) -> String {
    let folder = Path::new(page).parent().unwrap_or(Path::new(""));
    let mut parts: Vec<String> = Vec::new();
    for component in folder.join(target).components() {
        match component {
            Component::ParentDir => {
                parts.pop();
            }
            Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            _ => {}
        }
    }
    parts.join("/")
}

/// What each crate may depend on, besides the crates of others.
const ARROWS: [(&str, &[&str]); 5] = [
    ("actors", &[]),
    ("supervision", &["actors"]),
    ("transport", &["actors", "supervision"]),
    ("world", &["actors", "supervision", "transport"]),
    ("fleet", &["actors", "supervision", "transport"]),
];

/// The arrows between our crates never turn, and every crate is under the workspace's lints.
pub(crate) fn crate_arrows(files: &BTreeMap<String, String>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (krate, allowed) in ARROWS {
        let path = format!("{krate}/Cargo.toml");
        let Some(text) = files.get(&path) else {
            found.push(Violation::new(&path, 1, "the crate is missing"));
            continue;
        };
        let mut in_dependencies = false;
        for (index, line) in text.lines().enumerate() {
            if line.starts_with('[') {
                in_dependencies = line.trim() == "[dependencies]";
            }
            let Some(rest) = line.strip_prefix("actorsim-").filter(|_| in_dependencies) else {
                continue;
            };
            let other = rest.split(['.', ' ', '=']).next().unwrap_or_default();
            if !allowed.contains(&other) {
                let what = format!("`{krate}` must not know `{other}`");
                found.push(Violation::new(&path, index + 1, what));
            }
        }
        if !text.contains("[lints]\nworkspace = true") {
            found.push(Violation::new(&path, 1, "not under the workspace's lints"));
        }
    }
    found
}

/// Every metric that the code names has its row in the reference page.
pub(crate) fn metrics(sources: &[Source], page: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    let shipped = sources
        .iter()
        .filter(|source| source.place == Place::Product);
    for source in shipped {
        for (line, text) in &source.strings {
            let Some(name) = metric_name(text).filter(|_| !source.is_test(*line)) else {
                continue;
            };
            if !page.contains(name) {
                let what = format!("metric `{name}` has no row in docs/reference/metrics.md");
                found.push(Violation::new(&source.path, *line, what));
            }
        }
    }
    found
}

/// A literal that is a metric's name; crate names in log filters are not.
fn metric_name(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("actorsim_")?;
    let crates = [
        "actors",
        "supervision",
        "transport",
        "world",
        "fleet",
        "bench",
    ];
    let plain = rest
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    (plain && !rest.is_empty() && !crates.contains(&rest)).then_some(text)
}
