//! Random sources and views. Every source has the same fields, so that any expression fits any source;
//! which of them are event id and arrival time varies. Drawn as small indices and mapped, for shrinking.

use proptest::prelude::*;
use proptest::sample::select;

use super::expression::{Expr, Operator};
use super::generate_aggregates;
use super::generate_derived::{self, Draft, Output};
use super::generate_sql::{
    self, CATEGORY_COLUMN, Expressions, JOIN, PLAIN_COLUMNS, SELECTED_FLAG, SELECTED_INT, VECTOR_COLUMN,
};
use super::model::{Datum, Feature, Join, Period, Source, Type, View, Window};

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Whole hours and quarters, clocks that change at midnight or not at all, and a day that was left out.
const ZONES: [&str; 7] = [
    "UTC",
    "Europe/Berlin",
    "America/Havana",
    "Asia/Kathmandu",
    "America/Sao_Paulo",
    "Australia/Lord_Howe",
    "Pacific/Apia",
];

/// The fields of every source, in this order (`generate_log` fills them in this order).
pub fn fields() -> Vec<(String, Type)> {
    let mut fields = vec![
        ("happened_at", Type::Time),
        ("known_at", Type::Time),
        ("id_text", Type::Text),
        ("id_int", Type::Int64),
        ("key_text", Type::Text),
        ("key_int", Type::Int64),
        ("key_more", Type::Text),
        ("a", Type::Int64),
        ("b", Type::Int64),
        ("x", Type::Float64),
        ("y", Type::Float64),
        ("s", Type::Text),
        ("u", Type::Text),
        ("flag", Type::Bool),
    ];
    fields.extend(PLAIN_COLUMNS);
    fields.extend([CATEGORY_COLUMN, VECTOR_COLUMN]);
    fields.into_iter().map(|(name, of)| (name.to_string(), of)).collect()
}

/// One or two streams, named by their index.
pub fn streams() -> impl Strategy<Value = Vec<Source>> {
    prop::collection::vec(source(), 1..=2).prop_map(|mut sources| {
        for (i, source) in sources.iter_mut().enumerate() {
            source.name = format!("source_{i}");
        }
        sources
    })
}

pub const TABLE: &str = "table";

/// The table that views of many sources may see or join.
pub fn table() -> impl Strategy<Value = Source> {
    let red = Expr::binary(Operator::Equal, Expr::column("c"), Expr::text("red"));
    let above = Expr::binary(Operator::Greater, Expr::column("a"), Expr::int(2));
    let delete_when = select(vec![Some(Expr::column("flag")), Some(red), Some(above), None]);
    (source(), delete_when).prop_map(|(source, delete_when)| Source {
        name: TABLE.into(),
        table: true,
        delete_when,
        ..source
    })
}

fn source() -> impl Strategy<Value = Source> {
    let event_id = select(vec![None, Some("id_int"), Some("id_text"), Some("id_int")]);
    let arrival_time = select(vec![None, Some("known_at")]);
    let horizon = select(vec![HOUR, 1, SECOND, 10 * MINUTE, 30 * DAY]);
    let skew = select(vec![5 * MINUTE, 1, SECOND, 2 * HOUR]);
    // A fence from the start of the log on, which `generate` adds.
    let fence = select(vec![None, None, Some(0), Some(HOUR), Some(-7 * DAY), Some(26 * HOUR + 1)]);
    let history = prop::option::weighted(0.4, (select(vec![0, SECOND, HOUR]), fence));
    (event_id, arrival_time, horizon, skew, history).prop_map(|(event_id, arrival_time, horizon, skew, history)| {
        Source {
            name: String::new(),
            fields: fields(),
            event_time: "happened_at".into(),
            event_id: event_id.map(str::to_string),
            arrival_time: arrival_time.map(str::to_string),
            dedup_horizon: horizon,
            max_future_skew: skew,
            assumed_delay: history.map_or(0, |(delay, _)| delay),
            history: history.is_some(),
            history_until: history.and_then(|(_, until)| until),
            table: false,
            delete_when: None,
        }
    })
}

/// One to three views, named by their index; their sources are a number.
pub fn views() -> impl Strategy<Value = Vec<Draft>> {
    let view = prop_oneof![2 => view(false, false), 1 => view(true, false)];
    numbered(prop::collection::vec(view, 1..=3))
}

/// The same, and some of them join the table.
pub fn views_with_joins() -> impl Strategy<Value = Vec<Draft>> {
    let view =
        prop_oneof![2 => view(false, false), 1 => view(true, false), 2 => view(false, true), 1 => view(true, true)];
    numbered(prop::collection::vec(view, 1..=3))
}

fn numbered(drafts: impl Strategy<Value = Vec<Draft>>) -> impl Strategy<Value = Vec<Draft>> {
    drafts.prop_map(|mut drafts| {
        for (i, draft) in drafts.iter_mut().enumerate() {
            draft.view.name = format!("view_{i}");
        }
        drafts
    })
}

fn view(selected: bool, joined: bool) -> impl Strategy<Value = Draft> {
    let plain = generate_sql::expressions(2, false, joined);
    let visible = generate_sql::expressions(2, selected, joined);
    // A view's own `where` sees nothing of a table, not by way of a select either.
    let unjoined = generate_sql::expressions(2, selected && !joined, false);
    let entity_keys =
        select(vec![vec!["key_text"], vec!["key_int"], vec!["key_text", "key_more"], vec!["key_int", "key_text"]]);
    let filter = prop::option::weighted(0.25, filter(&unjoined));
    let selects = (plain.ints, plain.bools);
    let features = prop::collection::vec(feature(&visible), 1..=5);
    let derived = prop::collection::vec(any::<(u8, u8, u8)>(), 0..=3);
    let places = (any::<u8>(), select(vec!["key_text", "key_int", "c"]), entity_keys);
    (places, filter, selects, features, derived).prop_map(
        move |(places, filter, (int, flag), mut features, derived)| {
            let (source, on, keys) = places;
            for (i, (feature, _)) in features.iter_mut().enumerate() {
                feature.name = feature.name.replacen("NAME", &format!("f{i}"), 1);
            }
            let chosen = [(SELECTED_INT.to_string(), int), (SELECTED_FLAG.to_string(), flag)];
            let join = Join { name: JOIN.into(), source: TABLE.into(), on: on.into() };
            let mut outputs: Vec<Output> =
                features.iter().map(|(feature, of)| Output::of_feature(feature, *of)).collect();
            let view = View {
                name: String::new(),
                entity_keys: keys.into_iter().map(str::to_string).collect(),
                source: String::new(),
                filter,
                select: if selected { chosen.to_vec() } else { Vec::new() },
                joins: if joined { vec![join] } else { Vec::new() },
                derived: generate_derived::local(&mut outputs, &derived),
                features: features.into_iter().map(|(feature, _)| feature).collect(),
            };
            Draft { view, outputs, source }
        },
    )
}

/// With the type of its value, `None` for a list or a map.
fn feature(of: &Expressions) -> impl Strategy<Value = (Feature, Option<Type>)> + use<> {
    let aggregate = generate_aggregates::aggregate(of);
    let filter = prop::option::weighted(0.25, filter(of));
    let offset = select(vec![0, 0, 0, 0, 0, 1, SECOND, HOUR, DAY]);
    let parts = (aggregate, filter, window(), offset, default_index());
    (parts, any::<bool>(), prop::bool::weighted(0.2)).prop_map(|(parts, expands, include_request)| {
        let ((aggregate, result), filter, window, offset, default) = parts;
        let name = match window {
            Window::Sliding { width, .. } if expands => format!("NAME_{}", super::toml::duration(width)),
            _ => "NAME".to_string(),
        };
        let default = default.and_then(|index| default_of(result, index));
        (Feature { name, aggregate, filter, window, offset, default, include_request }, result)
    })
}

/// Half of them pass most events: the others often pass none.
fn filter(of: &Expressions) -> impl Strategy<Value = Expr> + use<> {
    let above = (select(vec!["a", "x"]), select(vec![-1, 0, 1]))
        .prop_map(|(column, bound)| Expr::binary(Operator::GreaterOrEqual, Expr::column(column), Expr::int(bound)));
    prop_oneof![above, of.bools.clone()]
}

fn window() -> impl Strategy<Value = Window> {
    let widths = || {
        select(vec![HOUR, 1, 2, 1000, SECOND, 1_000_003, 90 * SECOND, 10 * MINUTE, DAY, 7 * DAY, 30 * DAY, 90 * DAY])
    };
    let hops = select(vec![MINUTE, 7, SECOND, 5 * MINUTE, HOUR, DAY]);
    let gaps = select(vec![HOUR, 1, 2, 1000, SECOND, 61 * SECOND, 602 * SECOND, 2 * DAY, 31 * DAY]);
    let periods = select(vec![Period::Day, Period::Week, Period::Month]);
    prop_oneof![
        6 => widths().prop_map(|width| Window::Sliding { width, hop: None }),
        2 => (widths(), hops).prop_map(|(width, hop)| Window::Sliding { width, hop: Some(hop).filter(|hop| *hop <= width) }),
        2 => Just(Window::Lifetime),
        2 => select(vec![1, 2, 3, 10, 100]).prop_map(Window::LastN),
        2 => widths().prop_map(Window::Ttl),
        2 => widths().prop_map(Window::Tumbling),
        2 => gaps.prop_map(Window::Session),
        2 => (periods, select(ZONES.to_vec())).prop_map(|(period, zone)| Window::Calendar(period, zone.to_string())),
    ]
}

fn default_index() -> impl Strategy<Value = Option<u8>> {
    prop::option::weighted(0.3, any::<u8>())
}

/// Lists, maps, vectors, bytes, times and decimals get none: the page does not say how a default of theirs is written.
fn default_of(result: Option<Type>, index: u8) -> Option<Datum> {
    let second = index % 2 == 1;
    match result? {
        Type::Int64 => Some(Datum::Int(if second { -1 } else { 42 })),
        Type::Float64 => Some(Datum::Float(if second { 0.0 } else { -1.5 })),
        Type::Text => Some(Datum::Text(if second { "" } else { "it's unknown" }.into())),
        Type::Bool => Some(Datum::Bool(second)),
        Type::Bytes | Type::Time | Type::Decimal(..) | Type::Vector(_) => None,
    }
}
