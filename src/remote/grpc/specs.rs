//! Specs of devices as batches of one profile each.
//!
//! A client sends a spec for every device, and almost all of them are the same but for the id. So
//! a spec is first split into its id and the rest, as bytes; only a rest that was not seen before
//! is read. A hundred thousand specs cost one profile and their ids. Bounds: [`SHAPES_MAX`]
//! different rests of one request, ids as a fleet takes them.

use std::collections::{BTreeMap, BTreeSet};

use actorsim_fleet::Profile;
use actorsim_fleet::names::is_id;
use bytes::{Buf as _, Bytes};
use prost::Message as _;
use prost::encoding::{WireType, decode_key, decode_varint};
use serde_json::{Map, Value as Json};

use super::message::{DeviceSpec, Duration, Kind, Struct, Value};
use crate::remote::desk::{Batch, Devices, Unspawned};

/// Different profiles of one request: as many populations as a fleet holds.
const SHAPES_MAX: usize = 1_024;

/// How deep the values of a spec may be nested: a composite of composites.
const DEPTH_MAX: usize = 16;

/// What a request asks for.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) batches: Vec<Batch>,
    pub(crate) failed: Vec<(String, Unspawned)>,
}

/// Reads the specs of one request.
pub(crate) fn read(specs: &[Bytes]) -> Read {
    let mut shapes = Shapes::default();
    let mut taken = BTreeSet::new();
    let mut failed = Vec::new();
    for spec in specs {
        let Some((id, rest)) = split(spec) else {
            let why = Unspawned::Wrong("the spec cannot be read".to_owned());
            failed.push((String::new(), why));
            continue;
        };
        if !is_id(&id) {
            failed.push((id.clone(), Unspawned::Id(id)));
            continue;
        }
        match shapes.of(rest) {
            Err(why) => failed.push((id, why)),
            Ok(_) if taken.contains(&id) => failed.push((id.clone(), Unspawned::Exists(id))),
            Ok(shape) => {
                taken.insert(id.clone());
                shape.push(id);
            }
        }
    }
    Read {
        batches: shapes.batches(),
        failed,
    }
}

/// A spec's id, and all else as bytes.
fn split(spec: &Bytes) -> Option<(String, Bytes)> {
    let mut left = spec.clone();
    let mut id = None;
    let mut rest: Vec<Bytes> = Vec::new();
    while left.has_remaining() {
        let from = spec.len() - left.len();
        let (tag, wire) = decode_key(&mut left).ok()?;
        let length = match wire {
            WireType::LengthDelimited => decode_varint(&mut left).ok()?,
            WireType::Varint => {
                decode_varint(&mut left).ok()?;
                0
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        let length = usize::try_from(length).ok().filter(|n| *n <= left.len())?;
        let value = left.split_to(length);
        if tag == 1 && wire == WireType::LengthDelimited {
            id = Some(String::from_utf8(value.to_vec()).ok()?);
            continue;
        }
        if tag > 1 && rest.is_empty() && id.is_some() {
            // The id comes first, as everybody writes it: the rest is one piece.
            let whole = spec.slice(from..);
            if !has_id(&whole)? {
                return Some((id?, whole));
            }
        }
        rest.push(spec.slice(from..spec.len() - left.len()));
    }
    Some((id.unwrap_or_default(), rest.concat().into()))
}

/// Whether an id stands among these fields. The last one of a field counts.
fn has_id(fields: &Bytes) -> Option<bool> {
    let mut left = &fields[..];
    while left.has_remaining() {
        let (tag, wire) = decode_key(&mut left).ok()?;
        if tag == 1 {
            return Some(true);
        }
        prost::encoding::skip_field(wire, tag, &mut left, Default::default()).ok()?;
    }
    Some(false)
}

/// The different rests of a request.
#[derive(Debug, Default)]
struct Shapes {
    /// By what came: the shape, or what is wrong with it.
    seen: BTreeMap<Bytes, Result<usize, Unspawned>>,
    /// By what it means: maps come in any order.
    known: BTreeMap<String, usize>,
    all: Vec<(Profile, Vec<String>)>,
    /// The former spec's: mostly this one's, too.
    last: Option<(Bytes, usize)>,
}

impl Shapes {
    /// The ids of the shape that these bytes mean.
    fn of(&mut self, rest: Bytes) -> Result<&mut Vec<String>, Unspawned> {
        let at = match &self.last {
            Some((last, at)) if *last == rest => *at,
            _ => {
                let at = self.find(&rest)?;
                self.last = Some((rest, at));
                at
            }
        };
        Ok(&mut self.all[at].1)
    }

    fn find(&mut self, rest: &Bytes) -> Result<usize, Unspawned> {
        if let Some(found) = self.seen.get(rest) {
            return found.clone();
        }
        if self.seen.len() == SHAPES_MAX {
            let why = format!("more than {SHAPES_MAX} different specs in one request");
            return Err(Unspawned::Full(why));
        }
        let found = self.learn(rest);
        self.seen.insert(rest.clone(), found.clone());
        found
    }

    fn learn(&mut self, rest: &Bytes) -> Result<usize, Unspawned> {
        let wrong = |why: String| Unspawned::Wrong(why);
        let spec = DeviceSpec::decode(&rest[..]).map_err(|error| wrong(error.to_string()))?;
        let text = profile_text(spec).map_err(wrong)?;
        if let Some(at) = self.known.get(&text) {
            return Ok(*at);
        }
        let loaded = Profile::parse_alone("spec.yaml", &text).map_err(|errors| {
            let errors: Vec<_> = errors.iter().map(|error| error.message.clone()).collect();
            wrong(errors.join("; "))
        })?;
        self.all.push((loaded.profile, Vec::new()));
        self.known.insert(text, self.all.len() - 1);
        Ok(self.all.len() - 1)
    }

    fn batches(self) -> Vec<Batch> {
        let batch = |(profile, ids): (Profile, Vec<String>)| {
            let devices = Devices::Named(ids);
            Batch { profile, devices }
        };
        let some = self.all.into_iter().filter(|(_, ids)| !ids.is_empty());
        some.map(batch).collect()
    }
}

/// A spec as the profile it means, in JSON: which is YAML, too.
fn profile_text(spec: DeviceSpec) -> Result<String, String> {
    let mut profile = Map::new();
    profile.insert("type".into(), spec.device_type.into());
    for (key, text) in [
        ("protocol", spec.protocol),
        ("topic_template", spec.topic_template),
    ] {
        if !text.is_empty() {
            profile.insert(key.into(), text.into());
        }
    }
    if let Some(interval) = &spec.telemetry_interval {
        let millis = millis(interval)?;
        profile.insert("telemetry_interval".into(), format!("{millis}ms").into());
    }
    if let Some(params) = spec.behavior_params {
        profile.insert("telemetry_fields".into(), fields(params)?);
    }
    let labels = spec.labels.into_iter();
    let labels = labels.map(|(key, value)| (key, value.into()));
    profile.insert("labels".into(), Json::Object(labels.collect()));
    Ok(Json::Object(profile).to_string())
}

/// The generators of `behavior_params`: its one key, `fields`.
pub(crate) fn fields(mut params: Struct) -> Result<Json, String> {
    let Some(fields) = params.fields.remove("fields") else {
        return match params.fields.keys().next() {
            None => Ok(Json::Object(Map::new())),
            Some(key) => Err(format!(
                "behavior_params has a key `{key}`; it takes `fields`"
            )),
        };
    };
    let fields = json(fields, DEPTH_MAX)?;
    match fields {
        Json::Object(_) => Ok(fields),
        _ => Err("behavior_params.fields is no struct".to_owned()),
    }
}

/// A value of a struct as JSON.
pub(crate) fn json(value: Value, depth: usize) -> Result<Json, String> {
    let Some(below) = depth.checked_sub(1) else {
        return Err(format!("a value is nested more than {DEPTH_MAX} deep"));
    };
    Ok(match value.kind {
        None | Some(Kind::Null(_)) => Json::Null,
        Some(Kind::Number(number)) => {
            let finite = serde_json::Number::from_f64(number);
            Json::Number(finite.ok_or_else(|| format!("{number} is no number of a profile"))?)
        }
        Some(Kind::Text(text)) => Json::String(text),
        Some(Kind::Bool(on)) => Json::Bool(on),
        Some(Kind::List(list)) => {
            let items = list.values.into_iter().map(|item| json(item, below));
            Json::Array(items.collect::<Result<_, _>>()?)
        }
        Some(Kind::Struct(of)) => {
            let pairs = of.fields.into_iter();
            let pairs = pairs.map(|(key, value)| Ok((key, json(value, below)?)));
            Json::Object(pairs.collect::<Result<_, String>>()?)
        }
    })
}

/// A duration in milliseconds, with what is below them after the point.
pub(crate) fn millis(duration: &Duration) -> Result<f64, String> {
    if duration.seconds < 0 || !(0..1_000_000_000).contains(&duration.nanos) {
        return Err("a duration is negative or malformed".to_owned());
    }
    Ok(duration.seconds as f64 * 1e3 + f64::from(duration.nanos) / 1e6)
}
