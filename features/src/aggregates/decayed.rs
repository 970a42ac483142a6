//! decayed_sum and decayed_count: each term weighs half as much for every half-life between its event and T.
//!
//! With t = q h + r, a term x * 2^(t / h) is x * 2^(r / h), a float, times 2^q. Terms are added exactly within groups of 64
//! half-lives, so the state does not depend on T nor on the order of events, and one rounding is left for the end. Groups more
//! than `REACH` half-lives below the newest are dropped: whatever they hold is smaller than the last bit of any newer term,
//! and a group that one set of events drops is dropped by every larger set too.

use std::collections::BTreeMap;

use num_bigint::{BigInt, BigUint};

use super::cell::{Finished, NoValue};
use super::exact::{Exact, float_parts, round_ratio};
use crate::codec::{Cursor, Damaged, put_signed, put_varint};
use crate::value::{DataType, Value, power_of_ten};

/// Half-lives of one group.
const GROUP: i64 = 64;
/// Floats reach from 2^-1074 to 2^1024; the rest keeps what is dropped below the last bit of what stays.
const REACH: i64 = 2_304;

/// Exact sums by group of half-lives. Infinities are counted apart.
#[derive(Clone, Debug, Default)]
pub struct Decayed {
    groups: BTreeMap<i64, Exact>,
    infinities: [u64; 2],
}

impl Decayed {
    pub(super) fn update(&mut self, time: i64, half_life: i64, value: &Value<'_>) {
        let (mantissa, exponent) = match value {
            Value::Int64(v) => (i128::from(*v), 0),
            Value::Decimal(v) => (*v, 0),
            Value::Float64(v) if v.is_finite() => {
                let (mantissa, exponent) = float_parts(*v);
                (i128::from(mantissa), exponent)
            }
            Value::Float64(v) => {
                self.infinities[usize::from(*v < 0.0)] += 1;
                return;
            }
            _ => (1, 0),
        };
        let (whole, rest) = (time.div_euclid(half_life), time.rem_euclid(half_life));
        let (weight, weight_exponent) = float_parts(libm::exp2(rest as f64 / half_life as f64));
        let group = whole.div_euclid(GROUP);
        let shift = exponent + weight_exponent + whole.rem_euclid(GROUP) as i32;
        if mantissa == 0 || self.is_negligible(group) {
            return;
        }
        let own = self.groups.entry(group).or_default();
        match mantissa.checked_mul(i128::from(weight)) {
            Some(product) => own.add(product, shift),
            None => own.add_big(BigInt::from(mantissa) * weight, shift),
        }
        self.drop_negligible();
    }

    fn is_negligible(&self, group: i64) -> bool {
        self.groups.last_key_value().is_some_and(|(newest, _)| group < newest - REACH / GROUP)
    }

    fn drop_negligible(&mut self) {
        while let Some(oldest) = self.groups.first_key_value().map(|(group, _)| *group)
            && self.is_negligible(oldest)
        {
            self.groups.pop_first();
        }
    }

    pub(super) fn merge(&mut self, other: &Decayed) {
        for (group, sum) in &other.groups {
            if !self.is_negligible(*group) {
                self.groups.entry(*group).or_default().merge(sum);
            }
        }
        self.drop_negligible();
        self.infinities[0] += other.infinities[0];
        self.infinities[1] += other.infinities[1];
    }

    /// The sum as it weighs at `time`.
    pub(super) fn finish(&self, time: i64, half_life: i64, input: &DataType) -> Finished {
        match self.infinities {
            [0, 0] => {}
            [_, 0] => return Ok(Value::Float64(f64::INFINITY)),
            [0, _] => return Ok(Value::Float64(f64::NEG_INFINITY)),
            _ => return Err(NoValue::Undefined),
        }
        let (whole, rest) = (time.div_euclid(half_life), time.rem_euclid(half_life));
        let unit = if let DataType::Decimal { scale, .. } = input { power_of_ten(*scale) } else { 1 };
        let mut total = Exact::default();
        for (group, sum) in &self.groups {
            let (mantissa, exponent) = sum.parts();
            // What lies thousands of half-lives back is zero in any float; nothing lies ahead of T.
            let below = whole.saturating_sub(group.saturating_mul(GROUP));
            if !(-GROUP..2 * REACH).contains(&below) {
                continue;
            }
            total.add_big(mantissa, exponent - below as i32);
        }
        let (weight, weight_exponent) = float_parts(libm::exp2(-(rest as f64) / half_life as f64));
        let (mantissa, exponent) = total.parts();
        let (top, bottom) = (mantissa * weight, BigUint::from(unit.unsigned_abs()));
        if let Some(rounded) = round_ratio(&top, &bottom, exponent + weight_exponent) {
            return Ok(Value::Float64(rounded));
        }
        // The two weights of a term are rounded: one as great as the greatest float may come out a hair beyond it.
        let half = round_ratio(&top, &bottom, exponent + weight_exponent - 1).ok_or(NoValue::Overflow)?;
        let is_greatest = half.abs() <= f64::MAX / 2.0 * (1.0 + 1e-12);
        if is_greatest { Ok(Value::Float64(f64::MAX.copysign(half))) } else { Err(NoValue::Overflow) }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.groups.len() as u64);
        for (group, sum) in &self.groups {
            put_signed(out, *group);
            sum.encode(out);
        }
        self.infinities.iter().for_each(|n| put_varint(out, *n));
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<Decayed, Damaged> {
        let count = cursor.length()?;
        let mut groups = BTreeMap::new();
        for _ in 0..count {
            let group = cursor.signed()?;
            if group.checked_mul(GROUP).is_none() {
                return Err(Damaged);
            }
            groups.insert(group, Exact::decode(cursor)?);
        }
        Ok(Decayed { groups, infinities: [cursor.count()?, cursor.count()?] })
    }
}
