//! What the values of a feature are like over a whole training set: counts, extremes, mean, quantiles. By the aggregates that
//! features themselves are made of, so that they need no memory that grows, and no order of rows changes them.

use serde_json::{Map, Value as Json, json};
use tidemill_features::aggregates::{Aggregate, Cell, EventOrder, Kind, Real, Terms};
use tidemill_features::read::{Answer, Status};
use tidemill_features::value::DataType;

/// The quantiles that a manifest tells.
const QUANTILES: [(&str, f64); 7] =
    [("0.01", 0.01), ("0.05", 0.05), ("0.25", 0.25), ("0.5", 0.5), ("0.75", 0.75), ("0.95", 0.95), ("0.99", 0.99)];
const STATUSES: [Status; 5] = [Status::Present, Status::Defaulted, Status::Empty, Status::NotFound, Status::Error];

/// What is known of one feature's values so far.
#[derive(Clone)]
pub(super) struct Profile {
    data_type: DataType,
    rows: u64,
    nulls: u64,
    capped: u64,
    statuses: [u64; STATUSES.len()],
    /// smallest and greatest, of numbers and times
    extremes: Vec<(&'static str, Aggregate, Cell)>,
    /// of numbers
    mean: Option<(Aggregate, Cell)>,
    sketch: Option<Cell>,
}

impl Profile {
    pub fn new(data_type: &DataType) -> Profile {
        let of = |kind: Kind| {
            let aggregate = aggregate(kind, data_type);
            let cell = Cell::new(&aggregate);
            (aggregate, cell)
        };
        let extremes = [("min", Kind::Min), ("max", Kind::Max)].map(|(name, kind)| {
            let (aggregate, cell) = of(kind);
            (name, aggregate, cell)
        });
        let is_ordered = data_type.is_numeric() || *data_type == DataType::Timestamp;
        Profile {
            data_type: data_type.clone(),
            rows: 0,
            nulls: 0,
            capped: 0,
            statuses: [0; STATUSES.len()],
            extremes: if is_ordered { extremes.into() } else { Vec::new() },
            mean: data_type.is_numeric().then(|| of(Kind::Avg)),
            sketch: data_type.is_numeric().then(|| of(Kind::Quantile(Real::new(0.5))).1),
        }
    }

    /// Takes more values in.
    pub fn update(&mut self, answers: &[Answer]) {
        self.rows += answers.len() as u64;
        let order = EventOrder::default;
        for answer in answers {
            self.statuses[answer.status as usize] += 1;
            self.capped += u64::from(answer.capped);
            if answer.value.is_null() {
                self.nulls += 1;
                continue;
            }
            let terms = Terms::of(&answer.value);
            for (_, aggregate, cell) in &mut self.extremes {
                cell.update(aggregate, 0, order, terms);
            }
            if let (Some((aggregate, mean)), Some(sketch)) = (&mut self.mean, &mut self.sketch) {
                mean.update(aggregate, 0, order, terms);
                // The rank is asked for at the end; all ranks have the same sketch.
                sketch.update(aggregate, 0, order, terms);
            }
        }
    }

    /// As the manifest has it. Of no values there is no mean, and a mean beyond the type is null.
    pub fn json(&self) -> Map<String, Json> {
        let rate = |count: u64| if self.rows == 0 { Json::Null } else { json!(count as f64 / self.rows as f64) };
        let mut json = Map::new();
        json.insert("null_rate".into(), rate(self.nulls));
        json.insert("default_rate".into(), rate(self.statuses[Status::Defaulted as usize]));
        let counts = STATUSES.iter().map(|status| (status.name().to_string(), json!(self.statuses[*status as usize])));
        json.insert("statuses".into(), Json::Object(counts.collect()));
        if self.capped > 0 {
            json.insert("capped".into(), json!(self.capped));
        }
        let shown = |aggregate: &Aggregate, cell: &Cell| {
            let value = cell.finish(aggregate, 0).unwrap_or_default();
            crate::json::value(&value, Some(&aggregate.output()))
        };
        for (name, aggregate, cell) in &self.extremes {
            json.insert((*name).into(), shown(aggregate, cell));
        }
        if let (Some((aggregate, mean)), Some(sketch)) = (&self.mean, &self.sketch) {
            json.insert("mean".into(), shown(aggregate, mean));
            let quantile = |(name, q): &(&str, f64)| {
                let aggregate = self::aggregate(Kind::Quantile(Real::new(*q)), &self.data_type);
                (name.to_string(), shown(&aggregate, sketch))
            };
            json.insert("quantiles".into(), Json::Object(QUANTILES.iter().map(quantile).collect()));
        }
        json
    }
}

fn aggregate(kind: Kind, data_type: &DataType) -> Aggregate {
    Aggregate { kind, input: Some(data_type.clone()), second: None, id_type: None }
}
