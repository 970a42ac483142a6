//! Quantiles, moments, trend and decay: what the page promises within a bound. Everything is a fraction up to
//! the last step; only powers of two, roots and logarithms are rounded, far below the bounds.

use std::cmp::Ordering;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::bounded::{self, Finding, Found};
use super::model::Datum;
use super::number::{self, NotANumber};

/// Within one percent of the element at rank floor or ceil of q (n - 1); `sorted` is ascending.
pub fn quantile(sorted: &[Datum], q: f64) -> Finding {
    let rank = number::exact(&Datum::Float(q)) * number::count(sorted.len() - 1);
    let element = |rank: BigRational| {
        let index = rank.to_integer().to_usize().expect("0 <= q <= 1");
        sorted[index].clone()
    };
    bounded::near_elements(&[element(rank.floor()), element(rank.ceil())])
}

/// Counts per bucket `[edge i-1, edge i)`, one more than there are edges.
pub fn histogram(values: &[Datum], edges: &[Datum]) -> Datum {
    let mut counts = vec![0; edges.len() + 1];
    for value in values {
        let bucket = edges.iter().filter(|edge| edge.order(value) != Ordering::Greater).count();
        counts[bucket] += 1;
    }
    Datum::List(counts.into_iter().map(Datum::Int).collect())
}

/// m3 / m2^1.5 of the population moments; null where all values are equal.
pub fn skewness(values: &[Datum]) -> Finding {
    let [second, third, _] = power_sums(values)?;
    if second.is_zero() {
        return Ok(Datum::Null.into());
    }
    // The moments are power sums over n: (S3 / n)^2 / (S2 / n)^3 = n S3^2 / S2^3.
    let square = BigRational::new(BigInt::from(values.len()) * third.pow(2), second.pow(3));
    let size = number::root(&square);
    bounded::relative(&if third.is_negative() { -size } else { size })
}

/// m4 / m2^2 - 3 of the population moments; null where all values are equal.
pub fn kurtosis(values: &[Datum]) -> Finding {
    let [second, _, fourth] = power_sums(values)?;
    if second.is_zero() {
        return Ok(Datum::Null.into());
    }
    let ratio = BigRational::new(BigInt::from(values.len()) * fourth, second.pow(2));
    bounded::relative(&(ratio - number::count(3)))
}

/// Sums of the second, third and fourth power of the distances from the mean, in a unit of their own.
fn power_sums(values: &[Datum]) -> Result<[BigInt; 3], NotANumber> {
    refuse_infinities(values)?;
    let (integers, _) = number::over_one_denominator(values);
    let total: BigInt = integers.iter().sum();
    let mut sums = [BigInt::zero(), BigInt::zero(), BigInt::zero()];
    for x in &integers {
        // n times the distance from the mean: still an integer.
        let distance: BigInt = x * integers.len() - &total;
        for (sum, power) in sums.iter_mut().zip(2..) {
            *sum += distance.pow(power);
        }
    }
    // Each distance is n times too long; the ratios of moments do not see that.
    Ok(sums)
}

/// The least-squares slope per second over the event times, which are microseconds.
pub fn trend(times: &[i64], values: &[Datum]) -> Finding {
    refuse_infinities(values)?;
    let (integers, denominator) = number::over_one_denominator(values);
    let n = BigInt::from(values.len());
    let times: Vec<BigInt> = times.iter().map(|time| BigInt::from(*time)).collect();
    let (time_total, value_total): (BigInt, BigInt) = (times.iter().sum(), integers.iter().sum());
    let products: BigInt = times.iter().zip(&integers).map(|(time, x)| time * x).sum();
    let squares: BigInt = times.iter().map(|time| time * time).sum();
    let spread = &n * squares - &time_total * &time_total;
    if spread.is_zero() {
        return Ok(Datum::Null.into());
    }
    let together = &n * products - time_total * value_total;
    let per_microsecond = BigRational::new(together, spread * denominator);
    bounded::relative(&(per_microsecond * number::count(1_000_000)))
}

/// The sum of x * 2^(-(t - time) / half_life).
pub fn decayed_sum(times: &[i64], values: &[Datum], half_life: i64, t: i64) -> Finding {
    if let Some(infinity) = number::infinity_among(values)? {
        return Ok(Datum::Float(infinity).into());
    }
    // Fixed point, so far behind it that what is cut off is below the smallest f64 by hundreds of bits.
    const BITS: i64 = 2500;
    let (integers, denominator) = number::over_one_denominator(values);
    let (mut sum, mut magnitudes) = (BigInt::zero(), BigInt::zero());
    for (time, x) in times.iter().zip(&integers) {
        let age = i128::from(t) - i128::from(*time);
        let (whole, rest) = (age / i128::from(half_life), age % i128::from(half_life));
        let Some(shift) = i64::try_from(whole).ok().map(|whole| BITS - 53 - whole).filter(|shift| *shift >= 0) else {
            continue;
        };
        // The fraction is rounded once and its power once: 1e-15, a thousandth of the smallest bound below.
        let factor = libm::exp2(-(rest as f64 / half_life as f64));
        let term = (x * BigInt::from(libm::ldexp(factor, 53) as i64)) << shift;
        magnitudes += term.abs();
        sum += term;
    }
    let unit = denominator * (BigInt::one() << BITS);
    let real = BigRational::new(sum, unit.clone());
    bounded::near(&real, &decay_margin(&real, &BigRational::new(magnitudes, unit), values.len()))
}

/// 1e-9 of the real number. Where signs differ no float arithmetic can hold that, so 1e-12 of all magnitudes is
/// right too, and half of the last subnormal bit for each term.
fn decay_margin(real: &BigRational, magnitudes: &BigRational, terms: usize) -> BigRational {
    let of_real = bounded::billionth_of(real);
    let of_magnitudes = bounded::billionth_of(magnitudes) / number::count(1000);
    of_real.max(of_magnitudes) + number::two_to(-1075) * number::count(terms)
}

/// In nats, of the counts of each category.
pub fn entropy(counts: &[usize]) -> Finding {
    let total = counts.iter().sum::<usize>() as f64;
    if counts.len() == 1 {
        return Ok(Datum::Float(0.0).into());
    }
    let of_category = |count: &usize| {
        let count = *count as f64;
        // ln(total / count), which log1p keeps where the two are nearly equal.
        count / total * libm::log1p((total - count) / count)
    };
    let nats: f64 = counts.iter().map(of_category).sum();
    bounded::relative(&number::exact(&Datum::Float(nats)))
}

/// Seconds between the newest event and `t`, rounded once.
pub fn seconds(microseconds: i128, parts: usize) -> Finding {
    let exact = BigRational::new(BigInt::from(microseconds), BigInt::from(parts) * 1_000_000);
    number::rounded(&exact).map(Found::from)
}

fn refuse_infinities(values: &[Datum]) -> Result<(), NotANumber> {
    let is_infinite = |value: &Datum| matches!(value, Datum::Float(f) if f.is_infinite());
    if values.iter().any(is_infinite) { Err(NotANumber) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Accuracy, Answer, Status};
    use super::*;

    fn floats(values: &[f64]) -> Vec<Datum> {
        values.iter().map(|value| Datum::Float(*value)).collect()
    }

    /// `expected` is right and a billionth and a half more is not.
    fn check(finding: Finding, expected: f64) {
        let found = finding.expect("a value");
        let answer = Answer { accuracy: found.accuracy, ..Answer::exact(found.value, Status::Present, None) };
        assert!(answer.accepts(&Datum::Float(expected)), "{answer:?} is not {expected}");
        let wrong = if expected == 0.0 { 1e-300 } else { expected * (1.0 + 1.5e-9) };
        assert!(!answer.accepts(&Datum::Float(wrong)), "{answer:?} is {wrong}");
    }

    fn check_null(finding: Finding) {
        assert!(finding.expect("no error").value.is_null());
    }

    #[test]
    fn quantiles_are_elements() {
        let sorted = floats(&[1.0, 2.0, 4.0, 8.0]);
        let accepts = |q: f64, value: f64| {
            let found = quantile(&sorted, q).expect("a value");
            let answer = Answer { accuracy: found.accuracy, ..Answer::exact(found.value, Status::Present, None) };
            answer.accepts(&Datum::Float(value))
        };
        assert!(accepts(0.0, 1.0) && accepts(1.0, 8.0) && !accepts(1.0, 4.0));
        // Rank 1.5: both neighbours, each within one percent, and nothing between them.
        assert!(accepts(0.5, 2.02) && accepts(0.5, 3.96) && !accepts(0.5, 3.0) && !accepts(0.5, 2.03));
        assert!(accepts(0.9, 8.0) && accepts(0.9, 4.0) && !accepts(0.9, 2.0));
    }

    #[test]
    fn buckets_are_left_closed() {
        let edges = [Datum::Int(0), Datum::Float(2.5)];
        let found = histogram(&floats(&[-1.0, 0.0, 2.4, 2.5, f64::INFINITY]), &edges);
        assert!(found.same(&Datum::List(vec![Datum::Int(1), Datum::Int(2), Datum::Int(2)])), "{found:?}");
        let found = histogram(&[Datum::Decimal(250, 2), Datum::Decimal(249, 2)], &edges);
        assert!(found.same(&Datum::List(vec![Datum::Int(0), Datum::Int(1), Datum::Int(1)])), "{found:?}");
    }

    #[test]
    fn moments() {
        // Mean 2; distances -1, -1, -2 and 4: m2 = 22/4, m3 = 54/4, m4 = 274/4.
        check(skewness(&floats(&[1.0, 1.0, 0.0, 6.0])), 13.5 / (5.5 * 5.5f64.sqrt()));
        check(kurtosis(&floats(&[1.0, 1.0, 0.0, 6.0])), 68.5 / 30.25 - 3.0);
        check(skewness(&floats(&[-6.0, 0.0, -1.0, -1.0])), -13.5 / (5.5 * 5.5f64.sqrt()));
        check(skewness(&floats(&[1e9, 1e9 + 1.0, 1e9 + 2.0])), 0.0);
        check(skewness(&floats(&[5e-324, 5e-324, 1e308])), 0.5f64.sqrt());
        check(kurtosis(&floats(&[f64::MAX, -f64::MAX])), -2.0);
        check_null(skewness(&floats(&[0.1; 7])));
        check_null(kurtosis(&[Datum::Int(3)]));
        assert!(skewness(&floats(&[f64::INFINITY])).is_err());
    }

    #[test]
    fn slopes() {
        let seconds = [0, 1_000_000, 3_000_000];
        check(trend(&seconds, &floats(&[1.0, 3.0, 7.0])), 2.0);
        check(trend(&seconds, &[Datum::Int(0), Datum::Int(0), Datum::Int(-7)]), -2.5);
        check(trend(&seconds, &floats(&[1e308, 1e308, 1e308])), 0.0);
        check(trend(&[i64::MAX - 1, i64::MAX], &floats(&[0.0, 1.0])), 1e6);
        check_null(trend(&[5, 5], &floats(&[1.0, 2.0])));
        check_null(trend(&[5], &floats(&[1.0])));
        assert!(trend(&seconds, &floats(&[0.0, 1.0, f64::INFINITY])).is_err());
        assert!(trend(&[0, 1], &floats(&[f64::MIN, f64::MAX])).is_err());
    }

    #[test]
    fn decay() {
        let times = [0, 100, 200];
        check(decayed_sum(&times, &floats(&[4.0, 2.0, 1.0]), 100, 200), 3.0);
        check(
            decayed_sum(&times, &[Datum::Decimal(40, 1), Datum::Decimal(0, 1), Datum::Decimal(0, 1)], 100, 250),
            0.5f64.sqrt(),
        );
        check(decayed_sum(&[0], &floats(&[1.0]), 1, 5000), 0.0);
        let cancelled = decayed_sum(&[0, 0], &floats(&[1e300, -1e300]), 3, 1).expect("a value");
        assert!(cancelled.value.same(&Datum::Float(0.0)));
        let infinite = decayed_sum(&times, &floats(&[4.0, f64::INFINITY, 1.0]), 100, 200).expect("a value");
        assert!(infinite.value.same(&Datum::Float(f64::INFINITY)));
        assert!(decayed_sum(&[0, 0], &floats(&[f64::MIN, f64::NEG_INFINITY]), 1, 0).is_ok());
        assert!(decayed_sum(&[0, 0], &floats(&[f64::INFINITY, f64::NEG_INFINITY]), 1, 0).is_err());
        assert!(decayed_sum(&[0, 0], &floats(&[f64::MAX, f64::MAX]), 1000, 1).is_err());
        check(decayed_sum(&[0, 0], &floats(&[f64::MAX, f64::MAX]), 1, 2), f64::MAX / 2.0);
        let greatest =
            decayed_sum(&[0, 0], &floats(&[f64::MAX, f64::MAX]), 1, 1).expect("within the bound there are floats");
        assert!(matches!(greatest.accuracy, Accuracy::Unknown), "and beyond it there are none");
    }

    #[test]
    fn entropies() {
        check(entropy(&[3, 3]), std::f64::consts::LN_2);
        check(entropy(&[1, 999_999]), 1.481_551_005_796_410_7e-5);
        assert!(entropy(&[7]).expect("a value").value.same(&Datum::Float(0.0)));
    }
}
