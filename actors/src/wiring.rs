//! Who may wait for whom: `Block` edges between actors must form no cycle, or a full ring of
//! mailboxes stands still for ever. Declared and checked once, at assembly; it watches nothing at
//! run time. Bound: a few dozen edges, checked by depth-first search.

use std::collections::{BTreeMap, BTreeSet};

/// The declared edges; `from` waits for room in `to`.
#[derive(Debug, Clone, Default)]
pub struct Wiring {
    edges: BTreeMap<&'static str, BTreeSet<&'static str>>,
}

/// A ring of actors that could wait for each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("block edges form a cycle: {}", .0.join(" -> "))]
pub struct Cycle(pub Vec<&'static str>);

impl Wiring {
    /// Declares that a handler of `from` sends to `to` and waits for room.
    #[must_use]
    pub fn blocks(mut self, from: &'static str, to: &'static str) -> Self {
        self.edges.entry(from).or_default().insert(to);
        self
    }

    /// Checks that no actor can come to wait for itself.
    ///
    /// # Errors
    /// [`Cycle`] lists the first ring found, its first member repeated at the end.
    pub fn check(&self) -> Result<(), Cycle> {
        let mut done = BTreeSet::new();
        for from in self.edges.keys() {
            self.visit(from, &mut Vec::new(), &mut done)?;
        }
        Ok(())
    }

    fn visit(
        &self,
        at: &'static str,
        trail: &mut Vec<&'static str>,
        done: &mut BTreeSet<&'static str>,
    ) -> Result<(), Cycle> {
        if let Some(start) = trail.iter().position(|seen| *seen == at) {
            let mut ring = trail.split_off(start);
            ring.push(at);
            return Err(Cycle(ring));
        }
        if done.contains(at) {
            return Ok(());
        }
        trail.push(at);
        for to in self.edges.get(at).into_iter().flatten() {
            self.visit(to, trail, done)?;
        }
        trail.pop();
        done.insert(at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_passes_and_a_ring_is_named() {
        let line = Wiring::default()
            .blocks("conn", "tier")
            .blocks("tier", "route");
        assert_eq!(line.check(), Ok(()));
        let ring = line.blocks("route", "apply").blocks("apply", "tier");
        assert_eq!(
            ring.check(),
            Err(Cycle(vec!["apply", "tier", "route", "apply"]))
        );
        assert_eq!(
            ring.check().unwrap_err().to_string(),
            "block edges form a cycle: apply -> tier -> route -> apply"
        );
        assert!(Wiring::default().blocks("self", "self").check().is_err());
    }
}
