//! Typed access to TOML tables that notes a mistake and goes on, so that all are told at once.
//!
//! A [`Section`] is asked for each key it may have; [`Section::finish`] tells the keys that nobody
//! asked for. It knows no policy and reads no file. Bound: [`super::ERRORS_MAX`] notes, the rest is
//! counted; a table is walked once for each key that is asked for.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::mend;
use super::{ConfigError, ERRORS_MAX};

/// Where mistakes are noted.
#[derive(Debug)]
pub struct Notes<'a> {
    file: &'a str,
    text: &'a str,
    errors: RefCell<Vec<(usize, ConfigError)>>,
    /// Mistakes beyond the bound.
    more: Cell<usize>,
    /// The syntax is wrong somewhere: what was read is what the parser made of the rest.
    broken: bool,
}

impl Notes<'_> {
    /// Notes a mistake at a byte range of the file.
    pub fn note(&self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        let mut errors = self.errors.borrow_mut();
        if errors.len() < ERRORS_MAX {
            let start = span.start;
            errors.push((
                start,
                ConfigError::at(self.file, self.text, span, message, help),
            ));
        } else {
            self.more.set(self.more.get() + 1);
        }
    }

    /// All of them by place, and last how many more there are.
    fn told(self) -> Vec<ConfigError> {
        let mut errors = self.errors.into_inner();
        errors.sort_by_key(|(start, _)| *start);
        let mut told: Vec<_> = errors.into_iter().map(|(_, error)| error).collect();
        let (more, end) = (self.more.get(), self.text.len());
        if more > 0 {
            let message = format!("{more} more mistakes");
            let help = "mend these first, then check again";
            told.push(ConfigError::at(
                self.file,
                self.text,
                end..end,
                message,
                help,
            ));
        }
        told
    }

    /// The line of a byte offset, from 1.
    #[must_use]
    pub fn line(&self, offset: usize) -> usize {
        self.text
            .bytes()
            .take(offset)
            .filter(|b| *b == b'\n')
            .count()
            + 1
    }
}

/// Parses `text` and hands its root table to `read`; returns what it made and every mistake, by
/// place. After a syntax error the rest of the file is still read.
pub fn read<T: Default>(
    file: &str,
    text: &str,
    read: impl FnOnce(&mut Section<'_, '_>) -> T,
) -> (T, Vec<ConfigError>) {
    let (table, syntax) = DeTable::parse_recoverable(text);
    let broken = !syntax.is_empty();
    let notes = Notes {
        file,
        text,
        errors: RefCell::default(),
        more: Cell::default(),
        broken,
    };
    for error in syntax {
        let span = error.span().unwrap_or(0..0);
        notes.note(span, error.message().to_owned(), mend(error.message()));
    }
    let value = if broken && table.get_ref().is_empty() {
        T::default()
    } else {
        let mut root = Section::new("", table.span(), table.get_ref(), &notes);
        let value = read(&mut root);
        root.finish();
        value
    };
    (value, notes.told())
}

/// One table of the file.
pub struct Section<'a, 'n> {
    name: String,
    span: Range<usize>,
    table: &'a DeTable<'a>,
    asked: BTreeSet<&'static str>,
    notes: &'n Notes<'n>,
}

impl fmt::Debug for Section<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Section")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<'a, 'n> Section<'a, 'n> {
    fn new(
        name: impl Into<String>,
        span: Range<usize>,
        table: &'a DeTable<'a>,
        notes: &'n Notes<'n>,
    ) -> Self {
        Self {
            name: name.into(),
            span,
            table,
            asked: BTreeSet::new(),
            notes,
        }
    }

    /// The notes, for mistakes that are not about one key.
    #[must_use]
    pub const fn notes(&self) -> &'n Notes<'n> {
        self.notes
    }

    /// Whether the syntax of the file is wrong somewhere.
    pub(super) const fn is_broken(&self) -> bool {
        self.notes.broken
    }

    /// Whether the key is there, of whatever type.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.table.iter().any(|(k, _)| k.get_ref() == key)
    }

    /// Whether the key is a table.
    #[must_use]
    pub fn is_table(&self, key: &str) -> bool {
        let found = self.table.iter().find(|(k, _)| k.get_ref() == key);
        found.is_some_and(|(_, value)| value.get_ref().as_table().is_some())
    }

    /// Whether the key is a string.
    #[must_use]
    pub fn is_text(&self, key: &str) -> bool {
        let found = self.table.iter().find(|(k, _)| k.get_ref() == key);
        found.is_some_and(|(_, value)| value.get_ref().as_str().is_some())
    }

    /// Whether the table has no key at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// A key that is known although nobody asks for it here.
    pub fn know(&mut self, key: &'static str) {
        self.asked.insert(key);
    }

    /// Notes a mistake about the value of `key`.
    pub fn wrong(&self, key: &str, message: impl Into<String>, help: impl Into<String>) {
        let value = self.table.iter().find(|(k, _)| k.get_ref() == key);
        let span = value.map_or_else(|| self.span.clone(), |(_, value)| value.span());
        self.notes.note(span, message, help);
    }

    /// Notes a mistake at a place.
    pub fn wrong_at(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.notes.note(span, message, help);
    }

    /// Notes that `key` is missing from this table.
    pub fn missing(&self, key: &str, help: impl Into<String>) {
        self.notes.note(
            self.span.clone(),
            format!("[{}] has no {key}", self.name),
            help,
        );
    }

    /// Where its own table and the values that were asked for stand; the table is at `""`.
    #[must_use]
    pub fn spans(&self) -> BTreeMap<&'static str, Range<usize>> {
        let place = |key: &&'static str| {
            let value = self.table.iter().find(|(k, _)| k.get_ref() == *key)?.1;
            Some((*key, value.span()))
        };
        let own = [("", self.span.clone())];
        own.into_iter()
            .chain(self.asked.iter().filter_map(place))
            .collect()
    }

    fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.insert(key);
        self.table
            .iter()
            .find(|(k, _)| k.get_ref() == key)
            .map(|(_, value)| value)
    }

    /// The value if `pick` takes it; a note that says what was expected if not.
    fn typed<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        pick: impl FnOnce(&'a DeValue<'a>) -> Option<T>,
    ) -> Option<(T, Range<usize>)> {
        let value = self.value(key)?;
        let span = value.span();
        if span.is_empty() {
            return None; // not in the text: the parser made it up where the syntax is wrong
        }
        match pick(value.get_ref()) {
            Some(picked) => Some((picked, span)),
            None => {
                let found = value.get_ref().type_str();
                let message = format!("{key} is {}, expected {expected}", article(found));
                self.notes
                    .note(span, message, format!("write {key} as {expected}"));
                None
            }
        }
    }

    /// A string and its place.
    pub fn text(&mut self, key: &'static str) -> Option<(String, Range<usize>)> {
        self.typed(key, "a string", |v| v.as_str().map(str::to_owned))
    }

    /// An array of strings, each with its place.
    pub fn texts(&mut self, key: &'static str, max: usize) -> Vec<(String, Range<usize>)> {
        let expected = format!("an array of at most {max} strings");
        let Some((items, span)) = self.typed(key, &expected, DeValue::as_array) else {
            return Vec::new();
        };
        if items.len() > max {
            let message = format!("{key} has {} entries", items.len());
            self.notes.note(span, message, format!("use {expected}"));
        }
        let mut texts = Vec::new();
        for item in items.iter().take(max) {
            match item.get_ref().as_str() {
                Some(text) => texts.push((text.to_owned(), item.span())),
                None => {
                    let found = article(item.get_ref().type_str());
                    let message = format!("{key} holds {found}, expected strings");
                    let help = format!("write {key} as {expected}");
                    self.notes.note(item.span(), message, help);
                }
            }
        }
        texts
    }

    /// Every key of this table with a whole number within bounds: a table whose keys are names.
    pub fn integers(&mut self, bounds: RangeInclusive<u64>, max: usize) -> Vec<(String, u64)> {
        let expected = format!("a whole number from {} to {}", bounds.start(), bounds.end());
        let mut named = Vec::new();
        for (at, (key, value)) in self.table.iter().enumerate() {
            let name = key.get_ref().as_ref();
            let number = value.get_ref().as_integer();
            let number = number.and_then(|i| u64::from_str_radix(i.as_str(), i.radix()).ok());
            match number.filter(|n| bounds.contains(n)) {
                Some(number) if at < max => named.push((name.to_owned(), number)),
                Some(_) => {
                    let message = format!("[{}] has more than {max} keys", self.name);
                    self.notes.note(key.span(), message, "leave some out");
                    break;
                }
                None => {
                    let message = format!("{name} is not {expected}");
                    let help = format!("write {name} as {expected}");
                    self.notes.note(value.span(), message, help);
                }
            }
        }
        named
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &'static str) -> Option<bool> {
        self.typed(key, "true or false", DeValue::as_bool)
            .map(|(value, _)| value)
    }

    /// A whole number within bounds.
    pub fn integer(&mut self, key: &'static str, bounds: RangeInclusive<u64>) -> Option<u64> {
        let expected = format!("a whole number from {} to {}", bounds.start(), bounds.end());
        let (number, span) = self.typed(key, &expected, |v| {
            v.as_integer()
                .map(|i| i128::from_str_radix(i.as_str(), i.radix()))
        })?;
        match number
            .ok()
            .and_then(|n| u64::try_from(n).ok())
            .filter(|n| bounds.contains(n))
        {
            Some(number) => Some(number),
            None => {
                let message = format!("{key} is out of bounds");
                self.notes.note(span, message, format!("use {expected}"));
                None
            }
        }
    }

    /// A number, whole or not, within bounds.
    pub fn number(&mut self, key: &'static str, bounds: RangeInclusive<f64>) -> Option<f64> {
        let expected = format!("a number from {} to {}", bounds.start(), bounds.end());
        let (number, span) = self.typed(key, &expected, |v| {
            // Hexadecimal and the like are for whole numbers: their digits mean something else.
            let whole = v.as_integer().filter(|i| i.radix() == 10);
            let whole = whole.and_then(|i| i.as_str().parse::<f64>().ok());
            whole.or_else(|| v.as_float().and_then(|f| f.as_str().parse().ok()))
        })?;
        if bounds.contains(&number) {
            return Some(number);
        }
        self.notes.note(
            span,
            format!("{key} is out of bounds"),
            format!("use {expected}"),
        );
        None
    }

    /// A duration with its unit.
    pub fn duration(&mut self, key: &'static str, max: Duration) -> Option<Duration> {
        let expected = "a duration with its unit, such as \"250ms\" or \"5s\"";
        let (text, span) = self.typed(key, expected, |v| v.as_str().map(str::to_owned))?;
        match humantime::parse_duration(&text) {
            Ok(time) if time <= max => Some(time),
            Ok(_) => {
                let help = format!("use at most {}", humantime::format_duration(max));
                self.notes.note(span, format!("{key} is too long"), help);
                None
            }
            Err(_) => {
                let message = format!("{text:?} is no duration");
                self.notes
                    .note(span, message, format!("write {key} as {expected}"));
                None
            }
        }
    }

    /// One of a closed set of words.
    pub fn choice<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let list = words
            .iter()
            .map(|(w, _)| format!("{w:?}"))
            .collect::<Vec<_>>()
            .join(", ");
        let expected = format!("one of {list}");
        let (text, span) = self.typed(key, &expected, |v| v.as_str().map(str::to_owned))?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let message = format!("{text:?} is no {}", key.replace('_', " "));
        let help = match nearest(&text, words.iter().map(|(word, _)| *word)) {
            Some(word) => format!("did you mean {word:?}? use {expected}"),
            None => format!("use {expected}"),
        };
        self.notes.note(span, message, help);
        None
    }

    /// A table.
    pub fn section(&mut self, key: &'static str) -> Option<Self> {
        let (table, span) = self.typed(key, "a table", DeValue::as_table)?;
        Some(Section::new(self.child_name(key), span, table, self.notes))
    }

    /// An array of tables, `[[key]]`; one table `[key]` counts as an array of one.
    pub fn sections(&mut self, key: &'static str, max: usize) -> Vec<Self> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let name = self.child_name(key);
        let items: Vec<&Spanned<DeValue<'a>>> = match value.get_ref() {
            DeValue::Array(array) => array.iter().collect(),
            _ => vec![value],
        };
        if items.len() > max {
            let message = format!("{} entries of [[{name}]]", items.len());
            self.notes
                .note(value.span(), message, format!("use at most {max}"));
        }
        let mut sections = Vec::new();
        for item in items.into_iter().take(max) {
            match item.get_ref().as_table() {
                Some(table) => {
                    sections.push(Section::new(name.clone(), item.span(), table, self.notes));
                }
                None => {
                    let found = article(item.get_ref().type_str());
                    let message = format!("{key} holds {found}, expected tables");
                    self.notes
                        .note(item.span(), message, format!("write [[{name}]]"));
                }
            }
        }
        sections
    }

    /// Notes every key that nobody asked for.
    pub fn finish(self) {
        let known = self.asked.iter().copied();
        for (key, _) in self.table.iter() {
            let word = key.get_ref().as_ref();
            if self.asked.contains(word) {
                continue;
            }
            let help = match nearest(word, known.clone()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!(
                    "known keys: {}",
                    known.clone().collect::<Vec<_>>().join(", ")
                ),
            };
            self.notes
                .note(key.span(), format!("unknown key {word:?}"), help);
        }
    }

    fn child_name(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }
}

fn article(type_name: &str) -> String {
    let vowel = type_name.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {type_name}", if vowel { "an" } else { "a" })
}

/// The known word that a misspelt one most likely means: at most a third of it is different, or it
/// was cut short.
pub(crate) fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let cut = |k: &str| word.len() > 2 && k.starts_with(word);
    let by_distance = known.map(|k| (!cut(k), distance(word, k), k));
    let (whole, far, near) = by_distance.min()?;
    (!whole || far <= near.len().max(3) / 3).then_some(near)
}

/// Edits that turn one word into the other; two letters that changed places are one. Bound: a word
/// is cut at 64 characters.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (row[j] + usize::from(x != y)).min(row[j + 1] + 1);
            best = best.min(next[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}
