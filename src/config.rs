//! Configuration: one table of keys, five layers, every error at once.
//!
//! Layers, weakest first: built-in, `--config` files, environment (`ACTORSIM__GROUP__KEY`), flags,
//! `-X group.key=value`. Each layer is read by itself, so an error always has a home: file, line
//! and column, variable name, or flag. A resolved value remembers the layer it came from.
//!
//! - [`key`]: the table. [`value`]: what a key may hold. [`layer`]: reading a layer.
//! - [`policy`]: `[[supervision.supervisor]]` tables. [`tree`]: the supervisors they are for.
//!   [`rules`]: files of rules. [`error`]: mistakes, as rustc shows them.
//! - [`node`]: the resolved configuration of a node, typed. [`mod@print`]: texts of `config`.
//!
//! Bound: a file is at most [`FILE_MAX`] bytes, and at most [`FILES_MAX`] files are read.

pub mod error;
pub mod key;
pub mod layer;
pub mod node;
pub mod policy;
pub mod print;
pub mod rules;
pub mod target;
pub mod tree;
pub mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use actorsim_fleet::text;

pub use error::{ConfigError, ConfigErrors};
pub use node::NodeConfig;
pub use policy::PolicyFile;
pub use value::Value;

/// Bytes of a configuration file: a node file is a few KiB; this stops a wrong path early.
pub const FILE_MAX: usize = 1 << 20;

/// Configuration files of one node.
pub const FILES_MAX: usize = 32;

/// The layer a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The table of keys.
    BuiltIn,
    /// A file, with line and column from 1.
    File(String, usize, usize),
    /// An environment variable.
    Env(String),
    /// A command-line flag.
    Flag(String),
    /// `-X key=value`.
    Override,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built-in"),
            Self::File(name, line, column) => write!(f, "{name}:{line}:{column}"),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Override => f.write_str("flag -X"),
        }
    }
}

/// The text of one file's `[[supervision.supervisor]]` tables, or of a policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySource {
    /// File name, for messages.
    pub file: String,
    /// Text in the policy parser's form: same lines and columns as the file.
    pub text: String,
}

/// Layers being collected, weakest first.
#[derive(Debug, Default)]
pub struct Layers {
    entries: Vec<(&'static key::Key, Value, Origin)>,
    policies: Vec<PolicySource>,
    files: Vec<PolicyFile>,
    found: ConfigErrors,
}

impl Layers {
    /// Only the built-in values.
    #[must_use]
    pub fn built_in() -> Self {
        let mut layers = Self::default();
        for key in key::KEYS {
            if let Some(value) = key.default_value() {
                layers.entries.push((key, value, Origin::BuiltIn));
            }
        }
        layers
    }

    /// Adds the text of a file.
    pub fn file(&mut self, name: &str, text: &str) {
        let read = layer::read_file(name, text);
        self.entries.extend(read.entries);
        self.found.errors.extend(read.errors);
        self.found.files.push((name.to_owned(), text.to_owned()));
        self.policies.extend(read.policies);
    }

    /// Reads and adds a file.
    pub fn path(&mut self, path: &Path) {
        let name = path.display().to_string();
        if self.found.files.len() >= FILES_MAX {
            let message = format!("more than {FILES_MAX} configuration files");
            self.found.errors.push(ConfigError::outside(name, message));
            return;
        }
        match read_bounded(path) {
            Ok(text) => {
                self.file(&name, &text);
                self.files.push(PolicyFile::Node(name));
            }
            Err(message) => self.found.errors.push(ConfigError::outside(name, message)),
        }
    }

    /// Adds the variables that begin with `ACTORSIM__`.
    pub fn env(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        let mut variables: Vec<_> = variables.into_iter().collect();
        variables.sort();
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix("ACTORSIM__") else {
                continue;
            };
            let key = rest.to_lowercase().replace("__", ".");
            let home = format!("environment variable {name}");
            self.text(&home, &key, &text, Origin::Env(name));
        }
    }

    /// Adds the value of a flag.
    pub fn flag(&mut self, flag: &str, key: &str, text: &str) {
        self.text(
            &format!("flag {flag}"),
            key,
            text,
            Origin::Flag(flag.to_owned()),
        );
    }

    /// Adds `key=value` of `-X`.
    pub fn set(&mut self, assignment: &str) {
        let home = format!("-X {assignment}");
        match assignment.split_once('=') {
            Some((key, text)) => self.text(&home, key.trim(), text, Origin::Override),
            None => self.found.errors.push(ConfigError::outside(
                home,
                "expected KEY=VALUE, such as fleet.devices=10",
            )),
        }
    }

    fn text(&mut self, home: &str, name: &str, text: &str, origin: Origin) {
        match key::find(name) {
            Some(key) => match key.kind.parse(text) {
                Ok(value) => self.entries.push((key, value, origin)),
                Err(message) => {
                    let message = format!("`{name}`: {message}");
                    self.found.errors.push(ConfigError::outside(home, message));
                }
            },
            None => {
                let (message, help) = layer::unknown(name);
                self.found
                    .errors
                    .push(ConfigError::outside(home, message).help(help));
            }
        }
    }

    /// The strongest value of every key, or every mistake.
    ///
    /// # Errors
    /// Every mistake of every layer, of the policies they name, and between keys.
    pub fn resolve(mut self) -> Result<Settings, ConfigErrors> {
        let mut values = BTreeMap::new();
        for (key, value, origin) in self.entries {
            values.insert(key.name, (value, origin));
        }
        let mut settings = Settings {
            values,
            policies: Vec::new(),
            files: self.files,
        };
        for file in settings.list("supervision.policies") {
            match read_bounded(Path::new(&file)) {
                Ok(text) => {
                    self.found.errors.extend(policy::check(&file, &text, &text));
                    self.found.files.push((file.clone(), text.clone()));
                    settings.files.push(PolicyFile::Policies(file.clone()));
                    settings.policies.push(PolicySource { file, text });
                }
                Err(message) => self.found.errors.push(ConfigError::outside(file, message)),
            }
        }
        settings.policies.append(&mut self.policies);
        self.found.errors.extend(node::conflicts(&settings));
        node::profile(&settings, &mut self.found);
        node::chaos(&settings, &mut self.found);
        node::rules(&settings, &mut self.found);
        if self.found.errors.is_empty() {
            Ok(settings)
        } else {
            Err(self.found)
        }
    }
}

fn read_bounded(path: &Path) -> Result<String, String> {
    text::read(path, FILE_MAX).map_err(|error| format!("cannot be read: {error}"))
}

/// The strongest value of every key, with its origin.
#[derive(Debug, Clone)]
pub struct Settings {
    values: BTreeMap<&'static str, (Value, Origin)>,
    policies: Vec<PolicySource>,
    files: Vec<PolicyFile>,
}

impl Settings {
    /// The value of a key and where it came from; `None` is unset.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&(Value, Origin)> {
        debug_assert!(key::find(name).is_some(), "no such key: {name}");
        self.values.get(name)
    }

    /// True if the key has its built-in value or none.
    #[must_use]
    pub fn is_built_in(&self, name: &str) -> bool {
        self.get(name)
            .is_none_or(|(_, origin)| *origin == Origin::BuiltIn)
    }

    /// A whole number; 0 when unset.
    #[must_use]
    pub fn u64(&self, name: &str) -> u64 {
        match self.get(name) {
            Some((Value::U64(number), _)) => *number,
            _ => 0,
        }
    }

    /// A number; `None` when unset.
    #[must_use]
    pub fn f64(&self, name: &str) -> Option<f64> {
        match self.get(name) {
            Some((Value::F64(number), _)) => Some(*number),
            _ => None,
        }
    }

    /// True or false; false when unset.
    #[must_use]
    pub fn bool(&self, name: &str) -> bool {
        matches!(self.get(name), Some((Value::Bool(true), _)))
    }

    /// A duration; zero when unset.
    #[must_use]
    pub fn duration(&self, name: &str) -> Duration {
        self.duration_if_set(name).unwrap_or_default()
    }

    /// A duration; `None` when unset.
    #[must_use]
    pub fn duration_if_set(&self, name: &str) -> Option<Duration> {
        match self.get(name) {
            Some((Value::Duration(length), _)) => Some(*length),
            _ => None,
        }
    }

    /// A text; `None` when unset or empty.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some((Value::Text(text), _)) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// A list; empty when unset.
    #[must_use]
    pub fn list(&self, name: &str) -> Vec<String> {
        match self.get(name) {
            Some((Value::List(items), _)) => items.clone(),
            _ => Vec::new(),
        }
    }

    /// Supervision policies, weakest first; the built-in ones are not among them.
    #[must_use]
    pub fn policies(&self) -> &[PolicySource] {
        &self.policies
    }

    /// The files that policies come from, or may come from when they are read again.
    #[must_use]
    pub fn policy_files(&self) -> &[PolicyFile] {
        &self.files
    }
}

/// The candidate nearest to a word, if near enough to be meant.
pub fn near<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_below_a_group_is_read_and_its_mistakes_are_placed() {
        let mut layers = Layers::built_in();
        layers.file("a.toml", "[transport.plain]\nlisten = \"127.0.0.1:5555\"\n");
        let settings = layers.resolve().unwrap();
        assert_eq!(
            settings.text("transport.plain.listen"),
            Some("127.0.0.1:5555")
        );

        let mut layers = Layers::built_in();
        layers.file("a.toml", "[transport.plain]\nlistn = 1\n");
        let errors = layers.resolve().unwrap_err().errors;
        assert_eq!((errors.len(), errors[0].line, errors[0].column), (1, 2, 1));
    }

    #[test]
    fn slow_devices_are_not_stale_between_two_values_unless_it_is_said() {
        for (flags, seconds) in [
            (&[][..], 15),
            (&[("fleet.interval", "2s")], 15),
            (&[("fleet.interval", "1m")], 180),
            (&[("fleet.interval", "1m"), ("tiers.t1_rate", "0.1")], 30),
            (&[("fleet.interval", "1m"), ("clock.speed", "60")], 15),
            (&[("fleet.interval", "1m"), ("world.stale_after", "5s")], 5),
            (&[("tiers.t1_rate", "0"), ("clock.speed", "0.1")], 15),
        ] {
            let mut layers = Layers::built_in();
            for (key, text) in flags {
                layers.flag("--x", key, text);
            }
            let config = NodeConfig::from_settings(&layers.resolve().unwrap());
            let found = config.world.unwrap().stale_after;
            assert_eq!(found, Duration::from_secs(seconds), "{flags:?}");
        }
    }

    #[test]
    fn a_stronger_layer_wins_and_the_origin_is_kept() {
        let mut layers = Layers::built_in();
        layers.file("a.toml", "[fleet]\ndevices = 10\n");
        layers.file("b.toml", "fleet.devices = 20\n");
        layers.env([
            ("ACTORSIM__FLEET__DEVICES".into(), "30".into()),
            ("HOME".into(), "/".into()),
        ]);
        layers.flag("--devices", "fleet.devices", "40");
        layers.set("fleet.devices = 50");
        let settings = layers.resolve().unwrap();
        assert_eq!(settings.u64("fleet.devices"), 50);
        assert_eq!(settings.get("fleet.devices").unwrap().1, Origin::Override);
        assert!(settings.is_built_in("scan.period"));

        let mut layers = Layers::built_in();
        layers.file("a.toml", "[fleet]\ndevices = 10\n");
        let settings = layers.resolve().unwrap();
        let origin = &settings.get("fleet.devices").unwrap().1;
        assert_eq!(*origin, Origin::File("a.toml".into(), 2, 11));
    }

    #[test]
    fn every_mistake_of_every_layer_is_listed_at_once() {
        let mut layers = Layers::built_in();
        layers.file(
            "a.toml",
            "[fleet]\ndevces = 10\ninterval = 5\n[cluster]\nplan = \"x\"\n",
        );
        layers.env([("ACTORSIM__SCAN__PERIOD".into(), "soon".into())]);
        layers.set("fleet.devices");
        layers.set("log.format=jsn");
        let errors = layers.resolve().unwrap_err().errors;
        let shown: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors.len(), 6, "{shown:#?}");
        assert!(
            shown[0].starts_with("a.toml:2:1: unknown key `fleet.devces`"),
            "{}",
            shown[0]
        );
        assert!(shown[0].contains("did you mean `devices`?"), "{}", shown[0]);
        assert!(shown[1].starts_with("a.toml:3:12: `fleet.interval`: expected a duration"));
        assert!(
            shown[2].contains("not available in this build"),
            "{}",
            shown[2]
        );
        assert!(shown[3].starts_with("environment variable ACTORSIM__SCAN__PERIOD"));
        assert!(shown[5].contains("did you mean `json`?"), "{}", shown[5]);
    }

    #[test]
    fn a_syntax_error_has_line_and_column() {
        let mut layers = Layers::built_in();
        layers.file("a.toml", "[fleet]\ndevices = = 3\n");
        let errors = layers.resolve().unwrap_err();
        assert_eq!(errors.errors[0].line, 2, "{errors}");
        assert!(errors.render(false).contains("--> a.toml:2:"), "{errors}");
    }

    #[cfg(not(feature = "parquet"))]
    #[test]
    fn a_format_that_this_build_has_not_says_how_to_build_it() {
        let mut layers = Layers::built_in();
        layers.file("a.toml", "[export]\nformat = \"parquet\"\n");
        let errors = layers.resolve().unwrap_err();
        let shown = errors.render(false);
        for words in [
            "a.toml:2:10",
            "`parquet` is not available",
            "--features parquet",
        ] {
            assert!(shown.contains(words), "{words}: {shown}");
        }
        assert_eq!(errors.errors.len(), 1);
    }

    #[test]
    fn a_fleet_alone_needs_a_twin() {
        let mut layers = Layers::built_in();
        layers.set("world.enabled=false");
        let errors = layers.resolve().unwrap_err().errors;
        assert!(errors[0].message.contains("transport.twin"), "{errors:?}");
    }
}
