//! What a view costs, estimated from its plan alone: bytes an event and an entity, rows and tiles that a read looks at.
//!
//! Sizes of values are what records of real data took: integers and times some 3 bytes (varints and differences), floats
//! between a short decimal and eight bytes, texts as long as a name.

use super::{Plan, Window};
use crate::aggregates::{Aggregate, Kind};
use crate::record::LEAF_MAX;
use crate::time::{DAY, duration_text};
use crate::value::DataType;

/// An entity of a table like this one has so many events: the ordinary case of the estimate.
pub const USUAL_EVENTS: usize = 20;
/// Spans of one level of a ladder.
const SPANS: usize = 16;
/// Events an hour of what is called a busy key in warnings.
const BUSY_PER_HOUR: i64 = 1_000;
/// An exact window at least this long keeps many events of a busy key.
const LONG_WINDOW: i64 = 90 * DAY;

/// What a view costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// a raw event in a record
    pub bytes_per_event: usize,
    /// a record of `USUAL_EVENTS` events
    pub bytes_per_entity: usize,
    /// the record of a key with thousands of events; the events themselves lie in chunks beside it
    pub bytes_of_busy_record: usize,
    /// events that a read of all features looks at one by one, at most, for an ordinary window
    pub rows_read: usize,
    /// tiles that it merges beside them, at most
    pub tiles_read: usize,
}

impl Plan {
    /// Estimates what the view costs.
    pub fn estimate(&self) -> Estimate {
        let order = if self.order_kept { 4 + self.id_type.as_ref().map_or(0, size_of_value) } else { 0 };
        let values: usize = self.inputs.iter().map(size_of_value).sum();
        let bytes_per_event = 3 + self.flag_bytes() + order + values;
        let ids = self.dedup.as_ref().map_or(0, |dedup| size_of_value(&dedup.id_type) + 5);
        let tile: usize = self.cells.iter().filter(|c| c.joined.is_none()).map(|c| size_of_cell(&c.aggregate)).sum();
        let one_by_one = |window: &Window| matches!(window, Window::LastN(_) | Window::Session(_));
        let mut windows: Vec<&Window> = Vec::new();
        for feature in &self.features {
            if !windows.contains(&&feature.window) {
                windows.push(&feature.window);
            }
        }
        // The two edges of a window each cut one leaf; a ladder of two levels holds tens of thousands of events.
        let edges: usize = windows.iter().filter(|window| !one_by_one(window)).count();
        let last_n = self.features.iter().filter_map(|f| if let Window::LastN(n) = f.window { Some(n) } else { None });
        Estimate {
            bytes_per_event,
            bytes_per_entity: 24 + USUAL_EVENTS * (bytes_per_event + ids),
            bytes_of_busy_record: 24 + SPANS * (tile + 12),
            rows_read: edges * LEAF_MAX + last_n.sum::<usize>(),
            tiles_read: edges * 4 * SPANS * self.cells.len().min(1),
        }
    }

    /// What may surprise whoever runs the view: plain sentences that name the feature.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let megabytes = |width: i64| {
            let events = width / (3_600_000_000 / BUSY_PER_HOUR);
            (events * self.estimate().bytes_per_event as i64) / 1_000_000
        };
        for feature in &self.features {
            match feature.window {
                Window::Sliding { width, hop: None } if width >= LONG_WINDOW => warnings.push(format!(
                    "`{}` keeps every event of {} to be exact to the microsecond: a key with {BUSY_PER_HOUR} events an hour takes some {} MB",
                    feature.name,
                    duration_text(width),
                    megabytes(width)
                )),
                Window::Lifetime | Window::LastN(_) if self.keeps_all && self.table.is_none() => {
                    let cell = &self.cells[feature.cell];
                    if cell.joined.is_some() || cell.aggregate.needs_neighbours() {
                        warnings.push(format!(
                            "`{}` has no left edge and needs its events one by one: they are kept forever; declare a window",
                            feature.name
                        ));
                    }
                }
                _ => {}
            }
        }
        warnings
    }
}

fn size_of_value(data_type: &DataType) -> usize {
    match data_type {
        DataType::Bool => 1,
        DataType::Int64 => 3,
        DataType::Float64 | DataType::Float32 => 4,
        DataType::Timestamp => 8,
        DataType::Decimal { .. } => 4,
        DataType::Text | DataType::Bytes => 10,
        DataType::List(items) => 1 + 4 * (1 + size_of_value(items)),
        DataType::Vector(dims) => 2 + 6 * *dims as usize,
        DataType::Map(keys, values) => 8 * (size_of_value(keys) + size_of_value(values)),
    }
}

fn size_of_cell(aggregate: &Aggregate) -> usize {
    let of_input = aggregate.input.as_ref().map_or(1, size_of_value);
    let of_second = aggregate.second.as_ref().map_or(1, size_of_value);
    9 + match &aggregate.kind {
        Kind::Count | Kind::TimeSinceLast | Kind::Any | Kind::All => 3,
        Kind::Sum | Kind::Avg => 12,
        Kind::Min | Kind::Max => of_input,
        Kind::Variance | Kind::Stddev | Kind::Rate(..) => 24,
        Kind::Skewness | Kind::Kurtosis | Kind::Trend => 60,
        Kind::One(_) => 16 + of_input,
        Kind::ArgMax | Kind::ArgMin => 16 + of_input + of_second,
        Kind::Many(edge) => edge.k.min(LEAF_MAX) * (16 + of_input),
        Kind::Histogram(edges) => 2 * (edges.len() + 1),
        Kind::Decayed(_) => 40,
        Kind::MeanGap | Kind::MaxGap => 20,
        // What depends on how many values there are: some tens.
        Kind::Distinct | Kind::CountDistinct => 32 * of_input,
        Kind::Quantile(_) => 32 * 4,
        Kind::TopK(_) | Kind::BottomK(_) | Kind::Mode | Kind::Entropy | Kind::CountBy => 32 * (of_input + 2),
        Kind::SumBy | Kind::AvgBy => 32 * (of_second + 12),
        Kind::VectorSum | Kind::VectorAvg => {
            12 * if let Some(DataType::Vector(dims)) = aggregate.input { dims as usize } else { 1 }
        }
    }
}
