//! Whatever is drawn can be read, and hits what it aims at.

use std::collections::BTreeMap;

use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRng, TestRunner};

use super::super::expression::Expr;
use super::super::model::{Answer, Status};
use super::super::service::{read_service, read_view};
use super::super::{accept, read, toml};
use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is drawn is well typed, and the ledger adds up.
    #[test]
    fn cases_can_be_read(case in case()) {
        for view in &case.views {
            let source = case.source_of(view);
            let rows = case.rows_of(&source.name);
            let ledger = accept::ledger(view, source, &rows);
            let sum = ledger.applied + ledger.filtered + ledger.keyless + ledger.late + ledger.duplicate;
            prop_assert_eq!(sum, accept::source_ledger(source, &rows).accepted);
        }
        for Question { view, key, t, request, .. } in &case.reads {
            let view = &case.views[*view];
            let source = case.source_of(view);
            let rows = case.rows_of(&source.name);
            let answers = read::read(view, source, &rows, key, *t, None);
            prop_assert_eq!(answers.len(), view.features.len() + view.derived.len());
            prop_assert!(answers.iter().all(|(_, answer)| answer.newest.is_none_or(|newest| newest < *t)));
            let answers = read::read(view, source, &rows, key, *t, Some(request));
            prop_assert!(answers.iter().all(|(_, answer)| answer.newest.is_none_or(|newest| newest <= *t)));
            prop_assert!(answers.iter().all(|(_, answer)| answer.accepts(&answer.value)));
        }
        prop_assert!(toml::project(&case.sources, &case.views).ends_with("]\n"));
    }

    /// The two ways to read a view that stands for itself.
    #[test]
    fn a_view_of_its_own_reads_the_same_in_a_service(case in case()) {
        for question in case.reads.iter().take(10) {
            let Question { view, key, keys, t, request } = question;
            let view = &case.views[*view];
            let source = case.source_of(view);
            let rows = case.rows_of(&source.name);
            let alone = read::read(view, source, &rows, key, *t, Some(request));
            let together = read_view(case.project(), view, keys, Some(request), *t);
            for ((name, a), (_, b)) in alone.iter().zip(&together) {
                prop_assert!(a.same(b), "{}: {:?} is not {:?}", name, a, b);
            }
        }
    }

    #[test]
    fn services_can_be_read(case in service_case()) {
        for view in &case.views {
            let source = case.source_of(view);
            let rows = case.rows_of(&source.name);
            let ledger = accept::ledger(view, source, &rows);
            let sum = ledger.applied + ledger.filtered + ledger.keyless + ledger.late + ledger.duplicate;
            prop_assert_eq!(sum, accept::source_ledger(source, &rows).accepted);
        }
        let outputs: usize = case.views.iter().map(|view| view.features.len() + view.derived.len()).sum();
        for Question { keys, t, request, .. } in case.reads.iter().take(10) {
            let answers = read_service(case.project(), keys, Some(request), *t);
            prop_assert_eq!(answers.len(), outputs);
            prop_assert!(answers.iter().all(|(_, answer)| answer.newest.is_none_or(|newest| newest <= *t)));
            prop_assert!(answers.iter().all(|(_, answer)| answer.accepts(&answer.value)));
        }
        prop_assert!(toml::project(&case.sources, &case.views).ends_with("]\n"));
    }

    /// Late is only a count: what the record may forget lies outside every window of a live read.
    #[test]
    fn forgetting_late_events_changes_no_live_read(case in prop_oneof![case(), service_case()]) {
        for view in &case.views {
            let source = case.source_of(view);
            let rows = case.rows_of(&source.name);
            let fates = accept::fates(view, source, &rows);
            let mut fates = fates.iter();
            let mut kept = case.clone();
            kept.rows.retain(|(index, _)| {
                let is_of_another = case.sources[*index].name != source.name;
                // A filtered row of a table still hides the older ones.
                let is_kept = |fate: &accept::Fate| {
                    *fate == accept::Fate::Applied || source.table && *fate == accept::Fate::Filtered
                };
                is_of_another || fates.next().is_some_and(is_kept)
            });
            let accepted = rows.iter().filter_map(|row| accept::accept(source, row));
            let now = accepted.map(|event| event.event_time).max().unwrap_or(0) + 1;
            for index in 0..KEYS.len() {
                let keys = keys_number(index);
                let all = features_at(&case, view, &keys, now);
                let without_late = features_at(&kept, view, &keys, now);
                for ((name, a), (_, b)) in all.iter().zip(&without_late) {
                    prop_assert!(a.same(b), "{}: {:?} is not {:?}", name, a, b);
                }
            }
        }
    }
}

/// Without the derived ones, which may read other views.
fn features_at(case: &Case, view: &View, keys: &Keys, t: i64) -> Vec<(String, Answer)> {
    let features_only = View { derived: Vec::new(), ..view.clone() };
    read_view(case.project(), &features_only, keys, None, t)
}

/// Prints what 200 services hold; each thing that they exist for has to be among it.
#[test]
fn services_hit_what_they_aim_at() {
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(Default::default()));
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..200 {
        let case = service_case().new_tree(&mut runner).expect("a case").current();
        for Question { keys, t, request, .. } in case.reads.iter().take(10) {
            for (name, answer) in read_service(case.project(), keys, Some(request), *t) {
                let what = format!("{} {:?}", kind_of_output(&case, &name), answer.status);
                *seen.entry(what).or_default() += 1;
            }
        }
    }
    println!("{seen:#?}");
    for kind in ["table", "joined column", "other view", "lookup"] {
        for status in [Status::Present, Status::Empty, Status::NotFound] {
            assert!(seen.contains_key(&format!("{kind} {status:?}")), "no {kind} {status:?}");
        }
    }
}

fn kind_of_output(case: &Case, output: &str) -> &'static str {
    let (view, name) = output.split_once(':').expect("a view and a feature");
    let view = case.views.iter().find(|other| other.name == view).expect("a view of the case");
    if let Some((_, expression)) = view.derived.iter().find(|(derived, _)| derived == name) {
        let sql = expression.sql();
        let names_view = expression.columns().iter().any(|column| column.contains('.'));
        return if sql.contains("lookup(") {
            "lookup"
        } else if names_view {
            "other view"
        } else {
            "derived"
        };
    }
    let feature = view.features.iter().find(|feature| feature.name == name).expect("a feature of the view");
    let names_join = |x: &Expr| x.columns().iter().any(|column| column.starts_with("j."));
    match case.source_of(view).table {
        true => "table",
        false if feature.aggregate.arguments().into_iter().any(names_join) => "joined column",
        false => "feature",
    }
}

/// Prints what 200 cases hold; fails when something that they exist for does not occur at all.
#[test]
fn cases_hit_what_they_aim_at() {
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(Default::default()));
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..200 {
        let case = case().new_tree(&mut runner).expect("a case").current();
        for view in &case.views {
            let source = case.source_of(view);
            let rows = case.rows_of(&source.name);
            for (fate, row) in accept::fates(view, source, &rows).into_iter().zip(&rows) {
                *seen.entry(format!("{fate:?}")).or_default() += 1;
                if row.is_at_rest() {
                    *seen.entry(format!("{fate:?} at rest")).or_default() += 1;
                }
            }
        }
        for Question { view, key, t, request, .. } in &case.reads {
            let view = &case.views[*view];
            let source = case.source_of(view);
            let answers = read::read(view, source, &case.rows_of(&source.name), key, *t, Some(request));
            for (i, (_, answer)) in answers.iter().enumerate() {
                *seen.entry(format!("{:?}", answer.status)).or_default() += 1;
                if let (Some(feature), false) = (view.features.get(i), answer.value.is_null()) {
                    let sql = feature.aggregate.sql();
                    *seen.entry(sql.split('(').next().unwrap_or_default().to_string()).or_default() += 1;
                }
            }
        }
    }
    println!("{seen:#?}");
    for fate in ["NotOfHistory", "DeadLetter", "Keyless", "Duplicate", "Filtered", "Late", "Applied"] {
        assert!(seen.contains_key(fate), "no {fate}");
    }
    for fate in ["DeadLetter", "Duplicate", "Late", "Applied"] {
        assert!(seen.contains_key(&format!("{fate} at rest")), "no {fate} at rest");
    }
    for status in [Status::Present, Status::Defaulted, Status::Empty, Status::NotFound, Status::Error] {
        assert!(seen.contains_key(&format!("{status:?}")), "no {status:?}");
    }
    let kinds = "count sum avg min max variance stddev first last first_k last_k distinct count_distinct quantile \
        median histogram top_k bottom_k mode skewness kurtosis any all arg_max arg_min rate decayed_sum \
        decayed_count count_by sum_by avg_by entropy time_since_last mean_gap max_gap trend vector_sum vector_avg \
        vector_last";
    for kind in kinds.split_whitespace() {
        assert!(seen.contains_key(kind), "no value of {kind}");
    }
}
