//! trend: the slope of the least-squares line through values over event time, per second.

use num_bigint::{BigInt, BigUint};
use num_traits::Signed;

use super::cell::{Finished, NoValue};
use super::exact::{Exact, number_parts, round_ratio};
use crate::codec::{Cursor, Damaged, put_varint};
use crate::value::Value;

const MICROS: i64 = 1_000_000;

/// Exact sums of t, t^2, x and t x.
#[derive(Clone, Debug, Default)]
pub struct Trend {
    terms: u64,
    times: Exact,
    time_squares: Exact,
    values: Exact,
    products: Exact,
    infinities: u64,
}

impl Trend {
    pub(super) fn update(&mut self, time: i64, value: &Value<'_>) {
        self.terms += 1;
        let Some((mantissa, exponent)) = number_parts(value) else {
            self.infinities += 1;
            return;
        };
        self.times.add(i128::from(time), 0);
        self.time_squares.add_power(time, 0, 2);
        self.values.add(i128::from(mantissa), exponent);
        self.products.add_product(time, mantissa, exponent);
    }

    pub(super) fn merge(&mut self, other: &Trend) {
        self.terms += other.terms;
        self.times.merge(&other.times);
        self.time_squares.merge(&other.time_squares);
        self.values.merge(&other.values);
        self.products.merge(&other.products);
        self.infinities += other.infinities;
    }

    /// (n sum tx - sum t sum x) / (n sum t^2 - (sum t)^2); null below two different times.
    pub(super) fn finish(&self) -> Finished {
        if self.infinities > 0 {
            return Err(NoValue::Undefined);
        }
        let n = BigInt::from(self.terms);
        let whole = |exact: &Exact| {
            let (mantissa, exponent) = exact.parts();
            // Sums of integers have no bits behind the point.
            mantissa << exponent.max(0) as usize
        };
        let (times, time_squares) = (whole(&self.times), whole(&self.time_squares));
        let divisor = &n * time_squares - &times * &times;
        if !divisor.is_positive() {
            return Ok(Value::Null);
        }
        let (values, values_exponent) = self.values.parts();
        let (products, products_exponent) = self.products.parts();
        let low = values_exponent.min(products_exponent);
        let numerator = &n * (products << (products_exponent - low) as usize)
            - times * (values << (values_exponent - low) as usize);
        let divisor: &BigUint = divisor.magnitude();
        round_ratio(&(numerator * MICROS), divisor, low).map(Value::Float64).ok_or(NoValue::Overflow)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.terms);
        for sum in [&self.times, &self.time_squares, &self.values, &self.products] {
            sum.encode(out);
        }
        put_varint(out, self.infinities);
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<Trend, Damaged> {
        Ok(Trend {
            terms: cursor.count()?,
            times: Exact::decode(cursor)?,
            time_squares: Exact::decode(cursor)?,
            values: Exact::decode(cursor)?,
            products: Exact::decode(cursor)?,
            infinities: cursor.count()?,
        })
    }
}
