//! The list of OTP's cases: each is a test here, or left out with a reason.
//!
//! The names are those of `supervisor_SUITE` of OTP 28. Bound: one pass over these files.

/// Cases that have no meaning here, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    ("sup_start_ignore_init", NO_INIT),
    ("sup_start_error_return", NO_INIT),
    (
        "extra_return",
        "a start function gives the actor and nothing else",
    ),
    ("external_start_no_progress_log", NO_LOGGER),
    ("format_log_1", NO_LOGGER),
    ("format_log_2", NO_LOGGER),
    (
        "faulty_application_shutdown",
        "there are no applications; the root is stopped by its node",
    ),
    (
        "simple_one_for_one_extra",
        "a child's spec carries its own start function instead of extra arguments",
    ),
    (
        "simple_one_for_one_corruption",
        "an exit is a call of the host, not a message that a stranger can send",
    ),
    (
        "child_unlink",
        "there are no links: a child cannot hide its end from its supervisor",
    ),
    ("get_callback_module", "there are no callback modules"),
    ("simple_global_supervisor", "there are no global names"),
    (
        "code_change_map",
        "there is one form of policy: see code_change",
    ),
    (
        "code_change_simple_map",
        "there is one form of policy: see code_change_simple",
    ),
];

const NO_INIT: &str = "a supervisor has no init callback: its spec is a value that is checked";
const NO_LOGGER: &str = "there is no logger report: see the crash reports in beyond_otp";

const CASES: &str = "
    sup_start_normal sup_start_ignore_init sup_start_ignore_child sup_start_ignore_temporary_child
    sup_start_ignore_temporary_child_start_child
    sup_start_ignore_temporary_child_start_child_simple
    sup_start_ignore_permanent_child_start_child_simple sup_start_error_return sup_start_fail
    sup_start_child_returns_error sup_start_restart_child_returns_error
    sup_start_child_returns_error_simple sup_start_map sup_start_map_simple
    sup_start_map_faulty_specs sup_stop_infinity sup_stop_timeout sup_stop_timeout_dynamic
    sup_stop_brutal_kill sup_stop_brutal_kill_dynamic sup_stop_race
    sup_stop_non_shutdown_exit_dynamic child_adm child_adm_simple child_specs child_specs_map
    extra_return sup_flags
    external_start_no_progress_log permanent_normal transient_normal temporary_normal
    permanent_shutdown transient_shutdown temporary_shutdown faulty_application_shutdown
    permanent_abnormal transient_abnormal temporary_abnormal temporary_bystander
    multiple_restarts one_for_one one_for_one_escalation one_for_all one_for_all_escalation
    one_for_all_other_child_fails_restart simple_one_for_one simple_one_for_one_escalation
    simple_one_for_one_corruption rest_for_one rest_for_one_escalation
    rest_for_one_other_child_fails_restart simple_one_for_one_extra simple_one_for_one_shutdown
    simple_one_for_one_restart_ignore
    nonsignificant_temporary nonsignificant_transient significant_temporary significant_transient
    significant_simple significant_bystander significant_escalation significant_upgrade_never_any
    significant_upgrade_any_never significant_upgrade_never_all significant_upgrade_all_never
    significant_upgrade_any_all significant_upgrade_all_any significant_upgrade_child
    child_unlink tree count_children count_children_supervisor count_restarting_children
    get_callback_module do_not_save_start_parameters_for_temporary_children
    do_not_save_child_specs_for_temporary_children
    simple_one_for_one_scale_many_temporary_children simple_global_supervisor
    hanging_restart_loop hanging_restart_loop_rest_for_one hanging_restart_loop_simple
    code_change code_change_map code_change_simple code_change_simple_map order_of_children
    scale_start_stop_many_children format_log_1 format_log_2 already_started_outside_supervisor
    which_children which_children_simple_one_for_one
";

const FILES: &[&str] = &[
    include_str!("administration.rs"),
    include_str!("children.rs"),
    include_str!("death.rs"),
    include_str!("restart_types.rs"),
    include_str!("significant.rs"),
    include_str!("starts.rs"),
    include_str!("stops.rs"),
    include_str!("strategies.rs"),
    include_str!("upgrade.rs"),
];

fn is_here(case: &str) -> bool {
    let forms = [
        format!("#[tokio::test]\nasync fn {case}()"),
        format!("#[tokio::test(start_paused = true)]\nasync fn {case}()"),
        format!("#[test]\nfn {case}()"),
    ];
    let has = |file: &&str| forms.iter().any(|form| file.contains(form.as_str()));
    FILES.iter().any(has)
}

#[test]
fn every_case_of_otp_is_here_or_left_out_with_a_reason() {
    let left_out = |case: &str| LEFT_OUT.iter().any(|(name, _)| *name == case);
    let cases: Vec<&str> = CASES.split_whitespace().collect();
    for case in &cases {
        let once = is_here(case) != left_out(case);
        assert!(once, "{case} is missing, or both here and left out");
    }
    for (name, why) in LEFT_OUT {
        assert!(cases.contains(name), "{name} is no case of OTP's ({why})");
    }
    let page = include_str!("../../../docs/testing.md");
    for (name, _) in LEFT_OUT {
        assert!(
            page.contains(&format!("`{name}`")),
            "docs/testing.md does not name {name}"
        );
    }
}
