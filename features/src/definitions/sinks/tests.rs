//! Sinks as users declare them, right and wrong: each mistake with its place and the name that was meant.

use super::super::{DefinitionFile, Registry, check};
use super::*;
use crate::problem::Problem;

const PROJECT: &str = r#"
[source.s]
connector = 'kafka'
topic = 'events'
dead_letter_topic = 'bad'
event_time = 't'
fields = { k = 'string', m = 'string', n = 'int64', x = 'float64', t = 'timestamp' }
[source.by_number]
connector = 'push'
event_time = 't'
fields = { k = 'int64', t = 'timestamp' }
[entity.card]
key = 'k'
[entity.shop]
key = 'm'
[view.v]
entity = 'card'
source = 's'
[view.v.features]
a = { agg = 'count()', windows = ['1h'] }
last_m = { agg = 'last(m)' }
[view.v.derived]
twice = 'a_1h * 2'
of_shop = "lookup('shops:doubled', last_m)"
[view.w]
entity = 'card'
source = 's'
[view.w.features]
b = { agg = 'sum(x)' }
[view.numbers]
entity = 'card'
source = 'by_number'
[view.numbers.features]
b = { agg = 'count()' }
[view.counting]
entity = 'card'
source = 's'
[view.counting.features]
with_row = { agg = 'count()', include_request = true }
[view.shops]
entity = 'shop'
source = 's'
[view.shops.features]
n = { agg = 'count()' }
[view.shops.derived]
doubled = 'n * 2'
[view.asked]
entity = 'card'
request = { r = 'float64' }
[view.asked.derived]
over = 'request.r - v.a_1h'
plain = 'v.twice + w.b'
nothing = '1 + 1'
[service.all]
features = ['v:*', 'w:b', 'asked:plain']
[service.with_request]
features = ['v:*', 'asked:over']
[service.two_entities]
features = ['v:*', 'shops:n']
[service.of_nothing]
features = ['asked:nothing']
[service.of_types]
features = ['v:a_1h', 'numbers:b']
"#;

fn checked(text: &str) -> Result<Registry, Vec<Problem>> {
    check(&[DefinitionFile { path: "project.toml".into(), text: format!("{PROJECT}{text}") }])
}

#[test]
fn what_is_right_is_taken() {
    let text = "[sink.a]\nconnector = 'kafka'\ntopic = 'cards'\nservice = 'all'\nevery = '2s'\n\
                [sink.b]\nconnector = 'kafka'\ntopic = 'w-1'\nview = 'w'\ndescription = 'sums'\n";
    let registry = checked(text).unwrap_or_else(|problems| panic!("{}", problems[0]));
    let [a, b] = &registry.sinks[..] else { panic!("{:?}", registry.sinks) };
    let (v, w) = (registry.view("v").unwrap(), registry.view("w").unwrap());
    assert_eq!((a.every, &a.views, a.features.len()), (2 * SECOND, &vec![v, w], 6));
    assert_eq!((b.every, &b.views, b.features.len()), (100 * MILLISECOND, &vec![w], 1));
    assert_eq!((b.topic.as_str(), &b.of), ("w-1", &Published::View("w".into())));
}

/// The hash follows everything that decides a value, also what is looked up, and nothing else.
#[test]
fn the_hash_follows_the_values() {
    let hash = |text: String| {
        let sink = "[sink.a]\nconnector = 'kafka'\ntopic = 'cards'\nservice = 'all'\n";
        let file = DefinitionFile { path: "project.toml".into(), text: format!("{text}{sink}") };
        check(&[file]).unwrap_or_else(|problems| panic!("{}", problems[0])).sinks[0].hash
    };
    let now = hash(PROJECT.to_string());
    assert_eq!(now, hash(PROJECT.replace("agg = 'count()', include_request", "agg = 'sum(x)', include_request")));
    assert_ne!(now, hash(PROJECT.replace("windows = ['1h']", "windows = ['1h'], where = 'x > 0'")));
    assert_ne!(now, hash(PROJECT.replace("doubled = 'n * 2'", "doubled = 'n * 3'")), "what is looked up");
    assert_ne!(now, hash(PROJECT.replace("'w:b', ", "")), "another list");
}

/// `«` stands before the place that must be told.
#[test]
fn mistakes_are_told_at_their_place() {
    let kafka = "connector = 'kafka'\n";
    for (text, code, message, near) in [
        ("[sink.«a]\ntopic = 't'\nview = 'v'\n", "E0004", "needs `connector`", None),
        ("[sink.«a]\nKview = 'v'\n", "E0004", "needs `topic`", None),
        ("[sink.«a]\nKtopic = 't'\n", "E0004", "sink `a` needs `service` or `view`", None),
        ("[sink.«A]\nKtopic = 't'\nview = 'w'\n", "E0005", "`A` is not a name", None),
        ("[sink.a]\nconnector = «'kafak'\ntopic = 't'\nview = 'w'\n", "E0003", "one of kafka", Some("kafka")),
        ("[sink.a]\nKtopic = «'a b'\nview = 'w'\n", "E0005", "`a b` is not a topic", None),
        ("[sink.a]\nKtopic = «'events'\nview = 'w'\n", "E0012", "source `s` reads topic `events`", None),
        ("[sink.a]\nKtopic = «'bad'\nview = 'w'\n", "E0012", "bad events of source `s` go into topic `bad`", None),
        (
            "[sink.b]\nKtopic = 't'\nview = 'v'\n[sink.a]\nKtopic = «'t'\nview = 'w'\n",
            "E0012",
            "that of sink `b`",
            None,
        ),
        ("[sink.a]\nKtopic = 't'\nview = 'w'\nservice = 'all'\n«x = 1\n", "E0002", "unknown key `x`", None),
        ("[sink.a]\nKtopic = 't'\nview = «'ww'\n", "E0007", "unknown view `ww`", Some("w")),
        ("[sink.a]\nKtopic = 't'\nservice = «'al'\n", "E0007", "unknown service `al`", Some("all")),
        ("[sink.a]\nKtopic = 't'\nservice = 'all'\nview = «'w'\n", "E0011", "exclude one another", None),
        ("[sink.a]\nKtopic = 't'\nview = 'w'\nevery = «'0s'\n", "E0011", "`every` is from 1ms to 1h", None),
        ("[sink.a]\nKtopic = 't'\nview = 'w'\nevery = «'61m'\n", "E0011", "`every` is from 1ms to 1h", None),
        ("[sink.a]\nKtopic = 't'\nview = 'w'\nevery = «'1x'\n", "E0009", "`x` is not a unit", None),
        ("[sink.a]\nKtopic = 't'\nservice = «'with_request'\n", "E0023", "`asked:over` needs `request.r`", None),
        ("[sink.a]\nKtopic = 't'\nview = «'counting'\n", "E0023", "needs the row of the request", None),
        ("[sink.a]\nKtopic = 't'\nservice = «'two_entities'\n", "E0023", "`v`, `shops` are of several entities", None),
        ("[sink.a]\nKtopic = 't'\nservice = «'of_nothing'\n", "E0023", "it reads no events", None),
        ("[sink.a]\nKtopic = 't'\nservice = «'of_types'\n", "E0023", "`v` and `numbers` are of different types", None),
        ("[«snik.a]\nKtopic = 't'\n", "E0002", "unknown section `snik`", Some("sink")),
    ] {
        let text = text.replace('K', kafka);
        let (before, after) = text.split_once('«').unwrap();
        let front = format!("{PROJECT}{before}");
        let place = (front.matches('\n').count() + 1, front.rsplit('\n').next().unwrap().chars().count() + 1);
        let found = checked(&format!("{before}{after}")).expect_err(&text);
        let of_code: Vec<&Problem> = found.iter().filter(|problem| problem.code == code).collect();
        let [problem] = &of_code[..] else { panic!("{text}: {found:?}") };
        assert_eq!((problem.line, problem.column), place, "{text}: {found:?}");
        assert!(problem.message.contains(message), "{text}: {}", problem.message);
        assert_eq!(problem.near.as_deref(), near, "{text}");
        // Two that exclude one another besides an unknown key are two mistakes.
        assert!(found.len() <= 2, "{text}: {found:?}");
    }
}

#[test]
fn there_is_a_limit() {
    let sinks = |count: usize| -> String {
        let sink = |nth| format!("[sink.s{nth}]\nconnector = 'kafka'\ntopic = 't{nth}'\nview = 'w'\n");
        (0..count).map(sink).collect()
    };
    assert_eq!(checked(&sinks(64)).unwrap().sinks.len(), 64);
    let found = checked(&sinks(65)).unwrap_err();
    assert_eq!(
        found.iter().map(|p| (p.code, p.message.as_str())).collect::<Vec<_>>(),
        [("E0017", "more than 64 sinks")]
    );
}

/// What is broken is told where it is declared, and not once more at the sink.
#[test]
fn what_is_broken_elsewhere_is_told_there() {
    let sink = "[sink.a]\nconnector = 'kafka'\ntopic = 't'\n";
    let broken = "[view.y]\nentity = 'card'\nsource = 'ss'\n[view.y.features]\na = { agg = 'count()' }\n";
    let found = checked(&format!("{broken}{sink}view = 'y'\n")).unwrap_err();
    assert_eq!(found.iter().map(|p| p.code).collect::<Vec<_>>(), ["E0007"], "{found:?}");
    let service = "[service.z]\nfeatures = ['y:a']\n";
    let found = checked(&format!("{broken}{service}{sink}service = 'z'\n")).unwrap_err();
    assert_eq!(found.iter().map(|p| p.code).collect::<Vec<_>>(), ["E0007"], "{found:?}");
}
