//! The naive twin: every pushed row is kept, and a search compares them all.

use std::collections::BTreeMap;

use tidemill_client::v1;

use super::world::item_keys;

/// Numbers of a vector.
pub const DIMS: usize = 4;
pub const COLORS: [&str; 3] = ["red", "blue", "green"];
pub const HOUR: i64 = 3_600_000_000;

/// Small random numbers from a printed seed (SplitMix64).
pub struct Random(u64);

impl Random {
    pub fn seeded() -> Self {
        let seed = std::env::var("TIDEMILL_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random::<u64>);
        println!("TIDEMILL_SEED={seed}");
        Random(seed)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    /// Few different numbers, so that scores tie.
    pub fn vector(&mut self) -> [f32; DIMS] {
        std::array::from_fn(|_| self.below(5) as f32 - 1.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    L2,
    Dot,
    Cosine,
}

impl Metric {
    pub fn name(self) -> &'static str {
        match self {
            Metric::L2 => "l2",
            Metric::Dot => "dot",
            Metric::Cosine => "cosine",
        }
    }

    /// Exact for the vectors of this test but for the angle, whose last digits depend on the order of sums.
    pub fn score(self, a: [f32; DIMS], b: [f32; DIMS]) -> f32 {
        let dot = |a: [f32; DIMS], b: [f32; DIMS]| -> f64 {
            a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(y)).sum()
        };
        match self {
            Metric::L2 => {
                let differences = a.iter().zip(b).map(|(x, y)| f64::from(*x) - f64::from(y));
                let squares: f64 = differences.map(|difference| difference * difference).sum();
                0.0 - squares.sqrt() as f32
            }
            Metric::Dot => dot(a, b) as f32 + 0.0,
            Metric::Cosine => (dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt())) as f32,
        }
    }
}

/// A pushed row.
#[derive(Clone, Debug)]
pub struct Row {
    pub time: i64,
    pub offset: u64,
    pub vector: Option<[f32; DIMS]>,
    pub color: &'static str,
    pub price: f64,
}

/// All that was pushed.
#[derive(Default)]
pub struct Model {
    pub rows: BTreeMap<String, Vec<Row>>,
    pub clicks: BTreeMap<String, Vec<i64>>,
}

impl Model {
    /// What stands at T: the newest row before it, if it has a vector.
    pub fn standing(&self, item: &str, time: i64) -> Option<&Row> {
        let before = self.rows.get(item)?.iter().filter(|row| row.time < time);
        before.max_by_key(|row| (row.time, row.offset)).filter(|row| row.vector.is_some())
    }

    pub fn clicks(&self, item: &str, time: i64) -> usize {
        let clicks = self.clicks.get(item).map_or(&[][..], Vec::as_slice);
        clicks.iter().filter(|at| (time - HOUR..time).contains(*at)).count()
    }

    /// Whether an item may be found.
    pub fn passes(&self, asked: &Asked, item: &str, row: &Row, time: i64) -> bool {
        asked.filter.passes(row, self.clicks(item, time)) && !asked.exclude.iter().any(|excluded| excluded == item)
    }

    /// Neighbours by brute force.
    pub fn neighbours(&self, metric: Metric, asked: &Asked, time: i64) -> Vec<(String, f32)> {
        let mut found: Vec<(String, f32)> = Vec::new();
        for item in self.rows.keys() {
            let Some(row) = self.standing(item, time) else { continue };
            let score = metric.score(asked.vector, row.vector.unwrap());
            if self.passes(asked, item, row, time) && asked.min_score.is_none_or(|least| score >= least) {
                found.push((item.clone(), score));
            }
        }
        found.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        found.truncate(asked.k);
        found
    }
}

/// A condition, as SQL and as Rust.
#[derive(Clone, Copy, Debug)]
pub enum Filter {
    None,
    Color(&'static str),
    Price(i64),
    Clicks(usize),
    All(&'static str, i64, usize),
}

impl Filter {
    pub fn sql(self) -> String {
        match self {
            Filter::None => String::new(),
            Filter::Color(color) => format!("color = '{color}'"),
            Filter::Price(price) => format!("price >= {price}"),
            Filter::Clicks(clicks) => format!("clicks_1h > {clicks}"),
            Filter::All(color, price, clicks) => {
                format!("color = '{color}' AND (price >= {price} OR pop.clicks_1h > {clicks})")
            }
        }
    }

    fn passes(self, row: &Row, found: usize) -> bool {
        match self {
            Filter::None => true,
            Filter::Color(color) => row.color == color,
            Filter::Price(price) => row.price >= price as f64,
            Filter::Clicks(clicks) => found > clicks,
            Filter::All(color, price, clicks) => row.color == color && (row.price >= price as f64 || found > clicks),
        }
    }
}

/// A search.
#[derive(Clone, Debug)]
pub struct Asked {
    pub vector: [f32; DIMS],
    pub k: usize,
    pub filter: Filter,
    pub exclude: Vec<String>,
    pub min_score: Option<f32>,
    pub exact: bool,
}

impl Default for Asked {
    fn default() -> Self {
        Asked { vector: [1.0; DIMS], k: 10, filter: Filter::None, exclude: Vec::new(), min_score: None, exact: false }
    }
}

impl Asked {
    pub fn random(random: &mut Random) -> Self {
        let color = COLORS[random.below(3) as usize];
        let (price, clicks) = (random.below(10) as i64, random.below(3) as usize);
        let filter = match random.below(6) {
            0 => Filter::Color(color),
            1 => Filter::Price(price),
            2 => Filter::Clicks(clicks),
            3 => Filter::All(color, price, clicks),
            _ => Filter::None,
        };
        let mut vector = random.vector();
        vector[0] += 1.5;
        Asked {
            vector,
            k: 1 + random.below(15) as usize,
            filter,
            exclude: (0..random.below(3)).map(|_| format!("i{}", random.below(60))).collect(),
            min_score: (random.below(4) == 0).then_some(0.5),
            exact: random.below(2) == 0,
        }
    }

    pub fn request(&self) -> v1::SearchRequest {
        v1::SearchRequest {
            embedding: "items".into(),
            vectors: vec![v1::Vector { values: self.vector.to_vec() }],
            k: self.k as u64,
            r#where: self.filter.sql(),
            exact: self.exact,
            min_score: self.min_score.map(f64::from),
            exclude: match self.exclude.is_empty() {
                true => Default::default(),
                false => item_keys(&self.exclude.iter().map(String::as_str).collect::<Vec<_>>()),
            },
            ..v1::SearchRequest::default()
        }
    }
}
