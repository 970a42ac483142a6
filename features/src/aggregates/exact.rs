//! Exact sums of numbers of any size, rounded once at the end.
//!
//! A sum is `mantissa * 2^exponent`: a 128-bit integer while that holds it (money, counts, delays: nearly always), a big
//! integer beyond. No bit is ever dropped, so a sum depends on the set of its terms and not on their order. The idea is that
//! of R. Neal, "Fast exact summation using small and large superaccumulators" (2015); the form is ours, because records
//! want sums that are short and mergeable.

use num_bigint::{BigInt, BigUint, Sign};
use num_traits::{Signed, ToPrimitive, Zero};

use crate::codec::{Cursor, Damaged, put_bytes, put_signed, put_wide};
use crate::value::Value;

/// An exact number that terms are added to.
#[derive(Clone, Debug)]
pub enum Exact {
    /// `mantissa * 2^exponent`
    Small(i128, i32),
    /// the same, when 127 bits do not hold it
    Big(BigInt, i32),
}

impl Default for Exact {
    fn default() -> Self {
        Exact::Small(0, 0)
    }
}

/// Takes a finite float apart: its value is `mantissa * 2^exponent`, the mantissa odd or zero.
pub fn float_parts(value: f64) -> (i64, i32) {
    let bits = value.to_bits();
    let biased = ((bits >> 52) & 0x7ff) as i32;
    let fraction = (bits & ((1 << 52) - 1)) as i64;
    let (mantissa, exponent) = if biased == 0 { (fraction, -1074) } else { (fraction | 1 << 52, biased - 1075) };
    if mantissa == 0 {
        return (0, 0);
    }
    let zeros = mantissa.trailing_zeros();
    let mantissa = mantissa >> zeros;
    (if value.is_sign_negative() { -mantissa } else { mantissa }, exponent + zeros as i32)
}

/// Takes an integer or a finite float apart; None for an infinity.
pub fn number_parts(value: &Value<'_>) -> Option<(i64, i32)> {
    match value {
        Value::Int64(v) => Some((*v, 0)),
        Value::Float64(v) if v.is_finite() => Some(float_parts(*v)),
        _ => None,
    }
}

impl Exact {
    /// Adds a finite float.
    #[inline]
    pub fn add_float(&mut self, value: f64) {
        let (mantissa, exponent) = float_parts(value);
        self.add(i128::from(mantissa), exponent);
    }

    /// Adds the square of a finite float.
    pub fn add_square(&mut self, value: f64) {
        let (mantissa, exponent) = float_parts(value);
        self.add(i128::from(mantissa) * i128::from(mantissa), 2 * exponent);
    }

    /// Adds the `n`-th power of `mantissa * 2^exponent`, n from 1 to 4.
    pub fn add_power(&mut self, mantissa: i64, exponent: i32, n: u32) {
        match i128::from(mantissa).checked_pow(n) {
            Some(power) => self.add(power, exponent * n as i32),
            None => self.add_big(BigInt::from(mantissa).pow(n), exponent * n as i32),
        }
    }

    /// Adds a number times `mantissa * 2^exponent`.
    pub fn add_product(&mut self, factor: i64, mantissa: i64, exponent: i32) {
        self.add(i128::from(factor) * i128::from(mantissa), exponent);
    }

    /// Adds `mantissa * 2^exponent`.
    #[inline]
    pub fn add(&mut self, mantissa: i128, exponent: i32) {
        if mantissa == 0 {
            return;
        }
        if let Exact::Small(own, own_exponent) = self {
            if *own == 0 {
                (*own, *own_exponent) = (mantissa, exponent);
                return;
            }
            let low = (*own_exponent).min(exponent);
            let sum = shifted(*own, *own_exponent - low)
                .zip(shifted(mantissa, exponent - low))
                .and_then(|(a, b)| a.checked_add(b));
            if let Some(sum) = sum {
                (*own, *own_exponent) = (sum, low);
                return;
            }
        }
        self.add_big(BigInt::from(mantissa), exponent);
    }

    pub(super) fn add_big(&mut self, mantissa: BigInt, exponent: i32) {
        let (own, own_exponent) = self.parts();
        let low = own_exponent.min(exponent);
        let sum = (own << (own_exponent - low) as usize) + (mantissa << (exponent - low) as usize);
        *self = Exact::Big(sum, low);
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Exact) {
        match other {
            Exact::Small(mantissa, exponent) => self.add(*mantissa, *exponent),
            Exact::Big(mantissa, exponent) => self.add_big(mantissa.clone(), *exponent),
        }
    }

    /// Mantissa and exponent.
    pub fn parts(&self) -> (BigInt, i32) {
        match self {
            Exact::Small(mantissa, exponent) => (BigInt::from(*mantissa), *exponent),
            Exact::Big(mantissa, exponent) => (mantissa.clone(), *exponent),
        }
    }

    /// The sum as an integer; None where it is none of 128 bits.
    pub fn integer(&self) -> Option<i128> {
        match self.canonical() {
            Exact::Small(mantissa, exponent) if exponent >= 0 => shifted(mantissa, exponent),
            _ => None,
        }
    }

    /// The sum divided by `divisor` (not zero), rounded once to the nearest float, ties to even; None beyond the floats.
    pub fn divided(&self, divisor: u64) -> Option<f64> {
        if let Exact::Small(mantissa, exponent) = self {
            if *mantissa == 0 {
                return Some(0.0);
            }
            let zeros = mantissa.unsigned_abs().leading_zeros();
            let magnitude = mantissa.unsigned_abs() << zeros;
            let (quotient, rest) = (magnitude / u128::from(divisor), magnitude % u128::from(divisor));
            if quotient >> 64 != 0 || rest == 0 {
                return round(quotient, rest != 0, exponent - zeros as i32, *mantissa < 0);
            }
        }
        let (mantissa, exponent) = self.parts();
        round_ratio(&mantissa, &BigUint::from(divisor), exponent)
    }

    /// One form for each number: an odd mantissa, small if it can be.
    fn canonical(&self) -> Exact {
        match self {
            Exact::Small(0, _) => Exact::Small(0, 0),
            Exact::Small(mantissa, exponent) => {
                let zeros = mantissa.trailing_zeros();
                Exact::Small(mantissa >> zeros, exponent + zeros as i32)
            }
            Exact::Big(mantissa, exponent) => {
                let zeros = mantissa.trailing_zeros().unwrap_or(0);
                let odd = mantissa >> zeros;
                let exponent = exponent + zeros as i32;
                match odd.to_i128() {
                    Some(0) => Exact::Small(0, 0),
                    Some(small) => Exact::Small(small, exponent),
                    None => Exact::Big(odd, exponent),
                }
            }
        }
    }

    /// Appends the canonical form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self.canonical() {
            Exact::Small(mantissa, exponent) => {
                out.push(0);
                put_signed(out, i64::from(exponent));
                put_wide(out, mantissa);
            }
            Exact::Big(mantissa, exponent) => {
                out.push(if mantissa.is_negative() { 2 } else { 1 });
                put_signed(out, i64::from(exponent));
                put_bytes(out, &mantissa.magnitude().to_bytes_le());
            }
        }
    }

    /// Reads what `encode` wrote.
    pub fn decode(cursor: &mut Cursor<'_>) -> Result<Exact, Damaged> {
        let tag = cursor.byte()?;
        let exponent = i32::try_from(cursor.signed()?).map_err(|_| Damaged)?;
        // No sum of floats or of their squares reaches further; a damaged exponent must not ask for gigabytes.
        if !(-4400..=4400).contains(&exponent) {
            return Err(Damaged);
        }
        match tag {
            0 => Ok(Exact::Small(cursor.wide()?, exponent)),
            1 => Ok(Exact::Big(BigInt::from_bytes_le(Sign::Plus, cursor.bytes()?), exponent)),
            2 => Ok(Exact::Big(BigInt::from_bytes_le(Sign::Minus, cursor.bytes()?), exponent)),
            _ => Err(Damaged),
        }
    }
}

/// `value * 2^bits`, unless it leaves 127 bits.
#[inline]
fn shifted(value: i128, bits: i32) -> Option<i128> {
    let headroom = value.unsigned_abs().leading_zeros() as i32 - 1;
    (value == 0 || bits <= headroom).then(|| if value == 0 { 0 } else { value << bits })
}

/// `numerator * 2^exponent / denominator`, rounded once; None beyond the floats.
pub fn round_ratio(numerator: &BigInt, denominator: &BigUint, exponent: i32) -> Option<f64> {
    let (mantissa, sticky, exponent) = quotient(numerator, denominator, exponent)?;
    round(mantissa, sticky, exponent, numerator.is_negative())
}

/// The magnitude of `numerator * 2^exponent / denominator` as a mantissa, whether anything is left, and an exponent.
fn quotient(numerator: &BigInt, denominator: &BigUint, exponent: i32) -> Option<(u128, bool, i32)> {
    if numerator.is_zero() {
        return Some((0, false, 0));
    }
    // 66 bits of the quotient and whether anything is left decide every rounding.
    let up = (66 + denominator.bits() as i64 - numerator.bits() as i64).max(0);
    let scaled = numerator.magnitude() << up as u64;
    let quotient = &scaled / denominator;
    let mut sticky = !(&scaled - &quotient * denominator).is_zero();
    let down = (quotient.bits() as i64 - 127).max(0);
    let kept = &quotient >> down as u64;
    sticky |= (&kept << down as u64) != quotient;
    Some((kept.to_u128()?, sticky, exponent - up as i32 + down as i32))
}

/// The root of `square * 2^exponent / denominator`, rounded once; None beyond the floats.
pub fn round_root(square: &BigUint, denominator: &BigUint, exponent: i32) -> Option<f64> {
    if square.is_zero() {
        return Some(0.0);
    }
    // 140 bits of the quotient are 70 of its root; what is left over only decides a tie. The exponent becomes even.
    let up = (140 + denominator.bits() as i64 - square.bits() as i64).max(0);
    let up = up + (i64::from(exponent) - up).rem_euclid(2);
    let scaled = square << up as u64;
    let quotient = &scaled / denominator;
    let root = quotient.sqrt();
    let rest = &root * &root != quotient || &quotient * denominator != scaled;
    let down = (root.bits() as i64 - 126).max(0);
    let kept = &root >> down as u64;
    let sticky = rest || (&kept << down as u64) != root;
    round(kept.to_u128()?, sticky, (exponent - up as i32) / 2 + down as i32, false)
}

/// The same, rounded once to a 32-bit float.
pub fn round_single(numerator: &BigInt, denominator: &BigUint, exponent: i32) -> Option<f64> {
    let (mantissa, sticky, exponent) = quotient(numerator, denominator, exponent)?;
    round_to(&SINGLE, mantissa, sticky, exponent, numerator.is_negative())
}

/// A float format: bits behind the point of a normal number, the exponents of the smallest unit and of the largest number.
struct Format {
    fraction_bits: i32,
    lowest: i32,
    highest: i32,
}

const DOUBLE: Format = Format { fraction_bits: 52, lowest: -1074, highest: 1023 };
const SINGLE: Format = Format { fraction_bits: 23, lowest: -149, highest: 127 };

fn round(mantissa: u128, sticky: bool, exponent: i32, negative: bool) -> Option<f64> {
    round_to(&DOUBLE, mantissa, sticky, exponent, negative)
}

/// `mantissa * 2^exponent` to the nearest float, ties to even. `sticky` says that the true number lies a little above the
/// mantissa; the mantissa then has more bits than a float.
fn round_to(format: &Format, mantissa: u128, sticky: bool, exponent: i32, negative: bool) -> Option<f64> {
    if mantissa == 0 {
        return Some(0.0);
    }
    let top = exponent + 127 - mantissa.leading_zeros() as i32;
    if top > format.highest {
        return None;
    }
    let unit = (top - format.fraction_bits).max(format.lowest);
    let drop = unit - exponent;
    let whole = if drop <= 0 {
        debug_assert!(!sticky, "too few bits to round");
        (mantissa << -drop) as u64
    } else if drop > 127 {
        0
    } else {
        let kept = (mantissa >> drop) as u64;
        let rest = mantissa & ((1 << drop) - 1);
        let half = 1u128 << (drop - 1);
        let up = rest > half || (rest == half && (sticky || kept & 1 == 1));
        kept + u64::from(up)
    };
    let value = libm::ldexp(whole as f64, unit);
    // Rounding up may have reached the next power of two.
    let fits = value < libm::ldexp(1.0, format.highest) * 2.0;
    fits.then_some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(values: &[f64]) -> Exact {
        let mut total = Exact::default();
        values.iter().for_each(|v| total.add_float(*v));
        total
    }

    #[test]
    fn rounds_once() {
        assert_eq!(sum(&[0.1; 10]).divided(1), Some(1.0));
        assert_eq!(sum(&[1e308, -1e308, 1.0]).divided(1), Some(1.0));
        assert_eq!(sum(&[1e308, 1e308]).divided(1), None);
        assert_eq!(sum(&[1e308, 1e308]).divided(2), Some(1e308));
        assert_eq!(sum(&[5e-324, 5e-324, 5e-324]).divided(2), Some(1e-323));
        assert_eq!(sum(&[1.0]).divided(3), Some(1.0 / 3.0));
        assert_eq!(sum(&[-0.0]).divided(1).map(f64::to_bits), Some(0));
        // Half way between two floats and a third beyond it: what is left over decides.
        let half_way = (1i128 << 53) + 1;
        let mut beyond = Exact::default();
        beyond.add(half_way * 3 + 1, 0);
        assert_eq!(beyond.divided(3), Some((half_way + 1) as f64));
        let mut exactly = Exact::default();
        exactly.add(half_way * 3, 0);
        assert_eq!(exactly.divided(3), Some((half_way - 1) as f64));
    }

    proptest! {
        #[test]
        fn the_order_does_not_matter(mut values in prop::collection::vec(any::<f64>().prop_filter("finite", |v| v.is_finite()), 0..20)) {
            let mut forward = Vec::new();
            sum(&values).encode(&mut forward);
            values.reverse();
            let (left, right) = values.split_at(values.len() / 2);
            let mut merged = sum(right);
            merged.merge(&sum(left));
            let mut backward = Vec::new();
            merged.encode(&mut backward);
            prop_assert_eq!(&forward, &backward);
            let back = Exact::decode(&mut Cursor::new(&forward)).unwrap();
            prop_assert_eq!(back.divided(3), merged.divided(3));
        }

        #[test]
        fn one_division_is_the_machine_s(a in any::<f64>().prop_filter("finite", |v| v.is_finite()), n in 1u32..) {
            let expected = if a == 0.0 { 0.0 } else { a / f64::from(n) };
            prop_assert_eq!(sum(&[a]).divided(u64::from(n)).map(f64::to_bits), Some(expected.to_bits()));
        }

        #[test]
        fn roots_are_the_machine_s(a in 0.0f64..1e300) {
            let (mantissa, exponent) = float_parts(a);
            let root = round_root(&BigUint::from(mantissa.unsigned_abs()), &BigUint::from(1u8), exponent);
            prop_assert_eq!(root.map(f64::to_bits), Some(libm::sqrt(a).to_bits()));
        }

        #[test]
        fn both_divisions_agree(values in prop::collection::vec(-1e9f64..1e9, 1..20), n: u64) {
            let total = sum(&values);
            let (mantissa, exponent) = total.parts();
            prop_assert_eq!(total.divided(n.max(1)), round_ratio(&mantissa, &BigUint::from(n.max(1)), exponent));
        }
    }

    proptest! {
        /// Powers and products are those of the whole numbers, however large.
        #[test]
        fn powers_and_products_are_exact(a: i64, b: i64, low in -9i64..9, up in -40i32..40, n in 1u32..5) {
            for mantissa in [a, low, 0] {
                let (mut power, mut product) = (Exact::default(), Exact::default());
                power.add_power(mantissa, up, n);
                product.add_product(b, mantissa, up);
                let mut expected = Exact::default();
                expected.add_big(BigInt::from(mantissa).pow(n), up * n as i32);
                prop_assert_eq!(bytes(&power), bytes(&expected));
                let mut expected = Exact::default();
                expected.add_big(BigInt::from(b) * mantissa, up);
                prop_assert_eq!(bytes(&product), bytes(&expected));
            }
        }

        #[test]
        fn squares_are_powers(value in any::<f64>().prop_filter("finite", |v| v.is_finite())) {
            let (mut square, mut power) = (Exact::default(), Exact::default());
            square.add_square(value);
            let (mantissa, exponent) = float_parts(value);
            power.add_power(mantissa, exponent, 2);
            prop_assert_eq!(bytes(&square), bytes(&power));
        }

        /// A float becomes a 32-bit one as the machine does it, near the ends of the format too.
        #[test]
        fn single_roundings_are_the_machine_s(bits: u32, last in -(1i64 << 30)..(1 << 30)) {
            let near = f64::from_bits((f64::from(f32::from_bits(bits)).to_bits() as i64 + last) as u64);
            prop_assume!(near.is_finite());
            let (mantissa, exponent) = float_parts(near);
            let found = round_single(&BigInt::from(mantissa), &BigUint::from(1u8), exponent);
            let expected = near as f32;
            prop_assert_eq!(found, expected.is_finite().then_some(f64::from(expected)), "{}", near);
        }
    }

    fn bytes(exact: &Exact) -> Vec<u8> {
        let mut out = Vec::new();
        exact.encode(&mut out);
        out
    }

    /// Bits of integers up to the last one that 128 bits hold, and none behind the point.
    #[test]
    fn integers_fit_or_are_none() {
        let of = |mantissa: i128, exponent| {
            let mut exact = Exact::default();
            exact.add(mantissa, exponent);
            exact.integer()
        };
        assert_eq!((of(3, 4), of(48, -4), of(-48, -4), of(0, 9)), (Some(48), Some(3), Some(-3), Some(0)));
        assert_eq!((of(3, -1), of(24, -4)), (None, None));
        assert_eq!((of(1, 126), of(1, 127), of(-1, 126)), (Some(1 << 126), None, Some(-(1 << 126))));
    }

    /// Exponents that no sum of floats, squares or fourth powers has would ask for gigabytes.
    #[test]
    fn exponents_out_of_reach_are_damage() {
        for (exponent, tag, sound) in [
            (4400, 0, true),
            (-4400, 0, true),
            (4401, 0, false),
            (-4401, 0, false),
            (0, 1, true),
            (0, 2, true),
            (0, 3, false),
        ] {
            let mut out = vec![tag];
            put_signed(&mut out, exponent);
            put_bytes(&mut out, &[7]);
            assert_eq!(Exact::decode(&mut Cursor::new(&out)).is_ok(), sound, "{exponent} {tag}");
        }
    }
}
