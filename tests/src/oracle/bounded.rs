//! What an aggregate found: a value, and how far off an engine may be. The reference is a fraction, so the
//! bounds are those of the page and hold no error of the oracle's own.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::Signed;

use super::model::{Accuracy, Datum};
use super::number::{self, NotANumber};

#[derive(Clone, Debug)]
pub struct Found {
    pub value: Datum,
    pub accuracy: Accuracy,
}

/// A value with its accuracy, or status ERROR.
pub type Finding = Result<Found, NotANumber>;

impl From<Datum> for Found {
    fn from(value: Datum) -> Found {
        Found { value, accuracy: Accuracy::Exact }
    }
}

/// 1e-9 of the real number.
pub fn relative(real: &BigRational) -> Finding {
    near(real, &billionth_of(real))
}

pub fn billionth_of(real: &BigRational) -> BigRational {
    real.abs() / BigRational::from_integer(BigInt::from(1_000_000_000))
}

/// At most `margin` off. Where that reaches over the greatest float, on whichever side the real number is, an engine may find
/// that float or none.
pub fn near(real: &BigRational, margin: &BigRational) -> Finding {
    let (least, most) = (real.abs() - margin, real.abs() + margin);
    if number::to_f64(&least).is_some() && number::to_f64(&most).is_none() {
        let value = if real.is_negative() { f64::MIN } else { f64::MAX };
        return Ok(Found { value: Datum::Float(value), accuracy: Accuracy::Unknown });
    }
    let value = number::to_f64(real).ok_or(NotANumber)?;
    Ok(Found { value: Datum::Float(value), accuracy: Accuracy::Within(vec![range(real, margin)]) })
}

/// Within one percent of one of these elements, which may be infinite.
pub fn near_elements(elements: &[Datum]) -> Finding {
    let mut ranges = Vec::new();
    for element in elements {
        ranges.push(match element {
            Datum::Float(infinity) if infinity.is_infinite() => (*infinity, *infinity),
            element => {
                let real = number::exact(element);
                range(&real, &(real.abs() / number::count(100)))
            }
        });
    }
    let value = match &elements[0] {
        Datum::Float(f) => *f,
        element => number::to_f64(&number::exact(element)).ok_or(NotANumber)?,
    };
    Ok(Found { value: Datum::Float(value), accuracy: Accuracy::Within(ranges) })
}

/// Exact up to 256 values, beyond that within five standard errors of 1.7 %.
pub fn near_count(count: usize) -> Found {
    let value = Datum::Int(count as i64);
    if count <= 256 {
        return value.into();
    }
    let margin = count as f64 * 5.0 * 0.017;
    Found { value, accuracy: Accuracy::Within(vec![(count as f64 - margin, count as f64 + margin)]) }
}

/// Bounds rounded to f64: rounding keeps the order, so no float within the exact range is lost.
fn range(real: &BigRational, margin: &BigRational) -> (f64, f64) {
    let low = number::to_f64(&(real - margin)).unwrap_or(f64::MIN);
    let high = number::to_f64(&(real + margin)).unwrap_or(f64::MAX);
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(finding: Finding) -> Vec<(f64, f64)> {
        match finding.expect("a value").accuracy {
            Accuracy::Within(ranges) => ranges,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn bounds_lie_on_both_sides_and_never_beyond_f64() {
        let found = within(near_elements(&[Datum::Int(-100), Datum::Float(f64::MAX)]));
        assert_eq!(found, [(-101.0, -99.0), (f64::MAX / 100.0 * 99.0, f64::MAX)]);
        assert_eq!(within(near_elements(&[Datum::Float(0.0)])), [(0.0, 0.0)]);
        let infinity = Datum::Float(f64::NEG_INFINITY);
        assert_eq!(within(near_elements(&[infinity])), [(f64::NEG_INFINITY, f64::NEG_INFINITY)]);
        assert_eq!(within(near_elements(&[Datum::Decimal(1999, 2)])), [(19.7901, 20.1899)]);
        assert_eq!(within(relative(&number::count(1))), [(1.0 - 1e-9, 1.0 + 1e-9)]);
    }

    #[test]
    fn counts_are_exact_up_to_the_cap() {
        assert!(matches!(near_count(256).accuracy, Accuracy::Exact));
        assert!(matches!(near_count(257).accuracy, Accuracy::Within(_)));
    }
}
