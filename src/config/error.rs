//! What is wrong with a configuration, where, and what to do; rendered as rustc would.
//!
//! Bound: [`ERRORS_MAX`] errors are shown, the rest is counted.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// Errors shown at once: a screen or two; beyond it the cause is one and the same.
pub const ERRORS_MAX: usize = 50;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// File, variable or flag it is in.
    pub source: String,
    /// Line, from 1; 0 when the source is not a file.
    pub line: usize,
    /// Column in characters, from 1; 0 when the source is not a file.
    pub column: usize,
    /// Bytes of the file it is about.
    pub span: Option<Range<usize>>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl ConfigError {
    /// A mistake at a span of a file.
    pub fn at(file: &str, text: &str, span: Range<usize>, message: impl Into<String>) -> Self {
        let (line, column) = position(text, span.start);
        Self {
            source: file.into(),
            line,
            column,
            span: Some(span),
            message: message.into(),
            help: None,
        }
    }

    /// A mistake at a line and column (both from 1) of a file; shown to the end of the word.
    pub fn at_line(
        file: &str,
        text: &str,
        line: usize,
        column: usize,
        message: impl Into<String>,
    ) -> Self {
        let start = offset(text, line, column);
        let rest = text.get(start..).unwrap_or_default();
        let length = rest.find(['\n', '#', '=', ',']).unwrap_or(rest.len());
        let length = rest
            .get(..length)
            .unwrap_or_default()
            .trim_end()
            .len()
            .max(1);
        let end = (start + length).min(text.len());
        Self {
            source: file.into(),
            line,
            column,
            span: Some(start..end.max(start)),
            message: message.into(),
            help: None,
        }
    }

    /// A mistake that another layer found in a file whose text is `shown`.
    pub fn of_layer(found: actorsim_supervision::ConfigError, shown: &str) -> Self {
        let help = (!found.help.is_empty()).then_some(found.help);
        let error = if found.line == 0 {
            Self::outside(found.file, found.message)
        } else {
            Self::at_line(&found.file, shown, found.line, found.column, found.message)
        };
        error.help(help)
    }

    /// A mistake outside files.
    pub fn outside(source: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            line: 0,
            column: 0,
            span: None,
            message: message.into(),
            help: None,
        }
    }

    /// Adds what to do.
    #[must_use]
    pub fn help(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(
                f,
                "{}:{}:{}: {}",
                self.source, self.line, self.column, self.message
            )?;
        } else {
            write!(f, "{}: {}", self.source, self.message)?;
        }
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

/// Every mistake of a configuration, with the texts of its files.
#[derive(Debug, Clone, Default)]
pub struct ConfigErrors {
    /// The mistakes, in the order of the layers and of each file.
    pub errors: Vec<ConfigError>,
    /// The files, by name.
    pub files: Vec<(String, String)>,
}

impl ConfigErrors {
    /// Mistakes of a profile or a policy file, which its own crate has found.
    #[must_use]
    pub fn of_profile(found: Vec<actorsim_supervision::ConfigError>) -> Self {
        let mut files: Vec<(String, String)> = Vec::new();
        let mut errors = Vec::new();
        for error in found {
            if files.iter().all(|(name, _)| *name != error.file)
                && let Ok(text) = super::read_bounded(std::path::Path::new(&error.file))
            {
                files.push((error.file.clone(), text));
            }
            let text = files.iter().find(|(name, _)| *name == error.file);
            let text = text.map_or("", |(_, text)| text.as_str());
            let help = (!error.help.is_empty()).then_some(error.help);
            let (line, column) = (error.line, error.column);
            errors.push(
                ConfigError::at_line(&error.file, text, line, column, error.message).help(help),
            );
        }
        Self { errors, files }
    }

    /// The mistakes as rustc shows its own; with colour where `color`.
    pub fn render(&self, color: bool) -> String {
        self.render_for("nothing was started", color)
    }

    /// The same, with what became of what was asked.
    #[must_use]
    pub fn render_for(&self, outcome: &str, color: bool) -> String {
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let mut shown = String::new();
        for error in self.errors.iter().take(ERRORS_MAX) {
            shown.push_str(&self.render_one(&renderer, error));
            shown.push_str("\n\n");
        }
        if let Some(more) = self
            .errors
            .len()
            .checked_sub(ERRORS_MAX)
            .filter(|more| *more > 0)
        {
            shown.push_str(&format!("and {more} more errors\n\n"));
        }
        let count = self.errors.len();
        let noun = if count == 1 { "error" } else { "errors" };
        shown.push_str(&format!("{count} {noun}; {outcome}\n"));
        shown
    }

    fn render_one(&self, renderer: &Renderer, error: &ConfigError) -> String {
        let text = self.files.iter().find(|(name, _)| *name == error.source);
        let title = Level::ERROR.primary_title(error.message.as_str());
        let mut group = match (text, error.span.clone()) {
            // not so where the text is another by now: one name may be read twice
            (Some((name, text)), Some(span)) if text.get(span.clone()).is_some() => title.element(
                Snippet::source(text.as_str())
                    .path(name.as_str())
                    .line_start(1)
                    .annotation(AnnotationKind::Primary.span(span)),
            ),
            _ if error.line > 0 => {
                let place = format!("in {}:{}:{}", error.source, error.line, error.column);
                title.element(Level::NOTE.message(place))
            }
            _ => title.element(Level::NOTE.message(format!("in {}", error.source))),
        };
        if let Some(help) = &error.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        renderer.render(&[group]).to_string()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for ConfigErrors {}

/// Line and column, from 1, of a byte of a text.
#[must_use]
pub fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        line,
        before.get(start..).map_or(0, |rest| rest.chars().count()) + 1,
    )
}

/// The byte at a line and column, both from 1; clamped to the text.
#[must_use]
pub fn offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    let rest = text.get(start..).unwrap_or_default();
    let rest = rest.split('\n').next().unwrap_or_default();
    let within = rest
        .char_indices()
        .nth(column.saturating_sub(1))
        .map_or(rest.len(), |(at, _)| at);
    start + within
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_in_a_text_that_is_another_by_now_is_shown_by_its_place() {
        let error = ConfigError::at("a.toml", "devices = ten\n", 10..13, "no number");
        for text in [
            "",
            "devices = 1",
            "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}",
        ] {
            let errors = ConfigErrors {
                errors: vec![error.clone()],
                files: vec![("a.toml".to_owned(), text.to_owned())],
            };
            assert!(errors.render(false).contains("in a.toml:1:11"), "{text}");
        }
    }

    #[test]
    fn position_and_offset_are_inverse() {
        let text = "a = 1\n\u{e9}t\u{e9} = 2\nlast";
        for (at, _) in text.char_indices().filter(|(_, c)| *c != '\n') {
            let (line, column) = position(text, at);
            assert_eq!(offset(text, line, column), at);
        }
    }
}
