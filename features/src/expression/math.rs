//! Functions of numbers. Transcendental ones come from `libm`, whose bits are the same on every platform.

use super::arithmetic::to_float;
use super::cast::divide_rounding;
use super::{Evaluate, Typed};
use crate::value::{DataType, Value, power_of_ten};

/// A function from float to float.
pub(super) fn float(a: Typed, apply: fn(f64) -> f64) -> Typed {
    let a = to_float(a);
    Typed::new(DataType::Float64, move |frame| match a(frame) {
        Value::Float64(v) => frame.float(apply(v), v.is_finite()),
        _ => Value::Null,
    })
}

pub(super) fn power(a: Typed, b: Typed) -> Typed {
    let (a, b) = (to_float(a), to_float(b));
    Typed::new(DataType::Float64, move |frame| match (a(frame), b(frame)) {
        (Value::Float64(a), Value::Float64(b)) => frame.float(libm::pow(a, b), a.is_finite() && b.is_finite()),
        _ => Value::Null,
    })
}

pub(super) fn abs(a: Typed) -> Typed {
    let data_type = a.data_type.clone();
    let a = a.evaluate;
    super::logic::typed(data_type, move |frame| match a(frame) {
        Value::Int64(v) => frame.some(v.checked_abs(), Value::Int64),
        Value::Float64(v) => Value::Float64(libm::fabs(v)),
        Value::Decimal(v) => Value::Decimal(v.abs()),
        _ => Value::Null,
    })
}

/// floor, ceil, round to whole numbers; the type stays.
pub(super) fn whole(a: Typed, float: fn(f64) -> f64, decimal: fn(i128, i128) -> i128) -> Typed {
    let data_type = a.data_type.clone();
    let unit = match data_type {
        Some(DataType::Decimal { scale, .. }) => power_of_ten(scale),
        _ => 1,
    };
    let a = a.evaluate;
    super::logic::typed(data_type, move |frame| match a(frame) {
        Value::Float64(v) => Value::Float64(float(v)),
        Value::Decimal(v) => frame.some(decimal(v, unit).checked_mul(unit), Value::Decimal),
        other => other,
    })
}

pub(super) fn floor_division(value: i128, unit: i128) -> i128 {
    value.div_euclid(unit)
}

pub(super) fn ceil_division(value: i128, unit: i128) -> i128 {
    -(-value).div_euclid(unit)
}

pub(super) fn round_division(value: i128, unit: i128) -> i128 {
    divide_rounding(value, unit)
}

/// round(x, digits) of a float: half away from zero.
pub(super) fn round_to(a: Typed, digits: Typed) -> Typed {
    let (a, digits) = (to_float(a), digits.evaluate);
    Typed::new(DataType::Float64, move |frame| match (a(frame), digits(frame)) {
        (Value::Float64(v), Value::Int64(digits)) => {
            let scale = libm::pow(10.0, digits.clamp(-400, 400) as f64);
            let scaled = v * scale;
            // Out here every float is already rounded to that many digits.
            if !scaled.is_finite() || libm::fabs(scaled) > 9e15 {
                return Value::Float64(v);
            }
            if scale == 0.0 { Value::Float64(0.0) } else { frame.float(libm::round(scaled) / scale, true) }
        }
        _ => Value::Null,
    })
}

/// div(a, b): integer division, truncated toward zero.
pub(super) fn div(a: Typed, b: Typed) -> Typed {
    let (a, b) = (a.evaluate, b.evaluate);
    Typed::new(DataType::Int64, move |frame| match (a(frame), b(frame)) {
        (Value::Int64(a), Value::Int64(b)) => frame.some(a.checked_div(b), Value::Int64),
        _ => Value::Null,
    })
}

/// Mean radius of the earth in kilometres (IUGG).
const EARTH_RADIUS_KM: f64 = 6371.0088;

/// haversine(lat1, lon1, lat2, lon2): great-circle distance in kilometres of points in degrees.
pub(super) fn haversine(arguments: Vec<Typed>) -> Typed {
    let degrees: Vec<Evaluate> = arguments.into_iter().map(to_float).collect();
    Typed::new(DataType::Float64, move |frame| {
        let mut radians = [0.0; 4];
        for (slot, degree) in radians.iter_mut().zip(&degrees) {
            match degree(frame) {
                Value::Float64(v) => *slot = v * std::f64::consts::PI / 180.0,
                _ => return Value::Null,
            }
        }
        let [lat1, lon1, lat2, lon2] = radians;
        let (across, along) = (libm::sin((lat2 - lat1) / 2.0), libm::sin((lon2 - lon1) / 2.0));
        let h = across * across + libm::cos(lat1) * libm::cos(lat2) * along * along;
        frame.float(2.0 * EARTH_RADIUS_KM * libm::asin(libm::sqrt(h.min(1.0))), true)
    })
}
