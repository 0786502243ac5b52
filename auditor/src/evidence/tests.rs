use std::collections::HashMap;

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::{
    sinks::sample,
    state::{Snapshot, StateDir},
};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn ledger(limit: usize) -> Ledger {
    Ledger::new(limit, HOUR)
}

/// `curl` calls `service-<number>` without proof, so many minutes after the start.
fn call(number: u32, minutes: i64) -> Judgement {
    let mut judgement = sample::unauthenticated();
    judgement.time = sample::time(minutes * 60_000);
    judgement.destination.workload = Some(format!("service-{number}").into());
    judgement
}

fn told(ledger: &mut Ledger, judgement: &Judgement) -> Vec<(Occasion, u64)> {
    let mut told = Vec::new();
    ledger.judgement(judgement, |event| told.push((event.occasion, event.calls)));
    told
}

fn with_severity(mut judgement: Judgement, severity: Severity) -> Judgement {
    judgement.findings[0].severity = severity;
    judgement
}

#[test]
fn a_group_is_told_of_when_new_worse_returned_or_still_there_after_a_while() {
    let mut ledger = ledger(10);
    assert_eq!(told(&mut ledger, &call(1, 0)), [(Occasion::New, 1)]);
    for minute in 1..=30 {
        assert_eq!(told(&mut ledger, &call(1, minute)), [], "a storm is one event");
    }
    let worse = with_severity(call(1, 31), Severity::Critical);
    assert_eq!(told(&mut ledger, &worse), [(Occasion::Raised, 31)]);
    assert_eq!(told(&mut ledger, &worse), []);
    assert_eq!(told(&mut ledger, &call(1, 90)), [], "an hour after the last event, not after the first");
    assert_eq!(told(&mut ledger, &call(1, 91)), [(Occasion::Ongoing, 3)]);
    assert_eq!(ledger.groups().next().unwrap().seen.severity, Severity::Critical);
    assert_eq!(told(&mut ledger, &call(1, 151)), [(Occasion::Returned, 1)]);
    let group = ledger.groups().next().unwrap();
    assert_eq!((group.seen.severity, group.seen.count), (Severity::High, 36), "as bad as it is now");
    assert_eq!((group.seen.first, group.seen.last), (sample::time(0), sample::time(151 * 60_000)));
    assert_eq!(group.example.time, sample::time(151 * 60_000));
}

#[test]
fn a_clock_that_was_set_back_silences_nothing_for_good() {
    let mut ledger = ledger(10);
    told(&mut ledger, &call(1, 100_000));
    assert_eq!(told(&mut ledger, &call(1, 0)), [(Occasion::Returned, 1)]);
}

#[test]
fn rule_ends_method_and_route_make_a_group_and_outcomes_are_counted() {
    let mut ledger = ledger(100);
    let base = call(1, 0);
    let mut others = vec![base.clone(); 6];
    others[1].findings[0].rule = "basic-credential";
    others[2].source.workload = Some("wget".into());
    others[3].source.workload = None;
    others[4].request = Some(sample::request("POST", "/items", "/items/{id}"));
    others[5].request = None;
    others.push(Judgement { findings: base.findings.clone(), ..sample::connection() });
    for outcome in [Outcome::Accepted, Outcome::Refused, Outcome::Failed, Outcome::Unanswered] {
        for judgement in &mut others {
            judgement.outcome = outcome;
            told(&mut ledger, judgement);
        }
    }
    assert_eq!(ledger.len(), 7);
    let each = Outcomes { accepted: 1, refused: 1, failed: 1, unanswered: 1 };
    assert!(ledger.groups().all(|group| group.seen.outcomes == each && group.seen.count == 4));
}

#[test]
fn one_call_counts_once_for_each_rule() {
    let mut ledger = ledger(10);
    let mut judgement = call(1, 0);
    let more = ["unauthenticated-call", "cors-on-internal"];
    judgement.findings.extend(more.map(|rule| sample::finding(rule, Severity::Critical, "")));
    assert_eq!(told(&mut ledger, &judgement).len(), 2);
    assert!(ledger.groups().all(|group| group.seen.count == 1 && group.seen.severity == Severity::Critical));
}

#[test]
fn the_least_recently_seen_is_given_up() {
    let mut ledger = ledger(3);
    for number in [1, 2, 3, 1, 4] {
        told(&mut ledger, &call(number, 0));
    }
    let names: Vec<_> = ledger.groups().map(|group| group.identity.destination.clone()).collect();
    assert_eq!(names, [4, 1, 3].map(|number| Who::Workload(format!("service-{number}").into())));
    assert_eq!((ledger.len(), ledger.limit(), ledger.evicted()), (3, 3, 1));
    assert_eq!(told(&mut ledger, &call(2, 1)), [(Occasion::New, 1)], "known no more");
}

#[test]
fn long_text_is_cut_and_still_found_again() {
    let mut ledger = ledger(10);
    let long = "é".repeat(5000);
    let mut judgement = call(1, 0);
    judgement.source = sample::party("10.0.0.1", 1, Some(&long));
    judgement.request = Some(sample::request(&long, &long, &long));
    judgement.findings[0].detail = long.into();
    told(&mut ledger, &judgement);
    told(&mut ledger, &judgement);
    let group = ledger.groups().next().unwrap();
    assert_eq!((ledger.len(), group.seen.count), (1, 2));
    assert!(format!("{group:?}").len() < 4000);
}

#[test]
fn groups_seen_lately_are_found_from_the_newest() {
    let mut ledger = ledger(10);
    for number in 0..5 {
        told(&mut ledger, &call(number, i64::from(number) * 10));
    }
    assert_eq!(ledger.seen_since(sample::time(20 * 60_000)).len(), 3);
    assert_eq!(ledger.seen_since(sample::time(500 * 60_000)).len(), 0);
}

fn saved_and_restored(ledger: &Ledger, limit: usize) -> (Ledger, usize) {
    let directory = tempfile::tempdir().unwrap();
    let state = StateDir::open(directory.path()).unwrap();
    state.saver().save(Snapshot::new().with(SECTION, SECTION_VERSION, Saved::of(ledger))).unwrap();
    let mut again = self::ledger(limit);
    let restored: Restored = state.restore().take(SECTION, SECTION_VERSION).expect("there");
    let (_, left_out) = restored.into_ledger(&mut again);
    (again, left_out)
}

fn shown(ledger: &Ledger) -> Vec<String> {
    ledger.groups().map(|group| format!("{group:?}")).collect()
}

#[test]
fn what_was_saved_goes_on() {
    let mut ledger = ledger(10);
    for number in [1, 2, 3, 1] {
        told(&mut ledger, &call(number, 0));
    }
    told(&mut ledger, &Judgement { findings: call(1, 0).findings, ..sample::connection() });
    let (mut again, left_out) = saved_and_restored(&ledger, 10);
    assert_eq!((shown(&again), left_out), (shown(&ledger), 0), "in the same order");
    assert_eq!(told(&mut again, &call(1, 5)), [], "it was told of before the restart");
    assert_eq!(again.groups().next().unwrap().seen.count, 3);
    let (smaller, _) = saved_and_restored(&ledger, 2);
    assert_eq!(shown(&smaller), shown(&ledger)[..2]);
}

#[test]
fn groups_of_rules_that_are_gone_are_left_out() {
    let mut ledger = ledger(10);
    let mut judgement = call(1, 0);
    judgement.findings[0].rule = "a-rule-of-tomorrow";
    told(&mut ledger, &judgement);
    told(&mut ledger, &call(2, 0));
    let (again, left_out) = saved_and_restored(&ledger, 10);
    assert_eq!((again.len(), left_out), (1, 1));
}

proptest! {
    /// Against a ledger that is a list: the same groups, in the same order, with the same figures.
    #[test]
    fn behaves_as_a_plain_list(calls in prop::collection::vec((0_u32..12, 0_i64..200), 0..300), limit in 1_usize..10) {
        let mut ledger = ledger(limit);
        let mut list: Vec<(u32, u64, i64, i64)> = Vec::new();
        let mut evicted = 0;
        for (number, minute) in calls {
            let events = told(&mut ledger, &call(number, minute)).len();
            let known = list.iter().position(|(other, ..)| *other == number).map(|at| list.remove(at));
            prop_assert!(known.is_some() || events == 1, "what is new is told");
            let (_, count, first, last) = known.unwrap_or((number, 0, minute, minute));
            list.insert(0, (number, count + 1, first.min(minute), last.max(minute)));
            if list.len() > limit {
                list.pop();
                evicted += 1;
            }
        }
        let expected: Vec<_> = list
            .iter()
            .map(|(number, count, first, last)| {
                let name = Who::Workload(format!("service-{number}").into());
                (name, *count, sample::time(first * 60_000), sample::time(last * 60_000))
            })
            .collect();
        let actual: Vec<_> = ledger
            .groups()
            .map(|Group { identity, seen, .. }| (identity.destination.clone(), seen.count, seen.first, seen.last))
            .collect();
        prop_assert_eq!(actual, expected);
        prop_assert_eq!(ledger.evicted(), evicted);
        let (again, _) = saved_and_restored(&ledger, limit);
        prop_assert_eq!(shown(&again), shown(&ledger));
    }

    /// Every call is in exactly one event's count, or came after the last event of its group.
    #[test]
    fn no_call_is_told_twice_or_lost(calls in prop::collection::vec((0_u32..4, 0_i64..400), 0..200)) {
        let mut ledger = ledger(10);
        let mut told: HashMap<Who, u64> = HashMap::new();
        for (number, minute) in calls {
            ledger.judgement(&call(number, minute), |event| {
                *told.entry(event.group.identity.destination.clone()).or_default() += event.calls;
            });
        }
        for group in ledger.groups() {
            prop_assert_eq!(told[&group.identity.destination], group.seen.told_count);
            prop_assert!(group.seen.told_count <= group.seen.count);
        }
    }
}
