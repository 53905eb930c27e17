//! Values of keys: what a key may hold, read from TOML or from text, printed back as TOML.
//!
//! It does not know which keys exist (see [`super::key`]).
//!
//! Bound: a list holds at most [`LIST_MAX`] items.

use std::fmt;
use std::time::Duration;

use toml::de::DeValue;

/// Items of a list key: policy files and the like; more than this is a mistake.
pub const LIST_MAX: usize = 64;

/// What a key may hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number within bounds, both included.
    U64 {
        /// Smallest accepted.
        min: u64,
        /// Largest accepted.
        max: u64,
    },
    /// A number within bounds, both included.
    F64 {
        /// Smallest accepted.
        min: f64,
        /// Largest accepted.
        max: f64,
    },
    /// A text with a unit, such as `"250ms"`, within bounds in milliseconds or below.
    Duration {
        /// Shortest accepted.
        min: Duration,
        /// Longest accepted.
        max: Duration,
    },
    /// Any text.
    Text,
    /// A file or a directory.
    Path,
    /// `HOST:PORT`.
    Address,
    /// One of a closed set.
    Choice(&'static [&'static str]),
    /// A list of files.
    Paths,
}

impl Kind {
    /// The name of the kind in messages and in the reference page.
    pub fn label(self) -> String {
        match self {
            Self::Bool => "true or false".into(),
            Self::U64 { min, max: u64::MAX } => format!("a whole number from {min}"),
            Self::U64 { min, max } => format!("a whole number from {min} to {max}"),
            Self::F64 { min, max: f64::MAX } => format!("a number from {min}"),
            Self::F64 { min, max } => format!("a number from {min} to {max}"),
            Self::Duration { min, max } => format!(
                "a duration from {} to {}",
                humantime::format_duration(min),
                humantime::format_duration(max)
            ),
            Self::Text => "a text".into(),
            Self::Path => "a path".into(),
            Self::Address => "HOST:PORT".into(),
            Self::Choice(options) => format!("one of {}", options.join(", ")),
            Self::Paths => "a list of paths".into(),
        }
    }

    /// Reads text as given in the environment, by a flag or by `-X`.
    ///
    /// # Errors
    /// What was expected, in words.
    pub fn parse(self, text: &str) -> Result<Value, String> {
        let text = text.trim();
        let value = match self {
            Self::Bool => Value::Bool(text.parse().map_err(|_| self.expected(text))?),
            Self::U64 { .. } => Value::U64(
                text.replace('_', "")
                    .parse()
                    .map_err(|_| self.expected(text))?,
            ),
            Self::F64 { .. } => Value::F64(text.parse().map_err(|_| self.expected(text))?),
            Self::Paths => Value::List(
                text.split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(Into::into)
                    .collect(),
            ),
            _ => return self.read_text(text),
        };
        self.bounded(value)
    }

    /// Reads a TOML value.
    ///
    /// # Errors
    /// What was expected and what was found, in words.
    pub fn from_toml(self, value: &DeValue<'_>) -> Result<Value, String> {
        let wrong = || format!("expected {}, found {}", self.label(), found(value));
        let read = match (self, value) {
            (Self::Bool, DeValue::Boolean(flag)) => Value::Bool(*flag),
            (Self::U64 { .. }, DeValue::Integer(number)) => {
                let digits = number.as_str().replace('_', "");
                Value::U64(u64::from_str_radix(&digits, number.radix()).map_err(|_| wrong())?)
            }
            // Hexadecimal and the like are for whole numbers: their digits mean something else.
            (Self::F64 { .. }, DeValue::Integer(number)) if number.radix() == 10 => Value::F64(
                number
                    .as_str()
                    .replace('_', "")
                    .parse()
                    .map_err(|_| wrong())?,
            ),
            (Self::F64 { .. }, DeValue::Float(number)) => Value::F64(
                number
                    .as_str()
                    .replace('_', "")
                    .parse()
                    .map_err(|_| wrong())?,
            ),
            (Self::Paths, DeValue::Array(items)) => {
                let mut list = Vec::with_capacity(items.len());
                for item in items.iter() {
                    list.push(item.get_ref().as_str().ok_or_else(wrong)?.to_owned());
                }
                Value::List(list)
            }
            (
                Self::Text | Self::Path | Self::Address | Self::Choice(_) | Self::Duration { .. },
                DeValue::String(text),
            ) => return self.read_text(text),
            _ => return Err(wrong()),
        };
        self.bounded(read)
    }

    fn read_text(self, text: &str) -> Result<Value, String> {
        match self {
            Self::Duration { .. } => {
                let value = humantime::parse_duration(text).map_err(|_| self.expected(text))?;
                self.bounded(Value::Duration(value))
            }
            Self::Address => {
                let port = text.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
                match port {
                    Some(Ok(_)) => Ok(Value::Text(text.into())),
                    _ => Err(self.expected(text)),
                }
            }
            Self::Choice(options) if !options.contains(&text) => {
                let near = super::near(text, options.iter().copied());
                let hint = near
                    .map(|near| format!("; did you mean `{near}`?"))
                    .unwrap_or_default();
                Err(format!("{}{hint}", self.expected(text)))
            }
            _ => Ok(Value::Text(text.into())),
        }
    }

    fn bounded(self, value: Value) -> Result<Value, String> {
        let ok = match (self, &value) {
            (Self::U64 { min, max }, Value::U64(number)) => (min..=max).contains(number),
            (Self::F64 { min, max }, Value::F64(number)) => (min..=max).contains(number),
            (Self::Duration { min, max }, Value::Duration(length)) => (min..=max).contains(length),
            (Self::Paths, Value::List(items)) => items.len() <= LIST_MAX,
            _ => true,
        };
        if ok {
            Ok(value)
        } else {
            Err(self.expected(&value.to_string()))
        }
    }

    fn expected(self, given: &str) -> String {
        format!("expected {}, found `{given}`", self.label())
    }
}

fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text \"{text}\""),
        DeValue::Integer(number) => format!("the number {}", number.as_str()),
        DeValue::Float(number) => format!("the number {}", number.as_str()),
        DeValue::Boolean(flag) => format!("{flag}"),
        DeValue::Datetime(_) => "a date".into(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

/// The value of a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    U64(u64),
    /// A number.
    F64(f64),
    /// A length of time.
    Duration(Duration),
    /// A text, a path, an address or a choice.
    Text(String),
    /// A list of texts.
    List(Vec<String>),
}

impl fmt::Display for Value {
    /// As it would be written in a TOML file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(flag) => write!(f, "{flag}"),
            Self::U64(number) => write!(f, "{number}"),
            Self::F64(number) => write!(f, "{number:?}"),
            Self::Duration(length) => {
                write!(f, "\"{}\"", humantime::format_duration(*length))
            }
            Self::Text(text) => write!(f, "{}", toml::Value::String(text.clone())),
            Self::List(items) => {
                let items = items.iter().cloned().map(toml::Value::String).collect();
                write!(f, "{}", toml::Value::Array(items))
            }
        }
    }
}
