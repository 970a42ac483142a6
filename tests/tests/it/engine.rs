//! The engine alone, driven without a server: a case's log into records, and answers from records or log.
//!
//! Every suite that asks what the engine says of a random case goes through here, so that all of them drive it alike.

use std::collections::HashMap;
use std::sync::Arc;

use tidemill_features::definitions::{Registry, View};
use tidemill_features::read::{Answer, Context, History, ReadError, Stored, read_view};
use tidemill_features::record::{Fate, Incoming, NodeId, Nodes, apply};
use tidemill_features::stream::{EventBatch, Prepared, encode_key};
use tidemill_tests::bridge::{batch, registry, request_batch, value};
use tidemill_tests::oracle::accept::Ledger;
use tidemill_tests::oracle::generate::{Case, Question};
use tidemill_tests::oracle::model::Row;

/// Records and chunks of one view, as a store would hold them.
#[derive(Default, Clone, PartialEq)]
pub struct Records {
    /// by encoded key
    pub records: HashMap<Vec<u8>, Vec<u8>>,
    /// by encoded key and place
    pub chunks: HashMap<(Vec<u8>, NodeId), Arc<[u8]>>,
}

/// The chunks of one key.
pub struct Of<'r>(pub &'r Records, pub &'r [u8]);

impl Nodes for Of<'_> {
    fn get(&self, id: NodeId) -> Option<Arc<[u8]>> {
        self.0.chunks.get(&(self.1.to_vec(), id)).cloned()
    }
}

impl Records {
    /// Takes in events by key, in log order.
    pub fn apply(&mut self, view: &View, events: &HashMap<Vec<u8>, Vec<Incoming<'_>>>, ledger: &mut Ledger) {
        for (key, events) in events {
            let applied = apply(&view.plan, self.records.get(key).map(Vec::as_slice), events, &Of(self, key)).unwrap();
            for fate in applied.fates {
                match fate {
                    Fate::Applied => ledger.applied += 1,
                    Fate::Filtered => ledger.filtered += 1,
                    Fate::Late => ledger.late += 1,
                    Fate::Duplicate => ledger.duplicate += 1,
                    Fate::Keyless => ledger.keyless += 1,
                }
            }
            if let Some(record) = applied.record {
                self.records.insert(key.clone(), record);
            }
            for (id, chunk) in applied.chunks {
                match chunk {
                    Some(chunk) => self.chunks.insert((key.clone(), id), chunk),
                    None => self.chunks.remove(&(key.clone(), id)),
                };
            }
        }
    }
}

/// The log as the engine's decode hands it on.
pub struct Log {
    /// by source, each of one partition
    batches: Vec<Vec<EventBatch>>,
}

impl Log {
    /// In batches of `size` rows at most.
    pub fn new(case: &Case, size: usize) -> Log {
        let of_source = |source: usize| {
            let rows: Vec<&Row> = case.rows.iter().filter(|(s, _)| *s == source).map(|(_, row)| row).collect();
            let of_partition = rows.chunk_by(|a, b| a.partition == b.partition);
            of_partition.flat_map(|rows| rows.chunks(size)).map(|rows| batch(&case.sources[source], rows)).collect()
        };
        Log { batches: (0..case.sources.len()).map(of_source).collect() }
    }
}

/// One view after the whole log.
pub struct Ingested<'l> {
    pub records: Records,
    pub ledger: Ledger,
    /// by batch
    prepared: Vec<(&'l EventBatch, Prepared<'l>)>,
}

/// The events of a batch by their key.
pub fn by_key<'p>(
    prepared: &'p Prepared<'_>,
    batch: &EventBatch,
    ledger: &mut Ledger,
) -> HashMap<Vec<u8>, Vec<Incoming<'p>>> {
    let mut events: HashMap<Vec<u8>, Vec<Incoming<'_>>> = HashMap::new();
    for row in 0..batch.len() {
        match prepared.key(row) {
            Some(key) => events.entry(key.to_vec()).or_default().push(prepared.incoming(row)),
            None => ledger.keyless += 1,
        }
    }
    events
}

/// The whole log into the records of one view.
pub fn ingest<'l>(log: &'l Log, registry: &Registry, view: usize) -> Ingested<'l> {
    let view = &registry.views[view];
    let stream = view.stream.as_ref().unwrap();
    let (mut records, mut ledger, mut prepared) = (Records::default(), Ledger::default(), Vec::new());
    for batch in &log.batches[stream.source] {
        let of_batch = Prepared::new(view, stream, &registry.sources[stream.source], batch);
        records.apply(view, &by_key(&of_batch, batch, &mut ledger), &mut ledger);
        prepared.push((batch, of_batch));
    }
    Ingested { records, ledger, prepared }
}

impl Ingested<'_> {
    /// What the log says, for reads that the record cannot answer.
    fn read_log(&self, view: &View, key: &[u8], context: &Context<'_>, features: &[usize], time: i64) -> Vec<Answer> {
        let mut history = History::new(&view.plan);
        for (batch, prepared) in &self.prepared {
            for row in (0..batch.len()).filter(|row| prepared.key(*row) == Some(key)) {
                history.push(&prepared.incoming(row)).unwrap();
            }
        }
        history.read(context, features, time).unwrap()
    }
}

/// The registry of a case, its records laid out as ladders of small leaves where `leaf_max` says so.
pub fn laid_out(case: &Case, leaf_max: usize) -> Registry {
    let mut registry = registry(&case.sources, &case.views);
    for view in &mut registry.views {
        let plan = Arc::get_mut(view).and_then(|view| Arc::get_mut(&mut view.plan)).expect("nobody else has the plan");
        plan.leaf_max = leaf_max;
    }
    registry
}

/// What the engine says: all features of the question's view, in order, from the record or else from the log.
pub fn answers(
    case: &Case,
    registry: &Registry,
    ingested: &Ingested<'_>,
    question: &Question,
) -> Result<Vec<Answer>, String> {
    let Question { view, key, t: time, request, .. } = question;
    let definition = &case.views[*view];
    let row = request_batch(definition, case.source_of(definition), key, request, *time);
    let (checked, stream) = (&registry.views[*view], registry.views[*view].stream.as_ref().unwrap());
    let prepared = Prepared::new(checked, stream, &registry.sources[stream.source], &row);
    let incoming = prepared.incoming(0);
    let context = Context { request: incoming.passes.then_some((*time, incoming.body)), ..Context::default() };
    let plan = &checked.plan;
    let features: Vec<usize> = (0..plan.features.len()).collect();
    let key = encode_key(key.iter().map(value)).expect("a question has its key");
    let records = &ingested.records;
    let nodes = Of(records, &key);
    let stored = Stored { record: records.records.get(&key).map(Vec::as_slice), nodes: &nodes };
    let mut found = Vec::new();
    match read_view(plan, stored, &context, &features, *time, &mut found) {
        Ok(()) => Ok(found),
        Err(ReadError::BeyondRecord) => Ok(ingested.read_log(checked, &key, &context, &features, *time)),
        Err(error) => Err(error.to_string()),
    }
}
