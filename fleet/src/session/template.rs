//! Topics with placeholders: `devices/{device_id}/telemetry`.
//!
//! Parsed once a population; labels and type are filled in then, so that a device adds its id only.
//! Bound: [`TEMPLATE_BYTES_MAX`].

use std::fmt::Write as _;

use thiserror::Error;

/// Longest template and longest topic that is made of one: a quarter of what MQTT allows.
pub const TEMPLATE_BYTES_MAX: usize = 16_384;

/// A text with the places of the device id left open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// What stands before each device id, and after the last.
    parts: Box<[Box<str>]>,
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// A brace that is not closed, or was not opened.
    #[error("a brace without its partner at byte {at}; write placeholders as {{device_id}}")]
    Brace {
        /// Where.
        at: usize,
    },
    /// Nothing of this name.
    #[error("unknown placeholder {{{name}}}; known: {known}")]
    Unknown {
        /// As it stands there.
        name: String,
        /// All that there is.
        known: String,
    },
    /// A character that a topic may not have.
    #[error("{what} cannot stand in a topic")]
    Character {
        /// Which.
        what: &'static str,
    },
    /// Nothing at all.
    #[error("a topic cannot be empty")]
    Empty,
    /// Too long.
    #[error("{bytes} bytes, at most {TEMPLATE_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

impl Template {
    /// Parses a template for one device type with its labels.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(
        text: &str,
        device_type: &str,
        labels: &[(String, String)],
    ) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut part = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let brace = TemplateError::Brace {
                at: text.len() - rest.len() + at,
            };
            part.push_str(&rest[..at]);
            let inner = rest[at..].strip_prefix('{').ok_or(brace.clone())?;
            let (name, after) = inner.split_once('}').ok_or(brace.clone())?;
            if name.contains('{') {
                return Err(brace);
            }
            match name {
                "device_id" => parts.push(std::mem::take(&mut part).into()),
                "device_type" => part.push_str(device_type),
                other => part.push_str(label(other, labels)?),
            }
            rest = after;
        }
        part.push_str(rest);
        parts.push(part.into());
        let template = Self {
            parts: parts.into(),
        };
        template.check()?;
        Ok(template)
    }

    fn check(&self) -> Result<(), TemplateError> {
        let bytes = self.parts.iter().map(|part| part.len()).sum();
        if bytes > TEMPLATE_BYTES_MAX {
            return Err(TemplateError::TooLong { bytes });
        }
        if bytes == 0 && self.parts.len() == 1 {
            return Err(TemplateError::Empty);
        }
        let banned = [
            ('+', "the wildcard +"),
            ('#', "the wildcard #"),
            ('\0', "U+0000"),
        ];
        for (character, what) in banned {
            if self.parts.iter().any(|part| part.contains(character)) {
                return Err(TemplateError::Character { what });
            }
        }
        Ok(())
    }

    /// Appends the topic of one device.
    pub fn write(&self, device_id: &str, out: &mut String) {
        for (at, part) in self.parts.iter().enumerate() {
            if at > 0 {
                out.push_str(device_id);
            }
            out.push_str(part);
        }
    }

    /// The same, as bytes.
    pub fn append(&self, device_id: &str, out: &mut Vec<u8>) {
        for (at, part) in self.parts.iter().enumerate() {
            if at > 0 {
                out.extend_from_slice(device_id.as_bytes());
            }
            out.extend_from_slice(part.as_bytes());
        }
    }

    /// The same template as the path of a request: with its `/`, and with what a request line may
    /// not have written as `%20` (RFC 3986, 2.1).
    #[must_use]
    pub fn into_path(self) -> Self {
        let mut parts: Vec<String> = self.parts.iter().map(|part| encoded(part)).collect();
        if !parts[0].starts_with('/') {
            parts[0].insert(0, '/');
        }
        Self {
            parts: parts.into_iter().map(Into::into).collect(),
        }
    }

    /// The same template as a routing key: with dots where a topic has slashes.
    #[must_use]
    pub fn into_key(self) -> Self {
        let dotted = |part: &str| part.replace('/', ".").into();
        Self {
            parts: self.parts.iter().map(|part| dotted(part)).collect(),
        }
    }

    /// The topic of one device.
    #[must_use]
    pub fn fill(&self, device_id: &str) -> String {
        let mut out = String::new();
        self.write(device_id, &mut out);
        out
    }

    /// Whether two devices have two topics.
    #[must_use]
    pub fn is_per_device(&self) -> bool {
        self.parts.len() > 1
    }
}

fn encoded(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    for byte in part.bytes() {
        match byte {
            b'!'..=b'~' if !b"\"<>\\^`{|}".contains(&byte) => out.push(char::from(byte)),
            other => {
                let written = write!(out, "%{other:02X}");
                written.expect("a text takes all that is written");
            }
        }
    }
    out
}

fn label<'a>(name: &str, labels: &'a [(String, String)]) -> Result<&'a str, TemplateError> {
    let wanted = name.strip_prefix("labels.");
    let found = wanted.and_then(|wanted| labels.iter().find(|(label, _)| label == wanted));
    found.map(|(_, value)| value.as_str()).ok_or_else(|| {
        let names = labels
            .iter()
            .map(|(label, _)| format!("{{labels.{label}}}"));
        let fixed = ["{device_id}", "{device_type}"].map(str::to_owned);
        TemplateError::Unknown {
            name: name.to_owned(),
            known: fixed
                .into_iter()
                .chain(names)
                .collect::<Vec<_>>()
                .join(", "),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Template, TemplateError> {
        let labels = [("site".to_owned(), "north".to_owned())];
        Template::parse(text, "pump", &labels)
    }

    #[test]
    fn placeholders_are_filled_in() {
        for (text, topic) in [
            (
                "devices/{device_id}/telemetry",
                "devices/pump-0007/telemetry",
            ),
            (
                "{device_type}/{labels.site}/{device_id}",
                "pump/north/pump-0007",
            ),
            ("{device_id}{device_id}", "pump-0007pump-0007"),
            ("all", "all"),
        ] {
            assert_eq!(parse(text).unwrap().fill("pump-0007"), topic);
        }
        assert!(parse("{device_id}").unwrap().is_per_device());
        assert!(!parse("all").unwrap().is_per_device());
    }

    #[test]
    fn a_path_says_nothing_but_a_path() {
        let labels = [("site".to_owned(), "n\u{f6}rd\r\nx: y".to_owned())];
        let template = Template::parse("a b/{labels.site}/{device_id}?x=1", "pump", &labels);
        let path = template.unwrap().into_path();
        let wanted = "/a%20b/n%C3%B6rd%0D%0Ax:%20y/pump-0007?x=1";
        assert_eq!(path.fill("pump-0007"), wanted);
        let mut bytes = Vec::new();
        path.append("pump-0007", &mut bytes);
        assert_eq!(bytes, wanted.as_bytes());
    }

    #[test]
    fn wrong_templates_say_what_is_wrong() {
        for (text, said) in [
            ("a/{device_id", "at byte 2"),
            ("a/}b", "at byte 2"),
            ("a/{{device_id}}", "at byte 2"),
            (
                "a/{labels.colour}",
                "known: {device_id}, {device_type}, {labels.site}",
            ),
            ("a/+/b", "wildcard +"),
            ("a/#", "wildcard #"),
            ("", "empty"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
