//! Rows of joined tables: out of the state for reads of now, out of the log for reads of the past.

use std::cell::RefCell;
use std::collections::HashMap;

use tidemill_features::codec::Damaged;
use tidemill_features::definitions::Registry;
use tidemill_features::plan::JoinedTable;
use tidemill_features::read::{ReadError, Stored, TableRows, Tables, table_row};
use tidemill_features::stream::encode_key;
use tidemill_features::value::Value;

use super::get::Positions;
use super::past::Past;
use crate::ingest::Begun;
use crate::online::Records;

/// The views that keep the rows of joined tables, by name.
pub type TablePlaces = HashMap<String, usize>;

/// Finds those views.
pub(super) fn table_places(registry: &Registry) -> TablePlaces {
    let hidden = registry.views.iter().enumerate().filter(|(_, view)| !view.is_declared());
    hidden.map(|(at, view)| (view.name.clone(), at)).collect()
}

/// Tables as the state has them.
pub(super) struct StoredTables<'s, R> {
    pub state: &'s R,
    pub registry: &'s Registry,
    pub begun: &'s Begun,
    pub places: &'s TablePlaces,
}

impl<R: Records> Tables for StoredTables<'_, R> {
    fn row(&self, table: &JoinedTable, key: &Value<'_>, time: i64) -> Result<Option<Vec<Value<'static>>>, ReadError> {
        let at = *self.places.get(&table.view).ok_or(Damaged)?;
        // The newest row may be one that the state never saw: the log has to tell.
        if self.begun.of(&self.registry.views[at]).is_some_and(|missing| missing.is_in(None, time)) {
            return Err(ReadError::BeyondRecord);
        }
        let Some(key) = encode_key([key.borrowed()]) else { return Ok(None) };
        let nodes = self.state.chunks(at, &key);
        let stored = Stored { record: self.state.record(at, &key), nodes: &nodes };
        table_row(&self.registry.views[at].plan, stored, time)
    }
}

/// Tables as the log has them up to some positions; each key is looked for once.
pub(super) struct LoggedTables<'p> {
    pub past: &'p Past,
    pub positions: &'p Positions,
    rows: RefCell<HashMap<(usize, Vec<u8>), TableRows>>,
}

impl<'p> LoggedTables<'p> {
    pub(super) fn new(past: &'p Past, positions: &'p Positions) -> Self {
        LoggedTables { past, positions, rows: RefCell::default() }
    }
}

impl Tables for LoggedTables<'_> {
    fn row(&self, table: &JoinedTable, key: &Value<'_>, time: i64) -> Result<Option<Vec<Value<'static>>>, ReadError> {
        let at = self.past.table_place(&table.view).ok_or(Damaged)?;
        let Some(key) = encode_key([key.borrowed()]) else { return Ok(None) };
        let mut rows = self.rows.borrow_mut();
        if let Some(known) = rows.get(&(at, key.clone())) {
            return known.before(time);
        }
        let read = self.past.table_rows(at, &key, self.positions).map_err(|_| Damaged)?;
        let found = read.before(time);
        rows.insert((at, key), read);
        found
    }
}
