//! rate(n, d, a, b): (sum n + a) / (sum d + b), a ratio of sums that a prior keeps calm where there are few events.

use num_traits::{Signed, Zero};

use super::cell::{Finished, NoValue};
use super::exact::{Exact, float_parts, round_ratio};
use super::kind::Real;
use super::sum::Sum;
use crate::codec::{Cursor, Damaged};
use crate::value::{DataType, Value, power_of_ten};

/// Both sums.
#[derive(Clone, Debug, Default)]
pub struct Rate {
    numerator: Sum,
    divisor: Sum,
}

impl Rate {
    pub(super) fn update(&mut self, numerator: &Value<'_>, divisor: &Value<'_>) {
        self.numerator.update(numerator);
        self.divisor.update(divisor);
    }

    pub(super) fn merge(&mut self, other: &Rate) {
        self.numerator.merge(&other.numerator);
        self.divisor.merge(&other.divisor);
    }

    /// One division of exact numbers, rounded once; null where the divisor is 0.
    pub(super) fn finish(&self, inputs: (&DataType, &DataType), prior: (Real, Real)) -> Finished {
        let infinite = (self.numerator.infinite()?, self.divisor.infinite()?);
        let with_prior = |sum: &Sum, input: &DataType, prior: Real| {
            // A decimal's sum counts in units of its last digit; the prior is brought to them.
            let unit = if let DataType::Decimal { scale, .. } = input { power_of_ten(*scale) } else { 1 };
            let mut total = sum.exact().clone();
            let (mantissa, exponent) = float_parts(prior.get());
            total.merge(&product(mantissa, unit, exponent));
            (total, unit)
        };
        let (numerator, numerator_unit) = with_prior(&self.numerator, inputs.0, prior.0);
        let (divisor, divisor_unit) = with_prior(&self.divisor, inputs.1, prior.1);
        let (numerator, numerator_exponent) = numerator.parts();
        let (divisor, divisor_exponent) = divisor.parts();
        match infinite {
            (Some(_), Some(_)) => return Err(NoValue::Undefined),
            (None, Some(_)) => return Ok(Value::Float64(0.0)),
            (Some(_), None) if divisor.is_zero() => return Ok(Value::Null),
            (Some(infinity), None) if divisor.is_negative() => return Ok(Value::Float64(-infinity)),
            (Some(infinity), None) => return Ok(Value::Float64(infinity)),
            (None, None) if divisor.is_zero() => return Ok(Value::Null),
            (None, None) => {}
        }
        let signed = if divisor.is_negative() { -numerator } else { numerator };
        let top = signed * divisor_unit;
        let bottom = divisor.magnitude() * numerator_unit.unsigned_abs();
        let rounded = round_ratio(&top, &bottom, numerator_exponent - divisor_exponent);
        rounded.map(Value::Float64).ok_or(NoValue::Overflow)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.numerator.encode(out);
        self.divisor.encode(out);
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<Rate, Damaged> {
        Ok(Rate { numerator: Sum::decode(cursor)?, divisor: Sum::decode(cursor)? })
    }
}

fn product(mantissa: i64, unit: i128, exponent: i32) -> Exact {
    let mut product = Exact::default();
    product.add_big(num_bigint::BigInt::from(mantissa) * unit, exponent);
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decimals count in units of their last digit, on either side, and the prior with them.
    #[test]
    fn rates_of_decimals() {
        let decimal = |scale| DataType::Decimal { precision: 18, scale };
        let cases = [
            ((decimal(2), DataType::Int64), (250, 4), (0.0, 0.0), 0.625),
            ((DataType::Int64, decimal(3)), (3, 1500), (0.0, 0.0), 2.0),
            ((decimal(1), decimal(3)), (25, 500), (0.0, 0.0), 5.0),
            ((decimal(1), decimal(3)), (25, 500), (0.5, 1.5), 1.5),
            ((DataType::Int64, DataType::Int64), (-1, -4), (0.0, 1.0), 1.0 / 3.0),
        ];
        for ((top, bottom), (n, d), (a, b), expected) in cases {
            let value = |of: &DataType, v: i64| match of {
                DataType::Decimal { .. } => Value::Decimal(i128::from(v)),
                _ => Value::Int64(v),
            };
            let mut rate = Rate { numerator: Sum::default(), divisor: Sum::default() };
            rate.numerator.update(&value(&top, n));
            rate.divisor.update(&value(&bottom, d));
            let found = rate.finish((&top, &bottom), (Real::new(a), Real::new(b)));
            assert!(found.as_ref().is_ok_and(|v| v.same(&Value::Float64(expected))), "{n}/{d}, {a}/{b}: {found:?}");
        }
    }
}
