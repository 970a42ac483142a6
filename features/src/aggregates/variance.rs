//! variance and stddev of a sample: exact sums of terms and of their squares, one division, one rounding.

use num_bigint::{BigInt, BigUint};
use num_traits::Signed;

use super::cell::{Finished, NoValue};
use super::exact::{Exact, round_ratio};
use crate::codec::{Cursor, Damaged, put_varint};
use crate::value::Value;

/// Number of terms, their sum, the sum of their squares.
#[derive(Clone, Debug, Default)]
pub struct Variance {
    terms: u64,
    sum: Exact,
    squares: Exact,
    infinities: u64,
}

impl Variance {
    pub(super) fn update(&mut self, value: &Value<'_>) {
        self.terms += 1;
        match value {
            Value::Int64(v) => {
                let v = i128::from(*v);
                self.sum.add(v, 0);
                self.squares.add(v * v, 0);
            }
            Value::Float64(v) if v.is_finite() => {
                self.sum.add_float(*v);
                self.squares.add_square(*v);
            }
            Value::Float64(_) => self.infinities += 1,
            other => debug_assert!(false, "variance of {other:?} passed the check"),
        }
    }

    pub(super) fn merge(&mut self, other: &Variance) {
        self.terms += other.terms;
        self.sum.merge(&other.sum);
        self.squares.merge(&other.squares);
        self.infinities += other.infinities;
    }

    /// (n * sum of squares - square of sum) / (n * (n - 1)), null below two terms.
    pub(super) fn finish(&self) -> Finished {
        if self.infinities > 0 {
            return Err(NoValue::Undefined);
        }
        if self.terms < 2 {
            return Ok(Value::Null);
        }
        let (sum, sum_exponent) = self.sum.parts();
        let (squares, squares_exponent) = self.squares.parts();
        let low = squares_exponent.min(2 * sum_exponent);
        let numerator = ((squares * BigInt::from(self.terms)) << (squares_exponent - low) as usize)
            - ((&sum * &sum) << (2 * sum_exponent - low) as usize);
        // No numbers have such sums: they come out of damaged bytes.
        if numerator.is_negative() {
            return Err(NoValue::Undefined);
        }
        let denominator = BigUint::from(self.terms) * BigUint::from(self.terms - 1);
        round_ratio(&numerator, &denominator, low).map(Value::Float64).ok_or(NoValue::Overflow)
    }

    pub(super) fn deviation(&self) -> Finished {
        match self.finish()? {
            Value::Float64(variance) => Ok(Value::Float64(libm::sqrt(variance))),
            other => Ok(other),
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.terms);
        self.sum.encode(out);
        self.squares.encode(out);
        put_varint(out, self.infinities);
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<Variance, Damaged> {
        Ok(Variance {
            terms: cursor.count()?,
            sum: Exact::decode(cursor)?,
            squares: Exact::decode(cursor)?,
            infinities: cursor.count()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_that_no_numbers_have_are_no_variance() {
        let mut sum = Exact::default();
        sum.add(10, 0);
        let variance = Variance { terms: 2, sum, ..Variance::default() };
        assert_eq!(variance.finish().map(|_| ()), Err(NoValue::Undefined));
    }
}
