//! Random cases: definitions, a log, and reads at the edges of what the log holds.
//! Everything is drawn as independent small values and put together by one map, so that proptest can
//! drop rows, features and reads one by one when it shrinks.

use proptest::prelude::*;
use proptest::sample::select;

use super::generate_derived::{self, Draft};
use super::generate_log::{self, Indices, KEYS, Recipe};
use super::generate_sql::VECTOR_COLUMN;
use super::model::{Datum, Row, Source, View, Window};
use super::read::Request;
use super::service::{Keys, Project};
use super::{calendar, generate_definitions};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

#[derive(Clone, Debug)]
pub struct Case {
    pub sources: Vec<Source>,
    pub views: Vec<View>,
    /// The log of all sources, each row with the index of its source. NaN floats occur: where a format has none,
    /// null means the same.
    pub rows: Vec<(usize, Row)>,
    pub reads: Vec<Question>,
}

/// One read.
#[derive(Clone, Debug)]
pub struct Question {
    /// The index of a view.
    pub view: usize,
    /// Its key.
    pub key: Vec<Datum>,
    /// A value for every key column of any view; `key` is made of them.
    pub keys: Keys,
    pub t: i64,
    /// A value for each column but the event time; for key columns that of `keys`.
    pub request: Request,
}

impl Case {
    /// The rows of one source, in log order: what `accept` and `read` take.
    pub fn rows_of(&self, source: &str) -> Vec<Row> {
        let is_of = |row: &&(usize, Row)| self.sources[row.0].name == source;
        self.rows.iter().filter(is_of).map(|(_, row)| row.clone()).collect()
    }

    pub fn source_of(&self, view: &View) -> &Source {
        self.sources.iter().find(|source| source.name == view.source).expect("a view of a source of the case")
    }

    /// What `read_service` takes.
    pub fn project(&self) -> Project<'_> {
        Project { sources: &self.sources, views: &self.views, rows: &self.rows }
    }
}

/// Views of streams, each for itself: no table, no join, and no derived feature over another view.
/// One to 400 rows, in clusters, so that shrinking drops many at once. A test does well to allow 20,000
/// shrinking steps (`max_shrink_iters`).
pub fn case() -> impl Strategy<Value = Case> {
    let definitions = (generate_definitions::streams(), generate_definitions::views());
    let log = (clusters(), start(), 1..=4_u8);
    (definitions, log, prop::collection::vec(draw(), 1..=40)).prop_map(
        |((sources, drafts), (clusters, start, keys), reads)| {
            assemble(sources, drafts, &Log { start, keys, recipes: clusters.concat() }, &reads)
        },
    )
}

/// The same with all that needs more than one source or view: a table as the last source, views of it and views
/// that join it, derived features over other views and other keys.
pub fn service_case() -> impl Strategy<Value = Case> {
    let definitions =
        (generate_definitions::streams(), generate_definitions::table(), generate_definitions::views_with_joins());
    let across = prop::collection::vec(any::<(u8, (u8, u8, u8))>(), 0..=5);
    let log = (clusters(), start(), 1..=4_u8);
    (definitions, across, log, prop::collection::vec(draw(), 1..=40)).prop_map(
        |((mut sources, table, mut drafts), across, (clusters, start, keys), reads)| {
            sources.push(table);
            for draft in &mut drafts {
                keep_rows_of_requests_to_streams(draft, &sources);
            }
            generate_derived::across(&mut drafts, &across);
            assemble(sources, drafts, &Log { start, keys, recipes: clusters.concat() }, &reads)
        },
    )
}

fn clusters() -> impl Strategy<Value = Vec<Vec<Recipe>>> {
    prop::collection::vec(prop::collection::vec(generate_log::recipe(), 1..=20), 1..=20)
}

fn start() -> impl Strategy<Value = i64> {
    select(vec![1_700_000_000 * SECOND, 0, -3000 * SECOND, 951_782_400 * SECOND])
}

struct Log {
    start: i64,
    keys: u8,
    recipes: Vec<Recipe>,
}

fn assemble(mut sources: Vec<Source>, drafts: Vec<Draft>, log: &Log, reads: &[Read]) -> Case {
    for source in &mut sources {
        source.history_until = source.history_until.map(|until| until + log.start);
    }
    let with_source = |draft: Draft| View { source: source_of_draft(&draft, &sources), ..draft.view };
    let views: Vec<View> = drafts.into_iter().map(with_source).collect();
    let rows = generate_log::log(&sources, &views, log.start, log.keys, &log.recipes);
    let mut case = Case { sources, views, rows, reads: Vec::new() };
    case.reads = reads.iter().map(|read| case.read(read, log.start)).collect();
    case
}

/// Events join a table, not rows of the table itself.
fn source_of_draft(draft: &Draft, sources: &[Source]) -> String {
    let fits = |source: &&Source| draft.view.joins.is_empty() || !source.table;
    let fitting: Vec<&Source> = sources.iter().filter(fits).collect();
    fitting[usize::from(draft.source) % fitting.len()].name.clone()
}

/// The page does not say what a request's row is beside the one row of a table.
fn keep_rows_of_requests_to_streams(draft: &mut Draft, sources: &[Source]) {
    let source = source_of_draft(draft, sources);
    if sources.iter().any(|other| other.name == source && other.table) {
        for feature in &mut draft.view.features {
            feature.include_request = false;
        }
        for output in &mut draft.outputs {
            output.is_of_key_alone = true;
        }
    }
}

/// How one read comes about: beside the edge of a feature's window around one of the rows.
#[derive(Clone, Debug)]
struct Read {
    view: u8,
    feature: u8,
    row: u16,
    edge: u8,
    distance: i64,
    key: u8,
    values: Indices,
}

fn draw() -> impl Strategy<Value = Read> {
    let distance = select(vec![0, 1, -1]);
    let places = (0..3_u8, 0..5_u8, any::<u16>());
    (places, 0..20_u8, distance, any::<u8>(), generate_log::values_of_columns()).prop_map(
        |((view, feature, row), edge, distance, key, values)| Read { view, feature, row, edge, distance, key, values },
    )
}

impl Case {
    fn read(&self, read: &Read, start: i64) -> Question {
        let view_index = usize::from(read.view) % self.views.len();
        let view = &self.views[view_index];
        let feature = &view.features[usize::from(read.feature) % view.features.len()];
        let rows = self.rows_of(&view.source);
        let row = rows.get(usize::from(read.row) % rows.len().max(1));
        let anchor = match row.map(|row| &row.columns[0]) {
            Some(Datum::Time(time)) => *time,
            _ => start,
        };
        let t = edge(&feature.window, feature.offset, anchor, read.edge) + read.distance;
        // Mostly the key of that very row, where it has one.
        let keys = match row {
            Some(row) if read.key < 200 => keys_of(self.source_of(view), row, read.key),
            _ => keys_number(usize::from(read.key)),
        };
        let request = request(self.source_of(view), &keys, &read.values);
        Question { view: view_index, key: key_of(view, &keys), keys, t, request }
    }
}

fn request(source: &Source, keys: &Keys, indices: &Indices) -> Request {
    let mut values = generate_log::values(indices, 0, 0);
    let vector = source.field_index(VECTOR_COLUMN.0).expect("a field of every source");
    // A broken one would make the whole request invalid, which is no matter of values.
    values[vector] = generate_log::vector(indices[15]);
    let mut request: Request = source.fields.iter().map(|(name, _)| name.clone()).zip(values).collect();
    request.remove(&source.event_time);
    request.extend(keys.clone());
    request
}

/// The moment at which the event at `anchor` enters or leaves the window, or another telling one.
fn edge(window: &Window, offset: i64, anchor: i64, edge: u8) -> i64 {
    let (enters, leaves) = match window {
        Window::Sliding { width, hop: None } | Window::Ttl(width) => (anchor, anchor + width),
        // The first T whose left edge is beyond the event.
        Window::Sliding { width, hop: Some(hop) } => (anchor, (anchor.div_euclid(*hop) + 1) * hop + width),
        Window::Tumbling(width) => {
            let end_of_bucket = (anchor.div_euclid(*width) + 1) * width;
            (end_of_bucket, end_of_bucket + width)
        }
        Window::Session(gap) => (anchor, anchor + gap),
        Window::Calendar(period, zone) => (anchor, calendar::next_start(*period, zone, anchor)),
        Window::Lifetime | Window::LastN(_) => (anchor, anchor + DAY),
    };
    match edge {
        0 | 1 => anchor,
        2..=8 => leaves + offset,
        9..=12 => enters + offset,
        13 => leaves,
        14..=17 => anchor + SECOND,
        18 => anchor + 1000 * DAY,
        _ => anchor - 30 * DAY,
    }
}

/// Of a view, from those of all.
fn key_of(view: &View, keys: &Keys) -> Vec<Datum> {
    view.entity_keys.iter().map(|name| keys[name].clone()).collect()
}

/// Those of a row; another one for each that is null.
fn keys_of(source: &Source, row: &Row, otherwise: u8) -> Keys {
    let mut keys = keys_number(usize::from(otherwise));
    for (name, key) in &mut keys {
        let found = &row.columns[source.field_index(name).expect("a declared field")];
        if !found.is_null() {
            *key = found.clone();
        }
    }
    keys
}

/// The last of them is of no row.
fn keys_number(index: usize) -> Keys {
    let (text, int, more) = KEYS.get(index % (KEYS.len() + 1)).copied().unwrap_or(("nobody", 99, "none"));
    Keys::from([
        ("key_text".to_string(), Datum::Text(text.into())),
        ("key_int".to_string(), Datum::Int(int)),
        ("key_more".to_string(), Datum::Text(more.into())),
    ])
}

#[cfg(test)]
mod tests;
