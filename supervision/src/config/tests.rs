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
            group.quarantine && group.scope == IntensityScope::Child,
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
        "p.toml:16:15: a permanent child is always restarted: its end cannot be significant; add \
         restart = \"transient\" or restart = \"temporary\"",
        "p.toml:16:15: significant has no effect while auto_shutdown is \"never\"; set \
         auto_shutdown = \"any_significant\" or \"all_significant\" on the supervisor, or leave \
         significant out",
        "p.toml:17:12: \"whenever\" is no shutdown; use \"brutal_kill\", \"infinity\" or a \
         duration such as \"5s\"",
        "p.toml:19:1: [supervisor] has no path; say which supervisor this is about, such as path \
         = \"/twin\"",
        "p.toml:20:13: intensity is out of bounds; use a whole number from 0 to 10000",
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
