//! What the tests of both encodings share: sources, seeds, damage.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidemill_features::definitions::{DefinitionFile, Source, check};
use tidemill_features::value::Value;

/// A Kafka source with some columns; the last one, `at`, is its event time, which the record says.
pub(in crate::source) fn source(keys: &str, columns: &[(&str, &str)]) -> Arc<Source> {
    let fields: String = columns.iter().map(|(name, data_type)| format!("'{name}' = '{data_type}'\n")).collect();
    let text = format!(
        "[source.s]\nconnector = 'kafka'\ntopic = 't'\nevent_time = 'at'\nmetadata = {{ at = 'timestamp' }}\n{keys}\n[source.s.fields]\n{fields}at = 'timestamp[us]'\n"
    );
    let checked = check(&[DefinitionFile { path: "a.toml".into(), text }]);
    checked.unwrap_or_else(|problems| panic!("{}", problems[0])).sources[0].clone()
}

/// The seed and the number of cases of a random test, which the environment may say.
pub(in crate::source) fn random_cases(test: &str, usual: u64) -> (StdRng, u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("TIDEMILL_SEED").unwrap_or_else(rand::random);
    println!("{test}: TIDEMILL_SEED={seed}");
    (StdRng::seed_from_u64(seed), number("TIDEMILL_CASES").unwrap_or(usual))
}

/// Some bytes changed, taken out or put in.
pub(in crate::source) fn damage(message: &mut Vec<u8>, random: &mut StdRng) {
    for _ in 0..random.random_range(1..4) {
        if message.is_empty() {
            return;
        }
        let at = random.random_range(0..message.len());
        match random.random_range(0..5) {
            0 => message[at] ^= 1 << random.random_range(0..8),
            1 => message[at] = random.random(),
            2 => drop(message.remove(at)),
            3 => message.insert(at, [0, 1, 0x7f, 0x80, 0xff][random.random_range(0..5)]),
            _ => drop(message.splice(at..at, [0xff; 9].into_iter().chain([1]))),
        }
    }
}

/// Bytes that a row takes beside itself, about.
pub(in crate::source) fn weight(row: &[Value<'_>]) -> usize {
    let one = |value: &Value<'_>| match value {
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(items) => weight(items),
        _ => 0,
    };
    row.iter().map(|value| size_of::<Value<'_>>() + one(value)).sum()
}
