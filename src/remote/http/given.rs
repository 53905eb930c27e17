//! What a request gives: from path, query and body, checked by the table of routes.
//!
//! All that is wrong is said at once. Bounds: the table; a body is one flat object but for
//! commands, whose own table checks them.

use serde_json::{Map, Value as Json};

use super::routes::{Does, Kind, Param, Place, Route, Segments};

/// What is given, by name.
#[derive(Debug, Default, PartialEq)]
pub struct Given {
    /// By name.
    pub values: Map<String, Json>,
    /// The arguments of a command.
    pub args: Map<String, Json>,
}

impl Given {
    /// Reads and checks it.
    ///
    /// # Errors
    /// Everything that is wrong, in words.
    pub fn read(route: &Route, path: &Segments, query: &str, body: &[u8]) -> Result<Self, String> {
        let (mut given, mut wrong) = (Self::default(), Vec::new());
        for (name, text) in path {
            given.values.insert((*name).into(), text.clone().into());
        }
        let mut pairs: Vec<(Place, String, Json)> = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, text) = part.split_once('=').unwrap_or((part, ""));
            match (decoded(name), decoded(text)) {
                (Some(name), Some(text)) => pairs.push((Place::Query, name, text.into())),
                _ => wrong.push(format!("`{part}` cannot be decoded")),
            }
        }
        match object(body) {
            Ok(map) if route.does == Does::Command => given.args = map,
            Ok(map) => pairs.extend(map.into_iter().map(|(k, v)| (Place::Body, k, v))),
            Err(why) => wrong.push(why),
        }
        for (place, name, value) in pairs {
            let here = |param: &&Param| param.place == place && param.name == name;
            match route.params.iter().find(here) {
                None => wrong.push(format!("unknown {} `{name}`", word(place))),
                Some(_) if value.is_null() => {} // as good as absent
                Some(param) => match checked(param, value) {
                    Ok(value) => drop(given.values.insert(name, value)),
                    Err(why) => wrong.push(why),
                },
            }
        }
        let missing = |param: &&Param| param.required && !given.values.contains_key(param.name);
        let missing = route.params.iter().filter(missing);
        wrong.extend(missing.map(|param| format!("`{}` is missing: {}", param.name, param.help)));
        match wrong.is_empty() {
            true => Ok(given),
            false => Err(wrong.join("; ")),
        }
    }

    /// A text that was given and is not empty.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        let text = self.values.get(name).and_then(Json::as_str);
        text.filter(|text| !text.is_empty())
    }

    /// A number that was given.
    #[must_use]
    pub fn count(&self, name: &str) -> Option<u64> {
        self.values.get(name).and_then(Json::as_u64)
    }

    /// Whether a flag was given as true.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.values.get(name).and_then(Json::as_bool) == Some(true)
    }
}

fn word(place: Place) -> &'static str {
    match place {
        Place::Path => "segment",
        Place::Query => "parameter",
        Place::Body => "key",
    }
}

fn object(body: &[u8]) -> Result<Map<String, Json>, String> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Json::Object(map)) => Ok(map),
        Ok(_) => Err("the body is no JSON object".to_owned()),
        Err(error) => Err(format!("the body is no JSON: {error}")),
    }
}

fn checked(param: &Param, value: Json) -> Result<Json, String> {
    let name = param.name;
    let (from, to) = match param.kind {
        Kind::Text if value.is_string() => return Ok(value),
        Kind::Text => return Err(format!("`{name}` is a text, not {value}")),
        Kind::Flag => {
            return match (value.as_bool(), value.as_str()) {
                (Some(on), _) => Ok(on.into()),
                (_, Some("true")) => Ok(true.into()),
                (_, Some("false")) => Ok(false.into()),
                _ => Err(format!("`{name}` is true or false, not {value}")),
            };
        }
        Kind::Count(from, to) => (from, to),
    };
    let number = value.as_u64();
    let number = number.or_else(|| value.as_str().and_then(|text| text.parse().ok()));
    match number.filter(|number| (from..=to).contains(number)) {
        Some(number) => Ok(number.into()),
        None => Err(format!(
            "`{name}` is a whole number from {from} to {to}, not {value}"
        )),
    }
}

/// A part of an address, its `%XX` and `+` decoded; `None` if that makes no text.
#[must_use]
pub fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut left = text.bytes();
    while let Some(byte) = left.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(left.next()?)?, digit(left.next()?)?);
                (high * 16 + low) as u8
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::super::routes;
    use super::*;
    use hyper::Method;

    fn read(method: &Method, path: &str, query: &str, body: &str) -> Result<Given, String> {
        let (route, path) = routes::find(method, path).unwrap();
        Given::read(route, &path, query, body.as_bytes())
    }

    #[test]
    fn what_is_given_is_checked_by_the_table_and_all_that_is_wrong_is_said() {
        let spawn = |body: &str| read(&Method::POST, "/api/v1/devices/spawn", "", body);
        let given = spawn(r#"{"profile": "single", "count": 3, "runtime": null}"#).unwrap();
        assert_eq!(
            (given.text("profile"), given.count("count")),
            (Some("single"), Some(3))
        );
        let wrong = spawn(r#"{"profil": "single", "count": 0}"#).unwrap_err();
        for part in [
            "unknown key `profil`",
            "`count` is a whole number",
            "`profile` is missing",
        ] {
            assert!(wrong.contains(part), "{part}: {wrong}");
        }
        assert!(spawn("[]").unwrap_err().contains("no JSON object"));
        let stream = "/api/v1/devices/stream";
        let query = "device_ids=a%2Cb,c&batch_size=7";
        let given = read(&Method::GET, stream, query, "").unwrap();
        assert_eq!(
            (given.text("device_ids"), given.count("batch_size")),
            (Some("a,b,c"), Some(7))
        );
        let wrong = read(&Method::GET, stream, "batch_size=x&%zz=1&y=2", "").unwrap_err();
        for part in [
            "`batch_size`",
            "`%zz=1` cannot be decoded",
            "unknown parameter `y`",
        ] {
            assert!(wrong.contains(part), "{part}: {wrong}");
        }
    }
}
