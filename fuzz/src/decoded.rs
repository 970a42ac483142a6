//! What must be true of decoded events, whatever the bytes were.

use std::sync::{Arc, LazyLock};

use tidemill::source::{Decoded, Decoder};
use tidemill_features::definitions::{Registry, Source};
use tidemill_features::stream::Prepared;

use crate::definitions::registry;
use crate::rows::{NOW, is_of, source};

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| registry(None));

/// A decoder of a source with a column of every type, as the server makes it.
pub fn decoder() -> Decoder {
    let keys = Arc::new(vec![vec![1], vec![1, 2]]);
    Decoder::new(source(&REGISTRY, "s"), keys, NOW).with_rows_max(1000)
}

/// Every event is good or bad, good ones have values of the declared types, and the views can take them in.
pub fn verify(decoded: &Decoded) {
    assert_eq!(decoded.consumed, decoded.accepted() + decoded.bad.len() as u64, "an event is good or bad");
    assert!(decoded.bad.iter().all(|bad| !bad.reason.is_empty() && bad.code.starts_with("E1")));
    let source: Arc<Source> = source(&REGISTRY, "s");
    for batch in &decoded.batches {
        assert!(batch.columns.len() == source.fields.len() && batch.offsets.is_sorted());
        for (column, (name, field)) in batch.columns.iter().zip(&source.fields) {
            assert_eq!(column.len(), batch.len(), "column `{name}`");
            for row in 0..batch.len() {
                let value = column.value(row);
                assert!(is_of(&value, &field.data_type), "column `{name}` has {value:?}");
            }
        }
        for view in REGISTRY.views.iter().filter(|view| view.name.starts_with("ids")) {
            let stream = view.stream.as_ref().expect("these views have a source");
            let prepared = Prepared::new(view, stream, &source, batch);
            assert!((0..batch.len()).all(|row| prepared.key(row).is_none_or(|key| !key.is_empty())));
        }
    }
}
