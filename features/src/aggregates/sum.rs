//! sum and avg: an exact sum and the number of its terms.

use num_bigint::BigUint;

use super::cell::{Finished, NoValue};
use super::exact::{Exact, round_ratio, round_single};
use crate::codec::{Cursor, Damaged, put_varint};
use crate::value::{DataType, Value, power_of_ten};

/// Terms counted and added. Infinities are counted apart, so that they meet only at the end.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    terms: u64,
    exact: Exact,
    infinities: [u64; 2],
}

impl Sum {
    #[inline]
    pub(super) fn update(&mut self, value: &Value<'_>) {
        self.terms += 1;
        match value {
            Value::Int64(v) => self.exact.add(i128::from(*v), 0),
            Value::Decimal(v) => self.exact.add(*v, 0),
            Value::Float64(v) if v.is_finite() => self.exact.add_float(*v),
            Value::Float64(v) => self.infinities[usize::from(*v < 0.0)] += 1,
            other => debug_assert!(false, "sum of {other:?} passed the check"),
        }
    }

    pub(super) fn merge(&mut self, other: &Sum) {
        self.terms += other.terms;
        self.exact.merge(&other.exact);
        self.infinities[0] += other.infinities[0];
        self.infinities[1] += other.infinities[1];
    }

    /// The infinity that the sum is, if it is one; infinity minus infinity is none.
    pub(super) fn infinite(&self) -> Result<Option<f64>, NoValue> {
        match self.infinities {
            [0, 0] => Ok(None),
            [_, 0] => Ok(Some(f64::INFINITY)),
            [0, _] => Ok(Some(f64::NEG_INFINITY)),
            _ => Err(NoValue::Undefined),
        }
    }

    /// The finite terms.
    pub(super) fn exact(&self) -> &Exact {
        &self.exact
    }

    /// The sum or the mean of finite terms, rounded once to a 32-bit float; None beyond those.
    pub(super) fn single(&self, mean: bool) -> Option<f64> {
        let (mantissa, exponent) = self.exact.parts();
        round_single(&mantissa, &BigUint::from(if mean { self.terms.max(1) } else { 1 }), exponent)
    }

    pub(super) fn total(&self, input: &DataType) -> Finished {
        if self.terms == 0 {
            return Ok(Value::Null);
        }
        if let Some(infinity) = self.infinite()? {
            return Ok(Value::Float64(infinity));
        }
        let total = match input {
            DataType::Int64 => self.exact.integer().and_then(|v| i64::try_from(v).ok()).map(Value::Int64),
            DataType::Decimal { .. } => self.exact.integer().filter(|v| v.abs() < power_of_ten(38)).map(Value::Decimal),
            _ => self.exact.divided(1).map(Value::Float64),
        };
        total.ok_or(NoValue::Overflow)
    }

    pub(super) fn mean(&self, input: &DataType) -> Finished {
        if self.terms == 0 {
            return Ok(Value::Null);
        }
        if let Some(infinity) = self.infinite()? {
            return Ok(Value::Float64(infinity));
        }
        let mean = match input {
            DataType::Decimal { scale, .. } => {
                let (mantissa, exponent) = self.exact.parts();
                let divisor = BigUint::from(self.terms) * BigUint::from(power_of_ten(*scale).unsigned_abs());
                round_ratio(&mantissa, &divisor, exponent)
            }
            _ => self.exact.divided(self.terms),
        };
        mean.map(Value::Float64).ok_or(NoValue::Overflow)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.terms);
        self.exact.encode(out);
        self.infinities.iter().for_each(|n| put_varint(out, *n));
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<Sum, Damaged> {
        Ok(Sum {
            terms: cursor.count()?,
            exact: Exact::decode(cursor)?,
            infinities: [cursor.count()?, cursor.count()?],
        })
    }
}
