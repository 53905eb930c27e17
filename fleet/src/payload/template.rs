//! A payload of the user's own: a text in which a sample fills in the placeholders.
//!
//! A brace that begins no `{name}` is a brace, so that JSON can be written as it is. What is the
//! same for all samples is filled in when it is parsed. Values stand there without quotes. Bound:
//! that of the profile's text.

use super::{Sample, Words, rfc3339};
use crate::profile::Field;

/// What a placeholder may name.
pub(crate) struct Names<'a> {
    /// Type of the devices.
    pub(crate) device_type: &'a str,
    /// The profile's fields.
    pub(crate) fields: &'a [Field],
    /// Its labels.
    pub(crate) labels: &'a [(String, String)],
}

/// A parsed template.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    parts: Box<[Part]>,
    /// Placeholders that nothing is known of; they stand in the text as they are.
    pub(crate) unknown: Vec<String>,
}

#[derive(Clone, Debug)]
enum Part {
    Always(Box<[u8]>),
    DeviceId,
    Timestamp,
    UnixMs,
    UnixUs,
    Sequence,
    Field(usize, Words),
}

impl Names<'_> {
    /// All that there are, for who has written another one.
    pub(crate) fn help(&self) -> String {
        let mut known = "known: {device_id}, {device_type}, {timestamp}, {unix_ms}, {unix_us}, \
                         {sequence}"
            .to_owned();
        for (name, _) in self.labels {
            known += &format!(", {{labels.{name}}}");
        }
        for field in self.fields {
            known += &format!(", {{fields.{}}}", field.name);
        }
        known
    }

    fn part(&self, name: &str) -> Option<Part> {
        let always = |text: &str| Part::Always(text.as_bytes().into());
        Some(match name {
            "device_id" => Part::DeviceId,
            "device_type" => always(self.device_type),
            "timestamp" => Part::Timestamp,
            "unix_ms" => Part::UnixMs,
            "unix_us" => Part::UnixUs,
            "sequence" => Part::Sequence,
            _ => match name.split_once('.')? {
                ("labels", label) => {
                    let found = self.labels.iter().find(|(own, _)| own == label)?;
                    always(&found.1)
                }
                ("fields", field) => {
                    let at = self.fields.iter().position(|own| own.name == field)?;
                    Part::Field(at, Words::plain(&self.fields[at]))
                }
                _ => return None,
            },
        })
    }
}

/// `{`, a word that begins with a letter, `}`: the word, and what comes after it.
fn placeholder(rest: &str) -> Option<(&str, &str)> {
    let (name, after) = rest.strip_prefix('{')?.split_once('}')?;
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    (begins && name.chars().all(is_name)).then_some((name, after))
}

impl Text {
    /// Parses a template.
    pub(crate) fn parse(text: &str, names: &Names<'_>) -> Self {
        let (mut parts, mut unknown) = (Vec::new(), Vec::new());
        let mut always = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            always.extend_from_slice(&rest.as_bytes()[..at]);
            rest = &rest[at..];
            let Some((name, after)) = placeholder(rest) else {
                always.push(b'{');
                rest = &rest[1..];
                continue;
            };
            match names.part(name) {
                Some(Part::Always(text)) => always.extend_from_slice(&text),
                Some(part) => {
                    if !always.is_empty() {
                        parts.push(Part::Always(std::mem::take(&mut always).into()));
                    }
                    parts.push(part);
                }
                None => {
                    always.extend_from_slice(&rest.as_bytes()[..rest.len() - after.len()]);
                    unknown.push(name.to_owned());
                }
            }
            rest = after;
        }
        always.extend_from_slice(rest.as_bytes());
        parts.push(Part::Always(always.into()));
        Self {
            parts: parts.into(),
            unknown,
        }
    }

    /// Whether it always begins with one of these bytes.
    pub(super) fn begins_with(&self, bytes: &[u8]) -> bool {
        matches!(self.parts.first(), Some(Part::Always(text))
            if text.first().is_some_and(|first| bytes.contains(first)))
    }

    /// Appends one sample.
    pub(super) fn write(&self, sample: &Sample<'_>, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Always(text) => out.extend_from_slice(text),
                Part::DeviceId => out.extend_from_slice(sample.device_id.as_bytes()),
                Part::Timestamp => rfc3339(sample.unix_us, out),
                Part::UnixMs => whole(sample.unix_us / 1_000, out),
                Part::UnixUs => whole(sample.unix_us, out),
                Part::Sequence => whole(u64::from(sample.sequence), out),
                Part::Field(at, words) => {
                    words.write(sample.values.get(*at).copied().unwrap_or(f64::NAN), out);
                }
            }
        }
    }
}

fn whole(number: u64, out: &mut Vec<u8>) {
    serde_json::to_writer(out, &number).expect("a buffer takes all that is written");
}
