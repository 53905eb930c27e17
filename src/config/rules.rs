//! Files of rules: read as a whole, with every mistake of every file.
//!
//! What a rule may say is known by `actorsim-world`. Bound: as many files as a list key holds.

use std::path::Path;

use actorsim_world::rules::RuleSet;

use super::error::{ConfigError, ConfigErrors};
use super::read_bounded;

/// The rules of `files` together; those that are shipped where there is no file.
///
/// # Errors
/// Every mistake, at its place.
pub fn read(files: &[String]) -> Result<RuleSet, ConfigErrors> {
    if files.is_empty() {
        return Ok(RuleSet::shipped());
    }
    let (mut found, mut all) = (ConfigErrors::default(), RuleSet::default());
    for file in files {
        let text = match read_bounded(Path::new(file)) {
            Ok(text) => text,
            Err(message) => {
                found.errors.push(ConfigError::outside(file, message));
                continue;
            }
        };
        match RuleSet::from_toml(file, &text) {
            Ok(set) => match std::mem::take(&mut all).and(set) {
                Ok(both) => all = both,
                Err(message) => found.errors.push(ConfigError::outside(file, message)),
            },
            Err(errors) => {
                let placed = errors.into_iter();
                let placed = placed.map(|error| ConfigError::of_layer(error, &text));
                found.errors.extend(placed);
            }
        }
        found.files.push((file.clone(), text));
    }
    if found.errors.is_empty() {
        Ok(all)
    } else {
        Err(found)
    }
}

/// Whether a text is a file of rules.
#[must_use]
pub fn are_rules(text: &str) -> bool {
    text.lines()
        .any(|line| line.trim_start().starts_with("[[rule]]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_of_all_files_come_at_once_and_a_name_may_be_there_only_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let good = "[[rule]]\nname = \"a\"\nsensor = \"presence\"\nbelow = 1\nthen = \"stop\"\n";
        let (a, b) = (file("a.toml", good), file("b.toml", "[[rule]]\nname = 1\n"));
        assert_eq!(read(std::slice::from_ref(&a)).unwrap().rules.len(), 1);
        assert_eq!(read(&[]).unwrap(), RuleSet::shipped());
        let errors = read(&[b, a.clone(), a, "none.toml".to_owned()]).unwrap_err();
        let text = errors.to_string();
        for part in ["b.toml:2:8", "the rule \"a\" is there twice", "none.toml"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(are_rules(good) && !are_rules("rule = 1"));
    }
}
