//! The language: Rhai, without files, modules, clocks and `eval`, and the functions of scenarios.
//!
//! A function that does something is a command of the attach table; it fails with the place where
//! it was called. Bounds: [`limits`](super::limits).

use std::sync::Arc;
use std::time::Duration;

use actorsim_fleet::profile::{BUILT_IN, parse_duration};
use rhai::{Dynamic, Engine, EvalAltResult, FLOAT, INT, Map as Fields, NativeCallContext, Token};
use serde_json::{Map, Value as Json};

use super::devices::Devices;
use super::host::{Host, HostError};
use super::limits::{
    CALL_LEVELS_MAX, ENTRIES_MAX, EXPECTATIONS_MAX, EXPRESSION_DEPTH_MAX, FUNCTIONS_MAX,
    LOG_LINE_BYTES_MAX, MEMORY_BYTES_MAX, MEMORY_LOOK_OPERATIONS, OPERATIONS_MAX, QUESTIONS_MAX,
    TEXT_BYTES_MAX, VARIABLES_MAX,
};
use super::memory::Memory;
use super::record::Record;
use super::script::Script;
use super::values;
use crate::attach::parse;
use crate::report::Expectation;

/// What a function gives back.
type Given<T> = Result<T, Box<EvalAltResult>>;

/// The language with its limits, and no function of scenarios: enough to compile.
#[must_use]
pub fn bare() -> Engine {
    let mut engine = Engine::new();
    engine
        .set_max_operations(OPERATIONS_MAX)
        .set_max_call_levels(CALL_LEVELS_MAX)
        .set_max_expr_depths(EXPRESSION_DEPTH_MAX, EXPRESSION_DEPTH_MAX)
        .set_max_variables(VARIABLES_MAX)
        .set_max_functions(FUNCTIONS_MAX)
        .set_max_string_size(TEXT_BYTES_MAX)
        .set_max_array_size(ENTRIES_MAX)
        .set_max_map_size(ENTRIES_MAX)
        .set_strict_variables(true)
        .set_fail_on_invalid_map_property(true)
        .disable_symbol("eval")
        // It would put values where no limit sees them.
        .disable_symbol("curry");
    free_spawn(&mut engine);
    engine
}

/// `spawn` is a word that Rhai keeps for later; here it is the name of a function.
#[expect(
    deprecated,
    reason = "not deprecated, says its author, but it may change"
)]
fn free_spawn(engine: &mut Engine) {
    engine.on_parse_token(|token, _, _| match token {
        Token::Reserved(word) if word.as_str() == "spawn" => Token::Identifier(word),
        other => other,
    });
}

/// What the functions of one run share.
#[derive(Clone)]
struct Run {
    script: Arc<Script>,
    host: Arc<dyn Host>,
    record: Arc<Record>,
    memory: Arc<Memory>,
}

/// The language with the functions of one run.
#[must_use]
pub fn engine(script: &Script, host: &Arc<dyn Host>, record: &Arc<Record>) -> Engine {
    let run = Run {
        script: Arc::new(script.clone()),
        host: Arc::clone(host),
        record: Arc::clone(record),
        memory: Arc::default(),
    };
    let mut engine = bare();
    let (over, memory) = (Arc::clone(host), Arc::clone(&run.memory));
    engine.on_progress(move |operations| {
        if over.is_over() {
            return Some(HostError::Over.to_string().into());
        }
        let look = operations.is_multiple_of(MEMORY_LOOK_OPERATIONS);
        let much = || format!("it takes more than {} MiB", MEMORY_BYTES_MAX >> 20).into();
        (look && memory.is_too_much()).then(much)
    });
    let said = run.clone();
    engine.on_print(move |line| said.log(line));
    let said = run.clone();
    engine.on_debug(move |line, _, _| said.log(line));
    devices(&mut engine);
    acting(&mut engine, &run);
    looking(&mut engine, &run);
    engine
}

/// Devices as values.
fn devices(engine: &mut Engine) {
    engine
        .register_type_with_name::<Devices>("Devices")
        .register_iterator::<Devices>()
        .register_fn("len", |own: &mut Devices| own.len())
        .register_get("len", |own: &mut Devices| own.len())
        .register_fn("to_string", |own: &mut Devices| own.to_string())
        .register_fn("part", |own: &mut Devices, from: INT, count: INT| {
            own.part(from, count)
        })
        .register_fn("parts", |own: &mut Devices, count: INT| {
            let parts = own.parts(count.min(ENTRIES_MAX as INT));
            parts
                .into_iter()
                .map(Dynamic::from)
                .collect::<rhai::Array>()
        })
        .register_indexer_get(|own: &mut Devices, at: INT| -> Given<String> {
            let outside = || format!("there are {} devices, not one at {at}", own.len());
            own.id(at).ok_or_else(|| outside().into())
        });
}

/// Functions that change something.
fn acting(engine: &mut Engine, run: &Run) {
    let own = run.clone();
    engine.register_fn("spawn", move |profile: &str, count: INT| {
        own.spawn(profile, count, &Fields::new(), &Fields::new())
    });
    let own = run.clone();
    engine.register_fn("spawn", move |profile: &str, count: INT, labels: Fields| {
        own.spawn(profile, count, &labels, &Fields::new())
    });
    let own = run.clone();
    engine.register_fn(
        "spawn",
        move |profile: &str, count: INT, labels: Fields, options: Fields| {
            own.spawn(profile, count, &labels, &options)
        },
    );
    let own = run.clone();
    engine.register_fn("stop", move |whom: Dynamic| own.stop(&whom, true));
    let own = run.clone();
    engine.register_fn("stop", move |whom: Dynamic, graceful: bool| {
        own.stop(&whom, graceful)
    });
    let own = run.clone();
    engine.register_fn("inject_fault", move |whom: Dynamic, kind: &str| {
        own.inject(&whom, kind, &Dynamic::UNIT, &Fields::new())
    });
    let own = run.clone();
    engine.register_fn(
        "inject_fault",
        move |whom: Dynamic, kind: &str, time: Dynamic| {
            own.inject(&whom, kind, &time, &Fields::new())
        },
    );
    let own = run.clone();
    engine.register_fn(
        "inject_fault",
        move |whom: Dynamic, kind: &str, time: Dynamic, params: Fields| {
            own.inject(&whom, kind, &time, &params)
        },
    );
    let own = run.clone();
    engine.register_fn("revert_fault", move |whom: Dynamic| own.revert(&whom, None));
    let own = run.clone();
    engine.register_fn("revert_fault", move |whom: Dynamic, kind: &str| {
        own.revert(&whom, Some(kind))
    });
    let own = run.clone();
    engine.register_fn("update_behavior", move |whom: Dynamic, fields: Fields| {
        own.update(&whom, fields)
    });
    let own = run.clone();
    engine.register_fn("command", move |line: &str| own.command(line));
    // The language's own would hold a thread for real time.
    let instead = || -> Given<()> { Err("scripts do not sleep: use wait".into()) };
    engine.register_fn("sleep", move |_: INT| instead());
    engine.register_fn("sleep", move |_: FLOAT| instead());
    let own = run.clone();
    engine.register_fn("wait", move |time: Dynamic| own.wait(&time));
}

/// Functions that look and judge.
fn looking(engine: &mut Engine, run: &Run) {
    let own = run.clone();
    engine.register_fn("status", move || own.status());
    let own = run.clone();
    engine.register_fn("now", move || own.host.now().as_secs_f64());
    let own = run.clone();
    engine.register_fn("seed", move || own.host.seed() as INT);
    let own = run.clone();
    engine.register_fn("log", move |line: Dynamic| own.log(&line.to_string()));
    let own = run.clone();
    engine.register_fn("arg", move |name: &str, default: Dynamic| {
        own.arg(name, default)
    });
    let own = run.clone();
    engine.register_fn("expect", move |cx: NativeCallContext<'_>, held: bool| {
        own.expect(&cx, held, "")
    });
    let own = run.clone();
    engine.register_fn(
        "expect",
        move |cx: NativeCallContext<'_>, held: bool, text: &str| own.expect(&cx, held, text),
    );
}

impl Run {
    /// One command of the attach table.
    fn ask(&self, name: &str, args: Map<String, Json>) -> Given<Json> {
        if self.record.asked() > QUESTIONS_MAX {
            return Err(format!("it has asked its node {QUESTIONS_MAX} times").into());
        }
        let answer = self.memory.pause(|| self.host.command(name, args));
        answer.map_err(|error| match error {
            HostError::Over => EvalAltResult::ErrorTerminated(
                Dynamic::from(error.to_string()),
                rhai::Position::NONE,
            )
            .into(),
            other => other.to_string().into(),
        })
    }

    fn spawn(
        &self,
        profile: &str,
        count: INT,
        labels: &Fields,
        options: &Fields,
    ) -> Given<Devices> {
        let count = u32::try_from(count).map_err(|_| format!("{count} devices"))?;
        let profile = self.script.beside(profile, &BUILT_IN)?;
        let mut args = Map::new();
        args.insert("profile".to_owned(), profile.into());
        args.insert("count".to_owned(), count.into());
        let labels: Vec<_> = labels
            .iter()
            .map(|(label, value)| Json::from(format!("{label}={value}")))
            .collect();
        if !labels.is_empty() {
            args.insert("label_value".to_owned(), labels.into());
        }
        for (name, value) in options {
            let known = ["name", "interval", "seed"];
            if !known.contains(&name.as_str()) {
                let known = known.join(", ");
                return Err(format!("spawn has no option `{name}`; known: {known}").into());
            }
            args.insert(name.to_string(), values::to_json(value)?);
        }
        let spawned = self.ask("spawn", args)?;
        let number = |key: &str| spawned[key].as_u64().unwrap_or(0) as u32;
        let kind = spawned["device_type"].as_str().unwrap_or_default();
        Ok(Devices::new(kind, number("first"), number("count")))
    }

    fn stop(&self, whom: &Dynamic, graceful: bool) -> Given<INT> {
        self.each(whom, "stopped", |selector| {
            let mut args = Map::new();
            args.insert("selector".to_owned(), selector.into());
            if !graceful {
                args.insert("now".to_owned(), true.into());
            }
            self.ask("retire", args)
        })
    }

    fn inject(&self, whom: &Dynamic, kind: &str, time: &Dynamic, params: &Fields) -> Given<INT> {
        let mut words: Vec<Json> = Vec::new();
        let lasts = !time.is_unit() && values::text(time) != "0" && !values::text(time).is_empty();
        if lasts {
            let time = match time.is_int() || time.is_float() {
                true => format!("for={time}s"),
                false => format!("for={time}"),
            };
            words.push(time.into());
        }
        for (name, value) in params {
            words.push(format!("{name}={value}").into());
        }
        self.each(whom, "/rows/0/reached/sent", |selector| {
            let mut args = Map::new();
            args.insert("action".to_owned(), "inject".into());
            args.insert("target".to_owned(), selector.into());
            args.insert("kind".to_owned(), kind.into());
            if !words.is_empty() {
                args.insert("key_value".to_owned(), words.clone().into());
            }
            self.ask("fault", args)
        })
    }

    fn revert(&self, whom: &Dynamic, kind: Option<&str>) -> Given<INT> {
        self.each(whom, "/rows/0/reached/sent", |selector| {
            let mut args = Map::new();
            args.insert("action".to_owned(), "revert".into());
            args.insert("target".to_owned(), selector.into());
            if let Some(kind) = kind {
                args.insert("kind".to_owned(), kind.into());
            }
            self.ask("fault", args)
        })
    }

    fn update(&self, whom: &Dynamic, fields: Fields) -> Given<INT> {
        let fields = values::to_json(&fields.into())?.to_string();
        self.each(whom, "selected", |selector| {
            let mut args = Map::new();
            args.insert("selector".to_owned(), selector.into());
            args.insert("fields".to_owned(), fields.clone().into());
            self.ask("update", args)
        })
    }

    /// Asks for each selector; returns the sum of what the answers hold there.
    fn each(&self, whom: &Dynamic, sum: &str, ask: impl Fn(String) -> Given<Json>) -> Given<INT> {
        let mut total = 0;
        for selector in selectors(whom)? {
            let answer = ask(selector)?;
            let found = match sum.starts_with('/') {
                true => answer.pointer(sum),
                false => answer.get(sum),
            };
            total += found.and_then(Json::as_i64).unwrap_or(0);
        }
        Ok(total)
    }

    fn command(&self, line: &str) -> Given<Dynamic> {
        let parsed = parse::parse(line)?;
        let (command, mut args) = parsed.ok_or_else(|| "an empty command".to_owned())?;
        // A file is one beside the script here, too.
        for (key, known) in [("profile", &BUILT_IN[..]), ("plan", &[])] {
            if let Some(Json::String(name)) = args.get_mut(key) {
                *name = self.script.beside(name, known)?;
            }
        }
        self.ask(command.name, args).map(values::from_json)
    }

    fn wait(&self, time: &Dynamic) -> Given<()> {
        let time = duration(time)?;
        let _ = self.record.asked();
        let waited = self.memory.pause(|| self.host.wait(time));
        waited.map_err(|error| {
            EvalAltResult::ErrorTerminated(Dynamic::from(error.to_string()), rhai::Position::NONE)
                .into()
        })
    }

    /// What `fleet` says of all devices; `counted` and `rows` one level up.
    fn status(&self) -> Given<Fields> {
        let mut shown = self.ask("fleet", Map::new())?;
        let rows = shown["rows"].take();
        let Json::Object(mut total) = shown["total"].take() else {
            return Err("the node tells nothing of its devices".into());
        };
        if let Some(Json::Object(counted)) = total.remove("counted") {
            total.extend(counted);
        }
        let active = |faults: &Json| {
            let kinds = faults.as_object().into_iter().flat_map(Map::values);
            kinds
                .filter_map(|kind| kind["active"].as_i64())
                .sum::<i64>()
        };
        let active = active(&total["faults"]);
        total.insert("faults_active".to_owned(), active.into());
        total.insert("populations".to_owned(), rows);
        Ok(values::fields(total))
    }

    fn log(&self, line: &str) {
        let mut end = line.len().min(LOG_LINE_BYTES_MAX);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        let line = format!("{:9.1} s  {}", self.host.now().as_secs_f64(), &line[..end]);
        self.record.log(&line);
        self.host.log(&line);
    }

    /// A value of the run's own, as the kind of its default.
    fn arg(&self, name: &str, default: Dynamic) -> Given<Dynamic> {
        let Some(text) = self.script.args.get(name) else {
            return Ok(default);
        };
        let wrong = |kind: &str| format!("--arg {name}={text}: {name} is {kind}");
        Ok(if default.is_int() {
            text.parse::<INT>()
                .map_err(|_| wrong("a whole number"))?
                .into()
        } else if default.is_float() {
            text.parse::<FLOAT>().map_err(|_| wrong("a number"))?.into()
        } else if default.is_bool() {
            text.parse::<bool>()
                .map_err(|_| wrong("true or false"))?
                .into()
        } else {
            text.clone().into()
        })
    }

    fn expect(&self, cx: &NativeCallContext<'_>, held: bool, text: &str) -> Given<bool> {
        let line = cx.call_position().line().unwrap_or(0);
        let expectation = Expectation {
            text: text.to_owned(),
            held,
            line: line as u64,
            at_s: self.host.now().as_secs_f64(),
        };
        if !held {
            self.log(&format!("line {line}: expected that {text}"));
        }
        match self.record.expect(expectation) {
            true => Ok(held),
            false => Err(format!("more than {EXPECTATIONS_MAX} expectations").into()),
        }
    }
}

/// Who is meant: a text, devices, or a list of these.
fn selectors(whom: &Dynamic) -> Result<Vec<String>, String> {
    if let Some(devices) = whom.read_lock::<Devices>() {
        return match devices.is_empty() {
            true => Ok(Vec::new()),
            false => Ok(vec![devices.to_string()]),
        };
    }
    if let Some(all) = whom.read_lock::<rhai::Array>() {
        let each: Result<Vec<_>, _> = all.iter().map(selectors).collect();
        return Ok(each?.concat());
    }
    match whom.clone().into_immutable_string() {
        Ok(text) => Ok(vec![text.to_string()]),
        Err(kind) => Err(format!(
            "devices are meant by a text such as `site=north,10%`, by what spawn gave, or by a \
             list of these, not by {kind}"
        )),
    }
}

/// `"10m"`, or seconds.
fn duration(time: &Dynamic) -> Result<Duration, String> {
    let seconds = match (time.as_int(), time.as_float()) {
        (Ok(whole), _) => whole as f64,
        (_, Ok(seconds)) => seconds,
        _ => return parse_duration(&time.to_string()),
    };
    let wrong = |_| format!("`{time}` is no time: use \"10m\", or seconds");
    Duration::try_from_secs_f64(seconds).map_err(wrong)
}
