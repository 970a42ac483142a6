//! Exact arithmetic: every sum is a fraction of big integers and is rounded once, at the end.
//! Infinities are the only values that no fraction can hold; they are looked at first.

use std::cmp::Ordering;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::model::Datum;

/// The outcome of an aggregate over at least one input: a value (null where it has none), or status ERROR.
pub type Outcome = Result<Datum, NotANumber>;

/// Overflow, inf - inf, or a variance over inf: null with status ERROR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotANumber;

/// The exact value of a finite number.
pub fn exact(value: &Datum) -> BigRational {
    match value {
        Datum::Int(i) => BigRational::from_integer(BigInt::from(*i)),
        Datum::Float(f) => BigRational::from_float(*f).expect("infinities are treated before"),
        Datum::Decimal(unscaled, scale) => BigRational::new(BigInt::from(*unscaled), ten_to(*scale)),
        other => panic!("ill-typed: {other:?} is not a number"),
    }
}

/// Int, float and decimal compare by exact value.
pub fn compare(a: &Datum, b: &Datum) -> Ordering {
    let infinite = |value: &Datum| match value {
        Datum::Float(f) if f.is_infinite() => f.signum() as i32,
        _ => 0,
    };
    match (infinite(a), infinite(b)) {
        (0, 0) => exact(a).cmp(&exact(b)),
        (left, right) => left.cmp(&right),
    }
}

/// The nearest f64, ties to even, subnormals included; `None` beyond the largest finite f64.
pub fn to_f64(value: &BigRational) -> Option<f64> {
    nearest(value, 53, -1074, 1024)
}

/// The same for f32.
pub fn to_f32(value: &BigRational) -> Option<f32> {
    nearest(value, 24, -149, 128).map(|exactly_an_f32| exactly_an_f32 as f32)
}

/// Of the binary floats with so many digits, none below 2^`smallest` in the last one and all below 2^`limit`.
fn nearest(value: &BigRational, digits: i64, smallest: i64, limit: i64) -> Option<f64> {
    if value.is_zero() {
        return Some(0.0);
    }
    let size = value.abs();
    // 2^exponent <= size < 2^(exponent + 1); the guess from the bit lengths is at most one too large.
    let mut exponent = size.numer().bits() as i64 - size.denom().bits() as i64;
    if size < two_to(exponent) {
        exponent -= 1;
    }
    // The last bit of a float of this size, but never below that of the subnormals.
    let last_bit = (exponent - digits + 1).max(smallest);
    let mantissa = half_to_even(&(size / two_to(last_bit)));
    let rounded = BigRational::from_integer(mantissa.clone()) * two_to(last_bit);
    if rounded >= two_to(limit) {
        return None;
    }
    let mantissa = mantissa.to_f64().expect("at most 2^53");
    let result = libm::ldexp(mantissa, last_bit as i32);
    Some(if value.is_negative() { -result } else { result })
}

/// The values as integers over one common denominator: without it, sums of many fractions spend their time on
/// reducing them.
pub fn over_one_denominator(values: &[Datum]) -> (Vec<BigInt>, BigInt) {
    let fractions: Vec<BigRational> = values.iter().map(exact).collect();
    // Of floats and integers each denominator is a power of two, and the largest is a multiple of all.
    let common = match &values[0] {
        Datum::Decimal(_, scale) => ten_to(*scale),
        _ => fractions.iter().map(|x| x.denom().clone()).max().expect("at least one value"),
    };
    let integers = fractions.iter().map(|x| x.numer() * (&common / x.denom())).collect();
    (integers, common)
}

/// The root, right to more than 120 bits.
pub fn root(value: &BigRational) -> BigRational {
    let size = value.numer().bits() as i64 - value.denom().bits() as i64;
    let shift = ((256 - size) / 2 + 1).max(0) as u64;
    let scaled: BigInt = (value.numer() << (2 * shift)) / value.denom();
    BigRational::new(scaled.sqrt(), BigInt::one() << shift)
}

/// `(sum of counted + a) / (sum of of + b)`, rounded once; null where the divisor is 0.
pub fn rate(counted: &[Datum], of: &[Datum], a: &Datum, b: &Datum) -> Outcome {
    match (infinity_among(counted)?, infinity_among(of)?) {
        (Some(_), Some(_)) => Err(NotANumber),
        (None, Some(_)) => Ok(Datum::Float(0.0)),
        (infinity, None) => {
            let divisor = total(of) + exact(b);
            match infinity {
                _ if divisor.is_zero() => Ok(Datum::Null),
                Some(infinity) if divisor.is_negative() => Ok(Datum::Float(-infinity)),
                Some(infinity) => Ok(Datum::Float(infinity)),
                None => rounded(&((total(counted) + exact(a)) / divisor)),
            }
        }
    }
}

/// The sum, in the type of its inputs.
pub fn sum(values: &[Datum]) -> Outcome {
    match &values[0] {
        Datum::Float(_) => match infinity_among(values)? {
            Some(infinity) => Ok(Datum::Float(infinity)),
            None => rounded(&total(values)),
        },
        Datum::Int(_) => total(values).to_integer().to_i64().map(Datum::Int).ok_or(NotANumber),
        Datum::Decimal(_, scale) => {
            let unscaled = (total(values) * BigRational::from_integer(ten_to(*scale))).to_integer();
            if unscaled.abs() >= ten_to(38) {
                return Err(NotANumber);
            }
            Ok(Datum::Decimal(unscaled.to_i128().expect("38 digits fit"), *scale))
        }
        other => panic!("ill-typed: sum of {other:?}"),
    }
}

/// Exact sum / n, rounded once.
pub fn average(values: &[Datum]) -> Outcome {
    match infinity_among(values)? {
        Some(infinity) => Ok(Datum::Float(infinity)),
        None => rounded(&(total(values) / count(values.len()))),
    }
}

/// Sample variance (n - 1), exact, rounded once; null below two values.
pub fn variance(values: &[Datum]) -> Outcome {
    let is_infinite = |value: &Datum| matches!(value, Datum::Float(f) if f.is_infinite());
    if values.iter().any(is_infinite) {
        return Err(NotANumber);
    }
    if values.len() < 2 {
        return Ok(Datum::Null);
    }
    let mean = total(values) / count(values.len());
    let mut squares = BigRational::zero();
    for value in values {
        let distance = exact(value) - &mean;
        squares += &distance * &distance;
    }
    rounded(&(squares / count(values.len() - 1)))
}

/// The root of the rounded variance.
pub fn stddev(values: &[Datum]) -> Outcome {
    match variance(values)? {
        Datum::Float(variance) => Ok(Datum::Float(libm::sqrt(variance))),
        null => Ok(null),
    }
}

/// The infinity that a sum becomes; both signs together have no sum.
pub fn infinity_among(values: &[Datum]) -> Result<Option<f64>, NotANumber> {
    let has = |infinity: f64| values.iter().any(|value| matches!(value, Datum::Float(f) if *f == infinity));
    match (has(f64::INFINITY), has(f64::NEG_INFINITY)) {
        (true, true) => Err(NotANumber),
        (true, false) => Ok(Some(f64::INFINITY)),
        (false, true) => Ok(Some(f64::NEG_INFINITY)),
        (false, false) => Ok(None),
    }
}

pub fn total(values: &[Datum]) -> BigRational {
    values.iter().map(exact).fold(BigRational::zero(), |sum, value| sum + value)
}

pub fn rounded(value: &BigRational) -> Outcome {
    to_f64(value).map(Datum::Float).ok_or(NotANumber)
}

fn half_to_even(value: &BigRational) -> BigInt {
    let floor = value.floor().to_integer();
    let rest = value - BigRational::from_integer(floor.clone());
    let half = BigRational::new(BigInt::one(), BigInt::from(2));
    let is_odd = (&floor % BigInt::from(2)) == BigInt::one();
    match rest.cmp(&half) {
        Ordering::Less => floor,
        Ordering::Equal if !is_odd => floor,
        _ => floor + BigInt::one(),
    }
}

pub fn count(n: usize) -> BigRational {
    BigRational::from_integer(BigInt::from(n))
}

fn ten_to(power: u8) -> BigInt {
    BigInt::from(10).pow(u32::from(power))
}

pub fn two_to(power: i64) -> BigRational {
    let size = BigInt::one() << power.unsigned_abs();
    if power < 0 { BigRational::new(BigInt::one(), size) } else { BigRational::from_integer(size) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn floats(values: &[f64]) -> Vec<Datum> {
        values.iter().map(|value| Datum::Float(*value)).collect()
    }

    fn check(outcome: Outcome, expected: Option<Datum>) {
        match (&outcome, &expected) {
            (Ok(value), Some(wanted)) => assert!(value.same(wanted), "{value:?} is not {wanted:?}"),
            (Err(NotANumber), None) => {}
            _ => panic!("{outcome:?} is not {expected:?}"),
        }
    }

    #[test]
    fn sums_are_rounded_once() {
        check(sum(&floats(&[0.1; 10])), Some(Datum::Float(1.0)));
        check(sum(&floats(&[1e308, -1e308, 1.0])), Some(Datum::Float(1.0)));
        check(sum(&floats(&[1e308, 1e308, -1e308])), Some(Datum::Float(1e308)));
        check(sum(&floats(&[1e308, 1e308])), None);
        check(sum(&floats(&[5e-324, 5e-324])), Some(Datum::Float(1e-323)));
        check(sum(&floats(&[f64::MAX, libm::pow(2.0, 969.0)])), Some(Datum::Float(f64::MAX)));
        check(sum(&floats(&[f64::MAX, libm::pow(2.0, 970.0)])), None);
        check(sum(&floats(&[1.0, -1.0])), Some(Datum::Float(0.0)));
    }

    #[test]
    fn infinities_are_values_until_they_cancel() {
        check(sum(&floats(&[f64::INFINITY, 1.0])), Some(Datum::Float(f64::INFINITY)));
        check(average(&floats(&[f64::NEG_INFINITY, 1.0])), Some(Datum::Float(f64::NEG_INFINITY)));
        check(sum(&floats(&[f64::INFINITY, f64::NEG_INFINITY])), None);
        check(variance(&floats(&[f64::INFINITY, 1.0])), None);
    }

    #[test]
    fn overflow_is_an_error() {
        check(sum(&[Datum::Int(i64::MAX), Datum::Int(1)]), None);
        check(sum(&[Datum::Int(i64::MAX), Datum::Int(1), Datum::Int(-1)]), Some(Datum::Int(i64::MAX)));
        let most = 10_i128.pow(38) - 1;
        check(sum(&[Datum::Decimal(most, 2), Datum::Decimal(0, 2)]), Some(Datum::Decimal(most, 2)));
        check(sum(&[Datum::Decimal(most, 2), Datum::Decimal(1, 2)]), None);
    }

    #[test]
    fn means_and_variances() {
        check(average(&floats(&[f64::MAX, f64::MAX])), Some(Datum::Float(f64::MAX)));
        check(average(&[Datum::Int(i64::MAX), Datum::Int(i64::MAX)]), Some(Datum::Float(i64::MAX as f64)));
        check(average(&[Datum::Decimal(10, 1), Datum::Decimal(20, 1)]), Some(Datum::Float(1.5)));
        check(variance(&floats(&[7.0])), Some(Datum::Null));
        check(variance(&floats(&[1e9, 1e9 + 1.0, 1e9 + 2.0])), Some(Datum::Float(1.0)));
        check(stddev(&floats(&[0.0, 2.0])), Some(Datum::Float(2f64.sqrt())));
        check(variance(&floats(&[f64::MAX, -f64::MAX])), None);
    }

    #[test]
    fn rates() {
        let rate = |counted: &[f64], of: &[f64], a: f64, b: f64| {
            super::rate(&floats(counted), &floats(of), &Datum::Float(a), &Datum::Float(b))
        };
        check(rate(&[1.0, 1.0], &[3.0, 1.0], 1.0, 2.0), Some(Datum::Float(0.5)));
        check(rate(&[0.1; 10], &[1.0; 10], 0.0, 0.0), Some(Datum::Float(0.1)));
        check(rate(&[1.0], &[-2.0], 0.0, 2.0), Some(Datum::Null));
        check(rate(&[f64::INFINITY], &[-2.0], 0.0, 2.0), Some(Datum::Null));
        check(rate(&[f64::INFINITY], &[-2.0], 0.0, 1.0), Some(Datum::Float(f64::NEG_INFINITY)));
        check(rate(&[1.0], &[f64::NEG_INFINITY], 0.0, 0.0), Some(Datum::Float(0.0)));
        check(rate(&[f64::INFINITY], &[f64::INFINITY], 0.0, 0.0), None);
        check(rate(&[f64::INFINITY, f64::NEG_INFINITY], &[0.0], 0.0, 0.0), None);
        check(rate(&[f64::MAX], &[0.5], 0.0, 0.0), None);
        // A sum beyond f64 is no overflow as long as the quotient is none.
        check(rate(&[f64::MAX, f64::MAX], &[2.0], 0.0, 0.0), Some(Datum::Float(f64::MAX)));
    }

    #[test]
    fn roots_and_f32() {
        assert_eq!(to_f64(&root(&exact(&Datum::Int(2)))), Some(2f64.sqrt()));
        let tiny = BigRational::new(BigInt::one(), BigInt::one() << 3000);
        assert_eq!(root(&tiny), BigRational::new(BigInt::one(), BigInt::one() << 1500));
        // Just above half of the last bit of an f32: by way of an f64 it would round to even.
        let one_and = |power: i64| two_to(0) + two_to(-24) + two_to(power);
        assert_eq!(to_f32(&one_and(-80)), Some(1.0 + f32::EPSILON));
        assert_eq!(to_f32(&(two_to(0) + two_to(-24))), Some(1.0));
        assert_eq!(to_f32(&two_to(-149)), Some(1e-45));
        assert_eq!(to_f32(&(two_to(128) - two_to(103))), None);
        assert_eq!(to_f32(&(two_to(128) - two_to(103) - two_to(0))), Some(f32::MAX));
    }

    proptest! {
        /// Any f64 survives; the sum of two rounds as IEEE does.
        #[test]
        fn rounding_agrees_with_ieee(a in any::<f64>(), b in any::<f64>()) {
            let round_trip = to_f64(&exact(&Datum::Float(a))).expect("finite");
            prop_assert_eq!(round_trip, a);
            let sum = to_f64(&(exact(&Datum::Float(a)) + exact(&Datum::Float(b))));
            prop_assert_eq!(sum.unwrap_or((a + b).signum() * f64::INFINITY), a + b);
            let product = to_f64(&(exact(&Datum::Float(a)) * exact(&Datum::Float(b))));
            prop_assert_eq!(product.unwrap_or((a * b).signum() * f64::INFINITY), a * b);
        }

        #[test]
        fn quotients_round_as_ieee_does(a in -1e-300..1e-300f64, b in 1..1_000_000i64) {
            let quotient = to_f64(&(exact(&Datum::Float(a)) / exact(&Datum::Int(b)))).expect("small");
            prop_assert_eq!(quotient.to_bits(), (a / b as f64).to_bits());
        }
    }
}
