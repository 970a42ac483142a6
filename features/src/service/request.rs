//! The request's own rows as events of a view's source, for features that count them: online from the request, in training
//! from the spine.

use super::{Keys, Origin, ViewRead};
use crate::definitions::Registry;
use crate::expression::Column;
use crate::stream::{EventBatch, Prepared};
use crate::value::Value;

/// One row a key, at that key's T: the newest of all in the total order.
pub struct RequestRows {
    batch: EventBatch,
    view: usize,
}

impl RequestRows {
    /// Of a view; None where no feature that is read counts them.
    pub fn of(registry: &Registry, view: &ViewRead, keys: &Keys, times: &[i64]) -> Option<Self> {
        let origins = view.request.as_ref()?;
        let stream = registry.views[view.view].stream.as_ref()?;
        let source = &registry.sources[stream.source];
        let mut columns: Vec<Column> = source.fields.iter().map(|_| Column::Values(Vec::new())).collect();
        for (at, origin) in origins {
            columns[*at] = match origin {
                Origin::Key(at) => keys.columns[*at].clone(),
                Origin::Request(at) => keys.request[*at].clone(),
            };
        }
        columns[source.event_time] = Column::Values(times.iter().map(|time| Value::Timestamp(*time)).collect());
        let (times, offsets) = (times.to_vec(), vec![u64::MAX; keys.rows]);
        let batch = EventBatch { columns, arrivals: times.clone(), times, partition: u32::MAX, offsets };
        Some(RequestRows { batch, view: view.view })
    }

    /// As the view sees them.
    pub fn prepare(&self, registry: &Registry) -> Option<Prepared<'_>> {
        let view = &registry.views[self.view];
        let stream = view.stream.as_ref()?;
        Some(Prepared::new(view, stream, &registry.sources[stream.source], &self.batch))
    }

    /// The body of a row, if it passes the view's `where`.
    pub fn body<'p>(prepared: &'p Prepared<'_>, row: usize) -> Option<&'p [u8]> {
        let incoming = prepared.incoming(row);
        incoming.passes.then_some(incoming.body)
    }
}
