//! Any text as the condition of a search: a fault with its place, or an answer for attributes and features of every kind.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::{Corpus, fuzz_target};
use tidemill_features::definitions::{DefinitionFile, Registry, check};
use tidemill_features::service::Condition;
use tidemill_features::value::Value;
use tidemill_fuzz::rows::{NOW, edges};

const DEFINITIONS: &str = r#"
[source.items]
connector = "push"
event_time = "at"
fields = { item = "string", vec = "list<float32>", color = "string", price = "float64", size = "int64", sold = "bool", since = "timestamp[us]", cost = "decimal(10,2)", at = "timestamp[us]" }
[source.clicks]
connector = "push"
event_time = "at"
fields = { item = "string", price = "float64", at = "timestamp[us]" }
[entity.item]
key = "item"
[view.pop]
entity = "item"
source = "clicks"
features = { clicks = { agg = "count()", windows = ["1h", "7d"] }, paid = { agg = "sum(price)", window = "lifetime" }, last = { agg = "last_k(price, 3)", window = "lifetime" } }
[embedding.items]
entity = "item"
source = "items"
vector = "vec"
dims = 3
attributes = { color = "string", price = "float64", size = "int64", sold = "bool", since = "timestamp[us]", cost = "decimal(10,2)" }
"#;

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
    let file = DefinitionFile { path: "items.toml".into(), text: DEFINITIONS.into() };
    check(&[file]).expect("the definitions are right")
});

fuzz_target!(|data: &[u8]| -> Corpus {
    let Ok(text) = std::str::from_utf8(data) else { return Corpus::Reject };
    let embedding = &REGISTRY.embeddings[0];
    match Condition::compile(&REGISTRY, embedding, text) {
        Err(fault) => assert!(fault.line >= 1 && fault.column >= 1, "{fault:?}"),
        Ok(condition) => {
            for row in 0..11 {
                let value = |data_type| {
                    let edges = edges(data_type);
                    edges[row % edges.len()].clone()
                };
                let attributes: Vec<Value<'static>> = embedding.attributes.iter().map(|(_, of)| value(of)).collect();
                let types = condition.features.iter().filter_map(|id| REGISTRY.data_type(*id));
                let features: Vec<Value<'static>> = types.map(value).collect();
                condition.holds(&attributes, &features, NOW);
                condition.holds(&[], &[], NOW);
            }
        }
    }
    Corpus::Keep
});
