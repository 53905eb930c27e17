//! A script: its text, compiled, with a place for every error.
//!
//! Reading it is all that touches a file; profiles that it names are shipped ones, or lie beside
//! it. Bound: [`FILE_BYTES_MAX`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use actorsim_fleet::text;
use rhai::{AST, EvalAltResult, Position};
use sha2::{Digest, Sha256};

use super::limits::FILE_BYTES_MAX;
use super::{engine, shipped};

/// A script that can be run.
#[derive(Debug, Clone)]
pub struct Script {
    /// Its name for people: the file, or the shipped name.
    pub name: String,
    text: String,
    ast: AST,
    /// Where its files lie, besides the shipped ones; if none, where it is run.
    folder: Option<PathBuf>,
    /// Values for the script's `arg`.
    pub args: BTreeMap<String, String>,
}

/// Why a script cannot be run, with its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.shown())]
pub struct ScriptError {
    /// The script.
    pub file: String,
    /// Line, from 1; 0 if it is the file as a whole.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// The line itself.
    pub source_line: String,
}

impl ScriptError {
    fn shown(&self) -> String {
        let Self {
            file,
            line,
            column,
            message,
            source_line,
        } = self;
        if *line == 0 {
            return format!("{file}: {message}");
        }
        let dent = " ".repeat(column.saturating_sub(1));
        format!("{file}:{line}:{column}: {message}\n  {source_line}\n  {dent}^")
    }
}

impl Script {
    /// A shipped scenario by name, else a file.
    ///
    /// # Errors
    /// [`ScriptError`].
    pub fn load(name_or_path: &str) -> Result<Self, ScriptError> {
        if let Some(text) = shipped::text(name_or_path) {
            return Self::compile(name_or_path, text.to_owned(), None);
        }
        let failed = |message: String| ScriptError {
            file: name_or_path.to_owned(),
            line: 0,
            column: 0,
            message,
            source_line: String::new(),
        };
        let path = Path::new(name_or_path);
        let text = text::read(path, FILE_BYTES_MAX).map_err(|error| {
            let known: Vec<_> = shipped::SHIPPED.iter().map(|(name, _)| *name).collect();
            let known = known.join(", ");
            failed(format!(
                "cannot be read: {error}; give a file, or one of: {known}"
            ))
        })?;
        let folder = path.parent().map(Path::to_owned);
        Self::compile(name_or_path, text, folder)
    }

    /// Compiles a text.
    ///
    /// # Errors
    /// [`ScriptError`], with line and column.
    pub fn compile(name: &str, text: String, folder: Option<PathBuf>) -> Result<Self, ScriptError> {
        let compiled = engine::bare().compile(&text);
        let mut script = Self {
            name: name.to_owned(),
            text,
            ast: AST::empty(),
            folder,
            args: BTreeMap::new(),
        };
        match compiled {
            Ok(ast) => {
                script.ast = ast;
                Ok(script)
            }
            Err(error) => Err(script.at(error.position(), error.err_type().to_string())),
        }
    }

    /// The same with values for its arguments.
    #[must_use]
    pub fn with_args(mut self, args: BTreeMap<String, String>) -> Self {
        self.args = args;
        self
    }

    pub(super) const fn ast(&self) -> &AST {
        &self.ast
    }

    /// What it is, in its first comment line.
    #[must_use]
    pub fn title(&self) -> &str {
        let first = self.text.lines().next().unwrap_or_default();
        first.trim_start_matches(['/', ' ', '!']).trim_end()
    }

    /// SHA-256 of its text.
    #[must_use]
    pub fn sha256(&self) -> String {
        let digest = Sha256::digest(self.text.as_bytes());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The names of its arguments that a run gives and it does not ask for.
    #[must_use]
    pub fn unknown_args(&self) -> Vec<&str> {
        let text: String = self.text.split_whitespace().collect();
        let asks = |name: &str| text.contains(&format!("arg(\"{name}\""));
        let given = self.args.keys().map(String::as_str);
        given.filter(|name| !asks(name)).collect()
    }

    /// An error at a place of it.
    pub(super) fn at(&self, place: Position, message: String) -> ScriptError {
        let line = place.line().unwrap_or(0);
        let source_line = self.text.lines().nth(line.saturating_sub(1));
        ScriptError {
            file: self.name.clone(),
            line,
            column: place.position().unwrap_or(1),
            message,
            source_line: source_line.unwrap_or_default().to_owned(),
        }
    }

    /// An error of its run.
    pub(super) fn error(&self, error: &EvalAltResult) -> ScriptError {
        // What a function within a function says is the reason; where it was called, the place.
        let mut inner = error;
        while let EvalAltResult::ErrorInFunctionCall(_, _, next, _) = inner {
            inner = next;
        }
        let message = match inner {
            EvalAltResult::ErrorRuntime(value, _) => value.to_string(),
            EvalAltResult::ErrorTerminated(value, _) => value.to_string(),
            EvalAltResult::ErrorTooManyOperations(_) => {
                let most = super::limits::OPERATIONS_MAX;
                format!("it has done {most} operations without an end")
            }
            other => {
                let mut bare = other.to_string();
                if let Some(at) = bare.rfind(" (line ") {
                    bare.truncate(at);
                }
                bare
            }
        };
        self.at(inner.position(), message)
    }

    /// The file that it means by a name: a shipped one of these, or one beside it.
    ///
    /// # Errors
    /// It is the name of another file, or of none.
    pub(super) fn beside(&self, name: &str, shipped: &[&str]) -> Result<String, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let is_name = !name.is_empty() && name.chars().all(plain) && !name.starts_with('.');
        let folder = self.folder.as_deref().unwrap_or(Path::new(""));
        let file = Some(folder.join(name)).filter(|path| is_name && path.is_file());
        match file.and_then(|path| std::path::absolute(path).ok()) {
            Some(path) => Ok(path.display().to_string()),
            None if shipped.contains(&name) => Ok(name.to_owned()),
            None => {
                let mut known = vec!["a file beside the script"];
                known.extend(shipped);
                Err(format!(
                    "there is no `{name}`: name {}",
                    known.join(", or ")
                ))
            }
        }
    }
}
