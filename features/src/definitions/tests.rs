//! Definitions as users write them, right and wrong.

use super::*;

pub(crate) const CARDS: &str = include_str!("../../testdata/cards.toml");

pub(super) fn file(text: &str) -> Vec<DefinitionFile> {
    vec![DefinitionFile { path: "features/cards.toml".into(), text: text.into() }]
}

#[test]
fn the_example_of_the_interfaces_is_accepted() {
    let registry = check(&file(CARDS)).unwrap_or_else(|problems| panic!("{}", problems[0]));
    let view = &registry.views[registry.view("card_activity").unwrap()];
    let names: Vec<&str> = view.outputs().map(|(name, _)| name).collect();
    assert_eq!(names[..4], ["txn_count_10m", "txn_count_1h", "txn_count_24h", "amount_sum_1h"]);
    assert_eq!(names.last(), Some(&"burst"));
    let reasons = registry.not_ready.join("\n");
    assert!(reasons.is_empty(), "{reasons}");
    let embedding = &registry.embeddings[registry.embedding("merchant_profile").unwrap()];
    assert_eq!((embedding.vector.dims, embedding.vector.metric, embedding.index.m), (64, Metric::Cosine, Some(16)));
    let kept = &registry.views[embedding.view];
    assert!(kept.plan.table.is_some() && kept.plan.never_late && !kept.plan.keeps_all && !kept.is_declared());
    assert_eq!(kept.plan.features.len(), 1 + embedding.attributes.len());
    let history = registry.sources[registry.source("transactions").unwrap()].history.as_ref().unwrap();
    assert_eq!((history.path.as_str(), history.until), ("lake/transactions/**/*.parquet", None));
}

/// Ten mistakes in one file: each is found, at its column, with the near name.
#[test]
fn ten_mistakes_at_once() {
    let text = r#"[source.tx]
connector = "pusch"
event_time = "at"
fields = { card = "string", amount = "float46", at = "timestamp" }
[entity.card]
key = "card"
[view.v]
entity = "crad"
source = "tx"
[view.w]
entity = "card"
source = "tx"
where = "amuont > 0"
[view.w.features]
a = { agg = "cout()", windows = ["1h"] }
b = { agg = "sum(card)", windows = ["1h"] }
c = { agg = "count()", windows = ["1x"] }
d = { agg = "count()", window = "lifetme" }
a_1h = { agg = "count()", widow = "lifetime" }
[service.s]
features = ["w:e_1h"]
"#;
    let problems = check(&file(text)).unwrap_err();
    let found: Vec<(usize, usize, &str, Option<&str>)> =
        problems.iter().map(|p| (p.line, p.column, p.code, p.near.as_deref())).collect();
    assert_eq!(
        found,
        [
            (2, 13, "E0003", Some("push")),
            (4, 38, "E0015", Some("float64")),
            (8, 10, "E0007", Some("card")),
            (13, 10, "E0007", Some("amount")),
            (15, 14, "E0010", Some("count")),
            (16, 18, "E0010", None),
            (17, 35, "E0009", None),
            (18, 33, "E0011", Some("lifetime")),
            (19, 27, "E0002", Some("window")),
            (21, 13, "E0007", Some("w:a_1h")),
        ],
        "{problems:#?}"
    );
}

fn codes(text: &str) -> Vec<(&'static str, usize, usize)> {
    match check(&file(text)) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(|p| (p.code, p.line, p.column)).collect(),
    }
}

pub(super) const HEAD: &str = "[source.s]\nconnector = 'push'\nevent_time = 't'\nfields = { k = 'string', x = 'float64', t = 'timestamp' }\n[entity.e]\nkey = 'k'\n[view.v]\nentity = 'e'\nsource = 's'\n";

#[test]
fn graphs_are_checked_as_a_whole() {
    let with = |tail: &str| codes(&format!("{HEAD}{tail}"));
    assert_eq!(with("[view.v.features]\na = { agg = 'sum(x)', windows = ['1h'] }\n"), []);
    assert_eq!(with("[view.v.derived]\na = 'b + 1'\nb = 'a + 1'\n"), [("E0014", 11, 1)]);
    assert_eq!(with("[view.v.derived]\na = 'c + 1'\n"), [("E0007", 11, 6)]);
    assert_eq!(with("[view.v.features]\na = { agg = 'sum(x)', last_n = 3, ttl = '1h' }\n"), [("E0011", 11, 23)]);
    assert_eq!(with("[view.v.features]\na = { agg = 'sum(x)', hop = '1m' }\n"), [("E0018", 11, 23)]);
    assert_eq!(with("[view.v.features]\na = { agg = 'sum(x)', windows = ['0s'] }\n"), [("E0011", 11, 34)]);
    assert_eq!(with("[view.v.features]\na = { agg = 'last(k)', default = 3 }\n"), [("E0016", 11, 34)]);
    assert_eq!(with("[view.v.features]\na = { agg = 'sum(x)', distinct = true }\n"), [("E0010", 11, 14)]);
    assert_eq!(with("[view.v.select]\nx = 'k'\n"), [("E0013", 11, 1)]);
    assert_eq!(with("[view.V]\nentity = 'e'\n"), [("E0005", 10, 7)]);
    assert_eq!(with("[view.v.features]\na = { agg = \"\"\"\nsum(x +\n  y)\"\"\" }\n"), [("E0007", 13, 3)]);
    assert_eq!(with("[view.v.features]\na = { agg = \"sum(\\u0078 + yy)\" }\n"), [("E0007", 11, 27)]);
    assert_eq!(with("[entity.e]\nkey = 'x'\n")[0], ("E0001", 10, 9));
}

#[test]
fn histories_are_checked() {
    let with = |keys: &str| codes(&HEAD.replace("[entity.e]", &format!("{keys}\n[entity.e]")));
    assert_eq!(with("history = 'lake/*.csv'"), []);
    assert_eq!(with("history = 'lake/*.csv'\nhistory_until = '2026-01-01T00:00:00+01:00'"), []);
    assert_eq!(with("history = ' '"), [("E0003", 5, 11)]);
    assert_eq!(with("history = 7"), [("E0003", 5, 11)]);
    assert_eq!(with("history_until = '2026-01-01T00:00:00Z'"), [("E0018", 5, 1)]);
    for time in ["'2026-01-01'", "'2026-01-01T00:00:00'", "2026-01-01T00:00:00Z", "7"] {
        assert_eq!(with(&format!("history = 'a'\nhistory_until = {time}")), [("E0003", 6, 17)], "{time}");
    }
    let of_files = HEAD.replace("'push'", "'file'\npath = 'a.csv'\nhistory = 'b.csv'");
    assert_eq!(codes(&of_files), [("E0018", 4, 1)]);
}

#[test]
fn a_history_warns_where_its_overlap_would_count_twice() {
    let warnings = |keys: &str| {
        let text = HEAD.replace("[entity.e]", &format!("{keys}\n[entity.e]"));
        check(&file(&text)).unwrap().sources[0].warnings().len()
    };
    assert_eq!(warnings(""), 0);
    assert_eq!(warnings("history = 'a.csv'"), 1);
    assert_eq!(warnings("history = 'a.csv'\nevent_id = 'k'"), 0);
    assert_eq!(warnings("history = 'a.csv'\nhistory_until = '2026-01-01T00:00:00Z'"), 0);
}

#[test]
fn files_share_one_namespace() {
    let twice = [file("[entity.a]\nkey = 'k'\n"), file("[entity.a]\nkey = 'k'\n")].concat();
    assert_eq!(check(&twice).unwrap_err()[0].code, "E0006");
}

#[test]
fn hashes_follow_meaning_not_layout() {
    let hash = |text: &str| check(&file(text)).unwrap().hash;
    let plain = format!("{HEAD}[view.v.features]\na = {{ agg = 'sum(x)', windows = ['1h'] }}\n");
    assert_eq!(hash(&plain), hash(&format!("# a comment\n{plain}")));
    assert_ne!(hash(&plain), hash(&plain.replace("1h", "2h")));
    assert_ne!(hash(&plain), hash(&plain.replace("sum(x)", "sum(x + 1)")));
}

#[test]
fn nothing_panics_on_garbage() {
    for text in [
        "",
        "[",
        "[source]",
        "source = 3",
        "[view.v]\nentity = 3\nfeatures = 7",
        "[service.s]\nfeatures = [1]",
        "\u{0}",
    ] {
        let _ = check(&file(text));
    }
}

/// A word without quotes is no TOML, and the place inside of it cannot be pointed at.
#[test]
fn texts_without_quotes_are_named() {
    for word in ["\u{7a6}count()", "ä", "x y"] {
        let text = format!("{HEAD}[view.v.features]\na = {{ agg = {word}\", windows = ['1h'] }}\n");
        let problems = check(&file(&text)).unwrap_err();
        assert_eq!(problems[0].code, "E0001", "{problems:?}");
    }
}

/// Problems beyond those that are told are not looked for: each costs a walk over the file, so this would take minutes.
#[test]
fn a_file_full_of_mistakes_is_done_at_once() {
    let keys = |count: usize| (0..count).map(|i| format!("k{i} = 1\n")).collect::<String>();
    for text in [keys(50_000), format!("[source.s]\n{}", keys(50_000)), keys(50_000).replace(" = 1", " = {}")] {
        assert_eq!(check(&file(&text)).unwrap_err().len(), 1000);
    }
    let features = (0..20_000).map(|i| format!("f{i} = {{ agg = 'sum(x + {i})', windows = ['1h'] }}\n"));
    let text = format!("{HEAD}[view.v.features]\n{}", features.collect::<String>());
    assert!(check(&file(&text)).unwrap_err()[0].message.contains("more than 2000 features"));
}

#[test]
fn the_schema_names_every_section() {
    let schema = json_schema();
    for section in ["source", "entity", "view", "embedding", "service", "sink"] {
        assert!(schema["properties"][section].is_object());
    }
}

/// The place of a mistake inside an expression, however its text is quoted and escaped.
#[test]
fn places_inside_texts_of_every_kind() {
    let project = |filter: &str| {
        format!(
            "[source.s]\nconnector = \"push\"\nevent_time = \"t\"\nfields = {{ k = \"string\", t = \"timestamp\" }}\n[entity.e]\n\
             key = \"k\"\n[view.v]\nentity = \"e\"\nsource = \"s\"\nwhere = {filter}\n"
        )
    };
    let cases = [
        (r#""k = 'a' AND nope""#, (10, 22)),
        ("'nope = 1'", (10, 10)),
        (r#""k = '\u00e4\t' AND nope""#, (10, 29)),
        (r#""k = '\U000000e4\"' AND nope""#, (10, 33)),
        (r#""k = 'ä' AND nope""#, (10, 22)),
        ("\"\"\"\r\nk = 'a'\r\n AND nope\"\"\"", (12, 6)),
        ("\"\"\"k = 'a'\n  AND nope\"\"\"", (11, 7)),
        ("\"\"\"\nk = 'a'\n  AND nope\"\"\"", (12, 7)),
        ("'''\nnope'''", (11, 1)),
    ];
    for (filter, (line, column)) in cases {
        let problems = check(&file(&project(filter))).unwrap_err();
        let found: Vec<(usize, usize)> = problems.iter().map(|p| (p.line, p.column)).collect();
        assert_eq!(found, [(line, column)], "{filter}: {}", problems[0]);
    }
}

/// Names of any length are told in a line.
#[test]
fn long_names_are_told_shortened() {
    let long = "x".repeat(200);
    for text in [format!("[{long}.a]\n"), format!("[entity.{long}]\nkey = 'k'\n")] {
        let message = check(&file(&text)).unwrap_err()[0].message.clone();
        assert!(message.contains(&"x".repeat(80)) && !message.contains(&"x".repeat(81)), "{message}");
    }
}

/// What a derived feature names twice it reads once; what differs in anything is read by itself.
#[test]
fn inputs_of_derived_features_are_shared() {
    let inputs = |derived: &str| {
        let text = format!(
            "{HEAD}request = {{ r = 'float64', q = 'float64' }}\n[view.v.features]\na = {{ agg = 'sum(x)' }}\nb = {{ agg = 'last(k)' }}\n\
             c = {{ agg = 'first(k)' }}\n[view.v.derived]\nd = \"{derived}\"\n"
        );
        let registry = check(&file(&text)).unwrap_or_else(|problems| panic!("{}", problems[0]));
        registry.views[0].derived[0].inputs.len()
    };
    assert_eq!(inputs("a + a"), 1);
    assert_eq!(inputs("request.r * request.r"), 1);
    assert_eq!(inputs("request.r * request.q"), 2);
    assert_eq!(inputs("a + request.r"), 2);
    assert_eq!(inputs("lookup('v:a', b) + lookup('v:a', b)"), 2);
    assert_eq!(inputs("lookup('v:a', b) + lookup('v:a', c)"), 4);
    assert_eq!(inputs("lookup('v:a', b) + cast(lookup('v:b', b) as float64)"), 3);
}

/// Which columns an aggregate takes: one word of the types of a wrong one for each rule.
#[test]
fn aggregates_take_the_columns_that_they_can() {
    let fields = "b = 'bool', i = 'int64', f = 'float64', s = 'string', y = 'bytes', t2 = 'timestamp', d = 'decimal(9,2)', \
                  l = 'list<int64>', v = 'vector<2>'";
    let accepted = |call: &str| {
        let text = format!(
            "[source.s]\nconnector = 'push'\nevent_time = 't'\nfields = {{ k = 'string', t = 'timestamp', {fields} }}\n[entity.e]\n\
             key = 'k'\n[view.v]\nentity = 'e'\nsource = 's'\n[view.v.features]\na = {{ agg = \"{call}\" }}\n"
        );
        check(&file(&text)).is_ok()
    };
    let takers: [(&str, &str); 15] = [
        ("sum(X)", "i f d"),
        ("quantile(X, 0.5)", "i f d"),
        ("stddev(X)", "i f"),
        ("trend(X)", "i f"),
        ("count_by(X)", "b i s t2"),
        ("sum_by(X, s)", "i f d"),
        ("sum_by(i, X)", "b i s t2"),
        ("any(X)", "b"),
        ("vector_sum(X)", "v"),
        ("vector_last(X)", "v"),
        ("last(X)", "b i f s y t2 d l v"),
        ("arg_max(X, i)", "b i f s y t2 d l v"),
        ("arg_max(i, X)", "b i f s t2 d"),
        ("count_distinct(X)", "b i f s y t2 d"),
        ("max(X)", "b i f s y t2 d"),
    ];
    for (call, columns) in takers {
        let found: Vec<&str> = ["b", "i", "f", "s", "y", "t2", "d", "l", "v"]
            .into_iter()
            .filter(|column| accepted(&call.replace('X', column)))
            .collect();
        assert_eq!(found.join(" "), columns, "{call}");
    }
}

/// Lookups behind lookups are counted through whatever stands between them.
#[test]
fn chains_of_lookups_have_a_limit() {
    let chain = |length: usize| {
        let mut text = format!("{HEAD}[view.v.features]\na = {{ agg = 'last(k)' }}\n[view.v.derived]\nd0 = 'a'\n");
        for i in 1..=length {
            text += &format!("between{i} = 'd{}'\nd{i} = \"lookup('v:between{i}', a)\"\n", i - 1);
        }
        codes(&text)
    };
    assert_eq!(chain(4), []);
    assert_eq!(chain(5).len(), 1);
}

/// Features that keep every event forever are named where the project is checked.
#[test]
fn surprising_costs_are_warned_of() {
    let warnings = |features: &str| {
        let registry = check(&file(&format!("{HEAD}[view.v.features]\n{features}"))).unwrap();
        registry.views[0].plan.warnings()
    };
    assert!(warnings("a = { agg = 'sum(x)', windows = ['89d'] }\nb = { agg = 'sum(x)' }\n").is_empty());
    assert!(warnings("a = { agg = 'sum(x)', windows = ['90d'] }\n")[0].contains("`a_90d` keeps every event of 90d"));
    assert!(warnings("a = { agg = 'max_gap()' }\nb = { agg = 'sum(x)' }\n")[0].starts_with("`a` has no left edge"));
    assert_eq!(warnings("a = { agg = 'max_gap()' }\nb = { agg = 'sum(x)' }\n").len(), 1);
}

/// Selected columns over a joined table are computed at read, each in its own place; the others as events come in.
#[test]
fn selected_columns_over_joins_keep_their_places() {
    let text = format!(
        "{HEAD}[source.rows]\nkind = 'table'\nconnector = 'push'\nevent_time = 't'\n\
         fields = {{ k = 'string', p = 'float64', t = 'timestamp' }}\n[view.v.join.j]\nsource = 'rows'\non = 'k'\n\
         [view.v.select]\nplain = 'x + 1'\nonce = 'x * j.p'\ntwice = 'once * 2'\n\
         [view.v.features]\na = {{ agg = 'sum(once)' }}\nb = {{ agg = 'sum(twice)' }}\nc = {{ agg = 'sum(plain)' }}\n"
    );
    let registry = check(&file(&text)).unwrap_or_else(|problems| panic!("{}", problems[0]));
    let joins = registry.views[registry.view("v").unwrap()].plan.joins.as_ref().unwrap();
    let places: Vec<usize> = joins.select.iter().map(|(at, _)| *at).collect();
    assert_eq!(places, [joins.width - 2, joins.width - 1]);
}
