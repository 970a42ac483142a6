//! A store of records and chunks that holds whatever it is given, and the views whose records they are.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::arbitrary::Unstructured;
use tidemill_features::codec::Damaged;
use tidemill_features::definitions::{Registry, Source, View};
use tidemill_features::plan::Plan;
use tidemill_features::read::{Answer, Context, NoTables, ReadError, Stored, read_view};
use tidemill_features::record::{Applied, Incoming, NodeId, Nodes, apply};
use tidemill_features::stream::{EventBatch, Prepared};

use crate::definitions::registry;
use crate::rows::batch;

/// What is kept of one entity in one view.
#[derive(Clone, Default)]
pub struct Kept {
    /// None where the entity is unknown
    pub record: Option<Vec<u8>>,
    /// chunks beside it
    pub chunks: BTreeMap<NodeId, Arc<[u8]>>,
    /// given where a chunk is asked for that is not there
    pub stray: Vec<Arc<[u8]>>,
    /// how many of those were given
    pub given: Cell<usize>,
}

/// Stray chunks that are given at most.
const STRAY_MAX: usize = 64;

impl Nodes for Kept {
    fn get(&self, id: NodeId) -> Option<Arc<[u8]>> {
        if let Some(chunk) = self.chunks.get(&id) {
            return Some(chunk.clone());
        }
        // One stray chunk stands for many: a few of them would be a tree that nobody could have stored.
        self.given.set(self.given.get() + 1);
        let at = (id.slot as usize).wrapping_add(id.level.into()) % self.stray.len().max(1);
        self.stray.get(at).filter(|_| self.given.get() <= STRAY_MAX).cloned()
    }
}

impl Kept {
    /// Takes in what `apply` changed.
    pub fn keep(&mut self, applied: Applied) {
        self.record = applied.record.or(self.record.take());
        for (id, chunk) in applied.chunks {
            match chunk {
                Some(bytes) => self.chunks.insert(id, bytes),
                None => self.chunks.remove(&id),
            };
        }
    }

    /// All features of a view at a time.
    pub fn read(&self, plan: &Plan, request: Option<(i64, &[u8])>, time: i64) -> Result<Vec<Answer>, ReadError> {
        let features: Vec<usize> = (0..plan.features.len()).collect();
        let stored = Stored { record: self.record.as_deref(), nodes: self };
        let mut answers = Vec::with_capacity(features.len());
        read_view(plan, stored, &Context { tables: &NoTables, request }, &features, time, &mut answers)?;
        Ok(answers)
    }
}

/// Ladders of leaves of four events, and records as they are.
static REGISTRIES: LazyLock<[Registry; 2]> = LazyLock::new(|| [registry(Some(4)), registry(None)]);

/// A view with a source, chosen by a byte.
#[derive(Clone, Copy)]
pub struct Target {
    registry: &'static Registry,
    view: &'static View,
}

impl Target {
    /// Every byte chooses a view.
    pub fn of(choice: u8) -> Target {
        let registry = &REGISTRIES[usize::from(choice % 2)];
        let views: Vec<&View> = registry.views.iter().map(Arc::as_ref).filter(|view| view.stream.is_some()).collect();
        Target { registry, view: views[usize::from(choice / 2) % views.len()] }
    }

    /// How its records are read.
    pub fn plan(&self) -> &'static Plan {
        &self.view.plan
    }

    /// Where its events come from.
    pub fn source(&self) -> Arc<Source> {
        let stream = self.view.stream.as_ref().expect("views without a source are not chosen");
        self.registry.sources[stream.source].clone()
    }

    /// A batch as the view sees it.
    pub fn prepared<'b>(&self, batch: &'b EventBatch) -> Prepared<'b> {
        let stream = self.view.stream.as_ref().expect("views without a source are not chosen");
        Prepared::new(self.view, stream, &self.source(), batch)
    }

    /// Folds events in.
    pub fn apply(&self, kept: &Kept, events: &[Incoming<'_>]) -> Result<Applied, Damaged> {
        apply(self.plan(), kept.record.as_deref(), events, kept)
    }

    /// Folds a few events in, always the same ones.
    pub fn apply_some(&self, kept: &Kept) -> Result<Applied, Damaged> {
        let noise: Vec<u8> = (0..2000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let batch = batch(&self.source(), &mut Unstructured::new(&noise), 1000).expect("there is noise enough");
        let prepared = self.prepared(&batch);
        let events: Vec<Incoming<'_>> = (0..batch.len()).map(|row| prepared.incoming(row)).collect();
        self.apply(kept, &events)
    }
}
