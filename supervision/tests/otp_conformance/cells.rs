//! The restart types on cells: the same matrix by the policy of groups of 256.

use std::time::Duration;

use actorsim_actors::{
    ActorPath, CellDecision, CellExit, CellSupervisor, ExitReason, Fault, GroupMember, Incarnation,
    Time,
};
use actorsim_supervision::{
    Backoff, CellPolicy, CellPolicyError, Restart, Strategy, SupervisorPolicy,
};

const SECOND: u64 = 1_000_000_000;

fn cells(policy: SupervisorPolicy) -> CellPolicy {
    CellPolicy::new(policy, &ActorPath::root().join("fleet")).unwrap()
}

fn at(seconds: u64) -> Time {
    Time(seconds * SECOND)
}

fn fault() -> ExitReason {
    ExitReason::Fault(Fault::new("bad"))
}

fn ends(policy: &mut CellPolicy, cell: u32, reason: &ExitReason, now: Time) -> CellDecision {
    ends_among(policy, cell, reason, now, &mut [])
}

/// A cell ends, and its group with it if that is what is decided.
fn ends_among(
    policy: &mut CellPolicy,
    cell: u32,
    reason: &ExitReason,
    now: Time,
    members: &mut [GroupMember],
) -> CellDecision {
    let exit = CellExit {
        ordinal: cell,
        incarnation: Incarnation::FIRST,
        reason,
        in_hand: None,
        depth: 0,
        now,
    };
    let decision = policy.exited(&exit);
    if decision == CellDecision::Escalate {
        policy.group_restart(&exit, members);
    }
    decision
}

#[test]
fn restart_type_matrix() {
    let abnormal = [fault(), ExitReason::Killed, ExitReason::HostDown];
    let normal = [ExitReason::Normal, ExitReason::Shutdown];
    for (restart, after_normal, after_abnormal) in [
        (Restart::Permanent, true, true),
        (Restart::Transient, false, true),
        (Restart::Temporary, false, false),
    ] {
        let cases = normal.iter().map(|r| (r, after_normal));
        for (reason, again) in cases.chain(abnormal.iter().map(|r| (r, after_abnormal))) {
            let mut policy = cells(SupervisorPolicy::default().quarantine()).restart(restart);
            let expected = if again {
                CellDecision::Restart { at: at(7) }
            } else {
                CellDecision::Stop
            };
            assert_eq!(
                ends(&mut policy, 3, reason, at(7)),
                expected,
                "{restart:?} {reason:?}"
            );
            assert_eq!(policy.restarts(), u64::from(again));
        }
    }
}

#[test]
fn a_cell_in_long_backoff_holds_up_no_neighbour() {
    let backoff = Backoff {
        min: Duration::from_secs(1),
        max: Duration::from_secs(100),
        factor: 10.0,
        jitter: 0.0,
        ..Backoff::default()
    };
    let policy = SupervisorPolicy::default()
        .intensity(9, Duration::from_secs(60))
        .quarantine()
        .backoff(backoff)
        .restart_budget_per_s(1);
    let mut policy = cells(policy);
    for (cell, now, due) in [
        (1, 0, 1),
        (1, 1, 11),
        (1, 11, 111),
        (2, 12, 13),
        (3, 12, 14),
    ] {
        let decision = ends(&mut policy, cell, &fault(), at(now));
        assert_eq!(decision, CellDecision::Restart { at: at(due) }, "{cell}");
    }
}

#[test]
fn a_cell_that_fails_too_often_is_parked_and_its_neighbours_are_not() {
    let policy = SupervisorPolicy::default()
        .intensity(2, Duration::from_secs(60))
        .quarantine();
    let mut policy = cells(policy);
    for second in 0..2 {
        let decision = ends(&mut policy, 5, &fault(), at(second));
        assert_eq!(decision, CellDecision::Restart { at: at(second) });
    }
    assert_eq!(
        ends(&mut policy, 5, &fault(), at(2)),
        CellDecision::Quarantine
    );
    assert_eq!(
        ends(&mut policy, 6, &fault(), at(2)),
        CellDecision::Restart { at: at(2) }
    );
    assert_eq!((policy.restarts(), policy.quarantined()), (3, 1));
    assert_eq!(
        policy.remembered(),
        1,
        "state for those that failed and are not parked"
    );
    let again = ends(&mut policy, 5, &fault(), at(3));
    assert_eq!(
        again,
        CellDecision::Restart { at: at(3) },
        "restarted by hand: a new chance"
    );
}

#[test]
fn with_supervisor_scope_a_group_counts_together_and_its_neighbour_group_does_not() {
    let mut policy = cells(SupervisorPolicy::default().intensity(2, Duration::from_secs(60)));
    assert_eq!(
        ends(&mut policy, 0, &fault(), at(0)),
        CellDecision::Restart { at: at(0) }
    );
    assert_eq!(
        ends(&mut policy, 255, &fault(), at(0)),
        CellDecision::Restart { at: at(0) }
    );
    assert_eq!(
        ends(&mut policy, 256, &fault(), at(0)),
        CellDecision::Restart { at: at(0) }
    );
    assert_eq!(
        ends(&mut policy, 7, &fault(), at(1)),
        CellDecision::Escalate
    );
    assert_eq!(
        ends(&mut policy, 7, &fault(), at(1)),
        CellDecision::Restart { at: at(1) }
    );
}

/// A thread that dies again and again is its supervisor's matter, with an intensity of its own.
#[test]
fn the_end_of_its_host_is_no_failure_of_a_cell_nor_of_its_group() {
    for policy in [
        SupervisorPolicy::default(),
        SupervisorPolicy::default().quarantine(),
    ] {
        let mut policy = cells(policy.intensity(1, Duration::from_secs(60)));
        for second in 0..20 {
            for cell in 0..4 {
                let decision = ends(&mut policy, cell, &ExitReason::HostDown, at(second));
                assert_eq!(decision, CellDecision::Restart { at: at(second) });
            }
        }
        assert_eq!(policy.remembered(), 0);
        ends(&mut policy, 0, &fault(), at(20));
        ends(&mut policy, 0, &ExitReason::HostDown, at(20));
        let decision = ends(&mut policy, 0, &fault(), at(20));
        assert!(
            matches!(decision, CellDecision::Quarantine | CellDecision::Escalate),
            "its own failures count on: {decision:?}"
        );
    }
}

#[test]
fn a_group_that_escalates_for_ever_parks_its_cells_in_the_end() {
    let mut policy = cells(SupervisorPolicy::default().intensity(1, Duration::from_secs(3_600)));
    let mut decisions = (0..20).map(|i| ends(&mut policy, i, &fault(), at(u64::from(i))));
    assert!(decisions.any(|d| d == CellDecision::Quarantine));
}

#[test]
fn backoff_and_budget_spread_the_restarts_of_a_group() {
    let backoff = Backoff {
        min: Duration::from_secs(1),
        jitter: 0.0,
        ..Backoff::default()
    };
    let mut policy = SupervisorPolicy::default().backoff(backoff).quarantine();
    policy.restart_budget_per_s = Some(10);
    let mut policy = cells(policy);
    let times: Vec<u64> = (0..30)
        .map(
            |cell| match ends(&mut policy, cell, &ExitReason::HostDown, at(0)) {
                CellDecision::Restart { at } => at.0 / 1_000_000,
                other => panic!("{other:?}"),
            },
        )
        .collect();
    assert_eq!(times[..3], [1_000, 1_100, 1_200]);
    assert_eq!(times[29], 3_900);
}

#[test]
fn a_cell_s_backoff_grows_until_it_has_lived_long_enough_since_it_came_back() {
    let backoff = Backoff {
        min: Duration::from_secs(1),
        jitter: 0.0,
        reset_after: Duration::from_secs(60),
        ..Backoff::default()
    };
    let policy = SupervisorPolicy::default().intensity(9, Duration::from_secs(1));
    let mut policy = cells(policy.backoff(backoff).quarantine());
    // It is back at 1, 4, 67 and 128 s: of its lives between one is a second too short to count.
    for (now, back) in [(0, 1), (2, 4), (63, 67), (127, 128), (129, 131)] {
        let decision = ends(&mut policy, 7, &fault(), at(now));
        assert_eq!(decision, CellDecision::Restart { at: at(back) }, "{now}");
    }
}

#[test]
fn a_group_that_is_restarted_as_one_keeps_to_its_budget() {
    let policy = SupervisorPolicy::default()
        .intensity(2, Duration::from_secs(60))
        .restart_budget_per_s(10);
    let mut policy = cells(policy);
    let mut again = |fails: &[u32], now| {
        let group = fails[0] / 256 * 256..(fails[0] / 256 + 1) * 256;
        let mut members: Vec<GroupMember> = group
            .map(|ordinal| GroupMember {
                ordinal,
                promised: None,
                at: at(now + 1),
            })
            .collect();
        for (failed, cell) in fails.iter().enumerate() {
            let decision = ends_among(&mut policy, *cell, &fault(), at(now), &mut members);
            assert_eq!(
                decision == CellDecision::Escalate,
                failed == fails.len() - 1
            );
        }
        let times = members.iter().map(|cell| cell.at.0 / 1_000_000);
        times.collect::<Vec<u64>>()
    };
    let times = again(&[0, 1, 2], 0);
    assert_eq!(times[..3], [1_000, 1_100, 1_200]);
    assert_eq!(times[255], 26_500);
    assert_eq!(again(&[256, 257, 258], 0)[0], 1_000, "another group");
    let times = again(&[0, 1, 2], 5);
    assert_eq!(
        (times[0], times[255]),
        (6_000, 31_500),
        "nobody waits behind places that nobody takes any more"
    );
}

#[test]
fn who_waits_for_a_restart_comes_first_when_the_group_starts_anew() {
    let mut policy = cells(
        SupervisorPolicy::default()
            .intensity(1, Duration::from_secs(60))
            .restart_budget_per_s(1),
    );
    let waits = |ordinal, promised: Option<u64>| GroupMember {
        ordinal,
        promised: promised.map(at),
        at: at(10),
    };
    ends(&mut policy, 0, &fault(), at(9));
    let mut members = [
        waits(0, None),
        waits(1, None),
        waits(2, Some(30)),
        waits(3, Some(20)),
        waits(4, Some(20)),
    ];
    ends_among(&mut policy, 0, &fault(), at(9), &mut members);
    let order = members.map(|cell| (cell.ordinal, cell.at.0 / SECOND));
    assert_eq!(order, [(3, 10), (4, 11), (2, 12), (0, 13), (1, 14)]);
}

#[test]
fn escalations_count_until_a_period_after_the_group_is_back() {
    let policy = SupervisorPolicy::default()
        .intensity(1, Duration::from_secs(5))
        .restart_budget_per_s(1);
    let mut policy = cells(policy);
    let mut escalates = |now| {
        let mut members: Vec<GroupMember> = (0..20)
            .map(|ordinal| GroupMember {
                ordinal,
                promised: None,
                at: at(now + 1),
            })
            .collect();
        ends(&mut policy, 7, &fault(), at(now));
        ends_among(&mut policy, 7, &fault(), at(now), &mut members)
    };
    assert_eq!(escalates(0), CellDecision::Escalate, "back at 20 s");
    assert_eq!(escalates(19), CellDecision::Quarantine);
    assert_eq!(escalates(25), CellDecision::Quarantine);
    assert_eq!(escalates(31), CellDecision::Escalate);
}

#[test]
fn decisions_do_not_depend_on_how_groups_are_spread_over_shards() {
    let policy = || {
        let policy = SupervisorPolicy::default().intensity(3, Duration::from_secs(60));
        let mut policy = policy.quarantine().backoff(Backoff::default());
        policy.restart_budget_per_s = Some(50);
        cells(policy)
    };
    let exits: Vec<(u32, u64)> = (0..2_000)
        .map(|i| ((i * 7_919) % 1_024, u64::from(i)))
        .collect();
    let mut one = policy();
    let mut four = [policy(), policy(), policy(), policy()];
    for (cell, ms) in exits {
        let now = Time(ms * 1_000_000);
        let apart = ends(&mut four[(cell / 256 % 4) as usize], cell, &fault(), now);
        assert_eq!(ends(&mut one, cell, &fault(), now), apart, "cell {cell}");
    }
}

#[test]
fn cells_refuse_what_only_supervisors_of_tasks_can_do() {
    let path = ActorPath::root();
    let refused = CellPolicy::new(SupervisorPolicy::new(Strategy::RestForOne), &path);
    assert_eq!(
        refused.unwrap_err(),
        CellPolicyError::OnlyOneForOne(Strategy::RestForOne)
    );
}
