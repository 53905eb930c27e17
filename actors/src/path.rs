//! The name of an actor: its place in the supervision tree.
//!
//! A path names the actor, not one life of it and not where it runs. It does not look anything up.
//! Bound: at most [`PATH_LEN_MAX`] bytes.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest path in bytes: deep enough for any tree here, short enough for a log line.
pub const PATH_LEN_MAX: usize = 255;

/// An absolute path such as `/fleet/default/pump-0017`.
///
/// Segments hold ASCII letters, digits, `.`, `_` and `-`. The root is `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorPath(Arc<str>);

/// Why a text is not a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// The text does not begin with `/`.
    #[error("actor path {0:?} must begin with '/'")]
    NotAbsolute(String),
    /// Two slashes in a row, or one at the end.
    #[error("actor path {0:?} has an empty segment")]
    EmptySegment(String),
    /// A character outside letters, digits, `.`, `_`, `-`.
    #[error("actor path {path:?} has {character:?}; use letters, digits, '.', '_' or '-'")]
    BadCharacter {
        /// The text that was given.
        path: String,
        /// The first character that does not belong.
        character: char,
    },
    /// Longer than [`PATH_LEN_MAX`].
    #[error("actor path has {0} bytes, at most {PATH_LEN_MAX} are allowed")]
    TooLong(usize),
}

fn is_segment_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

impl ActorPath {
    /// Parses an absolute path.
    ///
    /// # Errors
    /// [`PathError`] names what is wrong with the text.
    pub fn new(text: &str) -> Result<Self, PathError> {
        if text.len() > PATH_LEN_MAX {
            return Err(PathError::TooLong(text.len()));
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(PathError::NotAbsolute(text.to_owned()));
        };
        if rest.is_empty() {
            return Ok(Self::root());
        }
        for segment in rest.split('/') {
            if segment.is_empty() {
                return Err(PathError::EmptySegment(text.to_owned()));
            }
            if let Some(character) = segment.chars().find(|c| !is_segment_char(*c)) {
                return Err(PathError::BadCharacter {
                    path: text.to_owned(),
                    character,
                });
            }
        }
        Ok(Self(Arc::from(text)))
    }

    /// The path `/`.
    #[must_use]
    pub fn root() -> Self {
        Self(Arc::from("/"))
    }

    /// The child `id` of this path. `id` may have several segments (`conn/7`).
    ///
    /// Characters that no segment may hold become `_`, and a result over [`PATH_LEN_MAX`] is cut:
    /// names from outside are checked where they come in, here they only must not break the tree.
    #[must_use]
    pub fn join(&self, id: &str) -> Self {
        let mut text = String::with_capacity(self.0.len() + 1 + id.len());
        if !self.is_root() {
            text.push_str(&self.0);
        }
        for segment in id.split('/').filter(|s| !s.is_empty()) {
            text.push('/');
            text.extend(
                segment
                    .chars()
                    .map(|c| if is_segment_char(c) { c } else { '_' }),
            );
        }
        text.truncate(PATH_LEN_MAX);
        if text.ends_with('/') {
            text.pop(); // the cut fell behind a separator
        }
        if text.is_empty() {
            Self::root()
        } else {
            Self(Arc::from(text))
        }
    }

    /// The path above this one; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        match self.0.rfind('/') {
            Some(0) | None => Some(Self::root()),
            Some(at) => Some(Self(Arc::from(&self.0[..at]))),
        }
    }

    /// The last segment; empty for the root.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or("")
    }

    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `/`.
    #[must_use]
    pub fn is_root(&self) -> bool {
        &*self.0 == "/"
    }

    /// Whether this path is `other` or lies below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        other.is_root()
            || self == other
            || self
                .0
                .strip_prefix(&*other.0)
                .is_some_and(|rest| rest.starts_with('/'))
    }
}

impl fmt::Display for ActorPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ActorPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for ActorPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ActorPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_checked_and_named() {
        for (text, ok) in [
            ("/", true),
            ("/twin/scan", true),
            ("/fleet/default/pump-0001", true),
            ("twin", false),
            ("/twin//scan", false),
            ("/twin/", false),
            ("/a b", false),
            ("", false),
        ] {
            assert_eq!(ActorPath::new(text).is_ok(), ok, "{text:?}");
        }
        assert!(ActorPath::new(&format!("/{}", "x".repeat(300))).is_err());
    }

    #[test]
    fn join_and_parent_are_inverse() {
        let twin = ActorPath::root().join("twin");
        let scan = twin.join("scan");
        assert_eq!(scan.as_str(), "/twin/scan");
        assert_eq!(scan.parent(), Some(twin.clone()));
        assert_eq!(twin.parent(), Some(ActorPath::root()));
        assert_eq!(ActorPath::root().parent(), None);
        assert_eq!(scan.name(), "scan");
        assert!(scan.is_within(&twin) && !twin.is_within(&scan));
        assert!(!twin.join("scanner").is_within(&scan));
        assert_eq!(twin.join("a b/ü").as_str(), "/twin/a_b/_");
        let cut = twin.join(&format!("{}/x", "x".repeat(PATH_LEN_MAX - 7)));
        assert_eq!(
            ActorPath::new(cut.as_str()),
            Ok(cut.clone()),
            "still a path"
        );
    }
}
