//! Explain: how one value came about, recomputed from the event log and compared with what is served.

use tidemill_features::definitions::{OutputId, Registry};
use tidemill_features::plan::{FeaturePlan, Plan, Window};
use tidemill_features::read::{Answer, EventSet, History};
use tidemill_features::record::{Fate, Outline};
use tidemill_features::stream::Prepared;
use tidemill_features::value::{DataType, Value};

use super::get::{Answers, Keys, Positions, Reader};
use crate::failure::Failure;
use crate::limits::EXPLAIN_EVENTS_MAX;

/// How a value came about.
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
    let plan = reader.plan("", &[reference.to_string()])?;
    let [id] = plan.ids[..] else {
        return Err(Failure::field("E2005", "feature", "explain takes one feature: view:feature"));
    };
    if keys.rows != 1 {
        return Err(Failure::field("E2005", "keys", format!("explain takes one key, not {}", keys.rows)));
    }
    let answers = reader.get(plan, keys, as_of)?;
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
    let view = &reader.registry.views[id.view];
    let plan = &view.plan;
    let feature = &plan.features[id.output];
    let range = feature.window.range(answers.read_time.saturating_sub(feature.offset));
    let key =
        tidemill_features::stream::encode_key(keys.columns.iter().map(|column| column.value(0))).unwrap_or_default();
    let answer = answers.columns[0].remove(0);
    let batches = reader.past.events_of(id.view, &key, &answers.positions)?;
    let source = view.stream.as_ref().map_or(0, |stream| stream.source);
    let (recomputed, counted, excluded) = reader.past.with_history(id.view, &batches, |history, prepared, fates| {
        let recomputed = history.read(&[id.output], answers.read_time)?.remove(0);
        let (counted, excluded) = sorted_out(history, plan, id.output, source, prepared, fates, answers.read_time)?;
        Ok((recomputed, counted, excluded))
    })?;
    let bit_identical = recomputed.value.same(&answer.value) && recomputed.status == answer.status;
    let (counted_total, excluded_total) = (counted.len() as u64, excluded.len() as u64);
    Ok(Explanation {
        data_type: view.feature_types[id.output].clone(),
        from: range.from,
        to: range.to,
        counted: newest(counted),
        counted_total,
        excluded: newest(excluded),
        excluded_total,
        merged_tiles: merged_tiles(reader, id, &key, answers.read_time),
        bit_identical,
        read_time: answers.read_time,
        positions: answers.positions,
        arithmetic: arithmetic(&reader.registry, plan, feature),
        answer,
    })
}

fn newest(mut list: Vec<Explained>) -> Vec<Explained> {
    let skip = list.len().saturating_sub(EXPLAIN_EVENTS_MAX);
    list.split_off(skip)
}

type SortedOut = (Vec<Explained>, Vec<Explained>);

fn sorted_out(
    history: &History<'_>,
    plan: &Plan,
    feature_index: usize,
    source: usize,
    prepared: &[Prepared<'_>],
    fates: &[Vec<Fate>],
    time: i64,
) -> Result<SortedOut, tidemill_features::codec::Damaged> {
    let feature = &plan.features[feature_index];
    let range = feature.window.range(time.saturating_sub(feature.offset));
    let cell = &plan.cells[feature.cell];
    let (mut counted, mut excluded) = (Vec::new(), Vec::new());
    for (prepared, fates) in prepared.iter().zip(fates) {
        for (row, fate) in fates.iter().enumerate() {
            let event = prepared.incoming(row);
            let outside = event.order.time >= range.to || range.from.is_some_and(|from| event.order.time < from);
            let contributes =
                matches!(fate, Fate::Applied | Fate::Late) && history.contributes(&event, feature_index, time)?;
            let reason = match fate {
                Fate::Duplicate => "duplicate",
                Fate::Filtered | Fate::Keyless => "filtered",
                Fate::Late if outside => "late",
                _ if outside => "outside",
                _ if contributes => "",
                _ if cell.filter.is_some() && !history.passes(&event, cell.filter)? => "filtered",
                _ => "null",
            };
            let value = match cell.input {
                Some(input) if event.passes => Some(history.value(&event, input)?),
                _ => None,
            };
            let explained = Explained {
                event_time: event.order.time,
                source,
                partition: event.order.partition,
                offset: event.order.offset,
                value,
                data_type: cell.input.map(|input| plan.inputs[input].clone()),
                reason,
            };
            // A null uses up a place of last_n, so it stands among the counted until the newest n are taken.
            let takes_place = matches!(feature.window, Window::LastN(_)) && reason == "null";
            if contributes || takes_place {
                counted.push((event.order.to_owned(), explained))
            } else {
                excluded.push(explained)
            }
        }
    }
    counted.sort_by(|(a, _), (b, _)| a.order(b));
    let mut counted: Vec<Explained> = counted.into_iter().map(|(_, explained)| explained).collect();
    if let Window::LastN(n) = feature.window {
        let kept = counted.split_off(counted.len().saturating_sub(n));
        excluded.extend(counted.into_iter().map(|event| Explained { reason: "outside", ..event }));
        let (nulls, kept): (Vec<_>, Vec<_>) = kept.into_iter().partition(|event| event.reason == "null");
        excluded.extend(nulls);
        counted = kept;
    }
    excluded.sort_by_key(|event| (event.event_time, event.partition, event.offset));
    Ok((counted, excluded))
}

fn merged_tiles(reader: &Reader, id: OutputId, key: &[u8], time: i64) -> u64 {
    let state = reader.memory.read();
    let plan = &reader.registry.views[id.view].plan;
    let feature = &plan.features[id.output];
    let chunks = state.chunks(id.view, key);
    let counted = state.record(id.view, key).and_then(|record| {
        let outline = Outline::parse(record).ok()?;
        let events = EventSet::of_record(plan, outline.node, &chunks).ok()?;
        let range = feature.window.range(time.saturating_sub(feature.offset));
        let mut cell = tidemill_features::aggregates::Cell::new(&plan.cells[feature.cell].aggregate);
        events.fold(plan, range, feature.cell, &mut cell).ok()?;
        Some(events.merged_tiles())
    });
    counted.unwrap_or(0)
}

fn arithmetic(registry: &Registry, plan: &Plan, feature: &FeaturePlan) -> String {
    let cell = &plan.cells[feature.cell];
    let view = registry.views.iter().find(|view| std::ptr::eq(&*view.plan, plan));
    let stream = view.and_then(|view| view.stream.as_ref());
    let text = |list: Option<&Vec<tidemill_features::expression::Expression>>, at: Option<usize>| {
        list.zip(at).and_then(|(list, at)| list.get(at)).map(|e| e.text.clone())
    };
    let argument = text(stream.map(|s| &s.inputs), cell.input).unwrap_or_default();
    let filter = text(stream.map(|s| &s.filters), cell.filter).map(|f| format!(" where {f}")).unwrap_or_default();
    format!("{:?}({argument}){filter}", cell.aggregate.kind).to_lowercase()
}
