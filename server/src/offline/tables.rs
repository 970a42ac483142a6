//! Rows of joined tables for a replay: all of them in memory, encoded; a key's rows become a timeline when one is asked for.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use tidemill_features::codec::{Cursor, Damaged};
use tidemill_features::plan::{JoinedTable, Plan};
use tidemill_features::read::{ReadError, Tables, Timeline, TimelineBuilder};
use tidemill_features::stream::encode_key;
use tidemill_features::value::Value;

use super::event_log::EventLog;
use super::pile::{Piled, put_event, read_event};
use crate::failure::Failure;
use crate::limits::TABLE_BYTES_MAX;

/// The rows of one table by key.
pub(super) struct TableRows<'r> {
    /// place of its view in the registry
    view: usize,
    log: &'r dyn EventLog,
    plan: &'r Plan,
    name: &'r str,
    bytes: Vec<u8>,
    /// where each row of a key starts
    starts: HashMap<Box<[u8]>, Vec<usize>>,
}

impl<'r> TableRows<'r> {
    pub(super) fn new(view: usize, name: &'r str, plan: &'r Plan, log: &'r dyn EventLog) -> Self {
        TableRows { view, log, plan, name, bytes: Vec::new(), starts: HashMap::new() }
    }

    /// Takes the next row in.
    pub(super) fn push(&mut self, key: &[u8], row: &Piled<'_>) -> Result<(), Failure> {
        let start = self.bytes.len();
        if start > TABLE_BYTES_MAX {
            let message =
                format!("the rows of the joined table `{}` do not fit into {TABLE_BYTES_MAX} bytes", self.name);
            return Err(Failure::invalid("E3021", message));
        }
        put_event(&mut self.bytes, row);
        match self.starts.get_mut(key) {
            Some(starts) => starts.push(start),
            None => drop(self.starts.insert(key.into(), vec![start])),
        }
        Ok(())
    }

    fn timeline(&self, key: &[u8]) -> Result<Option<Timeline<'_>>, Damaged> {
        let (starts, missing) = (self.starts.get(key), self.log.missing(self.view, key));
        if starts.is_none() && missing.is_none() {
            return Ok(None);
        }
        let read = |start: &usize| read_event(self.plan, &mut Cursor::new(&self.bytes[*start..]));
        let mut rows = starts.into_iter().flatten().map(read).collect::<Result<Vec<_>, _>>()?;
        // What became of a row is decided in the order of the log.
        rows.sort_by_key(|row| (row.place, row.event.order.offset));
        let mut builder = TimelineBuilder::without(self.plan, missing);
        for row in &rows {
            builder.push(&row.event, row.visible_from)?;
        }
        builder.finish(1).map(Some)
    }
}

/// All tables of a replay, by the names of the views that keep their rows.
pub(super) type AllTables<'r> = HashMap<String, TableRows<'r>>;

/// Tables as one thread reads them.
pub(super) struct ReplayedTables<'t> {
    tables: &'t AllTables<'t>,
    known: Known<'t>,
}

/// Timelines by table and key; None where a key has no rows.
type Known<'t> = RefCell<HashMap<(&'t str, Vec<u8>), Option<Rc<Timeline<'t>>>>>;

/// Keys whose timelines are kept; beyond, all are forgotten and made again.
const KEPT: usize = 10_000;

impl<'t> ReplayedTables<'t> {
    pub(super) fn new(tables: &'t AllTables<'t>) -> Self {
        ReplayedTables { tables, known: RefCell::default() }
    }

    /// What a read sees that may look no further than `until`.
    pub(super) fn until(&self, until: i64) -> TablesUntil<'_, 't> {
        TablesUntil { all: self, until }
    }
}

/// Tables as they were visible at a time.
pub(super) struct TablesUntil<'a, 't> {
    all: &'a ReplayedTables<'t>,
    until: i64,
}

impl Tables for TablesUntil<'_, '_> {
    fn row(&self, table: &JoinedTable, key: &Value<'_>, time: i64) -> Result<Option<Vec<Value<'static>>>, ReadError> {
        let Some((name, rows)) = self.all.tables.get_key_value(&table.view) else { return Err(Damaged.into()) };
        let Some(key) = encode_key([key.borrowed()]) else { return Ok(None) };
        let mut known = self.all.known.borrow_mut();
        if known.len() > KEPT {
            known.clear();
        }
        let timeline = match known.get(&(name.as_str(), key.clone())) {
            Some(timeline) => timeline.clone(),
            None => {
                let made = rows.timeline(&key)?.map(Rc::new);
                known.insert((name, key), made.clone());
                made
            }
        };
        drop(known);
        timeline.map_or(Ok(None), |timeline| timeline.row_before(time, self.until))
    }
}
