//! histogram(x, edges): how many values lie between edges; bucket i is [edge i-1, edge i).

use std::cmp::Ordering;

use num_bigint::BigInt;

use super::exact::float_parts;
use super::kind::Real;
use crate::codec::{Cursor, Damaged, put_varint};
use crate::value::{DataType, Value, power_of_ten};

/// A count for each bucket, one more than there are edges.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
}

impl Histogram {
    pub(super) fn new(edges: &[Real]) -> Self {
        Histogram { counts: vec![0; edges.len() + 1] }
    }

    pub(super) fn update(&mut self, value: &Value<'_>, edges: &[Real], input: &DataType) {
        let bucket = edges.partition_point(|edge| compare(value, edge.get(), input).is_ge());
        self.counts[bucket] += 1;
    }

    pub(super) fn merge(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(own, other)| *own += other);
    }

    pub(super) fn finish(&self) -> Value<'static> {
        Value::List(self.counts.iter().map(|count| Value::Int64(i64::try_from(*count).unwrap_or(i64::MAX))).collect())
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.counts.iter().for_each(|count| put_varint(out, *count));
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>, edges: &[Real]) -> Result<Histogram, Damaged> {
        Ok(Histogram { counts: (0..=edges.len()).map(|_| cursor.count()).collect::<Result<_, _>>()? })
    }
}

/// A value beside an edge, by their exact numbers.
fn compare(value: &Value<'_>, edge: f64, input: &DataType) -> Ordering {
    let unscaled = match value {
        Value::Float64(v) => return v.total_cmp(&(edge + 0.0)),
        Value::Int64(v) => i128::from(*v),
        Value::Decimal(v) => *v,
        _ => return Ordering::Less,
    };
    let unit = if let DataType::Decimal { scale, .. } = input { power_of_ten(*scale) } else { 1 };
    let (mantissa, exponent) = float_parts(edge);
    let (value, edge) = (BigInt::from(unscaled), BigInt::from(mantissa) * unit);
    if exponent >= 0 { value.cmp(&(edge << exponent as usize)) } else { (value << -exponent as usize).cmp(&edge) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_compared_exactly() {
        let large = (1i64 << 53) + 1;
        assert_eq!(compare(&Value::Int64(large), 9_007_199_254_740_992.0, &DataType::Int64), Ordering::Greater);
        assert_eq!(compare(&Value::Int64(-3), -2.5, &DataType::Int64), Ordering::Less);
        let decimal = DataType::Decimal { precision: 10, scale: 1 };
        // 0.1 as a float is a little above one tenth.
        assert_eq!(compare(&Value::Decimal(1), 0.1, &decimal), Ordering::Less);
        assert_eq!(compare(&Value::Decimal(25), 2.5, &decimal), Ordering::Equal);
        assert_eq!(compare(&Value::Float64(0.0), -0.0, &DataType::Float64), Ordering::Equal);
    }
}
