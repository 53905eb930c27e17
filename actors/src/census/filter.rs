//! Which rows of a list are asked for. Values and a matcher that goes back to the last `*` only.

use super::ActorRow;
use crate::path::ActorPath;

/// Which rows are asked for; all conditions must hold.
#[derive(Debug, Clone, Default)]
pub struct CensusFilter {
    /// Only this path and what lies below it.
    pub within: Option<ActorPath>,
    /// Only paths that match this pattern: `*` any run of characters, `?` any one.
    pub glob: Option<String>,
    /// Only this state.
    pub state: Option<String>,
}

impl CensusFilter {
    /// Whether a path passes, its state not regarded.
    #[must_use]
    pub fn admits_path(&self, path: &ActorPath) -> bool {
        self.within
            .as_ref()
            .is_none_or(|within| path.is_within(within))
            && self
                .glob
                .as_ref()
                .is_none_or(|glob| glob_matches(glob, path.as_str()))
    }

    /// Whether a row passes.
    #[must_use]
    pub fn admits(&self, row: &ActorRow) -> bool {
        self.admits_path(&row.path) && self.state.as_ref().is_none_or(|state| state == row.state)
    }
}

/// Whether `text` matches `pattern`: `*` is any run of characters, `?` any one.
#[must_use]
pub fn glob_matches(pattern: &str, text: &str) -> bool {
    let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut pi, mut ti) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while ti < t.len() {
        if pi < p.len() && p[pi] == '*' {
            star = Some((pi, ti));
            pi += 1;
        } else if pi < p.len() && (p[pi] == '?' || p[pi] == t[ti]) {
            pi += 1;
            ti += 1;
        } else if let Some((star_p, star_t)) = star {
            pi = star_p + 1;
            ti = star_t + 1;
            star = Some((star_p, ti));
        } else {
            return false;
        }
    }
    p[pi..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn glob_patterns() {
        for (pattern, text, matches) in [
            ("/fleet/*", "/fleet/default/pump-1", true),
            ("/fleet/*/pump-?", "/fleet/default/pump-1", true),
            ("/fleet/*/pump-?", "/fleet/default/pump-10", false),
            ("*", "", true),
            ("/twin", "/twin", true),
            ("/twin", "/twin/scan", false),
            ("*scan", "/twin/scan", true),
        ] {
            assert_eq!(glob_matches(pattern, text), matches, "{pattern} {text}");
        }
    }
}
