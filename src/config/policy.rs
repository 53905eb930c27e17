//! Supervision policies in a node file: `[[supervision.supervisor]]` tables (or `[[supervisor]]`,
//! as in a policy file), cut out so that the policy parser sees them at their lines and columns.
//!
//! It does not know a policy's keys: `actorsim-supervision` does. Bound: the file's size.

use std::path::Path;

use actorsim_supervision::Policies;

use super::error::{ConfigError, ConfigErrors};
use super::{PolicySource, layer, read_bounded};

/// A file that policies come from, to be read again while the node runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyFile {
    /// A node file, which may hold some.
    Node(String),
    /// A policy file.
    Policies(String),
}

/// `[[supervision.supervisor]]` headers of a text.
#[must_use]
pub fn headers(text: &str) -> usize {
    text.lines()
        .filter(|line| header(line).is_some_and(|at| at.array && at.own))
        .count()
}

/// The policy tables of a node file in the policy parser's form: everything else is blank, and
/// `supervision.` in the headers is spaces, so that lines and columns stay.
#[must_use]
pub fn extract(file: &str, text: &str) -> PolicySource {
    let mut kept = String::with_capacity(text.len());
    let mut inside = false;
    for line in text.split_inclusive('\n') {
        let header = header(line);
        if line.trim_start().starts_with('[') && !line.trim_start().starts_with("[ ") {
            inside = header.is_some();
        }
        match (inside, header) {
            (true, Some(header)) => {
                kept.push_str(&line[..header.start]);
                kept.extend(std::iter::repeat_n(' ', header.end - header.start));
                kept.push_str(&line[header.end..]);
            }
            (true, None) => kept.push_str(line),
            (false, _) if line.ends_with('\n') => kept.push('\n'),
            (false, _) => {}
        }
    }
    PolicySource {
        file: file.to_owned(),
        text: kept,
    }
}

/// The mistakes of a policy text, also those that only a node's tree shows; `shown` is the file as
/// the user wrote it.
#[must_use]
pub fn check(file: &str, shown: &str, text: &str) -> Vec<ConfigError> {
    let checked = Policies::for_tree(file, text, super::tree::POSTS);
    let errors = checked.err().unwrap_or_default();
    errors
        .into_iter()
        .map(|error| ConfigError::of_layer(error, shown))
        .collect()
}

/// What policies that are right hardly mean, each with its place; see
/// [`Policies::doubts`](actorsim_supervision::Policies::doubts).
#[must_use]
pub fn doubts(sources: &[PolicySource]) -> Vec<actorsim_supervision::ConfigError> {
    let read = |source: &PolicySource| Policies::from_toml(&source.file, &source.text);
    let policies = sources.iter().filter_map(|source| read(source).ok());
    policies
        .flat_map(|policies| policies.doubts(super::tree::POSTS))
        .collect()
}

/// Mistakes of a text, to be shown with it.
#[must_use]
pub fn rendered(
    errors: Vec<actorsim_supervision::ConfigError>,
    source: &PolicySource,
) -> ConfigErrors {
    let placed = errors.into_iter();
    ConfigErrors {
        errors: placed
            .map(|error| ConfigError::of_layer(error, &source.text))
            .collect(),
        files: vec![(source.file.clone(), source.text.clone())],
    }
}

/// The policies of files as they are now, weakest first.
///
/// # Errors
/// Every mistake of every file, those of node files outside policies too.
pub fn read_again(files: &[PolicyFile]) -> Result<Vec<PolicySource>, ConfigErrors> {
    let mut found = ConfigErrors::default();
    let (mut sources, mut below) = (Vec::new(), Vec::new());
    for file in files {
        let (PolicyFile::Node(name) | PolicyFile::Policies(name)) = file;
        let text = match read_bounded(Path::new(name)) {
            Ok(text) => text,
            Err(message) => {
                found.errors.push(ConfigError::outside(name, message));
                continue;
            }
        };
        found.files.push((name.clone(), text.clone()));
        if let PolicyFile::Node(_) = file {
            let read = layer::read_file(name, &text);
            found.errors.extend(read.errors);
            sources.extend(read.policies);
        } else {
            found.errors.extend(check(name, &text, &text));
            let file = name.clone();
            below.push(PolicySource { file, text });
        }
    }
    below.append(&mut sources);
    if found.errors.is_empty() {
        Ok(below)
    } else {
        Err(found)
    }
}

/// The policies of a node: the shipped ones, with each source laid over those before it.
#[must_use]
pub fn merged(sources: &[PolicySource]) -> Policies {
    sources.iter().fold(Policies::shipped(), |below, source| {
        // Sources were checked when the configuration was resolved.
        match Policies::from_toml(&source.file, &source.text) {
            Ok(policies) => policies.made_for(super::tree::POSTS).over(below),
            Err(_) => below,
        }
    })
}

struct Header {
    /// Bytes of `supervision.` within the line.
    start: usize,
    end: usize,
    /// `[[..]]`.
    array: bool,
    /// `supervisor` itself, not a table below it.
    own: bool,
}

/// A header `[[supervision.supervisor..`, `[[supervisor..`, or of a table below one.
fn header(line: &str) -> Option<Header> {
    let open = line.len() - line.trim_start().len();
    let brackets = line[open..].chars().take_while(|c| *c == '[').count();
    if brackets == 0 || brackets > 2 {
        return None;
    }
    let inner = &line[open + brackets..];
    let start = line.len() - inner.trim_start().len();
    let name = match line[start..].strip_prefix("supervision") {
        Some(rest) => rest.trim_start().strip_prefix('.')?.trim_start(),
        None => &line[start..],
    };
    let below = name.strip_prefix("supervisor")?;
    let end = line.len() - name.len();
    let next = below.trim_start().chars().next();
    matches!(next, Some(']' | '.')).then_some(Header {
        start,
        end,
        array: brackets == 2,
        own: next == Some(']'),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_cut_out_at_their_own_lines_and_columns() {
        let text = "[fleet]\ndevices = 3\n[[supervision.supervisor]]\npath = \"/twin\"\n\
                    [supervision.supervisor.backoff]\nmin = \"5ms\"\n[log]\nlevel = \"x\"\n";
        let cut = extract("a", text).text;
        assert_eq!(headers(text), 1);
        assert_eq!(cut.lines().count(), text.lines().count());
        let expected = "\n\n[[            supervisor]]\npath = \"/twin\"\n\
                        [            supervisor.backoff]\nmin = \"5ms\"\n\n\n";
        assert_eq!(cut, expected);
        toml::from_str::<toml::Table>(&cut).unwrap();
    }

    #[test]
    fn a_policy_is_checked_where_it_stands() {
        let text = "[log]\nlevel = \"info\"\n[[supervision.supervisor]]\npath = \"/twin\"\n\
                    strategy = \"one_for_noone\"\n[supervision.supervisor.backoff]\nmin = 3\n";
        let errors = check("a", text, &extract("a", text).text);
        let places: Vec<_> = errors
            .iter()
            .map(|error| (error.line, error.column))
            .collect();
        assert_eq!(places, [(5, 12), (7, 7)], "{errors:?}");
    }

    #[test]
    fn a_policy_for_nobody_and_one_that_the_tree_cannot_follow_are_refused() {
        let text = "[[supervisor]]\npath = \"/twim\"\n[[supervisor]]\npath = \"/fleet/pumps\"\n\
                    strategy = \"one_for_all\"\n";
        let errors = check("a", text, text);
        let shown: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(shown.len(), 2, "{shown:?}");
        assert!(
            shown[0].starts_with("a:2:8: no supervisor has the path"),
            "{shown:?}"
        );
        assert!(shown[0].contains("did you mean \"/twin\"?"), "{shown:?}");
        assert!(
            shown[1].starts_with("a:5:12: devices are restarted one by one"),
            "{shown:?}"
        );
    }

    #[test]
    fn what_is_printed_of_a_policy_that_leaves_its_strategy_to_the_program_can_be_read_again() {
        for path in ["/twin", "/twi?", "/transport/conn"] {
            let text = format!("[[supervisor]]\npath = \"{path}\"\nintensity = 7\n");
            assert_eq!(check("a", &text, &text), []);
            let file = "a".to_owned();
            let printed = merged(&[PolicySource { file, text }]).to_toml("supervisor", true);
            assert_eq!(check("b", &printed, &printed), [], "{printed}");
        }
    }

    #[test]
    fn a_later_source_wins_over_the_shipped_policy() {
        let text = "[[supervisor]]\npath = \"/twin\"\nintensity = 7\n";
        let source = PolicySource {
            file: "a".into(),
            text: text.into(),
        };
        let path = actorsim_actors::ActorPath::new("/twin").unwrap();
        assert_eq!(merged(&[]).for_path(&path).intensity, 30);
        assert_eq!(merged(&[source]).for_path(&path).intensity, 7);
    }
}
