//! date_trunc and extract, in UTC or in a named zone.

use jiff::civil::{DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{ToSpan, Unit};
use sqlparser::tokenizer::Location;

use super::compile::fault;
use super::{Fault, Typed};
use crate::problem::nearest;
use crate::time::{civil, instant, zone};
use crate::value::{DataType, Value};

const TRUNC_UNITS: [&str; 8] = ["second", "minute", "hour", "day", "week", "month", "quarter", "year"];
const FIELDS: [&str; 11] =
    ["second", "minute", "hour", "day", "week", "month", "quarter", "year", "dow", "doy", "epoch"];

struct Arguments {
    unit: &'static str,
    time: super::Evaluate,
    zone: TimeZone,
}

fn arguments(
    mut list: Vec<Typed>,
    what: &str,
    known: &'static [&'static str],
    at: Location,
) -> Result<Arguments, Fault> {
    if list.len() < 2 || list.len() > 3 {
        return Err(fault(at, format!("{what} takes a unit, a time and perhaps a zone")));
    }
    let literal = |typed: &Typed| match &typed.literal {
        Some(Value::Text(text)) => Some(text.to_string()),
        _ => None,
    };
    let zone_name = match list.get(2) {
        None => "UTC".to_string(),
        Some(typed) => literal(typed).ok_or_else(|| fault(at, format!("{what} takes its zone as a literal")))?,
    };
    let zone = zone(&zone_name)
        .ok_or_else(|| fault(at, format!("'{zone_name}' is not a time zone such as 'Europe/Berlin'")))?;
    let unit = literal(&list[0]).ok_or_else(|| fault(at, format!("{what} takes its unit as a literal")))?;
    let Some(unit) = known.iter().find(|k| **k == unit.to_lowercase()) else {
        let near = nearest(&unit, known.iter().copied());
        return Err(Fault { near, ..fault(at, format!("'{unit}' is not one of {}", known.join(", "))) });
    };
    let time = list.remove(1);
    if !time.is(&DataType::Timestamp) {
        return Err(fault(at, format!("{what} takes a timestamp, not {}", time.type_name())));
    }
    Ok(Arguments { unit, time: time.evaluate, zone })
}

pub(super) fn date_trunc(list: Vec<Typed>, at: Location) -> Result<Typed, Fault> {
    let Arguments { unit, time, zone } = arguments(list, "date_trunc", &TRUNC_UNITS, at)?;
    Ok(Typed::new(DataType::Timestamp, move |frame| match time(frame) {
        Value::Timestamp(t) => frame.some(truncate(t, unit, &zone), Value::Timestamp),
        _ => Value::Null,
    }))
}

fn truncate(time: i64, unit: &str, zone: &TimeZone) -> Option<i64> {
    let local = civil(time, zone)?;
    let date = local.date();
    let midnight = Time::midnight();
    let start: DateTime = match unit {
        "second" => {
            local.round(jiff::civil::DateTimeRound::new().smallest(Unit::Second).mode(jiff::RoundMode::Floor)).ok()?
        }
        "minute" => date.to_datetime(Time::new(local.hour(), local.minute(), 0, 0).ok()?),
        "hour" => date.to_datetime(Time::new(local.hour(), 0, 0, 0).ok()?),
        "day" => date.to_datetime(midnight),
        "week" => {
            let back = date.weekday().since(Weekday::Monday);
            date.checked_sub(i32::from(back).days()).ok()?.to_datetime(midnight)
        }
        "month" => date.first_of_month().to_datetime(midnight),
        "quarter" => {
            let month = (date.month() - 1) / 3 * 3 + 1;
            jiff::civil::Date::new(date.year(), month, 1).ok()?.to_datetime(midnight)
        }
        _ => date.first_of_year().to_datetime(midnight),
    };
    if matches!(unit, "second" | "minute" | "hour") {
        // An hour that a clock shows twice has two starts; the nearer one is meant, not the first.
        let shown = (local.duration_until(start)).as_micros() as i64;
        return Some(time + shown);
    }
    instant(start, zone)
}

pub(super) fn extract(list: Vec<Typed>, at: Location) -> Result<Typed, Fault> {
    let Arguments { unit, time, zone } = arguments(list, "extract", &FIELDS, at)?;
    Ok(Typed::new(DataType::Int64, move |frame| match time(frame) {
        Value::Timestamp(t) => frame.some(field(t, unit, &zone), Value::Int64),
        _ => Value::Null,
    }))
}

fn field(time: i64, unit: &str, zone: &TimeZone) -> Option<i64> {
    let local = civil(time, zone)?;
    Some(match unit {
        "second" => i64::from(local.second()),
        "minute" => i64::from(local.minute()),
        "hour" => i64::from(local.hour()),
        "day" => i64::from(local.day()),
        "week" => i64::from(local.date().iso_week_date().week()),
        "month" => i64::from(local.month()),
        "quarter" => i64::from((local.month() - 1) / 3 + 1),
        "year" => i64::from(local.year()),
        "dow" => i64::from(local.weekday().to_sunday_zero_offset()),
        "doy" => i64::from(local.day_of_year()),
        _ => time.div_euclid(crate::time::SECOND),
    })
}
