//! What all formats share: rows enter typed columns, or become dead letters with their reason.

use std::sync::Arc;

use tidemill_features::definitions::{Connector, FieldType, Source, VectorColumn};
use tidemill_features::expression::{Column, Expression};
use tidemill_features::stream::{EventBatch, KEY_BYTES_MAX};
use tidemill_features::time::{MAX_TIME, MIN_TIME, duration_text, rfc3339};
use tidemill_features::value::{DataType, Value};

use crate::columnar::ColumnsBuilder;
use crate::columnar::scalar::shortened;
use crate::limits::{BATCH_ROWS, DEAD_LETTER_BYTES_MAX, DEAD_LETTERS_BYTES_MAX};

/// An event that cannot be taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadEvent {
    /// its place among all events that were decoded, from 0
    pub index: u64,
    /// such as `E1001`
    pub code: String,
    /// lower case, no full stop
    pub reason: String,
    /// the event as it came, at most `DEAD_LETTER_BYTES_MAX`
    pub payload: Vec<u8>,
}

/// Decoded events. Offsets in the batches count from 0 until the log has given the events their place.
#[derive(Debug, Default)]
pub struct Decoded {
    /// offsets of all events, good and bad, and of what is none: rows beyond a time fence, gaps of a topic
    pub consumed: u64,
    /// the good ones, in order, `BATCH_ROWS` at most in each
    pub batches: Vec<EventBatch>,
    /// the bad ones
    pub bad: Vec<BadEvent>,
}

impl Decoded {
    /// Leaves out the first rows: they were taken before. Only bad events are left.
    pub fn leave_out(&mut self, rows: u64) {
        self.batches.clear();
        self.bad.retain(|bad| bad.index >= rows);
        self.bad.iter_mut().for_each(|bad| bad.index -= rows);
        self.consumed = self.consumed.saturating_sub(rows);
    }

    /// Number of good events.
    pub fn accepted(&self) -> u64 {
        self.batches.iter().map(|batch| batch.len() as u64).sum()
    }
}

/// Takes rows of a source in, one after the other.
pub struct Decoder {
    source: Arc<Source>,
    /// columns of entity keys, for each entity that the source feeds
    keys: Arc<Vec<Vec<usize>>>,
    /// columns of vectors with their lengths
    vectors: Vec<(usize, u32)>,
    now: i64,
    /// of the rows that come next, where the source declares none
    arrival: i64,
    /// whether events are read from files: they were known before they are read
    at_rest: bool,
    fence: Fence,
    rows_max: u64,
    letters_bytes: usize,
    decoded: Decoded,
    columns: ColumnsBuilder,
    current: EventBatch,
}

/// Where the history of a source ends and its stream begins.
#[derive(Clone, Copy, Debug)]
enum Fence {
    /// nowhere: both may have an event
    None,
    /// these are of the history: events from a time on are not part of it
    Until(i64),
    /// these are of the stream: events before a time are the history's
    From(i64),
}

/// Event time and arrival of a row.
type Times = (i64, i64);

/// Why a row is bad.
pub type Bad = (&'static str, String);

impl Decoder {
    /// A decoder at the time `now`, which is the arrival time of what declares none.
    pub fn new(source: Arc<Source>, keys: Arc<Vec<Vec<usize>>>, now: i64) -> Self {
        let columns = ColumnsBuilder::new(source.fields.iter().map(|(_, field)| &field.data_type));
        let (decoded, current) = (Decoded::default(), EventBatch::default());
        let dims = |(at, (_, field)): (usize, &(String, FieldType))| match field.data_type {
            DataType::Vector(dims) => Some((at, dims)),
            _ => None,
        };
        // In an embedding a row without a vector says that there is none.
        let is_embedding = |at: &usize| source.vectors.iter().any(|vector| vector.column == *at);
        let vectors = source.fields.iter().enumerate().filter_map(dims).filter(|(at, _)| !is_embedding(at)).collect();
        let at_rest = matches!(source.connector, Connector::File { .. });
        let fence = source.history.as_ref().and_then(|history| history.until).map_or(Fence::None, Fence::From);
        let (rows_max, letters_bytes) = (u64::MAX, 0);
        let arrival = now;
        Decoder {
            source,
            keys,
            vectors,
            now,
            arrival,
            at_rest,
            fence,
            rows_max,
            letters_bytes,
            decoded,
            columns,
            current,
        }
    }

    /// Takes in rows of the source's history, those before a time fence.
    pub fn of_history(self, until: Option<i64>) -> Self {
        Decoder { at_rest: true, fence: until.map_or(Fence::None, Fence::Until), ..self }
    }

    /// The source whose rows these are.
    pub fn source(&self) -> Arc<Source> {
        self.source.clone()
    }

    /// The time at which it decodes.
    pub fn now(&self) -> i64 {
        self.now
    }

    /// Rows that come next arrived at this time, if the source declares no other.
    pub fn set_arrival(&mut self, arrival: i64) {
        self.arrival = arrival;
    }

    /// The next row has this number: those before it are no events.
    pub fn skip_to(&mut self, index: u64) {
        self.decoded.consumed = self.decoded.consumed.max(index);
    }

    /// Rows taken in so far, good and bad.
    pub fn rows(&self) -> u64 {
        self.decoded.consumed
    }

    /// Bytes that they take, about.
    pub fn bytes(&self) -> usize {
        let columns = self.decoded.batches.iter().flat_map(|batch| &batch.columns);
        columns.map(Column::bytes).sum::<usize>() + self.letters_bytes
    }

    /// Stops taking rows in once there are more than this.
    pub fn with_rows_max(self, rows_max: u64) -> Self {
        Decoder { rows_max, ..self }
    }

    /// Whether there are more rows than may be: what is read from here on is not needed.
    pub fn is_full(&self) -> bool {
        self.decoded.consumed > self.rows_max
    }

    /// Takes in a row: a value for each field, or what is wrong with it.
    pub fn row(&mut self, row: Result<&[Value<'_>], Bad>, payload: &dyn Fn() -> Vec<u8>) {
        let checked = row.and_then(|values| self.check_whole(values).map(|times| (values, times)));
        self.add(checked, payload);
    }

    /// Takes in a row that has nothing but its key and times, which deletes.
    pub fn tombstone(&mut self, row: &[Value<'_>], payload: &dyn Fn() -> Vec<u8>) {
        let is_there = |key: &Vec<usize>| key.iter().all(|at| !row[*at].is_null());
        // Where a value says what is deleted, what comes behind it for compaction says nothing more.
        let bound = self.source.bound_columns();
        let says = |expression: &Expression| expression.columns.iter().any(|at| !bound.contains(at));
        let deletes = self.source.is_table && !self.source.delete_when.as_ref().is_some_and(says);
        let checked = match !deletes || self.keys.iter().all(is_there) {
            true => self.check(row).map(|times| (row, times)),
            false => Err((
                "E1050",
                "the record has no value, and what it deletes is in a column that has nothing: bind the entity's key \
                 under `metadata`, such as `key`"
                    .to_string(),
            )),
        };
        self.add(checked, payload);
    }

    /// Takes in a row that was checked.
    fn add(&mut self, row: Result<(&[Value<'_>], Option<Times>), Bad>, payload: &dyn Fn() -> Vec<u8>) {
        let index = self.decoded.consumed;
        self.decoded.consumed += 1;
        match row {
            Ok((_, None)) => {}
            Ok((values, Some((time, arrival)))) => {
                for (column, value) in values.iter().enumerate() {
                    self.columns.push(column, value);
                }
                self.current.times.push(time);
                self.current.arrivals.push(arrival);
                self.current.offsets.push(index);
                if self.current.len() >= BATCH_ROWS {
                    self.cut();
                }
            }
            Err((code, reason)) => {
                let mut payload = payload();
                payload.truncate(DEAD_LETTER_BYTES_MAX);
                if self.letters_bytes + payload.len() > DEAD_LETTERS_BYTES_MAX {
                    payload.clear();
                }
                self.letters_bytes += payload.len();
                self.decoded.bad.push(BadEvent { index, code: code.to_string(), reason, payload });
            }
        }
    }

    /// The same as `check`, for a row whose vectors have to be there.
    fn check_whole(&self, values: &[Value<'_>]) -> Result<Option<Times>, Bad> {
        let times = self.check(values)?;
        for VectorColumn { column, rule } in &self.source.vectors {
            let read = rule.read(&values[*column]);
            read.map_err(|reason| wrong_value(&self.source.fields[*column].0, &reason))?;
        }
        for (at, dims) in &self.vectors {
            whole_vector(&values[*at], *dims).map_err(|reason| wrong_value(&self.source.fields[*at].0, &reason))?;
        }
        Ok(times)
    }

    /// The event and arrival time of a row that keeps every rule; None: the fence leaves it to the stream.
    fn check(&self, values: &[Value<'_>]) -> Result<Option<Times>, Bad> {
        let source = &self.source;
        let time_of = |at: usize, what: &str| match &values[at] {
            Value::Timestamp(time) => Ok(*time),
            _ => Err(("E1003", format!("{what} `{}` is null or missing", source.fields[at].0))),
        };
        let time = time_of(source.event_time, "event_time")?;
        match self.fence {
            Fence::Until(until) if time >= until => return Ok(None),
            Fence::From(from) if time < from => {
                let (time, from) = (rfc3339(time), rfc3339(from));
                return Err((
                    "E1004",
                    format!("the event is dated {time}, before history_until {from}: it is the history's"),
                ));
            }
            _ => {}
        }
        if let Some(at) = source.event_id.filter(|at| values[*at].is_null()) {
            return Err(("E1003", format!("event_id `{}` is null or missing", source.fields[at].0)));
        }
        // Where a file declares no arrival, the clock of the load decides what lies in the future.
        let (arrival, known) = match source.arrival_time {
            Some(at) => time_of(at, "arrival_time").map(|arrival| (arrival, arrival))?,
            None if self.at_rest => (time.saturating_add(source.assumed_delay), self.now),
            None => (self.arrival, self.arrival),
        };
        // Records have no place for other times.
        if let Some(odd) = [time, arrival].into_iter().find(|time| !(MIN_TIME..=MAX_TIME).contains(time)) {
            return Err((
                "E1029",
                format!("the time {odd} (microseconds since 1970) lies outside the years 1 to 9999"),
            ));
        }
        if time > known.saturating_add(source.max_future_skew) {
            let ahead = duration_text(time - known);
            return Err((
                "E1005",
                format!("the event is dated {ahead} ahead of its arrival, more than max_future_skew"),
            ));
        }
        let bytes = |at: &usize| match &values[*at] {
            Value::Text(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            _ => 10,
        };
        if let Some(key) = self.keys.iter().find(|key| key.iter().map(bytes).sum::<usize>() > KEY_BYTES_MAX) {
            let names: Vec<&str> = key.iter().map(|at| source.fields[*at].0.as_str()).collect();
            return Err(("E1007", format!("the entity key ({}) is longer than 64 KiB", names.join(", "))));
        }
        Ok(Some((time, arrival)))
    }

    fn cut(&mut self) {
        let mut batch = std::mem::take(&mut self.current);
        if batch.is_empty() {
            return;
        }
        batch.columns = self.columns.finish();
        self.decoded.batches.push(batch);
    }

    /// Everything that was taken in.
    pub fn finish(mut self) -> Decoded {
        self.cut();
        self.decoded
    }
}

/// A vector is there with all of its numbers: sums and means of vectors have no place for a hole.
fn whole_vector(value: &Value<'_>, dims: u32) -> Result<(), String> {
    match value {
        Value::List(items) if items.len() != dims as usize => {
            Err(format!("a vector of {} numbers, not {dims}", items.len()))
        }
        Value::List(items) if items.iter().any(Value::is_null) => {
            Err("a vector without one of its numbers".to_string())
        }
        Value::List(_) => Ok(()),
        _ => Err("a vector is null or missing".to_string()),
    }
}

/// What is wrong with a field's value.
pub(super) fn wrong_value(field: &str, reason: &str) -> Bad {
    ("E1002", format!("column `{}`: {reason}", shortened(field)))
}

#[cfg(test)]
mod tests {
    use tidemill_features::definitions::{DefinitionFile, check};

    use super::*;
    use crate::source::json;

    const DAY: i64 = 86_400_000_000;

    /// Event times in days since the epoch, read on day 10; the fence lies at day 5.
    fn decoded(days: &[i64], of_history: Option<Option<i64>>) -> Decoded {
        let text = "[source.s]\nconnector = 'push'\nevent_time = 'at'\nassumed_delay = '2s'\nhistory = 'lake/*'\n\
                    history_until = '1970-01-06T00:00:00Z'\nfields = { at = 'timestamp[us]' }\n";
        let registry = check(&[DefinitionFile { path: "a.toml".into(), text: text.into() }]).unwrap();
        let mut decoder = Decoder::new(registry.sources[0].clone(), Default::default(), 10 * DAY);
        if let Some(until) = of_history {
            decoder = decoder.of_history(until);
        }
        let lines: String = days.iter().map(|day| format!("{{\"at\":{}}}\n", day * DAY)).collect();
        json::decode(lines.as_bytes(), &mut decoder);
        decoder.finish()
    }

    #[test]
    fn rows_beyond_the_fence_have_an_offset_and_are_no_events() {
        let found = decoded(&[1, 7, 4, 5, 2], Some(Some(5 * DAY)));
        assert_eq!((found.consumed, found.accepted(), found.bad.len()), (5, 3, 0));
        assert_eq!(found.batches[0].offsets, [0, 2, 4]);
        assert_eq!(
            found.batches[0].arrivals[0],
            DAY + 2_000_000,
            "what is at rest arrived when it happened, or soon after"
        );
        let without = decoded(&[1, 7, 11], Some(None));
        assert_eq!((without.accepted(), without.bad[0].code.as_str()), (2, "E1005"), "the future begins at the load");
    }

    #[test]
    fn the_stream_does_not_bring_what_is_before_the_fence() {
        let found = decoded(&[4, 5, 6], None);
        assert_eq!((found.consumed, found.accepted(), found.bad.len()), (3, 2, 1));
        let bad = &found.bad[0];
        assert_eq!((bad.index, bad.code.as_str()), (0, "E1004"));
        assert!(bad.reason.contains("1970-01-05") && bad.reason.contains("history_until 1970-01-06"), "{}", bad.reason);
        assert_eq!(found.batches[0].arrivals, [10 * DAY; 2]);
    }
}
