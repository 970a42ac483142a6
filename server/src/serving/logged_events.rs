//! The event log as replays read it: sealed files, and the frames behind them.

use tidemill_features::definitions::Registry;
use tidemill_features::read::Missing;

use super::get::Positions;
use super::past::Past;
use crate::failure::Failure;
use crate::log::{ScanRequest, SealedLog, SourceSchema};
use crate::offline::{EventLog, FileRange, Located};

/// The log up to some positions, as it lies on the disk at one moment.
pub struct LoggedEvents<'l> {
    registry: &'l Registry,
    past: &'l Past,
    sealed: SealedLog,
    positions: &'l Positions,
}

impl<'l> LoggedEvents<'l> {
    /// The events before the positions.
    pub fn open(registry: &'l Registry, past: &'l Past, positions: &'l Positions) -> Result<Self, Failure> {
        Ok(LoggedEvents { registry, past, sealed: past.sealed()?, positions })
    }
}

impl EventLog for LoggedEvents<'_> {
    fn sorted_by(&self, source: usize, key: &[usize]) -> Option<u64> {
        let source = &self.registry.sources[source];
        let names: Vec<&str> = key.iter().map(|at| source.fields[*at].0.as_str()).collect();
        self.sealed.sorted_by(&source.name, &names)
    }

    fn read_files(
        &self,
        range: &FileRange<'_>,
        visit: &mut dyn FnMut(Located) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let source = &self.registry.sources[range.source];
        let of_source = self.positions.iter().filter(|((source, _), _)| *source as usize == range.source);
        let mut scan = self.sealed.scan(ScanRequest {
            source: source.name.clone(),
            schema: SourceSchema::of(source),
            key: range.key.to_vec(),
            until: of_source.map(|((_, partition), next)| (*partition, *next)).collect(),
            buckets: range.buckets.clone(),
            columns: Some(range.columns.to_vec()),
        });
        while let Some(scanned) = scan.next_events().map_err(|e| Failure::internal("E2021", e.to_string()))? {
            visit(Located { batch: scanned.batch, places: scanned.places })?;
        }
        Ok(())
    }

    fn missing(&self, view: usize, key: &[u8]) -> Option<Missing> {
        self.past.missing(view, key)
    }

    fn read_rest(
        &self,
        sources: &[usize],
        visit: &mut dyn FnMut(usize, Located) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.past.walk(self.sealed.end(), sources, self.positions, &mut |source, batch, place| {
            let places = vec![place; batch.len()];
            visit(source, Located { batch, places })
        })
    }
}
