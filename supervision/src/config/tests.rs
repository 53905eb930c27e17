//! Policy files, good and bad.

use super::*;

fn path(text: &str) -> ActorPath {
    ActorPath::new(text).unwrap()
}

fn errors(text: &str) -> Vec<String> {
    let errors = Policies::from_toml("p.toml", text).unwrap_err();
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn shipped_policies_cover_the_tree() {
    let policies = Policies::from_toml(SHIPPED_NAME, SHIPPED).unwrap_or_else(|e| {
        panic!("{}", render_all(&e));
    });
    for name in ["/", "/twin"] {
        let policy = policies.for_path(&path(name));
        assert_eq!(
            (policy.intensity, policy.period),
            (30, Duration::from_secs(5)),
            "{name}"
        );
        assert!(policy.backoff.is_some(), "{name}");
    }
    assert_eq!(
        policies.for_path(&path("/twin")).strategy,
        Strategy::RestForOne
    );
    assert_eq!(
        policies.for_path(&path("/transport/conn")).strategy,
        Strategy::SimpleOneForOne
    );
    for name in ["/fleet/default", "/fleet/default/17"] {
        let group = policies.for_path(&path(name));
        assert!(
            group.quarantine && group.intensity_scope == IntensityScope::Child,
            "{name}"
        );
    }
    assert!(
        !policies.for_path(&path("/fleet/links")).quarantine,
        "the exact path wins"
    );
    assert_eq!(
        policies.for_path(&path("/else")),
        SupervisorPolicy::default()
    );
}

#[test]
fn everything_left_out_is_otp_s_default() {
    let policies = Policies::from_toml("p.toml", "[[supervisor]]\npath = '/a'\n").unwrap();
    assert_eq!(policies.for_path(&path("/a")), SupervisorPolicy::default());
}

#[test]
fn a_period_of_no_time_would_count_no_restarts() {
    let text = "[[supervisor]]\npath = '/a'\nperiod = '0s'\n";
    let expected = "p.toml:3:10: no two restarts fall into a period of no time; use a period such \
                    as \"5s\"";
    assert_eq!(errors(text), [expected]);
}

#[test]
fn all_mistakes_are_told_at_once_with_line_and_column() {
    let text = r#"
[[supervisor]]
path = "/twin"
stratgy = "one_for_one"
intensity = "many"
period = "soon"

[[supervisor]]
path = "/twin"
strategy = "one_for_al"
quarantine = true
backoff = { min = "5s", max = "1s", jitter = 2 }

[[supervisor.child]]
id = "scan"
restart = "permanent"
significant = true
shutdown = "whenever"

[[supervisor]]
intensity = 99999999
"#;
    let found = errors(text);
    let expected = [
        "p.toml:4:1: unknown key \"stratgy\"; did you mean \"strategy\"?",
        "p.toml:5:13: intensity is a string, expected a whole number from 0 to 10000; write \
         intensity as a whole number from 0 to 10000",
        "p.toml:6:10: \"soon\" is no duration; write period as a duration with its unit, such as \
         \"250ms\" or \"5s\"",
        "p.toml:9:8: supervisor \"/twin\" has a policy already, at line 3; merge the two entries",
        "p.toml:10:12: \"one_for_al\" is no strategy; did you mean \"one_for_all\"? use one of \
         \"one_for_one\", \"one_for_all\", \"rest_for_one\", \"simple_one_for_one\"",
        "p.toml:11:14: quarantine parks a child for its own restarts, and here the restarts of \
         all children are counted together; add intensity_scope = \"child\", or leave quarantine \
         out",
        "p.toml:12:31: the longest wait is shorter than the first; make max at least min",
        "p.toml:12:46: jitter is out of bounds; use a number from 0 to 1",
        "p.toml:17:15: a permanent child is always restarted: its end cannot be significant; add \
         restart = \"transient\" or restart = \"temporary\"",
        "p.toml:17:15: significant has no effect while auto_shutdown is \"never\"; set \
         auto_shutdown = \"any_significant\" or \"all_significant\" on the supervisor, or leave \
         significant out",
        "p.toml:18:12: \"whenever\" is no shutdown; use \"brutal_kill\", \"infinity\" or a \
         duration such as \"5s\"",
        "p.toml:20:1: [supervisor] has no path; say which supervisor this is about, such as path \
         = \"/twin\" or label = \"device_type=pump\"",
        "p.toml:21:13: intensity is out of bounds; use a whole number from 0 to 10000",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_syntax_error_does_not_hide_the_rest() {
    let found = errors("[[supervisor]]\npath = \"/a\"\nintensity = = 3\nperiod = 5\n");
    assert!(
        found.iter().any(|e| e.starts_with("p.toml:3:")),
        "{found:#?}"
    );
    assert!(
        found.iter().any(|e| e.starts_with("p.toml:4:10")),
        "{found:#?}"
    );
}

#[test]
fn a_mistake_is_drawn_with_its_line_and_a_caret() {
    let errors =
        Policies::from_toml("p.toml", "[[supervisor]]\npath = \"/a\"\nintensty = 3\n").unwrap_err();
    let drawn = errors[0].render();
    for part in [
        "unknown key \"intensty\"",
        "p.toml:3:1",
        "intensty = 3",
        "^^^^^^^^",
        "intensity",
    ] {
        assert!(drawn.contains(part), "{part} is not in\n{drawn}");
    }
}

#[test]
fn a_file_laid_over_another_wins_entry_by_entry() {
    let over = Policies::from_toml(
        "over.toml",
        "[[supervisor]]\npath = '/twin'\nintensity = 3\n\n\
         [[supervisor.child]]\nid = 'scan'\nshutdown = '2s'\n",
    )
    .unwrap();
    let both = over.over(Policies::shipped());
    assert_eq!(both.for_path(&path("/twin")).intensity, 3);
    assert_eq!(both.for_path(&path("/")).intensity, 30);
    let scan = both.for_child(&path("/twin"), "scan");
    assert_eq!(scan.shutdown, Some(Shutdown::After(Duration::from_secs(2))));
    assert_eq!(
        both.for_child(&path("/twin"), "route"),
        ChildPolicy::default()
    );
}

#[test]
fn a_child_whose_restart_type_is_the_program_s_may_be_significant() {
    let text = "[[supervisor]]\npath = '/a'\nauto_shutdown = 'any_significant'\n\
                [[supervisor.child]]\nid = 'b'\nsignificant = true\n";
    let policies = Policies::from_toml("p.toml", text).unwrap();
    assert_eq!(policies.for_child(&path("/a"), "b").significant, Some(true));
}

#[test]
fn an_exact_path_wins_over_a_label_and_a_label_over_a_pattern() {
    let text = "[[supervisor]]\npath = '/fleet/*'\nintensity = 2\n\
                [[supervisor]]\nlabel = 'device_type=pump'\nintensity = 3\n\
                [[supervisor]]\npath = '/fleet/b*'\nlabel = 'device_type = pump'\nintensity = 4\n\
                [[supervisor]]\npath = '/fleet/d'\nintensity = 5\n";
    let policies = Policies::from_toml("p.toml", text).unwrap();
    let pump: Labels = [("device_type".to_owned(), "pump".to_owned())].into();
    let intensity = |at, labels: &Labels| policies.governance(&path(at), labels).policy.intensity;
    let none = Labels::new();
    let found = [
        ("/fleet/a", &none),
        ("/fleet/a", &pump),
        ("/fleet/b1", &pump),
        ("/fleet/d", &pump),
    ]
    .map(|(at, labels)| intensity(at, labels));
    assert_eq!(found, [2, 3, 4, 5]);
    assert_eq!(
        policies.origin(&path("/fleet/d"), &none),
        Some(("p.toml", 11))
    );
}

#[test]
fn what_is_written_out_reads_back_as_the_same() {
    let shipped = Policies::shipped();
    let text = shipped.to_toml("supervisor", true);
    assert!(
        text.contains("# config/supervision/default.toml:"),
        "{text}"
    );
    let read = Policies::from_toml("again", &text).unwrap();
    for name in shipped.patterns() {
        let at = path(&name.replace('*', "x"));
        let none = Labels::new();
        assert_eq!(
            shipped.governance(&at, &none),
            read.governance(&at, &none),
            "{name}"
        );
    }
}

/// One mistake each: the file, where it is, and what is said of it and of the mend.
const BAD: &[(&str, &str, &str)] = &[
    ("path = 3", "2:8", "path is an integer, expected a string"),
    ("path = 'twin'", "2:8", "a path begins with '/'"),
    ("path = ''", "2:8", "a path begins with '/'"),
    ("strategy = 'one_for_one'", "1:1", "has no path"),
    (
        "path = '/a'\nlabel = 'pump'",
        "3:9",
        "write it as label = \"device_type=pump\"",
    ),
    ("label = 'device_type='", "2:9", "is no label"),
    ("path = '/a'\nlabel = 7", "3:9", "label is an integer"),
    (
        "path = '/a'\nstratgy = 'one_for_one'",
        "3:1",
        "did you mean \"strategy\"?",
    ),
    (
        "path = '/a'\nstrategy = 'one_for_none'",
        "3:12",
        "did you mean \"one_for_one\"?",
    ),
    (
        "path = '/a'\nstrategy = true",
        "3:12",
        "strategy is a boolean",
    ),
    (
        "path = '/a'\nintensity = -1",
        "3:13",
        "a whole number from 0 to 10000",
    ),
    (
        "path = '/a'\nintensity = 10001",
        "3:13",
        "intensity is out of bounds",
    ),
    (
        "path = '/a'\nintensity = 1.5",
        "3:13",
        "intensity is a float",
    ),
    (
        "path = '/a'\nintensity = '3'",
        "3:13",
        "intensity is a string",
    ),
    (
        "path = '/a'\nperiod = 5",
        "3:10",
        "a duration with its unit",
    ),
    ("path = '/a'\nperiod = '5'", "3:10", "\"5\" is no duration"),
    (
        "path = '/a'\nperiod = '0s'",
        "3:10",
        "use a period such as \"5s\"",
    ),
    (
        "path = '/a'\nperiod = '25h'",
        "3:10",
        "period is too long; use at most 1day",
    ),
    (
        "path = '/a'\nintensity_scope = 'kid'",
        "3:19",
        "use one of \"supervisor\", \"child\"",
    ),
    (
        "path = '/a'\nquarantine = true",
        "3:14",
        "add intensity_scope = \"child\"",
    ),
    (
        "path = '/a'\nbehaviour = 'again'",
        "3:13",
        "use one of \"fresh\", \"resume\"",
    ),
    (
        "path = '/a'\nquarantine = 'yes'",
        "3:14",
        "expected true or false",
    ),
    (
        "path = '/a'\nbackoff = '1s'",
        "3:11",
        "backoff is a string, expected a table",
    ),
    (
        "path = '/a'\nbackoff = { min = '2s', max = '1s' }",
        "3:31",
        "make max at least min",
    ),
    (
        "path = '/a'\nbackoff = { factor = 0.5 }",
        "3:22",
        "a number from 1 to 1000",
    ),
    (
        "path = '/a'\nbackoff = { factor = 0x10 }",
        "3:22",
        "factor is an integer, expected a number",
    ),
    (
        "path = '/a'\nbackoff = { factor = nan }",
        "3:22",
        "factor is out of bounds",
    ),
    (
        "path = '/a'\nbackoff = { jitter = 1.1 }",
        "3:22",
        "a number from 0 to 1",
    ),
    (
        "path = '/a'\nbackoff = { reset = '5s' }",
        "3:13",
        "did you mean \"reset_after\"?",
    ),
    (
        "path = '/a'\nauto_shutdown = 'any'",
        "3:17",
        "\"any\" is no auto shutdown",
    ),
    (
        "path = '/a'\nmax_children = 0",
        "3:16",
        "a whole number from 1 to 100000",
    ),
    (
        "path = '/a'\nrestart_budget_per_s = 0",
        "3:24",
        "a whole number from 1 to 1000000",
    ),
    (
        "path = '/a'\nchild = 3",
        "3:9",
        "write [[supervisor.child]]",
    ),
    (
        "path = '/a'\n[[supervisor.child]]\nrestart = 'transient'",
        "3:1",
        "has no id",
    ),
    (
        "path = '/a'\n[[supervisor.child]]\nid = 'b'\nrestart = 'always'",
        "5:11",
        "\"permanent\"",
    ),
    (
        "path = '/a'\n[[supervisor.child]]\nid = 'b'\nshutdown = 'soon'",
        "5:12",
        "\"brutal_kill\"",
    ),
    (
        "path = '/a'\n[[supervisor.child]]\nid = 'b'\nshutdown = '0s'",
        "5:12",
        "to kill at once",
    ),
    (
        "path = '/a'\n[[supervisor.child]]\nid = 'b'\nshutdown = '2days'",
        "5:12",
        "\"infinity\"",
    ),
    (
        "path = '/a'\n[[supervisor.child]]\nid = 'b'\nrestart = 'transient'\nsignificant = true",
        "6:15",
        "set auto_shutdown",
    ),
    (
        "path = '/a'\nauto_shutdown = 'any_significant'\n[[supervisor.child]]\nid = 'b'\n\
         restart = 'permanent'\nsignificant = true",
        "7:15",
        "add restart = \"transient\"",
    ),
    (
        "path = '/a'\n[[supervisor.child]]\nid = 'b'\n[[supervisor.child]]\nid = 'b'",
        "6:6",
        "merge the two entries",
    ),
    (
        "path = '/a'\n[[supervisor]]\npath = '/a'",
        "4:8",
        "has a policy already, at line 2",
    ),
    (
        "path = '/a'\nperiod = '5s",
        "3:13",
        "put the text in quotes",
    ),
    (
        "path = '/a'\nintensity = 1\nintensity = 2",
        "4:1",
        "keep one of the two",
    ),
    (
        "path = '/a'\nbackoff = { min = '1s' max = '2s' }",
        "3:24",
        "one comma between two items",
    ),
    ("path = '/a'\nintensity 3", "3:11", "write key = value"),
    (
        "path = '/a'\n[[supervisors]]\npath = '/b'",
        "3:3",
        "did you mean \"supervisor\"?",
    ),
];

#[test]
fn each_bad_policy_is_told_with_its_file_its_place_and_the_mend() {
    let mut wrong = Vec::new();
    for (body, place, words) in BAD {
        let text = format!("[[supervisor]]\n{body}\n");
        let found = match Policies::from_toml("p.toml", &text) {
            Ok(_) => vec!["accepted".to_owned()],
            Err(errors) => {
                assert!(errors.iter().all(|e| !e.help.is_empty()), "{errors:#?}");
                errors.iter().map(ToString::to_string).collect()
            }
        };
        let place = format!("p.toml:{place}: ");
        let told = |e: &String| e.starts_with(&place) && e.contains(words);
        if found.len() != 1 || !found.iter().all(told) {
            wrong.push(format!(
                "{body}\n  wanted {place}{words}\n  told {found:#?}"
            ));
        }
    }
    assert!(BAD.len() >= 30);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn mistakes_beyond_the_bound_are_counted() {
    let wrong = |n| format!("[[supervisor]]\npath = '/{n}'\nintensty = 1\n");
    let text: String = (0..ERRORS_MAX + 7).map(wrong).collect();
    let told = errors(&text);
    assert_eq!(told.len(), ERRORS_MAX + 1);
    let last = told.last().unwrap();
    assert!(last.contains("7 more mistakes; mend these first"), "{last}");
}

const TREE: &[Post] = &[
    Post {
        path: "/",
        needs: None,
        children: Children::Named(&[("twin", Restart::Permanent)]),
    },
    Post {
        path: "/twin",
        needs: Some(Strategy::RestForOne),
        children: Children::Named(&[("scan", Restart::Permanent), ("log", Restart::Transient)]),
    },
    Post {
        path: "/conn",
        needs: None,
        children: Children::Coming(Restart::Temporary),
    },
    Post {
        path: "/fleet/*",
        needs: None,
        children: Children::Cells,
    },
];

/// One mistake each that only the tree shows.
const UNFIT: &[(&str, &str, &str)] = &[
    ("path = '/twni'", "2:8", "did you mean \"/twin\"?"),
    ("path = '/fleet/a/b'", "2:8", "no supervisor has the path"),
    ("path = '/no*'", "2:8", "supervisors are /, /twin"),
    (
        "path = '/twin'\nstrategy = 'one_for_all'",
        "3:12",
        "/twin is made for rest_for_one",
    ),
    (
        "path = '/twin'\n[[supervisor.child]]\nid = 'scna'",
        "4:6",
        "did you mean \"scan\"?",
    ),
    (
        "path = '/twin'\nauto_shutdown = 'any_significant'\n[[supervisor.child]]\nid = 'scan'\n\
         significant = true",
        "6:15",
        "scan is permanent",
    ),
    (
        "path = '/conn'\n[[supervisor.child]]\nid = '*'\nrestart = 'permanent'",
        "5:11",
        "come from outside",
    ),
    (
        "path = '/fleet/pump'\nstrategy = 'one_for_all'",
        "3:12",
        "restarted one by one",
    ),
    (
        "path = '/fleet/*'\nauto_shutdown = 'any_significant'",
        "3:17",
        "devices are none",
    ),
    (
        "path = '/fleet/*'\n[[supervisor.child]]\nid = 'x'",
        "4:6",
        "write id = \"*\"",
    ),
    (
        "path = '/fleet/*'\n[[supervisor.child]]\nid = '*'\nshutdown = '1s'",
        "5:12",
        "leave shutdown out",
    ),
];

#[test]
fn mistakes_of_the_file_do_not_hide_those_that_the_tree_shows() {
    let text = "[[supervisor]]\npath = '/twin'\nstrategy = 'one_for_nobody'\nperiod = 5\n\
                [[supervisor]]\npath = '/twni'\n[[supervisor]]\npath = '/fleet/a'\n\
                strategy = 'one_for_all'\nintensty = 1\n";
    let errors = Policies::for_tree("p.toml", text, TREE).unwrap_err();
    let places: Vec<_> = errors.iter().map(|e| (e.line, e.column)).collect();
    assert_eq!(
        places,
        [(3, 12), (4, 10), (6, 8), (9, 12), (10, 1)],
        "{errors:#?}"
    );
    assert!(errors[0].message.contains("is no strategy"), "{errors:#?}");
    let good = "[[supervisor]]\npath = '/twin'\nintensity = 3\n";
    assert!(Policies::for_tree("p.toml", good, TREE).is_ok());
}

#[test]
fn what_is_left_of_a_file_whose_syntax_is_wrong_is_not_held_against_the_tree() {
    for text in [
        "[[supervisor]]\npath = '/twin\nstrategy = 'rest_for_one'\n",
        "[[supervisor]]\npath = \n[[supervisor]]\npath = '/twni'\n",
        "[[supervisor]]\npath = '/twin'\nstrategy = 'one_for_one' 'rest_for_one'\n",
    ] {
        let of_tree = Policies::for_tree("p.toml", text, TREE).unwrap_err();
        let of_file = Policies::from_toml("p.toml", text).unwrap_err();
        assert_eq!(of_tree, of_file, "{text}");
    }
}

#[test]
fn words_are_the_same_in_files_in_programs_and_where_they_are_told() {
    fn same<T: serde::Serialize>(words: &[(&str, T)], word: fn(&T) -> &'static str) {
        for (in_file, value) in words {
            let told = toml::Value::try_from(value).unwrap();
            let all = [*in_file, word(value), told.as_str().unwrap()];
            assert_eq!(all, [*in_file; 3]);
        }
    }
    same(STRATEGIES, |word| word.word());
    same(SCOPES, |word| word.word());
    same(BEHAVIOURS, |word| word.word());
    same(AUTO_SHUTDOWNS, |word| word.word());
    same(RESTARTS, |word| word.word());
    for shutdown in [Shutdown::BrutalKill, Shutdown::Infinity, Shutdown::WORKER] {
        let told = toml::Value::try_from(shutdown).unwrap();
        assert_eq!(told.as_str().unwrap().parse(), Ok(shutdown));
        assert_eq!(told.as_str().unwrap(), shutdown.to_string());
    }
}

#[test]
fn a_worker_that_is_waited_for_without_limit_is_doubted_and_a_supervisor_is_not() {
    for (path_, id, doubted) in [
        ("/twin", "scan", true),
        ("/twin", "s*", true),
        ("/conn", "*", true),
        ("/", "twin", false),
        ("/", "*", false),
        ("/fleet/*", "*", false),
    ] {
        let text = format!(
            "[[supervisor]]\npath = '{path_}'\n[[supervisor.child]]\nid = '{id}'\n\
             shutdown = 'infinity'\n"
        );
        let policies = Policies::from_toml("p.toml", &text).unwrap();
        let doubts = policies.doubts(TREE);
        assert_eq!(doubts.len(), usize::from(doubted), "{path_} {id}");
        for doubt in doubts {
            let told = doubt.to_string();
            let expected = format!("p.toml:5:12: {id} is a worker: if it hangs, so does the stop");
            assert!(told.starts_with(&expected), "{told}");
        }
    }
}

#[test]
fn what_only_the_tree_shows_is_told_in_the_same_way() {
    for (body, place, words) in UNFIT {
        let policies = Policies::from_toml("p.toml", &format!("[[supervisor]]\n{body}\n")).unwrap();
        let found: Vec<_> = policies.fit(TREE).iter().map(ToString::to_string).collect();
        let place = format!("p.toml:{place}: ");
        assert_eq!(found.len(), 1, "{body}: {found:?}");
        assert!(
            found[0].starts_with(&place) && found[0].contains(words),
            "{body}: {found:?}"
        );
    }
    for body in [
        "path = '/*'",
        "path = '/*'\nstrategy = 'rest_for_one'",
        "label = 'a=b'\nstrategy = 'one_for_all'",
        "path = '/twin'\nintensity = 3",
        "path = '/twin'\nauto_shutdown = 'any_significant'\n[[supervisor.child]]\nid = 'log'\n\
         significant = true",
        "path = '/fleet/*'\n[[supervisor.child]]\nid = '*'\nrestart = 'transient'",
    ] {
        let policies = Policies::from_toml("p.toml", &format!("[[supervisor]]\n{body}\n")).unwrap();
        assert_eq!(policies.fit(TREE), [], "{body}");
    }
}
