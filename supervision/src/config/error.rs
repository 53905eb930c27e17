//! A mistake in a configuration file: where it is, what is wrong, what to do.
//!
//! The same type serves every file a node reads. Rendering draws the line with a caret, as `rustc`
//! does; it keeps the line it needs, never the whole file.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// Longest part of a line that is drawn; longer lines are minified data, not hand-written files.
const LINE_MAX: usize = 500;

/// One mistake, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigError {
    /// The file, as the user named it; or an environment variable or a flag.
    pub file: String,
    /// Line, from 1; 0 where there is none.
    pub line: usize,
    /// Column in characters, from 1; 0 where there is none.
    pub column: usize,
    /// What is wrong, in lower case.
    pub message: String,
    /// What to do; may be empty.
    pub help: String,
    source_line: String,
    marked: Range<usize>,
}

impl ConfigError {
    /// A mistake at byte range `span` of `text`.
    #[must_use]
    pub fn at(
        file: &str,
        text: &str,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        let start = floor(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |i| start + i);
        let line_end = floor(text, line_end.min(line_start.max(start) + LINE_MAX));
        let end = floor(text, span.end).clamp(start, line_end);
        Self {
            file: file.to_owned(),
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            message: message.into(),
            help: help.into(),
            source_line: text[line_start..line_end].to_owned(),
            marked: start - line_start..end - line_start,
        }
    }

    /// A mistake without a line: an environment variable, a flag, a file that cannot be read.
    #[must_use]
    pub fn nowhere(
        origin: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self {
            file: origin.into(),
            line: 0,
            column: 0,
            message: message.into(),
            help: help.into(),
            source_line: String::new(),
            marked: 0..0,
        }
    }

    /// Drawn with its line and a caret, without colours.
    #[must_use]
    pub fn render(&self) -> String {
        self.render_with(&Renderer::plain())
    }

    /// Drawn in colours, for a terminal.
    #[must_use]
    pub fn render_styled(&self) -> String {
        self.render_with(&Renderer::styled())
    }

    fn render_with(&self, renderer: &Renderer) -> String {
        if self.line == 0 {
            return format!("error: {self}");
        }
        let mark = AnnotationKind::Primary.span(self.marked.clone());
        let snippet = Snippet::source(self.source_line.as_str())
            .line_start(self.line)
            .path(self.file.as_str())
            .annotation(mark);
        let mut group = Level::ERROR
            .primary_title(self.message.as_str())
            .element(snippet);
        if !self.help.is_empty() {
            group = group.element(Level::HELP.message(self.help.as_str()));
        }
        renderer.render(&[group])
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.message)?;
        if !self.help.is_empty() {
            write!(f, "; {}", self.help)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// What to do about a mistake of TOML's syntax, from what its parser says.
#[must_use]
pub fn mend(message: &str) -> &'static str {
    const QUOTES: &str = "put the text in quotes, and close them on its line";
    const BRACKETS: &str = "close each bracket, with one comma between two items";
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&["duplicate key"]) {
        "keep one of the two"
    } else if says(&["string", "quote"]) {
        QUOTES
    } else if says(&["unclosed", "array", "table", "comma"]) {
        BRACKETS
    } else {
        "write key = value, one to a line, with texts in quotes"
    }
}

/// All of them, drawn one after the other.
#[must_use]
pub fn render_all(errors: &[ConfigError]) -> String {
    errors
        .iter()
        .map(ConfigError::render)
        .collect::<Vec<_>>()
        .join("\n\n")
}

/// The last character boundary at or before `index`.
fn floor(text: &str, index: usize) -> usize {
    let mut index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}
