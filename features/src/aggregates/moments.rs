//! skewness and kurtosis: exact sums of the first four powers; only the result is rounded, once.
//!
//! With S the sums of powers and n terms, n m2, n m3 and n m4 are integers up to a power of two, so m3 / m2^1.5 is the root of
//! an exact fraction and m4 / m2^2 - 3 is an exact fraction itself.

use num_bigint::{BigInt, BigUint};
use num_traits::{Signed, Zero};

use super::cell::{Finished, NoValue};
use super::exact::{Exact, number_parts, round_ratio, round_root};
use crate::codec::{Cursor, Damaged, put_varint};
use crate::value::Value;

/// Number of terms and the sums of their powers, as many as are needed.
#[derive(Clone, Debug)]
pub struct Moments {
    terms: u64,
    powers: Vec<Exact>,
    infinities: u64,
}

impl Moments {
    /// `highest` is 3 or 4.
    pub(super) fn new(highest: usize) -> Self {
        Moments { terms: 0, powers: vec![Exact::default(); highest], infinities: 0 }
    }

    pub(super) fn update(&mut self, value: &Value<'_>) {
        self.terms += 1;
        let Some((mantissa, exponent)) = number_parts(value) else {
            self.infinities += 1;
            return;
        };
        for (i, power) in self.powers.iter_mut().enumerate() {
            power.add_power(mantissa, exponent, i as u32 + 1);
        }
    }

    pub(super) fn merge(&mut self, other: &Moments) {
        self.terms += other.terms;
        self.powers.iter_mut().zip(&other.powers).for_each(|(own, other)| own.merge(other));
        self.infinities += other.infinities;
    }

    /// The sums as integers at one scale: sum k times `2^(-k * scale)`.
    fn integers(&self) -> (Vec<BigInt>, i32) {
        let parts: Vec<(BigInt, i32)> = self.powers.iter().map(Exact::parts).collect();
        let lowest = |(i, (_, exponent)): (usize, &(BigInt, i32))| exponent.div_euclid(i as i32 + 1);
        let scale = parts.iter().enumerate().map(lowest).min().unwrap_or(0);
        let scaled = parts.into_iter().enumerate().map(|(i, (m, e))| m << (e - (i as i32 + 1) * scale) as usize);
        (scaled.collect(), scale)
    }

    /// n^2 m2, n^3 m3 and, with four powers, n^4 m4, at a common scale that cancels.
    fn central(&self) -> (BigInt, BigInt, BigInt) {
        let (sums, _) = self.integers();
        let n = BigInt::from(self.terms);
        let (s1, s2, s3) = (&sums[0], &sums[1], &sums[2]);
        let second = &n * s2 - s1 * s1;
        let third = &n * &n * s3 - BigInt::from(3) * &n * s1 * s2 + BigInt::from(2) * s1 * s1 * s1;
        let fourth = sums.get(3).map_or_else(BigInt::zero, |s4| {
            &n * &n * &n * s4 - BigInt::from(4) * &n * &n * s1 * s3 + BigInt::from(6) * &n * s1 * s1 * s2
                - BigInt::from(3) * s1 * s1 * s1 * s1
        });
        (second, third, fourth)
    }

    /// m3 / m2^1.5; null where all terms are equal.
    pub(super) fn skewness(&self) -> Finished {
        if self.infinities > 0 {
            return Err(NoValue::Undefined);
        }
        let (second, third, _) = self.central();
        if !second.is_positive() {
            return Ok(Value::Null);
        }
        let square = third.magnitude() * third.magnitude();
        let cube = second.magnitude() * second.magnitude() * second.magnitude();
        let magnitude = round_root(&square, &cube, 0).ok_or(NoValue::Overflow)?;
        Ok(Value::Float64(if third.is_negative() { -magnitude } else { magnitude }))
    }

    /// m4 / m2^2 - 3; null where all terms are equal.
    pub(super) fn kurtosis(&self) -> Finished {
        if self.infinities > 0 {
            return Err(NoValue::Undefined);
        }
        let (second, _, fourth) = self.central();
        if !second.is_positive() {
            return Ok(Value::Null);
        }
        let square: BigUint = second.magnitude() * second.magnitude();
        let numerator = fourth - BigInt::from(square.clone()) * BigInt::from(3);
        round_ratio(&numerator, &square, 0).map(Value::Float64).ok_or(NoValue::Overflow)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.terms);
        self.powers.iter().for_each(|power| power.encode(out));
        put_varint(out, self.infinities);
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>, highest: usize) -> Result<Moments, Damaged> {
        let terms = cursor.count()?;
        let powers = (0..highest).map(|_| Exact::decode(cursor)).collect::<Result<_, _>>()?;
        Ok(Moments { terms, powers, infinities: cursor.count()? })
    }
}
