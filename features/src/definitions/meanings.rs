//! What definitions mean: windows, defaults, the times of a source, and what a plan keeps once.

use super::tests::{HEAD, file};
use super::*;

/// What `window` and its like mean.
#[test]
fn windows_mean_what_they_say() {
    use crate::plan::Window::{Calendar, LastN, Lifetime, Session, Sliding, Tumbling};
    use crate::plan::window::CalendarUnit::{Day, Month, Week};
    let minute = 60 * crate::time::SECOND;
    let zone = |name: &str| crate::time::zone(name).unwrap();
    let hour = |hop| Sliding { width: 60 * minute, hop };
    for (keys, windows) in [
        ("", vec![("a", Lifetime)]),
        ("window = 'lifetime'", vec![("a", Lifetime)]),
        ("windows = ['1h', '60m']", vec![("a_1h", hour(None)), ("a_60m", hour(None))]),
        ("windows = ['1h'], hop = '5m'", vec![("a_1h", hour(Some(5 * minute)))]),
        ("windows = ['3660d']", vec![("a_3660d", Sliding { width: 3660 * crate::time::DAY, hop: None })]),
        ("windows = ['1us']", vec![("a_1us", Sliding { width: 1, hop: None })]),
        ("window = '1h'", vec![("a", hour(None))]),
        ("ttl = '1h'", vec![("a", hour(None))]),
        ("last_n = 1", vec![("a", LastN(1))]),
        ("last_n = 10000", vec![("a", LastN(10_000))]),
        ("window = ' tumbling ( 2m ) '", vec![("a", Tumbling(2 * minute))]),
        ("window = 'session(2m)'", vec![("a", Session(2 * minute))]),
        ("window = 'calendar(day)'", vec![("a", Calendar(Day, zone("UTC")))]),
        ("window = \"calendar(week, 'Europe/Berlin')\"", vec![("a", Calendar(Week, zone("Europe/Berlin")))]),
        ("window = \"calendar( month , 'UTC' )\"", vec![("a", Calendar(Month, zone("UTC")))]),
    ] {
        let text = format!("{HEAD}[view.v.features]\na = {{ agg = 'count()', offset = '3660d', {keys} }}\n");
        let registry = check(&file(&text)).unwrap_or_else(|problems| panic!("{}", problems[0]));
        let features = &registry.views[0].plan.features;
        let found: Vec<_> = features.iter().map(|f| (f.name.as_str(), f.window.clone())).collect();
        assert_eq!(found, windows, "{keys}");
        assert!(features.iter().all(|f| f.offset == 3660 * crate::time::DAY && !f.include_request));
    }
}

#[test]
fn defaults_are_values_of_the_feature() {
    use crate::value::Value;
    let fields = "k = 'string', x = 'float64', i = 'int64', b = 'bool', d = 'decimal(9,2)', t = 'timestamp'";
    for (agg, default, expected) in [
        ("count()", "-3", Value::Int64(-3)),
        ("sum(x)", "2", Value::Float64(2.0)),
        ("sum(x)", "-0.0", Value::Float64(0.0)),
        ("sum(x)", "1_000.5", Value::Float64(1000.5)),
        ("max(i)", "0x1_0", Value::Int64(16)),
        ("any(b)", "true", Value::Bool(true)),
        ("last(k)", "'none'", Value::text("none")),
        ("max(t)", "'1970-01-01T00:00:01Z'", Value::Timestamp(1_000_000)),
        ("max(d)", "'1.5'", Value::Decimal(150)),
        ("max(d)", "7", Value::Decimal(700)),
    ] {
        let head = HEAD.replace("k = 'string', x = 'float64', t = 'timestamp'", fields);
        let text = format!("{head}[view.v.features]\na = {{ agg = '{agg}', default = {default} }}\n");
        let registry = check(&file(&text)).unwrap_or_else(|problems| panic!("{}", problems[0]));
        let found = registry.views[0].plan.features[0].default.clone().unwrap();
        assert!(found.same(&expected), "{agg} {default}: {found:?}");
    }
}

/// What a source does not say has a meaning too.
#[test]
fn sources_have_their_times() {
    let source = |keys: &str| {
        let text = format!(
            "[source.s]\nconnector = 'push'\nevent_time = 't'\nfields = {{ a = 'timestamp', t = 'timestamp', k = 'string' }}\n{keys}"
        );
        let registry = check(&file(&text)).unwrap_or_else(|problems| panic!("{}", problems[0]));
        let s = &registry.sources[0];
        let times = [s.dedup_horizon, s.assumed_delay, s.max_future_skew, s.max_lag.unwrap_or(-1)];
        (s.event_time, s.event_id, s.arrival_time, times.map(|time| time / crate::time::SECOND), s.is_table)
    };
    assert_eq!(source(""), (1, None, None, [3600, 0, 300, 0], false));
    let keys = "event_id = 'k'\narrival_time = 'a'\nkind = 'table'\ndedup_horizon = '2h'\nassumed_delay = '3s'\nmax_future_skew = '4s'\nmax_lag = '5s'\n";
    assert_eq!(source(keys), (1, Some(2), Some(0), [7200, 3, 4, 5], true));
}

/// Columns, filters and aggregates that are the same stand in a plan once.
#[test]
fn what_features_share_is_kept_once() {
    let plan = |features: &str| {
        let text = format!("{HEAD}[view.v.features]\n{features}");
        let registry = check(&file(&text)).unwrap_or_else(|problems| panic!("{}", problems[0]));
        registry.views[0].plan.clone()
    };
    let shared = plan(
        "a = { agg = 'sum(x)', windows = ['1h', '2h'] }\nb = { agg = 'sum( x )', ttl = '3h' }\nc = { agg = 'max(x)', where = 'x > 1', ttl = '3h' }\n\
         d = { agg = 'min(x)', where = 'x > 1', ttl = '3h' }\ne = { agg = 'rate(x, x + 1, 0, 1)', where = 'x > 2', ttl = '3h' }\n",
    );
    assert_eq!((shared.inputs.len(), shared.filters, shared.cells.len(), shared.features.len()), (2, 2, 4, 6));
    let cells: Vec<_> = shared.cells.iter().map(|cell| (cell.input, cell.second, cell.filter)).collect();
    assert_eq!(
        cells,
        [(Some(0), None, None), (Some(0), None, Some(0)), (Some(0), None, Some(0)), (Some(0), Some(1), Some(1))]
    );
    assert!(!shared.order_kept && !shared.never_late && !shared.keeps_all && !shared.has_base());
    assert_eq!((shared.reach, shared.slack), (3 * crate::time::HOUR, crate::time::HOUR));
    let unbounded = plan(
        "a = { agg = 'sum(x)' }\nb = { agg = 'sum(x)', windows = ['1h'] }\nc = { agg = 'max(x)', last_n = 3 }\nd = { agg = 'min(x)', last_n = 9 }\n\
         e = { agg = 'min(x)', last_n = 5, where = 'x > 1' }\n",
    );
    assert_eq!((&unbounded.lifetime_cells[..], &unbounded.last_n[..]), (&[0][..], &[(None, 9), (Some(0), 5)][..]));
    assert!(unbounded.order_kept && unbounded.never_late && !unbounded.keeps_all && unbounded.has_base());
    assert!(plan("a = { agg = 'last(x)', ttl = '1h' }\n").order_kept);
    assert!(
        plan("a = { agg = 'max_gap()' }\n").keeps_all && !plan("a = { agg = 'max_gap()', ttl = '1h' }\n").keeps_all
    );
    assert_eq!(
        plan("a = { agg = 'sum(x)', windows = ['1h'], hop = '1m', offset = '1d' }\n").reach,
        25 * crate::time::HOUR + 60 * crate::time::SECOND
    );
}

/// Arrivals are the server's own where events are pushed and do not say when they came.
#[test]
fn pushed_events_have_the_arrival_of_the_clock() {
    let clocked = |keys: &str| {
        let fields = "fields = { k = 'string', t = 'timestamp' }";
        let text = format!(
            "[source.s]\nevent_time = 't'\nevent_id = 'k'\n{fields}\n{keys}\n{}",
            &HEAD[HEAD.find("[entity").unwrap()..]
        );
        let registry = check(&file(&text)).unwrap_or_else(|problems| panic!("{}", problems[0]));
        let dedup = registry.views[0].plan.dedup.clone().unwrap();
        dedup.arrivals_ascend
    };
    assert!(clocked("connector = 'push'"));
    assert!(!clocked("connector = 'push'\narrival_time = 't'"));
    assert!(!clocked("connector = 'file'\npath = 'a'"));
    assert!(!clocked("connector = 'kafka'\ntopic = 'a'"));
}
