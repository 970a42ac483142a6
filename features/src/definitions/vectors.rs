//! Embeddings: collections of vectors, whose neighbours can be searched, and what a vector of one is.

use crate::value::{DataType, Value};

/// Size of a component: squares of it, summed over all components, stay within 32-bit floats.
const COMPONENT_MAX: f64 = 1e15;

/// A collection of vectors, one of each entity.
#[derive(Debug)]
pub struct Embedding {
    /// as declared
    pub name: String,
    /// index of its entity
    pub entity: usize,
    /// index of the view whose records its vectors are read from
    pub view: usize,
    /// what of these records they are
    pub from: VectorsFrom,
    /// the vectors
    pub vector: VectorRule,
    /// what may be filtered on, in file order
    pub attributes: Vec<(String, DataType)>,
    /// how its graph is built
    pub index: GraphShape,
}

/// Where the vectors of an embedding come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorsFrom {
    /// Rows of a source, the newest of each entity. The view is the embedding's own: its first feature is the vector, the next
    /// ones are the attributes
    Rows {
        /// index of the source
        source: usize,
    },
    /// A feature of a declared view, as it is at T
    Feature {
        /// index among the features of the view's plan
        feature: usize,
        /// Whether an index follows it. Where rows of joined tables go into it, its records do not tell when it changes, and a session
        /// is folded as a whole for each of its events: then each search reads all records
        is_indexed: bool,
    },
}

/// A column of a source that has the vectors of an embedding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VectorColumn {
    /// index among the source's columns
    pub column: usize,
    /// what it may hold
    pub rule: VectorRule,
}

/// What is a vector of an embedding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VectorRule {
    /// name of the embedding
    pub of: String,
    /// length of a vector
    pub dims: usize,
    /// how near is measured
    pub metric: Metric,
}

/// How near is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// the cosine of the angle
    Cosine,
    /// the dot product
    Dot,
    /// the Euclidean distance
    L2,
}

impl Metric {
    /// As in definitions.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Cosine => "cosine",
            Metric::Dot => "dot",
            Metric::L2 => "l2",
        }
    }
}

/// What a definition says of a graph; None: what is usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GraphShape {
    /// neighbours of a node
    pub m: Option<usize>,
    /// candidates while building
    pub ef_construction: Option<usize>,
    /// candidates while searching
    pub ef_search: Option<usize>,
    /// smaller collections are scanned
    pub exact_below: Option<usize>,
    /// where the vectors of a graph lie
    pub rows: Option<RowsIn>,
}

/// Where the vectors lie whose codes a graph is walked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowsIn {
    /// beside the graph
    Memory,
    /// in a file of the data directory
    Disk,
}

impl Embedding {
    /// The name of the feature that is the vector.
    pub const VECTOR: &'static str = "vector";

    /// The name of the view that keeps the vectors of an embedding. No user's view has an `@`, and no table has an empty name.
    pub(super) fn view_name(name: &str) -> String {
        format!("@{name}")
    }

    /// The source that its vectors are rows of; None: they are a feature.
    pub fn source(&self) -> Option<usize> {
        match self.from {
            VectorsFrom::Rows { source } => Some(source),
            VectorsFrom::Feature { .. } => None,
        }
    }

    /// Whether an index can follow its vectors. Otherwise searches read the records.
    pub fn is_indexed(&self) -> bool {
        !matches!(self.from, VectorsFrom::Feature { is_indexed: false, .. })
    }

    /// The features of its view that a search reads: the vector first, then the attributes.
    pub fn features(&self) -> Vec<usize> {
        match self.from {
            VectorsFrom::Rows { .. } => (0..=self.attributes.len()).collect(),
            VectorsFrom::Feature { feature, .. } => vec![feature],
        }
    }
}

impl VectorRule {
    /// Whether values of a type can be vectors of it. The error says what is expected.
    pub(super) fn check_type(&self, data_type: &DataType) -> Result<(), String> {
        let dims = self.dims;
        match data_type {
            DataType::Vector(declared) if *declared as usize == dims => Ok(()),
            DataType::List(items) if matches!(**items, DataType::Float32 | DataType::Float64) => Ok(()),
            DataType::Text | DataType::Bytes => Ok(()),
            _ => Err(format!(
                "the vector is of type vector<{dims}> or list<float32>, a string (a JSON array) or bytes (32-bit floats, little-endian)"
            )),
        }
    }

    /// Whether a value is a vector of the collection; None: there is none. The error says what is wrong.
    ///
    /// A list is as it is; text is a JSON array of numbers; bytes are 32-bit floats, little-endian (in JSON they stand as base64).
    pub fn read(&self, value: &Value<'_>) -> Result<Option<Vec<f32>>, String> {
        match value {
            Value::Null => Ok(None),
            Value::List(items) => {
                let number = |item: &Value<'_>| if let Value::Float64(x) = item { Some(*x) } else { None };
                self.checked(items.len(), items.iter().map(number)).map(Some)
            }
            Value::Text(text) => {
                let numbers: Vec<Option<f64>> =
                    serde_json::from_str(text).map_err(|_| "text that is no JSON array of numbers".to_string())?;
                self.checked(numbers.len(), numbers.into_iter()).map(Some)
            }
            Value::Bytes(bytes) => match bytes.as_chunks::<4>() {
                (numbers, []) => {
                    let number = |bytes: &[u8; 4]| Some(f64::from(f32::from_le_bytes(*bytes)));
                    self.checked(numbers.len(), numbers.iter().map(number)).map(Some)
                }
                _ => Err(format!("{} bytes, which are no 32-bit floats", bytes.len())),
            },
            _ => Err("not a vector".to_string()),
        }
    }

    fn checked(&self, length: usize, numbers: impl Iterator<Item = Option<f64>>) -> Result<Vec<f32>, String> {
        if length != self.dims {
            return Err(format!("a vector of {length} numbers, and embedding `{}` takes {}", self.of, self.dims));
        }
        let mut vector = Vec::with_capacity(length);
        for (at, number) in numbers.enumerate() {
            match number {
                Some(x) if x.abs() <= COMPONENT_MAX => vector.push(x as f32),
                Some(x) if x.is_finite() => {
                    return Err(format!("component {at} of the vector is {x}; at most {COMPONENT_MAX:e}"));
                }
                Some(x) => return Err(format!("component {at} of the vector is {x}, not a finite number")),
                None => return Err(format!("component {at} of the vector is null")),
            }
        }
        if self.metric == Metric::Cosine && vector.iter().all(|x| *x == 0.0) {
            return Err(format!("the vector has length zero, and embedding `{}` compares by cosine", self.of));
        }
        Ok(vector)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_text_and_bytes_are_the_same_vectors() {
        let rule = VectorRule { of: "m".to_string(), dims: 3, metric: Metric::Cosine };
        let bytes =
            |numbers: &[f32]| Value::Bytes(numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>().into());
        let list = |numbers: &[f64]| Value::List(numbers.iter().copied().map(Value::Float64).collect());
        let same = [list(&[1.5, -2.0, 1e-3]), Value::text(" [1.5, -2, 0.001]\n"), bytes(&[1.5, -2.0, 1e-3])];
        for value in same {
            assert_eq!(rule.read(&value), Ok(Some(vec![1.5, -2.0, 1e-3])));
        }
        assert_eq!(rule.read(&Value::Null), Ok(None));
        for (value, reason) in [
            (Value::text("[1, 2]"), "a vector of 2 numbers, and embedding `m` takes 3"),
            (Value::text("[1, null, 3]"), "component 1 of the vector is null"),
            (Value::text("[1, 1e16, 3]"), "component 1 of the vector is 10000000000000000; at most 1e15"),
            (Value::text("[0, 0, 0]"), "length zero"),
            (Value::text("[1, 1e400, 3]"), "no JSON array of numbers"),
            (Value::text("[1, NaN, 3]"), "no JSON array of numbers"),
            (Value::text("1, 2, 3"), "no JSON array of numbers"),
            (Value::text(""), "no JSON array of numbers"),
            (bytes(&[1.0, 2.0]), "a vector of 2 numbers"),
            (bytes(&[1.0, f32::NAN, 2.0]), "component 1 of the vector is NaN, not a finite number"),
            (bytes(&[1.0, 2.0, f32::INFINITY]), "component 2 of the vector is inf"),
            (Value::Bytes(vec![0; 13].into()), "13 bytes, which are no 32-bit floats"),
            (Value::Int64(3), "not a vector"),
        ] {
            let said = rule.read(&value).unwrap_err();
            assert!(said.contains(reason), "{value:?}: {said}");
        }
    }
}
