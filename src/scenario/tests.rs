//! The language on a host that only remembers: what functions ask, and what no script can do.

use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Map, Value as Json, json};

use super::*;

#[derive(Default)]
struct Remembers {
    asked: Mutex<Vec<String>>,
    now: Mutex<Duration>,
}

impl Host for Remembers {
    fn command(&self, name: &str, args: Map<String, Json>) -> Result<Json, HostError> {
        let line = format!("{name} {}", Json::Object(args));
        self.asked.lock().push(line);
        match name {
            "spawn" => Ok(json!({ "device_type": "lock", "first": 5, "count": 20 })),
            "retire" => Ok(json!({ "stopped": 3 })),
            "fault" => Ok(json!({ "rows": [{ "reached": { "sent": 4 } }] })),
            "update" => Ok(json!({ "selected": 7 })),
            "fleet" => Ok(json!({ "rows": [], "total": {
                "running": 9, "counted": { "ticks": 11 },
                "faults": { "hang": { "active": 2 }, "storm": { "active": 1 } },
            } })),
            _ => Err(HostError::Refused("no such thing".to_owned())),
        }
    }

    fn wait(&self, time: Duration) -> Result<(), HostError> {
        *self.now.lock() += time;
        Ok(())
    }

    fn now(&self) -> Duration {
        *self.now.lock()
    }

    fn log(&self, _: &str) {}

    fn is_over(&self) -> bool {
        false
    }

    fn seed(&self) -> u64 {
        7
    }
}

fn ran(text: &str) -> (report::Scenario, Vec<String>) {
    let script = Script::compile("t.rhai", text.to_owned(), None).unwrap();
    let host = Arc::new(Remembers::default());
    let own = Arc::clone(&host) as Arc<dyn Host>;
    let thread = begin(script, own, |outcome| outcome).unwrap();
    let outcome = thread.join().unwrap();
    let asked = host.asked.lock().clone();
    (outcome, asked)
}

fn error(text: &str) -> String {
    ran(text)
        .0
        .error
        .unwrap_or_else(|| panic!("it ended well: {text}"))
}

#[test]
fn functions_are_commands_of_the_attach_table() {
    let (outcome, asked) = ran(r#"
        let locks = spawn("lock", 20, #{ site: "north" }, #{ interval: "5s" });
        expect(locks.len == 20 && locks[0] == "lock-0005", "they have ids");
        expect(stop(locks, false) == 3);
        expect(inject_fault("site=north,10%", "latency_spike", "30s", #{ latency_ms: 250 }) == 4);
        inject_fault(locks.part(1, 2), "hang");
        revert_fault("*", "hang");
        update_behavior([locks[3], "site=south"], #{ battery: #{ type: "static", value: 1.5 } });
        wait("1m"); wait(2); wait(0.5);
        expect(now() == 62.5, "waits add up");
        let s = status();
        expect(s.running == 9 && s.ticks == 11 && s.faults_active == 3);
        expect(seed() == 7 && arg("devices", 12) == 12);
        expect(1 > 2, "pigs fly");
    "#);
    assert_eq!(outcome.error, None);
    assert_eq!((outcome.expectations.len(), outcome.failed), (7, 1));
    let failed = outcome.expectations.last().unwrap();
    assert_eq!(
        (failed.line, failed.at_s, failed.text.as_str()),
        (14, 62.5, "pigs fly")
    );
    assert!(outcome.log.iter().any(|line| line.contains("pigs fly")));
    let spawn =
        r#"spawn {"profile":"lock","count":20,"label_value":["site=north"],"interval":"5s"}"#;
    assert_eq!(asked[0], spawn);
    assert_eq!(
        asked[1],
        r#"retire {"selector":"lock-0005..0024","now":true}"#
    );
    assert!(
        asked[2].contains(r#""key_value":["for=30s","latency_ms=250"]"#),
        "{}",
        asked[2]
    );
    assert!(asked[3].contains("lock-0006..0007"));
    let fields = r#""{\"battery\":{\"type\":\"static\",\"value\":1.5}}""#;
    assert!(
        asked[5].contains("lock-0008") && asked[5].contains(fields),
        "{}",
        asked[5]
    );
    for line in &asked {
        let (name, args) = line.split_once(' ').unwrap();
        let command = crate::attach::command::find(name).unwrap();
        let args: Map<String, Json> = serde_json::from_str(args).unwrap();
        crate::attach::parse::check(command, &args).unwrap();
    }
}

#[test]
fn an_error_names_line_and_column() {
    let wrong = Script::compile("t.rhai", "let a = 1;\nlet b = ;\n".to_owned(), None);
    let wrong = wrong.unwrap_err();
    assert_eq!((wrong.line, wrong.column), (2, 9), "{wrong}");
    assert!(wrong.to_string().starts_with("t.rhai:2:9: "));
    let refused = error("let a = 1;\n  command(\"health\");");
    assert!(
        refused.starts_with("t.rhai:2:3: no such thing\n  "),
        "{refused}"
    );
    let unknown = error("let x = 1;\nfrobnicate(x);");
    assert!(unknown.starts_with("t.rhai:2:1: "), "{unknown}");
    let deep = error("fn f(x) {\n  wait(\"soon\");\n}\nf(1);");
    assert!(
        deep.starts_with("t.rhai:2:3: `soon` is not a duration"),
        "{deep}"
    );
}

#[test]
fn a_script_cannot_loop_for_ever_or_eat_memory() {
    for (text, words) in [
        ("loop { }", "operations without an end"),
        ("fn f(x) { f(x + 1) } f(0);", "overflow"),
        ("let a = []; loop { a.push(a.len); }", "too large"),
        ("let a = [1]; loop { a += a; }", "too large"),
        ("let s = \"x\"; loop { s += s; }", "too large"),
        (
            "let m = #{}; let n = 0; loop { m[`${n}`] = n; n += 1; }",
            "operations",
        ),
        (
            "let a = []; for n in 0..100 { a = [a, a, a]; }",
            "too large",
        ),
        (
            "let s = \"0123456789\"; s.pad(100000000, 'x');",
            "too large",
        ),
        ("let b = blob(100000000);", "too large"),
        ("loop { expect(true, \"again\"); }", "expectations"),
    ] {
        let said = error(text);
        assert!(said.to_lowercase().contains(words), "{text}: {said}");
    }
    let nested = ["(".repeat(200), "1".to_owned(), ")".repeat(200)].concat();
    assert!(Script::compile("t.rhai", nested, None).is_err());
}

#[test]
fn a_script_reads_no_file_and_no_clock() {
    for text in ["import \"x\" as x;", "eval(\"1\")"] {
        assert!(
            Script::compile("t.rhai", text.to_owned(), None).is_err(),
            "{text}"
        );
    }
    for (text, words) in [
        ("timestamp()", "Function not found"),
        ("open_file(\"/etc/passwd\")", "Function not found"),
        ("sleep(1)", "use wait"),
        ("sleep(0.5)", "use wait"),
    ] {
        let said = error(text);
        assert!(said.contains(words), "{text}: {said}");
    }
    for name in [
        "/etc/passwd",
        "../secret.yaml",
        ".hidden",
        "a/b",
        "",
        "Cargo",
    ] {
        let said = error(&format!("spawn(\"{name}\", 1);"));
        let refused =
            format!("there is no `{name}`: name a file beside the script, or factory_mqtt");
        assert!(said.contains(&refused), "{name}: {said}");
    }
    for line in ["spawn /etc/passwd 1", "chaos start --plan /etc/passwd"] {
        let (outcome, asked) = ran(&format!(
            "try {{ command(\"{line}\") }} catch (e) {{ log(e) }}"
        ));
        assert_eq!((outcome.error, asked), (None, vec![]), "{line}");
        assert!(outcome.log[0].contains("there is no `/etc/passwd`"));
    }
}

#[test]
fn deeply_nested_values_cost_a_script_no_stack() {
    let (outcome, asked) = ran(r#"
        let a = [];
        for n in 0..1000 { a = [a]; }
        for n in 0..1000 { a = #{ a: a }; }
        try { stop(a); } catch (e) { log(e); }
        try { update_behavior("*", a); } catch (e) { log(e); }
        log(a);
    "#);
    assert_eq!((outcome.error, asked), (None, vec![]));
    for (line, words) in [
        "devices are meant by",
        "nested more than 32 deep",
        "#{\"a\": ",
    ]
    .iter()
    .enumerate()
    {
        assert!(outcome.log[line].contains(words), "{}", outcome.log[line]);
    }
}

#[test]
fn nothing_hides_values_from_the_limits() {
    for text in [
        "let f = Fn(\"x\"); f = f.curry(1);",
        "let n = 1; let f = || n;",
    ] {
        let hidden = Script::compile("t.rhai", text.to_owned(), None);
        assert!(hidden.is_err(), "{text}");
    }
    let (outcome, _) = ran("let a = [1, 2, 3]; expect(a.filter(|x| x > 1).len == 2);");
    assert_eq!((outcome.error, outcome.failed), (None, 0));
}

#[test]
fn an_argument_is_asked_for_however_it_is_spaced() {
    let text = "let a = arg( \"devices\", 1); // and arg(\"other\", 2)".to_owned();
    let script = Script::compile("t.rhai", text, None).unwrap();
    let given = ["devices", "none"].map(|name| (name.to_owned(), "1".to_owned()));
    assert_eq!(script.with_args(given.into()).unknown_args(), ["none"]);
}

#[test]
fn shipped_scenarios_compile_and_say_what_they_are() {
    for (name, _) in shipped::SHIPPED {
        let script = Script::load(name).unwrap();
        assert!(script.title().ends_with('.'), "{name}: {}", script.title());
    }
    let none = Script::load("no-such.rhai").unwrap_err().to_string();
    assert!(none.contains("ramp-up"), "{none}");
}
