//! quantile and median: counts in buckets whose width is a 64th of their power of two.
//!
//! A DDSketch (C. Masson, J. Rim, H. Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error
//! guarantees", 2019) whose mapping takes the exponent and the six leading bits of the mantissa: no logarithm, so no platform
//! can disagree. The bucket's value is off by at most 1/129 = 0.78 % of any element in it. Buckets are never collapsed: floats
//! have 134,272 of them on either side of zero, and real columns touch some hundreds.

use std::collections::BTreeMap;

use super::exact::Exact;
use crate::codec::{Cursor, Damaged, put_signed, put_varint};
use crate::value::{DataType, Value, power_of_ten};

/// Leading bits of the mantissa in a bucket's number.
const MANTISSA_BITS: u32 = 6;
const DROPPED_BITS: u32 = 52 - MANTISSA_BITS;
/// Subnormal floats are scaled by this before they are cut into buckets, so that they lose no precision either.
const SUBNORMAL_SHIFT: i32 = 64;
/// Keeps the numbers of positive buckets above zero.
const LOWEST: i32 = SUBNORMAL_SHIFT << MANTISSA_BITS;
/// The number of infinity.
const GREATEST: i32 = (0x7ff << MANTISSA_BITS) + LOWEST;

/// How many elements each bucket holds; buckets ascend with their values.
#[derive(Clone, Debug, Default)]
pub struct Sketch {
    buckets: BTreeMap<i32, u64>,
}

impl Sketch {
    pub(super) fn update(&mut self, value: &Value<'_>, input: &DataType) {
        *self.buckets.entry(bucket(number(value, input))).or_insert(0) += 1;
    }

    pub(super) fn merge(&mut self, other: &Sketch) {
        for (bucket, count) in &other.buckets {
            *self.buckets.entry(*bucket).or_insert(0) += count;
        }
    }

    /// The element of rank floor(q (n - 1)), within the bucket's width.
    pub(super) fn finish(&self, q: f64) -> Value<'static> {
        let total: u64 = self.buckets.values().sum();
        let rank = libm::floor(q * (total.saturating_sub(1)) as f64) as u64;
        let mut below = 0;
        for (bucket, count) in &self.buckets {
            below += count;
            if below > rank {
                return Value::Float64(middle(*bucket));
            }
        }
        Value::Null
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.buckets.len() as u64);
        let mut before = 0;
        for (bucket, count) in &self.buckets {
            put_signed(out, i64::from(*bucket) - before);
            put_varint(out, *count);
            before = i64::from(*bucket);
        }
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<Sketch, Damaged> {
        let count = cursor.length()?;
        let (mut buckets, mut before) = (BTreeMap::new(), 0i64);
        for _ in 0..count {
            before = before.checked_add(cursor.signed()?).ok_or(Damaged)?;
            let bucket = i32::try_from(before).ok().filter(|bucket| (-GREATEST..=GREATEST).contains(bucket));
            buckets.insert(bucket.ok_or(Damaged)?, cursor.count()?);
        }
        Ok(Sketch { buckets })
    }
}

/// A number of any type as the nearest float.
fn number(value: &Value<'_>, input: &DataType) -> f64 {
    match (value, input) {
        (Value::Int64(v), _) => *v as f64,
        (Value::Float64(v), _) => *v,
        (Value::Decimal(v), DataType::Decimal { scale, .. }) => {
            let mut exact = Exact::default();
            exact.add(*v, 0);
            u64::try_from(power_of_ten(*scale)).ok().and_then(|unit| exact.divided(unit)).unwrap_or_else(|| {
                // More than 19 digits behind the point: two roundings are far below a bucket's width.
                *v as f64 / power_of_ten(*scale) as f64
            })
        }
        _ => 0.0,
    }
}

fn bucket(value: f64) -> i32 {
    if value == 0.0 {
        return 0;
    }
    let magnitude = value.abs();
    let number = if magnitude < f64::MIN_POSITIVE {
        let scaled = libm::ldexp(magnitude, SUBNORMAL_SHIFT);
        (scaled.to_bits() >> DROPPED_BITS) as i32
    } else {
        (magnitude.to_bits() >> DROPPED_BITS) as i32 + LOWEST
    };
    if value < 0.0 { -number } else { number }
}

/// The value whose relative distance to both ends of the bucket is the same.
fn middle(bucket: i32) -> f64 {
    if bucket == 0 {
        return 0.0;
    }
    let number = bucket.abs();
    let ends = |number: i32| {
        let bits = |number: i32| (i64::from(number) as u64) << DROPPED_BITS;
        (f64::from_bits(bits(number)), f64::from_bits(bits(number + 1)))
    };
    let (low, high, shift) = if number < LOWEST + (1 << MANTISSA_BITS) {
        let (low, high) = ends(number);
        (low, high, -SUBNORMAL_SHIFT)
    } else {
        let (low, high) = ends(number - LOWEST);
        (low, high, 0)
    };
    // The top bucket ends at infinity, or is infinity.
    let middle = if low.is_infinite() {
        low
    } else if high.is_infinite() {
        low * (1.0 + 1.0 / 129.0)
    } else {
        let width = high / low;
        libm::ldexp(low * (2.0 * width / (1.0 + width)), shift)
    };
    if bucket < 0 { -middle } else { middle }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bucket_is_near_all_its_elements(value in any::<f64>().prop_filter("a number", |v| !v.is_nan())) {
            let found = middle(bucket(value));
            let near = found == value || (found - value).abs() <= value.abs() * 0.0078;
            prop_assert!(near, "{value} became {found}");
        }

        #[test]
        fn buckets_ascend(a in any::<f64>(), b in any::<f64>()) {
            prop_assume!(a <= b);
            prop_assert!(bucket(a) <= bucket(b), "{a} {b}");
        }
    }

    /// A decimal counts as the float next to it, however many digits stand behind its point.
    #[test]
    fn decimals_become_floats() {
        let cases = [(12_345, 2, 123.45), (-7, 1, -0.7), (3, 0, 3.0), (1, 3, 0.001), (25 * 10_i128.pow(20), 20, 25.0)];
        for (digits, scale, expected) in cases {
            let found = number(&Value::Decimal(digits), &DataType::Decimal { precision: 38, scale });
            assert_eq!(found, expected, "{digits} with {scale} digits behind the point");
        }
    }

    #[test]
    fn edges_of_the_floats() {
        for value in [0.0, 5e-324, f64::MIN_POSITIVE, f64::MIN_POSITIVE * 0.999, f64::MAX, f64::INFINITY] {
            let found = middle(bucket(value));
            assert!(found == value || (found - value).abs() <= value.abs() * 0.01, "{value} became {found}");
            assert_eq!(middle(bucket(-value)), -found);
        }
    }

    /// The element of rank floor(q (n - 1)) of known ones, whole numbers far apart.
    #[test]
    fn ranks_are_floored() {
        let mut sketch = Sketch::default();
        assert!(sketch.finish(0.5).is_null());
        for value in [-1024.0, -1.0, 0.0, 1.0, 1024.0] {
            sketch.update(&Value::Float64(value), &DataType::Float64);
        }
        let at = |q| match sketch.finish(q) {
            Value::Float64(v) => libm::round(v / 300.0) as i64,
            other => panic!("{other:?}"),
        };
        assert_eq!([0.0, 0.24, 0.5, 0.99, 1.0].map(at), [-3, -3, 0, 0, 3]);
        assert_eq!(sketch.finish(0.25).order(&Value::Float64(-0.9)), std::cmp::Ordering::Less);
        assert!(sketch.finish(0.5).same(&Value::Float64(0.0)));
    }

    #[test]
    fn buckets_beyond_infinity_are_damage() {
        let decode = |buckets: &[i64]| {
            let mut out = Vec::new();
            put_varint(&mut out, buckets.len() as u64);
            for distance in buckets {
                put_signed(&mut out, *distance);
                put_varint(&mut out, 1);
            }
            Sketch::decode(&mut Cursor::new(&out)).map(|sketch| sketch.buckets.into_keys().collect::<Vec<_>>())
        };
        let greatest = i64::from(GREATEST);
        assert_eq!(bucket(f64::INFINITY), GREATEST);
        assert_eq!(decode(&[-greatest, 2 * greatest]), Ok(vec![-GREATEST, GREATEST]));
        assert!(decode(&[-greatest - 1]).is_err() && decode(&[greatest + 1]).is_err());
        assert!(decode(&[-greatest, i64::MAX]).is_err() && decode(&[i64::MIN, i64::MIN]).is_err());
    }

    #[test]
    fn merged_sketches_hold_both() {
        let of = |values: &[f64]| {
            let mut sketch = Sketch::default();
            values.iter().for_each(|v| sketch.update(&Value::Float64(*v), &DataType::Float64));
            sketch
        };
        let mut merged = of(&[1.0, 1.0, 2.0]);
        merged.merge(&of(&[2.0, 3.0]));
        assert_eq!(merged.buckets, of(&[1.0, 1.0, 2.0, 2.0, 3.0]).buckets);
    }
}
