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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregates::{Edge, Real};
    use crate::definitions::{DefinitionFile, Registry, check};

    #[test]
    fn sizes_of_values() {
        let decimal = DataType::Decimal { precision: 10, scale: 2 };
        for (data_type, size) in [
            (DataType::Bool, 1),
            (DataType::Int64, 3),
            (DataType::Float64, 4),
            (DataType::Float32, 4),
            (DataType::Timestamp, 8),
            (decimal, 4),
            (DataType::Text, 10),
            (DataType::Bytes, 10),
            (DataType::List(Box::new(DataType::Int64)), 17),
            (DataType::Vector(8), 50),
            (DataType::Map(Box::new(DataType::Text), Box::new(DataType::Int64)), 104),
        ] {
            assert_eq!(size_of_value(&data_type), size, "{data_type}");
        }
    }

    #[test]
    fn sizes_of_cells() {
        use DataType::{Bool, Float64, Int64, Text, Vector};
        let many = |k| Kind::Many(Edge { newest: true, k, distinct: false });
        let edges = Kind::Histogram([0.0, 1.0, 2.0].map(Real::new).to_vec().into());
        for (kind, input, second, size) in [
            (Kind::Count, None, None, 12),
            (Kind::TimeSinceLast, None, None, 12),
            (Kind::Any, Some(Bool), None, 12),
            (Kind::Sum, Some(Float64), None, 21),
            (Kind::Avg, Some(Int64), None, 21),
            (Kind::Min, Some(Text), None, 19),
            (Kind::Max, Some(Int64), None, 12),
            (Kind::Stddev, Some(Float64), None, 33),
            (Kind::Rate(Real::new(0.0), Real::new(1.0)), Some(Int64), Some(Int64), 33),
            (Kind::Kurtosis, Some(Float64), None, 69),
            (Kind::Trend, Some(Float64), None, 69),
            (Kind::One(Edge { newest: true, k: 1, distinct: false }), Some(Text), None, 35),
            (Kind::ArgMax, Some(Text), Some(Float64), 39),
            (many(3), Some(Int64), None, 66),
            (many(1_000), Some(Int64), None, 4_873),
            (edges, Some(Float64), None, 17),
            (Kind::Decayed(1), None, None, 49),
            (Kind::MaxGap, None, None, 29),
            (Kind::Distinct, Some(Text), None, 329),
            (Kind::CountDistinct, Some(Int64), None, 105),
            (Kind::Quantile(Real::new(0.5)), Some(Float64), None, 137),
            (Kind::TopK(3), Some(Text), None, 393),
            (Kind::CountBy, Some(Bool), None, 105),
            (Kind::SumBy, Some(Float64), Some(Text), 713),
            (Kind::AvgBy, Some(Float64), Some(Int64), 489),
            (Kind::VectorAvg, Some(Vector(4)), None, 57),
        ] {
            let aggregate = Aggregate { kind, input, second, id_type: None };
            assert_eq!(size_of_cell(&aggregate), size, "{aggregate:?}");
        }
    }

    fn registry(source: &str, features: &str) -> Registry {
        let text = format!(
            "[source.s]\nconnector = 'push'\nevent_time = 't'\n{source}\n\
             fields = {{ k = 'string', x = 'float64', i = 'int64', t = 'timestamp' }}\n[entity.e]\nkey = 'k'\n[view.v]\n\
             entity = 'e'\nsource = 's'\n[view.v.features]\n{features}"
        );
        check(&[DefinitionFile { path: "v.toml".into(), text }]).unwrap_or_else(|problems| panic!("{}", problems[0]))
    }

    fn estimate(source: &str, features: &str) -> Estimate {
        registry(source, features).views[0].plan.estimate()
    }

    /// A time takes 3 bytes, flags one for eight filters and columns; a place 4 and the event id's size.
    #[test]
    fn views_cost_what_their_events_take() {
        let sum = "a = { agg = 'sum(x)', windows = ['1h', '2h'] }\n";
        let plain = Estimate {
            bytes_per_event: 3 + 1 + 4,
            bytes_per_entity: 24 + 20 * 8,
            bytes_of_busy_record: 24 + 16 * (21 + 12),
            rows_read: 2 * LEAF_MAX,
            tiles_read: 2 * 4 * 16,
        };
        assert_eq!(estimate("", sum), plain);
        let with_ids = estimate("event_id = 'i'", sum);
        assert_eq!((with_ids.bytes_per_event, with_ids.bytes_per_entity), (8, 24 + 20 * (8 + 3 + 5)));
        let ordered = estimate("event_id = 'i'", "a = { agg = 'last(x)', ttl = '1h' }\n");
        assert_eq!(ordered.bytes_per_event, 3 + 1 + 4 + 4 + 3);
        assert_eq!(estimate("", "a = { agg = 'last(x)', ttl = '1h' }\n").bytes_per_event, 3 + 1 + 4 + 4);
    }

    /// Windows that are alike are read once; sessions and the newest n events are looked at one by one.
    #[test]
    fn views_cost_what_their_windows_cut() {
        let alike = "a = { agg = 'sum(x)', windows = ['1h'] }\nb = { agg = 'count()', windows = ['1h'] }\n";
        let cost = estimate("", alike);
        assert_eq!((cost.rows_read, cost.tiles_read), (LEAF_MAX, 64));
        assert_eq!(cost.bytes_of_busy_record, 24 + 16 * (21 + 12 + 12));
        let single = "a = { agg = 'sum(x)', last_n = 10 }\nb = { agg = 'sum(i)', last_n = 5 }\nc = { agg = 'count()', window = 'session(5m)' }\n";
        let cost = estimate("", single);
        assert_eq!((cost.rows_read, cost.tiles_read), (15, 0));
    }

    #[test]
    fn warnings_say_how_much() {
        let warnings = |features: &str| registry("", features).views[0].plan.warnings();
        // 90 days of 1,000 events an hour, 8 bytes each.
        assert_eq!(
            warnings("a = { agg = 'sum(x)', windows = ['90d'] }\n"),
            [
                "`a_90d` keeps every event of 90d to be exact to the microsecond: a key with 1000 events an hour takes some 17 MB"
            ]
        );
        assert!(warnings("a = { agg = 'sum(x)', windows = ['90d'], hop = '1h' }\n").is_empty());
        assert!(warnings("a = { agg = 'sum(x)', last_n = 3 }\n").is_empty());
        let table = registry("kind = 'table'", "a = { agg = 'max_gap()', window = 'lifetime' }\n");
        assert!(table.views[0].plan.warnings().is_empty());
        let forever = "a = { agg = 'max_gap()', window = 'lifetime' }\nb = { agg = 'count()', last_n = 3 }\n";
        assert_eq!(
            warnings(forever),
            ["`a` has no left edge and needs its events one by one: they are kept forever; declare a window"]
        );
    }
}
