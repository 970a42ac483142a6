//! Services and references, resolved: columns, keys, sources, and what cannot be read.

use super::*;
use crate::definitions::{DefinitionFile, Registry, check};
use crate::expression::Column;
use crate::stream::KEY_BYTES_MAX;
use crate::value::{DataType, Value};

const PROJECT: &str = r#"
[source.s]
connector = 'push'
event_time = 't'
fields = { k = 'string', n = 'int64', x = 'float64', t = 'timestamp' }
[source.o]
connector = 'push'
event_time = 't'
fields = { k = 'int64', t = 'timestamp' }
[source.rows]
kind = 'table'
connector = 'push'
event_time = 't'
fields = { k = 'string', p = 'float64', t = 'timestamp' }
[entity.e]
key = 'k'
[entity.pair]
keys = ['n', 'k']
[view.v]
entity = 'e'
source = 's'
where = 'x > 0'
[view.v.features]
total = { agg = 'sum(x)', windows = ['1h', '2h'] }
last_k = { agg = 'last(k)' }
with_row = { agg = 'sum(x)', include_request = true }
[view.both]
entity = 'pair'
source = 's'
[view.both.features]
b = { agg = 'count()' }
[view.numbers]
entity = 'e'
source = 'o'
[view.numbers.features]
b = { agg = 'count()' }
[view.joined]
entity = 'pair'
source = 's'
[view.joined.join.r]
source = 'rows'
on = 'k'
[view.joined.features]
p = { agg = 'sum(r.p)' }
[view.asked]
entity = 'e'
request = { r = 'float64', x = 'string' }
[view.asked.derived]
c = 'request.r + v.total_1h'
d = "lookup('v:total_1h', v.last_k) + c"
f = "request.x || 'a'"
[service.one]
features = ['asked:c', 'v:total_2h']
"#;

fn registry() -> Registry {
    check(&[DefinitionFile { path: "p.toml".into(), text: PROJECT.into() }])
        .unwrap_or_else(|problems| panic!("{}", problems[0]))
}

fn names(list: &[(String, DataType)]) -> Vec<String> {
    list.iter().map(|(name, data_type)| format!("{name} {data_type}")).collect()
}

fn plan(references: &[&str]) -> Result<ReadPlan, Refused> {
    let references: Vec<String> = references.iter().map(|reference| reference.to_string()).collect();
    ReadPlan::of_references(&registry(), &references)
}

#[test]
fn plans_have_columns_keys_and_sources() {
    let of_service = ReadPlan::of_service(&registry(), "one").unwrap();
    assert_eq!(names(&of_service.columns), ["asked:c float64", "v:total_2h float64"]);
    assert_eq!(
        (names(&of_service.keys), names(&of_service.request)),
        (vec!["k string".to_string()], vec!["r float64".to_string()])
    );
    assert_eq!((of_service.slots, of_service.width, of_service.derived.len(), of_service.views.len()), (3, 3, 1, 1));
    assert_eq!(of_service.outputs.len(), 2);
    let twice = plan(&["v:*", "v:total_1h", "v:*"]).unwrap();
    assert_eq!(names(&twice.columns).len(), 4);
    assert_eq!(twice.sources.iter().copied().collect::<Vec<_>>(), [0]);
    let both = plan(&["both:b", "v:last_k"]).unwrap();
    assert_eq!(names(&both.keys), ["n int64", "k string"]);
    assert_eq!(both.views.iter().map(|view| view.keys.clone()).collect::<Vec<_>>(), [vec![0, 1], vec![1]]);
    let joined = plan(&["joined:p"]).unwrap();
    assert_eq!(joined.sources.iter().copied().collect::<Vec<_>>(), [0, 2]);
    let looked_up = plan(&["asked:d"]).unwrap();
    assert_eq!((looked_up.lookups.len(), looked_up.slots, looked_up.width), (1, 4, 5));
    assert_eq!(looked_up.sources.len(), 1);
    // Values of a request's row come from the request, but for its keys and its time.
    let with_row = plan(&["v:with_row"]).unwrap();
    assert_eq!(
        (names(&with_row.request), with_row.views[0].request.as_ref().map(Vec::len)),
        (vec!["x float64".to_string()], Some(2))
    );
    assert!(plan(&["v:total_1h"]).unwrap().views[0].request.is_none());
}

#[test]
fn what_cannot_be_read_is_refused() {
    let refused = |code, message: &str, unknown, near: Option<&str>| {
        Err(Refused { code, message: message.to_string(), unknown, near: near.map(str::to_string) })
    };
    let shown = |found: Result<ReadPlan, Refused>| found.map(|plan| names(&plan.columns));
    let unknown = ReadPlan::of_service(&registry(), "noe");
    assert_eq!(shown(unknown), refused("E2001", "unknown feature service `noe`", true, Some("one")));
    let view = ReadPlan::of_service(&registry(), "v");
    assert_eq!(shown(view), refused("E2001", "unknown feature service `v`", true, Some("v:*")));
    let far = ReadPlan::of_service(&registry(), &"y".repeat(300));
    assert_eq!(shown(far), refused("E2001", &format!("unknown feature service `{}`", "y".repeat(200)), true, None));
    assert_eq!(
        shown(plan(&["v:totl_1h"])),
        refused("E2002", "view `v` has no feature `totl_1h`", true, Some("v:total_1h"))
    );
    assert_eq!(
        shown(plan(&["v:total"])),
        refused("E2002", "view `v` has no feature `total`", true, Some("v:total_1h"))
    );
    let types = "`k` is string in one view and int64 in another";
    assert_eq!(shown(plan(&["v:last_k", "numbers:b"])), refused("E2003", types, false, None));
    let types = "`x` is float64 in one view and string in another";
    assert_eq!(shown(plan(&["v:with_row", "asked:f"])), refused("E2003", types, false, None));
}

#[test]
fn keys_are_there_and_not_too_long() {
    let plan = plan(&["both:b"]).unwrap();
    let encoded = |n: Vec<Value<'static>>, k: Vec<Value<'static>>| {
        let keys = Keys { rows: n.len(), columns: vec![Column::Values(n), Column::Values(k)], request: Vec::new() };
        encode_keys(&plan, &keys).map_err(|refused| (refused.code, refused.message))
    };
    let (one, a) = (Value::Int64(1), Value::text("a"));
    assert_eq!(encoded(vec![one.clone()], vec![a.clone()]), Ok(vec![vec![vec![2, 1, b'a']]]));
    let null = encoded(vec![one.clone(), one.clone()], vec![a, Value::Null]);
    assert_eq!(null, Err(("E2013", "the key of row 2 is null".to_string())));
    // One byte for the number and three for the length of the text.
    let text = |length: usize| vec![Value::Text("a".repeat(length).into())];
    assert!(encoded(vec![one.clone()], text(KEY_BYTES_MAX + 60)).is_ok());
    let long = encoded(vec![one], text(KEY_BYTES_MAX + 61));
    assert_eq!(long, Err(("E2012", "the key of row 1 is longer than 65536 bytes".to_string())));
}

#[test]
fn registries_find_what_they_hold() {
    let registry = registry();
    assert_eq!(
        (registry.source("o"), registry.source("x"), registry.view("both"), registry.view("x")),
        (Some(1), None, Some(1), None)
    );
    let by_source = registry.views_of_source();
    let hidden = registry.views.len() - 1;
    assert!(!registry.views[hidden].is_declared() && registry.views[0].is_declared());
    assert_eq!((&by_source[&0], &by_source[&1], &by_source[&2]), (&vec![0, 1, 3], &vec![2], &vec![hidden]));
    let ids = registry.resolve("v:*").unwrap();
    let shown = |at: usize| (registry.reference(ids[at]), registry.data_type(ids[at]).map(DataType::to_string));
    assert_eq!(ids.len(), 4);
    assert_eq!(shown(0), ("v:total_1h".to_string(), Some("float64".to_string())));
    assert_eq!(shown(2), ("v:last_k".to_string(), Some("string".to_string())));
    let derived = registry.resolve("asked:f").unwrap();
    assert_eq!((derived[0].output, registry.reference(derived[0])), (2, "asked:f".to_string()));
    assert!(registry.views[4].derived(2).is_some() && registry.views[4].derived(3).is_none());
    assert!(registry.views[0].derived(0).is_none());
}
