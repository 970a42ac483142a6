//! Explain: how one value came about, recomputed from the event log and compared with what is served.

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;

use tidemill_features::definitions::{OutputId, Registry};
use tidemill_features::expression::Column;
use tidemill_features::plan::{FeaturePlan, Plan, Window};
use tidemill_features::read::{Answer, Context, EventSet, History, ReadError};
use tidemill_features::record::{Fate, Incoming, Outline};
use tidemill_features::service::{Keys, ReadPlan};
use tidemill_features::stream::Prepared;
use tidemill_features::value::{DataType, Value};

use super::get::{Answers, At, Positions, Reader};
use super::moment::{Moment, Times};
use super::tables::LoggedTables;
use crate::failure::Failure;
use crate::limits::EXPLAIN_EVENTS_MAX;
use crate::online::Records;

/// How a value came about.
#[derive(Debug)]
pub struct Explanation {
    /// as served
    pub answer: Answer,
    /// its type
    pub data_type: DataType,
    /// left edge of the window, where it has one
    pub from: Option<i64>,
    /// right edge
    pub to: i64,
    /// events that count, oldest first
    pub counted: Vec<Explained>,
    /// how many there are, also beyond the list
    pub counted_total: u64,
    /// events of the entity that do not count
    pub excluded: Vec<Explained>,
    /// how many there are
    pub excluded_total: u64,
    /// tiles that the read merged
    pub merged_tiles: u64,
    /// whether the log gives the same bits
    pub bit_identical: bool,
    /// T
    pub read_time: i64,
    /// the log prefix that was seen
    pub positions: Positions,
    /// the aggregate or the derived expression, as declared
    pub arithmetic: String,
}

/// An event in an explanation.
#[derive(Clone, Debug)]
pub struct Explained {
    /// microseconds
    pub event_time: i64,
    /// place of the source in the registry
    pub source: usize,
    /// of the source
    pub partition: u32,
    /// in the partition
    pub offset: u64,
    /// the aggregate's argument
    pub value: Option<Value<'static>>,
    /// type of the argument
    pub data_type: Option<DataType>,
    /// why it does not count
    pub reason: &'static str,
}

/// Explains one feature of one entity.
pub fn explain(reader: &Reader, reference: &str, keys: &Keys, as_of: Option<i64>) -> Result<Explanation, Failure> {
    reader.past.check_whole()?;
    let plan = reader.plan("", &[reference.to_string()])?;
    let [id] = plan.ids[..] else {
        return Err(Failure::field("E2005", "feature", "explain takes one feature: view:feature"));
    };
    if keys.rows != 1 {
        return Err(Failure::field("E2005", "keys", format!("explain takes one key, not {}", keys.rows)));
    }
    // A view that is still being built is explained from the log alone.
    let at = as_of.map_or(At::Now, At::Time);
    let answers = reader.read(plan, keys, at, true, &AtomicBool::new(false))?;
    match reader.registry.views[id.view].derived(id.output) {
        Some(_) => Ok(of_derived(reader, id, answers)),
        None => of_feature(reader, id, answers, keys),
    }
}

/// A derived feature is explained by its expression; its inputs can be explained in turn.
fn of_derived(reader: &Reader, id: OutputId, mut answers: Answers) -> Explanation {
    let derived = reader.registry.views[id.view].derived(id.output);
    Explanation {
        answer: answers.columns[0].remove(0),
        data_type: reader.registry.data_type(id).cloned().unwrap_or(DataType::Text),
        from: None,
        to: answers.read_time,
        counted: Vec::new(),
        counted_total: 0,
        excluded: Vec::new(),
        excluded_total: 0,
        merged_tiles: 0,
        bit_identical: true,
        read_time: answers.read_time,
        positions: answers.positions,
        arithmetic: derived.map(|d| d.expression.text.clone()).unwrap_or_default(),
    }
}

fn of_feature(reader: &Reader, id: OutputId, mut answers: Answers, keys: &Keys) -> Result<Explanation, Failure> {
    let answer = answers.columns[0].remove(0);
    let of_log = of_log(reader, (id, &answers.plan), keys, answers.read_time, answers.positions)?;
    let bit_identical = of_log.answer.value.same(&answer.value) && of_log.answer.status == answer.status;
    let count = |reader: &Reader| match reader.fetched(id.view, &encoded(keys), |fetched| {
        merged_tiles(fetched, reader, id, &encoded(keys), answers.read_time)
    }) {
        Some(tiles) => tiles,
        None => Ok(merged_tiles(&*reader.memory.read(), reader, id, &encoded(keys), answers.read_time)),
    };
    let merged_tiles = count(reader)?;
    Ok(Explanation { answer, bit_identical, merged_tiles, ..of_log })
}

fn encoded(keys: &Keys) -> Vec<u8> {
    tidemill_features::stream::encode_key(keys.columns.iter().map(|column| column.value(0))).unwrap_or_default()
}

/// How the log comes to a value, from the events before some positions. What is served has no part in it.
fn of_log(
    reader: &Reader,
    (id, read): (OutputId, &ReadPlan),
    keys: &Keys,
    time: i64,
    positions: Positions,
) -> Result<Explanation, Failure> {
    let view = &reader.registry.views[id.view];
    let plan = &view.plan;
    let feature = &plan.features[id.output];
    let range = feature.window.range(time.saturating_sub(feature.offset));
    let batches = reader.past.events_of(id.view, &encoded(keys), &positions)?;
    let tables = LoggedTables::new(&reader.past, &positions);
    let stop = AtomicBool::new(false);
    let request = Moment::new(reader, Times::One(time), &positions, &stop).request_body(&read.views[0], keys, 0);
    let context = Context { tables: &tables, request: request.as_deref().map(|body| (time, body)) };
    let source = view.stream.as_ref().map_or(0, |stream| stream.source);
    let (answer, counted, excluded) =
        reader.past.with_history((id.view, &encoded(keys)), &batches, |history, prepared, fates| {
            let recomputed = history.read(&context, &[id.output], time)?.remove(0);
            if recomputed.is_unanswered() {
                return Ok((recomputed, Vec::new(), Vec::new()));
            }
            let counted: HashSet<usize> = history.counted(&context, id.output, time)?.into_iter().collect();
            let wanted = Wanted { plan, feature, source, time, counted };
            let (counted, excluded) = wanted.sort_out(history, prepared, fates)?;
            Ok((recomputed, counted, excluded))
        })?;
    if answer.is_unanswered() {
        return Err(Failure::invalid("E2041", super::cut::why(reader, &[source])?));
    }
    let (counted_total, excluded_total) = (counted.len() as u64, excluded.len() as u64);
    Ok(Explanation {
        data_type: view.feature_types[id.output].clone(),
        from: range.from,
        to: range.to,
        counted: newest(counted),
        counted_total,
        excluded: newest(excluded),
        excluded_total,
        merged_tiles: 0,
        bit_identical: true,
        read_time: time,
        arithmetic: arithmetic(&reader.registry, plan, feature),
        answer,
        positions,
    })
}

/// How the log comes to a value that was served otherwise, from the prefix that the answer named.
pub(super) fn explain_kept(
    reader: &Reader,
    reference: &str,
    given: &[(String, DataType, Value<'static>)],
    (time, positions): (i64, Positions),
    recomputed: &Answer,
) -> Result<Explanation, Failure> {
    let plan = reader.plan("", &[reference.to_string()])?;
    let [id] = plan.ids[..] else {
        return Err(Failure::field("E2005", "feature", "explain takes one feature: view:feature"));
    };
    if reader.registry.views[id.view].derived(id.output).is_some() {
        let columns = vec![vec![recomputed.clone()]];
        let (times, stale) = (None, Vec::new());
        let answers =
            Answers { plan, columns, read_time: time, times, positions, stale, row_errors: 0, is_one_prefix: true };
        return Ok(of_derived(reader, id, answers));
    }
    let column = |(name, _): &(String, DataType)| {
        let found = given.iter().find(|(known, ..)| known == name);
        Column::Values(vec![found.map_or(Value::Null, |(.., value)| value.clone())])
    };
    let keys = Keys {
        columns: plan.keys.iter().map(column).collect(),
        request: plan.request.iter().map(column).collect(),
        rows: 1,
    };
    of_log(reader, (id, &plan), &keys, time, positions)
}

fn newest(mut list: Vec<Explained>) -> Vec<Explained> {
    let skip = list.len().saturating_sub(EXPLAIN_EVENTS_MAX);
    list.split_off(skip)
}

type SortedOut = (Vec<Explained>, Vec<Explained>);

/// The feature whose events are told apart.
struct Wanted<'w> {
    plan: &'w Plan,
    feature: &'w FeaturePlan,
    source: usize,
    time: i64,
    /// numbers of the events that count, among those that the history kept
    counted: HashSet<usize>,
}

impl Wanted<'_> {
    /// The events that count, in their order, and the others with the reason.
    fn sort_out(
        &self,
        history: &History<'_>,
        prepared: &[Prepared<'_>],
        fates: &[Vec<Fate>],
    ) -> Result<SortedOut, ReadError> {
        let input = self.plan.cells[self.feature.cell].input;
        let (mut counted, mut excluded) = (Vec::new(), Vec::new());
        let mut number = 0;
        for (prepared, fates) in prepared.iter().zip(fates) {
            for (row, fate) in fates.iter().enumerate() {
                let event = prepared.incoming(row);
                let counts = history.keeps(*fate) && self.counted.contains(&number);
                number += usize::from(history.keeps(*fate));
                let value = match input {
                    Some(input) if event.passes => Some(history.value(&event, input)?),
                    _ => None,
                };
                let explained = Explained {
                    event_time: event.order.time,
                    source: self.source,
                    partition: event.order.partition,
                    offset: event.order.offset,
                    reason: if counts { "" } else { self.reason(history, &event, *fate, value.as_ref())? },
                    value,
                    data_type: input.map(|input| self.plan.inputs[input].clone()),
                };
                match counts {
                    true => counted.push((event.order.to_owned(), explained)),
                    false => excluded.push(explained),
                }
            }
        }
        counted.sort_by(|(a, _), (b, _)| a.order(b));
        excluded.sort_by_key(|event| (event.event_time, event.partition, event.offset));
        Ok((counted.into_iter().map(|(_, explained)| explained).collect(), excluded))
    }

    /// Why an event does not count.
    fn reason(
        &self,
        history: &History<'_>,
        event: &Incoming<'_>,
        fate: Fate,
        value: Option<&Value<'static>>,
    ) -> Result<&'static str, ReadError> {
        let cell = &self.plan.cells[self.feature.cell];
        let range = self.feature.window.range(self.time.saturating_sub(self.feature.offset));
        let time = event.order.time;
        let outside = time >= range.to || range.from.is_some_and(|from| time < from);
        Ok(match fate {
            Fate::Duplicate => "duplicate",
            Fate::Filtered | Fate::Keyless => "filtered",
            Fate::Late if outside => "late",
            _ if outside => "outside",
            // Of a table only the newest row can count.
            _ if self.plan.table.is_some() => "superseded",
            _ if cell.joined.is_some() => "filtered",
            _ if cell.filter.is_some() && !history.passes(event, cell.filter)? => "filtered",
            _ if value.is_some_and(Value::is_null) => "null",
            _ if self.feature.window.range(self.time).from.is_none() => "outside",
            _ => "null",
        })
    }
}

fn merged_tiles<R: Records>(state: &R, reader: &Reader, id: OutputId, key: &[u8], time: i64) -> u64 {
    let plan = &reader.registry.views[id.view].plan;
    let feature = &plan.features[id.output];
    let chunks = state.chunks(id.view, key);
    let counted = state.record(id.view, key).and_then(|record| {
        let outline = Outline::parse(record).ok()?;
        let events = EventSet::of_record(plan, outline.node, &chunks).ok()?;
        let range = feature.window.range(time.saturating_sub(feature.offset));
        let cell_plan = &plan.cells[feature.cell];
        // Some windows and some aggregates look at every event.
        let one_by_one = matches!(feature.window, Window::LastN(_) | Window::Session(_))
            || cell_plan.joined.is_some()
            || plan.table.is_some();
        let mut cell = tidemill_features::aggregates::Cell::new(&cell_plan.aggregate);
        if !one_by_one {
            events.fold(plan, range, feature.cell, &mut cell).ok()?;
        }
        Some(events.merged_tiles())
    });
    counted.unwrap_or(0)
}

/// The aggregate and its filter, as declared.
fn arithmetic(registry: &Registry, plan: &Plan, feature: &FeaturePlan) -> String {
    let cell = &plan.cells[feature.cell];
    let view = registry.views.iter().find(|view| std::ptr::eq(&*view.plan, plan));
    let stream = view.and_then(|view| view.stream.as_ref());
    let filter = match (&plan.joins, cell.joined) {
        (Some(joins), Some(at)) => joins.cells[at].filter.as_ref(),
        _ => stream.zip(cell.filter).and_then(|(stream, at)| stream.filters.get(at)),
    };
    let filter = filter.map(|filter| format!(" where {}", filter.text)).unwrap_or_default();
    format!("{}{filter}", feature.text)
}
