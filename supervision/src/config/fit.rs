//! Whether policies fit the tree they are for: what a file alone cannot show.
//!
//! The tree is given as a list of [`Post`]s; nothing of it need run. Bound: entries times posts.

use actorsim_actors::census::glob_matches;

use super::entry::Entry;
use super::reader::nearest;
use super::{ConfigError, Policies, Read};
use crate::policy::{AutoShutdown, Behaviour, Restart, Shutdown, Strategy};

/// The children of a [`Post`].
#[derive(Debug, Clone, Copy)]
pub enum Children {
    /// Those of these ids, with the restart types of the program.
    Named(&'static [(&'static str, Restart)]),
    /// Those that come, of this restart type.
    Coming(Restart),
    /// Cells, in groups.
    Cells,
}

/// A supervisor, or a population, that a tree may have.
#[derive(Debug, Clone, Copy)]
pub struct Post {
    /// Its path; `*` stands for one segment.
    pub path: &'static str,
    /// The strategy that the program relies on.
    pub needs: Option<Strategy>,
    /// Whom it supervises.
    pub children: Children,
}

impl Post {
    /// Whether an entry's path may name it.
    fn may_be(&self, pattern: &str) -> bool {
        let wild = |c: char| matches!(c, '*' | '?');
        match (self.path.contains('*'), pattern.contains(wild)) {
            (false, _) => glob_matches(pattern, self.path),
            (true, false) => {
                let deep = |text: &str| text.matches('/').count();
                glob_matches(self.path, pattern) && deep(self.path) == deep(pattern)
            }
            // Both stand for many: they may meet if what they begin with agrees.
            (true, true) => {
                let head = |text: &str| text.find(wild).unwrap_or(text.len());
                let (own, other) = (&self.path[..head(self.path)], &pattern[..head(pattern)]);
                own.starts_with(other) || other.starts_with(own)
            }
        }
    }
}

impl Policies {
    /// Reads one file for a tree.
    ///
    /// # Errors
    /// Every mistake at once, by line: those of the file, and, if its syntax is right, those that
    /// only the tree shows.
    pub fn for_tree(name: &str, text: &str, tree: &[Post]) -> Result<Self, Vec<ConfigError>> {
        let (Read { policies, is_whole }, mut errors) = Self::parsed(name, text);
        let place = |error: &ConfigError| (error.line, error.column);
        let mut unfit = if is_whole {
            policies.fit(tree)
        } else {
            Vec::new()
        };
        // What is no value at all has been told: it says nothing about the tree.
        unfit.retain(|error| !errors.iter().any(|known| place(known) == place(error)));
        errors.append(&mut unfit);
        errors.sort_by_key(place);
        match errors.is_empty() {
            true => Ok(policies),
            false => Err(errors),
        }
    }

    /// Every mistake that the tree shows: paths that nobody has, strategies that the program does
    /// not allow, children that do not exist, significance that has no effect.
    #[must_use]
    pub fn fit(&self, tree: &[Post]) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        for entry in &self.entries {
            let posts = posts_of(entry, tree);
            match (posts.as_slice(), &entry.path) {
                ([], Some(path)) => errors.push(nobody(entry, path, tree)),
                // An exact path is about one; what is said of many holds where it can.
                ([post], _) => one(entry, post, &mut errors),
                _ => {}
            }
        }
        errors
    }

    /// The same for a tree: an entry about one supervisor that says no strategy has the one that
    /// the program needs there, as it is in force.
    #[must_use]
    pub fn made_for(mut self, tree: &[Post]) -> Self {
        for entry in &mut self.entries {
            if entry.spans.contains_key("strategy") {
                continue;
            }
            if let [
                Post {
                    needs: Some(needs), ..
                },
            ] = posts_of(entry, tree).as_slice()
            {
                entry.says.policy.strategy = *needs;
            }
        }
        self
    }

    /// What the tree allows and hardly anybody means: a worker that is waited for without limit
    /// when it is stopped, which OTP calls dangerous.
    #[must_use]
    pub fn doubts(&self, tree: &[Post]) -> Vec<ConfigError> {
        let mut doubts = Vec::new();
        for entry in &self.entries {
            if let [post] = posts_of(entry, tree).as_slice() {
                endless(entry, post, tree, &mut doubts);
            }
        }
        doubts
    }
}

fn endless(entry: &Entry, post: &Post, tree: &[Post], doubts: &mut Vec<ConfigError>) {
    let is_supervisor = |name: &str| {
        let path = format!("{}/{name}", post.path.trim_end_matches('/'));
        tree.iter().any(|other| other.path == path)
    };
    for ((id, child), spans) in entry.says.children.iter().zip(&entry.child_spans) {
        let is_worker = match post.children {
            Children::Named(named) => {
                let mut same = named.iter().filter(|(name, _)| glob_matches(id, name));
                same.any(|(name, _)| !is_supervisor(name))
            }
            Children::Coming(_) => true,
            Children::Cells => false,
        };
        if is_worker && child.shutdown == Some(Shutdown::Infinity) {
            let at = post.path;
            let message = format!("{id} is a worker: if it hangs, so does the stop of {at}");
            let help = "give it a time, such as shutdown = \"5s\"";
            doubts.push(entry.wrong_at(spans, "shutdown", message, help));
        }
    }
}

fn posts_of<'t>(entry: &Entry, tree: &'t [Post]) -> Vec<&'t Post> {
    let Some(path) = &entry.path else {
        return Vec::new();
    };
    if let Some(exact) = tree.iter().find(|post| post.path == path) {
        return vec![exact];
    }
    tree.iter().filter(|post| post.may_be(path)).collect()
}

fn nobody(entry: &Entry, path: &str, tree: &[Post]) -> ConfigError {
    let known = || tree.iter().map(|post| post.path);
    let help = match nearest(path, known()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("supervisors are {}", known().collect::<Vec<_>>().join(", ")),
    };
    entry.wrong("path", format!("no supervisor has the path {path:?}"), help)
}

fn one(entry: &Entry, post: &Post, errors: &mut Vec<ConfigError>) {
    let policy = &entry.says.policy;
    let said = |key| entry.spans.contains_key(key);
    let at = post.path;
    if let Some(needs) = post.needs
        && said("strategy")
        && policy.strategy != needs
    {
        let message = format!("{at} is made for {}", needs.word());
        let help = format!("leave strategy out, or write {:?}", needs.word());
        errors.push(entry.wrong("strategy", message, help));
    }
    if let Children::Cells = post.children {
        return cells(entry, errors);
    }
    if policy.behaviour == Behaviour::Resume {
        let message = format!("the children of {at} are no devices: they begin fresh");
        errors.push(entry.wrong("behaviour", message, "leave behaviour out"));
    }
    for ((id, child), spans) in entry.says.children.iter().zip(&entry.child_spans) {
        let programmed: Vec<Restart> = match post.children {
            Children::Named(named) => {
                let same = named.iter().filter(|(name, _)| glob_matches(id, name));
                same.map(|(_, restart)| *restart).collect()
            }
            Children::Coming(restart) => vec![restart],
            Children::Cells => Vec::new(),
        };
        if let (true, Children::Named(named)) = (programmed.is_empty(), post.children) {
            let names = || named.iter().map(|(name, _)| *name);
            let help = match nearest(id, names()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!(
                    "its children are {}",
                    names().collect::<Vec<_>>().join(", ")
                ),
            };
            errors.push(entry.wrong_at(spans, "id", format!("{at} has no child {id:?}"), help));
        }
        let comes = matches!(post.children, Children::Coming(Restart::Temporary));
        if comes
            && child
                .restart
                .is_some_and(|restart| restart != Restart::Temporary)
        {
            let message = format!(
                "the children of {at} come from outside: what one was made of is gone with it"
            );
            let help = "leave restart out: they are temporary";
            errors.push(entry.wrong_at(spans, "restart", message, help));
        }
        let permanent = child.restart.is_none() && programmed.contains(&Restart::Permanent);
        if child.significant == Some(true) && permanent {
            let message = format!(
                "{id} is permanent: it is always restarted, and its end cannot be significant"
            );
            let help = "add restart = \"transient\" or restart = \"temporary\"";
            errors.push(entry.wrong_at(spans, "significant", message, help));
        }
    }
}

/// A population's groups restart cells one by one, and cells end nobody.
fn cells(entry: &Entry, errors: &mut Vec<ConfigError>) {
    let policy = &entry.says.policy;
    if !matches!(
        policy.strategy,
        Strategy::OneForOne | Strategy::SimpleOneForOne
    ) {
        let help = "write \"one_for_one\"";
        errors.push(entry.wrong("strategy", "devices are restarted one by one", help));
    }
    if policy.auto_shutdown != AutoShutdown::Never {
        let message = "auto_shutdown needs significant children; devices are none";
        errors.push(entry.wrong("auto_shutdown", message, "leave auto_shutdown out"));
    }
    for ((id, child), spans) in entry.says.children.iter().zip(&entry.child_spans) {
        if id != "*" {
            let message = "the devices of a population have one policy";
            errors.push(entry.wrong_at(spans, "id", message, "write id = \"*\""));
        }
        for (key, is_there) in [
            ("shutdown", child.shutdown.is_some()),
            ("significant", child.significant.is_some()),
        ] {
            if is_there {
                let message = format!("{key} has no meaning for devices: they stop at once");
                errors.push(entry.wrong_at(spans, key, message, format!("leave {key} out")));
            }
        }
    }
}
