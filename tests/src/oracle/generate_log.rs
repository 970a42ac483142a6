//! Random logs: recipes of small numbers, turned into rows one after the other. A recipe may aim at an edge
//! that depends on what came before: a known time, the horizon of an id, the border of late.

use proptest::prelude::*;
use proptest::sample::select;

use super::accept;
use super::model::{Datum, HISTORY, Row, Source, View};

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3600 * SECOND;
const DAY: i64 = 24 * HOUR;
const YEAR_2099: i64 = 4_070_908_800 * SECOND;

/// Where each value is taken from among those of its column.
pub type Indices = [u8; 16];

/// How one row comes about. `back` counts rows of the same source, 0 being the last one.
#[derive(Clone, Debug)]
pub struct Recipe {
    source: u8,
    partition: u8,
    key: u8,
    /// How far the server's clock moves on before the row.
    step: i64,
    id: Id,
    time: Time,
    /// Declared arrival minus the server's clock.
    jitter: i64,
    values: Indices,
}

#[derive(Clone, Debug)]
enum Id {
    Fresh,
    Null,
    /// The id, key and partition of an earlier row, `after_horizon` from its arrival plus the horizon
    /// (`None`: wherever the clock stands); `whole` repeats all of its columns. Where there is a history, the partition is
    /// any, since ids are seen across.
    Repeat {
        back: u8,
        after_horizon: Option<i64>,
        whole: bool,
    },
}

#[derive(Clone, Debug)]
enum Time {
    /// This far from the arrival time.
    FromArrival(i64),
    /// This far from the last moment that is not yet too far in the future.
    FromSkew(i64),
    /// Beside an earlier event, of any source or of the same.
    Beside {
        back: u8,
        distance: i64,
        of_any: bool,
    },
    /// This far from the last moment that is not late for the view.
    FromLate {
        view: u8,
        distance: i64,
    },
    /// In the year 2099, and known then if the source declares an arrival time.
    Spoiler,
    Null,
}

/// The keys: text, integer, more text. The second and third collide when concatenated, and by integer.
pub const KEYS: [(&str, i64, &str); 5] =
    [("k", 1, "bc"), ("a", 2, "bc"), ("ab", 2, "c"), ("", -1, "😀"), ("k\0{}", i64::MIN, "")];

pub fn recipe() -> impl Strategy<Value = Recipe> {
    let step = select(vec![0, 0, 1, 1000, SECOND, 61 * SECOND, 601 * SECOND, HOUR, 25 * HOUR, 30 * DAY]);
    let jitter = select(vec![0, 0, 0, -1, SECOND, -SECOND, -HOUR, -2 * DAY]);
    // Six can be shared out evenly among one, two or three sources.
    let places = (0..6_u8, 0..4_u8, 0..4_u8);
    (places, step, id(), time(), jitter, values_of_columns()).prop_map(
        |((source, partition, key), step, id, time, jitter, values)| Recipe {
            source,
            partition,
            key,
            step,
            id,
            time,
            jitter,
            values,
        },
    )
}

/// Indices into the values of each column; one shrinks to the first value or not at all.
pub fn values_of_columns() -> impl Strategy<Value = Indices> {
    prop::array::uniform16(prop_oneof![1 => Just(0), 9 => any::<u8>().no_shrink()])
}

fn id() -> impl Strategy<Value = Id> {
    let after_horizon = select(vec![Some(0), None, Some(-1), Some(1), Some(-10 * SECOND), Some(DAY)]);
    let repeat = (0..10_u8, after_horizon, any::<bool>()).prop_map(|(back, after_horizon, whole)| Id::Repeat {
        back,
        after_horizon,
        whole,
    });
    prop_oneof![70 => Just(Id::Fresh), 28 => repeat, 1 => Just(Id::Null)]
}

fn time() -> impl Strategy<Value = Time> {
    let near = select(vec![0, 0, -1, 1, -SECOND, SECOND, -5 * SECOND, -90 * SECOND, -HOUR]);
    let far = select(vec![-DAY, -7 * DAY, -30 * DAY, -89 * DAY, -91 * DAY, -400 * DAY]);
    let edge = || -1..=1_i64;
    prop_oneof![
        40 => near.prop_map(Time::FromArrival),
        8 => far.prop_map(Time::FromArrival),
        6 => edge().prop_map(Time::FromSkew),
        30 => (0..10_u8, edge(), any::<bool>())
            .prop_map(|(back, distance, of_any)| Time::Beside { back, distance, of_any }),
        12 => (0..3_u8, edge()).prop_map(|(view, distance)| Time::FromLate { view, distance }),
        1 => Just(Time::Spoiler),
        1 => Just(Time::Null),
    ]
}

/// The log that the recipes make, each row with the index of its source.
pub fn log(sources: &[Source], views: &[View], start: i64, keys: u8, recipes: &[Recipe]) -> Vec<(usize, Row)> {
    let mut log = Log { sources, views, keys, clock: start, rows: Vec::new() };
    for recipe in recipes {
        log.add(recipe);
    }
    log.rows
}

struct Log<'a> {
    sources: &'a [Source],
    views: &'a [View],
    keys: u8,
    clock: i64,
    rows: Vec<(usize, Row)>,
}

impl Log<'_> {
    fn add(&mut self, recipe: &Recipe) {
        let index = usize::from(recipe.source) % self.sources.len();
        let source = &self.sources[index];
        self.clock += recipe.step;
        let mut columns = values(&recipe.values, usize::from(recipe.key % self.keys), self.rows.len());
        let mut partition = partition_of(source, recipe.partition);
        let mut arrival = self.clock + if source.arrival_time.is_some() { recipe.jitter } else { 0 };
        let mut aimed = None;
        let mut keeps_time = false;
        if let Id::Repeat { back, after_horizon, whole } = recipe.id
            && let Some(earlier) = self.earlier(index, back)
        {
            if !source.history {
                partition = earlier.partition;
            }
            let known = arrival_of(source, earlier);
            if let Some(distance) = after_horizon {
                arrival = known.unwrap_or(arrival) + source.dedup_horizon + distance;
                aimed = Some(arrival);
            }
            let repeated = if whole { 0..columns.len() } else { 2..7 };
            columns[repeated.clone()].clone_from_slice(&earlier.columns[repeated]);
            keeps_time = whole;
        }
        let of_the_clock = source.arrival_time.is_none();
        if of_the_clock && partition < HISTORY {
            // The server's clock only goes forward.
            arrival = arrival.max(self.clock);
            self.clock = arrival;
        } else if of_the_clock {
            arrival = self.clock;
        }
        if !keeps_time {
            columns[0] = self.event_time(recipe, index, arrival, &columns[4]);
            columns[1] = Datum::Time(arrival);
            // A row at rest arrives when its time says so.
            if let (Some(aimed), true) = (aimed, of_the_clock && partition >= HISTORY) {
                columns[0] = Datum::Time(aimed - source.assumed_delay);
            }
        }
        if matches!(recipe.time, Time::Spoiler) && !keeps_time {
            columns[1] = Datum::Time(YEAR_2099);
        }
        if matches!(recipe.id, Id::Null) {
            columns[2] = Datum::Null;
            columns[3] = Datum::Null;
        }
        let in_partition = |other: &&(usize, Row)| other.0 == index && other.1.partition == partition;
        let offset = self.rows.iter().filter(in_partition).count() as u64;
        self.rows.push((index, Row { partition, offset, arrival: self.clock, columns }));
    }

    fn event_time(&self, recipe: &Recipe, index: usize, arrival: i64, key_text: &Datum) -> Datum {
        let source = &self.sources[index];
        Datum::Time(match recipe.time {
            Time::Null => return Datum::Null,
            Time::Spoiler => YEAR_2099,
            Time::FromArrival(distance) => arrival + distance,
            Time::FromSkew(distance) => arrival + source.max_future_skew + distance,
            Time::Beside { back, distance, of_any } => {
                let of_any = self.rows.iter().rev().nth(usize::from(back)).map(|(_, row)| row).filter(|_| of_any);
                let earlier = of_any.or(self.earlier(index, back)).and_then(|row| time_of(&row.columns[0]));
                earlier.unwrap_or(arrival) + distance
            }
            Time::FromLate { view, distance } => {
                let view = &self.views[usize::from(view) % self.views.len()];
                let reach = accept::reach(view).unwrap_or(0) as i64;
                self.newest(index, key_text).unwrap_or(arrival) - reach - accept::slack(source) + distance
            }
        })
    }

    /// About what the engine will call `newest`: of this text key, among what is no dead letter.
    fn newest(&self, index: usize, key_text: &Datum) -> Option<i64> {
        let of_key = |row: &&(usize, Row)| row.0 == index && row.1.columns[4].same(key_text);
        let times = self.rows.iter().filter(of_key).filter_map(|(_, row)| accept::accept(&self.sources[index], row));
        times.map(|event| event.event_time).max()
    }

    fn earlier(&self, index: usize, back: u8) -> Option<&Row> {
        self.rows.iter().rev().filter(|row| row.0 == index).nth(usize::from(back)).map(|(_, row)| row)
    }
}

/// Two of the stream; where there is a history, two of its files too.
fn partition_of(source: &Source, drawn: u8) -> u32 {
    let files = if source.history && drawn >= 2 { HISTORY } else { 0 };
    files + u32::from(drawn % 2)
}

fn arrival_of(source: &Source, row: &Row) -> Option<i64> {
    match source.arrival_time {
        Some(_) => time_of(&row.columns[1]),
        None if row.is_at_rest() => time_of(&row.columns[0]).map(|time| time + source.assumed_delay),
        None => Some(row.arrival),
    }
}

fn time_of(value: &Datum) -> Option<i64> {
    match value {
        Datum::Time(time) => Some(*time),
        _ => None,
    }
}

/// By the order of `generate_definitions::fields`; the two times are filled in later.
pub fn values(v: &Indices, key: usize, number: usize) -> Vec<Datum> {
    let (key_text, key_int, key_more) = KEYS[key];
    // Ids that sort by neither arrival nor number, text and integer differently.
    let id = number as i64 * 7919 % 1000;
    vec![
        Datum::Null,
        Datum::Null,
        Datum::Text(format!("id{id}")),
        Datum::Int(id - 500),
        if v[0] > 250 { Datum::Null } else { Datum::Text(key_text.into()) },
        if v[1] > 250 { Datum::Null } else { Datum::Int(key_int) },
        if v[2] > 250 { Datum::Null } else { Datum::Text(key_more.into()) },
        int(v[3], false),
        int(v[4], true),
        float(v[5], false),
        float(v[6], true),
        text(v[7]),
        text(v[8]),
        [Datum::Bool(true), Datum::Bool(false), Datum::Null][usize::from(v[9] % 3)].clone(),
        pick(v[10], &[b"".as_slice(), &[0], &[255], &[0, 255], b"ab"])
            .map_or(Datum::Null, |b| Datum::Bytes(b.to_vec())),
        pick(v[11], &[0, -1, 1, 1_700_000_000 * SECOND, -62_000_000 * SECOND]).map_or(Datum::Null, Datum::Time),
        pick(v[12], &[0, 1, -1, 1999, 999_999_999_999]).map_or(Datum::Null, |d| Datum::Decimal(d, 2)),
        pick(v[13], &[0, 1, -1, 10_i128.pow(38) - 1, 5]).map_or(Datum::Null, |d| Datum::Decimal(d, 0)),
        pick(v[14], &["red", "green", "blue", "Grün", ""]).map_or(Datum::Null, |c| Datum::Text(c.into())),
        if v[15] > 250 { broken_vector(v[15]) } else { vector(v[15]) },
    ]
}

/// Of three elements, as `generate_sql::VECTOR_COLUMN` says.
pub fn vector(index: u8) -> Datum {
    let calm = [0.0, 0.1, 1.0, -0.0, -2.5, 1e-45, 16_777_216.0];
    let wild = [f32::MAX, 0.1, f32::MIN, 1.0, f32::INFINITY, 1e38, f32::NEG_INFINITY];
    let values = if index > 240 { wild } else { calm };
    // Three numbers without a common divisor, so that the elements differ.
    Datum::Vector([1, 3, 5].map(|factor| values[usize::from(index) * factor % values.len()]).to_vec())
}

fn broken_vector(index: u8) -> Datum {
    match index % 4 {
        0 => Datum::Null,
        1 => Datum::Vector(vec![1.0, 2.0]),
        2 => Datum::Vector(Vec::new()),
        _ => Datum::Vector(vec![1.0, f32::NAN, 2.0]),
    }
}

fn int(index: u8, extreme: bool) -> Datum {
    if extreme && index > 200 {
        return pick(index, &[i64::MAX, i64::MIN, i64::MAX - 1, (1 << 53) + 1, 1 << 62])
            .map_or(Datum::Null, Datum::Int);
    }
    pick(index, &[0, 1, 2, 3, -1, -7, 100, 1_000_000_007]).map_or(Datum::Null, Datum::Int)
}

fn float(index: u8, extreme: bool) -> Datum {
    let calm = [0.0, 0.1, 1.0, -0.0, 2.5, -2.5, 1e9, 1e9 + 0.1, 5e-324, -2.3e-308, f64::NAN, 1e-17];
    if extreme && index > 190 {
        let wild = [1e308, -1e308, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, 1e16];
        return pick(index, &wild).map_or(Datum::Null, Datum::Float);
    }
    pick(index, &calm).map_or(Datum::Null, Datum::Float)
}

fn text(index: u8) -> Datum {
    let long = "long ".repeat(200);
    let texts = ["", "a", "Z", "12", "-7", "abc", "é", "Äß", "😀b", "a\0b", " pad ", "it's", "{\"}\\", "true", &long];
    pick(index, &texts).map_or(Datum::Null, |text| Datum::Text(text.to_string()))
}

/// One of the values, or `None` about as often as each of them.
fn pick<T: Copy>(index: u8, values: &[T]) -> Option<T> {
    values.get(usize::from(index) % (values.len() + 1)).copied()
}
