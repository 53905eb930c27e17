//! One Rust file, split into what the compiler reads, what people read, and what is quoted.
//!
//! It does not parse Rust: it only knows comments, literals and braces, which is enough for rules
//! about calls and sizes. Bound: one pass over one file; memory is a few times the file's size.

use std::ops::RangeInclusive;

/// Where a file stands, which decides the rules it is exempt from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Code that ships.
    Product,
    /// `tests/` folders, `#[cfg(test)]` modules in files of their own, `examples/`, `fuzz/`.
    Test,
    /// The measuring crate and its peers.
    Bench,
}

/// A Rust file with its lines in three parallel readings; line `n` is at index `n - 1`.
#[derive(Debug)]
pub(crate) struct Source {
    /// Path relative to the repository's root, with `/`.
    pub(crate) path: String,
    pub(crate) place: Place,
    pub(crate) raw: Vec<String>,
    /// Comments and the insides of literals are blanked.
    pub(crate) code: Vec<String>,
    /// Only the text of comments.
    pub(crate) comments: Vec<String>,
    /// Text of each string literal with the line it starts on.
    pub(crate) strings: Vec<(usize, String)>,
    test_ranges: Vec<RangeInclusive<usize>>,
}

impl Source {
    pub(crate) fn new(path: &str, place: Place, text: &str) -> Self {
        let mut lexer = Lexer::new(text);
        lexer.run();
        let Lexer {
            code,
            comments,
            strings,
            ..
        } = lexer;
        let raw: Vec<String> = text.lines().map(str::to_owned).collect();
        let code: Vec<String> = code.lines().map(str::to_owned).collect();
        let comments = comments.lines().map(str::to_owned).collect();
        let test_ranges = test_ranges(&code);
        Self {
            path: path.to_owned(),
            place,
            raw,
            code,
            comments,
            strings,
            test_ranges,
        }
    }

    /// Whether the line (from 1) is test code: by its file or by an enclosing `#[cfg(test)]`.
    pub(crate) fn is_test(&self, line: usize) -> bool {
        self.place == Place::Test || self.test_ranges.iter().any(|range| range.contains(&line))
    }

    /// Lines (from 1) with their code.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code
            .iter()
            .enumerate()
            .map(|(index, line)| (index + 1, line.as_str()))
    }

    /// Modules declared `#[cfg(test)] mod name;`, whose files are test code.
    pub(crate) fn test_modules(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (index, line) in self.code.iter().enumerate() {
            if !is_cfg_test(line) {
                continue;
            }
            let after = self.code[index + 1..]
                .iter()
                .find(|line| !line.trim().is_empty());
            let name = after.and_then(|line| {
                let line = line.trim().trim_start_matches("pub(crate) ");
                line.strip_prefix("mod ")?.strip_suffix(';')
            });
            found.extend(name.map(str::to_owned));
        }
        found
    }

    /// Functions with a body: name, first line, last line.
    pub(crate) fn functions(&self) -> Vec<(String, usize, usize)> {
        let mut found = Vec::new();
        for (line, code) in self.lines() {
            for at in word_positions(code, "fn") {
                let rest = code[at + 2..].trim_start();
                let name: String = rest
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                if name.is_empty() {
                    continue; // a function pointer's type
                }
                if let Some(last) = body_end(&self.code, line, at) {
                    found.push((name, line, last));
                }
            }
        }
        found
    }
}

/// Byte positions where `word` stands as a whole word.
pub(crate) fn word_positions(text: &str, word: &str) -> Vec<usize> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .filter(|(at, _)| {
            let before = text[..*at].chars().next_back();
            let after = text[at + word.len()..].chars().next();
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        })
        .map(|(at, _)| at)
        .collect()
}

fn is_cfg_test(line: &str) -> bool {
    line.contains("#[cfg(") && !word_positions(line, "test").is_empty() && !line.contains("not(")
}

fn test_ranges(code: &[String]) -> Vec<RangeInclusive<usize>> {
    let mut ranges = Vec::new();
    for (index, line) in code.iter().enumerate() {
        if is_cfg_test(line) {
            let first = index + 1;
            let from = line.rfind(']').map_or(0, |at| at + 1);
            ranges.extend(body_end(code, first, from).map(|last| first..=last));
        }
    }
    ranges
}

/// The line of the brace that closes the first body after (line, column), or none if the item
/// ends with a semicolon first.
fn body_end(code: &[String], line: usize, column: usize) -> Option<usize> {
    let mut braces = 0usize;
    let mut inner = 0usize; // parentheses and brackets before the body
    for (index, text) in code.iter().enumerate().skip(line - 1) {
        let text = if index == line - 1 {
            &text[column..]
        } else {
            text.as_str()
        };
        for c in text.chars() {
            match c {
                '(' | '[' if braces == 0 => inner += 1,
                ')' | ']' if braces == 0 => inner = inner.saturating_sub(1),
                ';' if braces == 0 && inner == 0 => return None,
                '{' => braces += 1,
                '}' => {
                    braces = braces.checked_sub(1)?;
                    if braces == 0 {
                        return Some(index + 1);
                    }
                }
                _ => {}
            }
        }
    }
    None
}

/// Splits text into code and comments of the same shape (same lines, same columns).
struct Lexer {
    text: Vec<char>,
    at: usize,
    line: usize,
    code: String,
    comments: String,
    strings: Vec<(usize, String)>,
}

impl Lexer {
    fn new(text: &str) -> Self {
        Self {
            text: text.chars().collect(),
            at: 0,
            line: 1,
            code: String::with_capacity(text.len()),
            comments: String::new(),
            strings: Vec::new(),
        }
    }

    fn peek(&self, ahead: usize) -> char {
        self.text.get(self.at + ahead).copied().unwrap_or('\0')
    }

    /// Takes one character; `code` and `comment` say in which reading it stays visible.
    fn take(&mut self, code: bool, comment: bool) -> char {
        let c = self.text[self.at];
        self.at += 1;
        if c == '\n' {
            self.line += 1;
            self.code.push('\n');
            self.comments.push('\n');
        } else {
            self.code.push(if code { c } else { ' ' });
            self.comments.push(if comment { c } else { ' ' });
        }
        c
    }

    fn run(&mut self) {
        while self.at < self.text.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '/') => self.line_comment(),
                ('/', '*') => self.block_comment(),
                ('"', _) => self.string(),
                ('r', '"' | '#') if self.starts_raw() => self.raw_string(),
                ('\'', _) => self.quote(),
                _ => {
                    self.take(true, false);
                }
            }
        }
    }

    fn line_comment(&mut self) {
        while self.at < self.text.len() && self.peek(0) != '\n' {
            self.take(false, true);
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0usize;
        while self.at < self.text.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => depth += 1,
                ('*', '/') => depth -= 1,
                _ => {
                    self.take(false, true);
                    continue;
                }
            }
            self.take(false, true);
            self.take(false, true);
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) {
        let line = self.line;
        let mut text = String::new();
        self.take(true, false);
        while self.at < self.text.len() && self.peek(0) != '"' {
            if self.peek(0) == '\\' && self.at + 1 < self.text.len() {
                text.push(self.take(false, false));
            }
            text.push(self.take(false, false));
        }
        if self.at < self.text.len() {
            self.take(true, false);
        }
        self.strings.push((line, text));
    }

    fn starts_raw(&self) -> bool {
        let word_before = self.at > 0 && {
            let c = self.text[self.at - 1];
            (c.is_alphanumeric() && c != 'b') || c == '_'
        };
        let hashes = self.text[self.at + 1..]
            .iter()
            .take_while(|c| **c == '#')
            .count();
        !word_before && self.peek(1 + hashes) == '"'
    }

    fn raw_string(&mut self) {
        let line = self.line;
        let mut hashes = 0;
        self.take(true, false);
        while self.peek(0) == '#' {
            hashes += 1;
            self.take(true, false);
        }
        self.take(true, false);
        let mut text = String::new();
        while self.at < self.text.len() {
            let closes = self.peek(0) == '"' && (1..=hashes).all(|ahead| self.peek(ahead) == '#');
            if closes {
                for _ in 0..=hashes {
                    self.take(true, false);
                }
                break;
            }
            text.push(self.take(false, false));
        }
        self.strings.push((line, text));
    }

    /// A character literal, or a lifetime's tick.
    fn quote(&mut self) {
        let is_char = self.peek(1) == '\\' || self.peek(2) == '\'';
        self.take(true, false);
        if !is_char {
            return;
        }
        if self.peek(0) == '\\' {
            self.take(false, false);
        }
        self.take(false, false);
        while self.at < self.text.len() && self.peek(0) != '\'' {
            self.take(false, false); // the rest of `\u{..}` or `\x..`
        }
        if self.at < self.text.len() {
            self.take(true, false);
        }
    }
}
