//! Checking windows and defaults of features.

use super::check::Definition;
use super::document::{Files, Item, ItemValue, Place};
use crate::plan::Window;
use crate::plan::window::CalendarUnit;
use crate::problem::nearest;
use crate::time::{DAY, parse_duration, parse_rfc3339, zone};
use crate::value::{DataType, Value, parse_decimal};

/// Longest window, hop and offset: beyond ten years it is a mistake, or `lifetime` is meant.
pub(super) const WIDTH_MAX: i64 = 3660 * DAY;

/// A window of a feature, with the name that the feature has there.
pub(super) struct Windowed<'d> {
    pub name: String,
    pub window: Window,
    pub place: &'d Place,
}

pub(super) fn check_windows<'d>(files: &Files<'_>, feature: &Definition<'d>) -> Option<Vec<Windowed<'d>>> {
    const KINDS: [&str; 4] = ["windows", "window", "ttl", "last_n"];
    let given: Vec<&str> = KINDS.into_iter().filter(|key| feature.get(key).is_some()).collect();
    if let [first, second, ..] = given[..] {
        let message = format!("`{first}` and `{second}` exclude one another");
        files.report("E0011", feature.key_place(second), message, None);
        return None;
    }
    let hop = feature.get("hop").and_then(|item| width(files, item));
    if let Some(item) = feature.get("offset")
        && feature.duration("offset").is_some_and(|offset| offset > WIDTH_MAX)
    {
        files.report("E0011", &item.place, "an offset is at most 3660 days", None);
    }
    let one = |window| vec![Windowed { name: feature.name.to_string(), window, place: feature.place }];
    let sliding = |width| Window::Sliding { width, hop };
    let windows = match given.first().copied() {
        None => one(Window::Lifetime),
        Some("windows") => several(files, feature, sliding)?,
        Some("ttl") => one(sliding(width(files, feature.get("ttl")?)?)),
        Some("last_n") => match &feature.get("last_n")?.value {
            ItemValue::Int(n) if (1..=10_000).contains(n) => one(Window::LastN(*n as usize)),
            _ => return None,
        },
        Some(_) => one(special(files, feature.get("window")?, hop)?),
    };
    let slides = windows.iter().all(|w| matches!(w.window, Window::Sliding { .. }));
    if feature.get("hop").is_some() && (!slides || given.first() == Some(&"ttl")) {
        files.report(
            "E0018",
            feature.key_place("hop"),
            "`hop` has no effect: it moves the left edge of a sliding window",
            None,
        );
    }
    Some(windows)
}

fn several<'d>(
    files: &Files<'_>,
    feature: &Definition<'d>,
    sliding: impl Fn(i64) -> Window,
) -> Option<Vec<Windowed<'d>>> {
    let item = feature.get("windows")?;
    let ItemValue::Array(list) = &item.value else { return None };
    if list.is_empty() {
        files.report("E0011", &item.place, "`windows` names at least one duration", None);
    }
    let mut windows = Vec::with_capacity(list.len());
    let mut all_fit = true;
    for item in list {
        let (Some(text), Some(width)) = (item.text(), width(files, item)) else {
            all_fit = false;
            continue;
        };
        let name = format!("{}_{text}", feature.name);
        windows.push(Windowed { name, window: sliding(width), place: &item.place });
    }
    all_fit.then_some(windows)
}

/// A duration that a window can have.
fn width(files: &Files<'_>, item: &Item) -> Option<i64> {
    let width = parse_duration(item.text()?).ok()?;
    if (1..=WIDTH_MAX).contains(&width) {
        return Some(width);
    }
    let message =
        if width == 0 { "a window of no length holds no event" } else { "a window is at most 3660 days; use lifetime" };
    files.report("E0011", &item.place, message, None);
    None
}

/// lifetime, tumbling(1h), session(30m), calendar(day, 'Zone'), 1h
fn special(files: &Files<'_>, item: &Item, hop: Option<i64>) -> Option<Window> {
    let text = item.text()?.trim();
    let wrong = |message: String, near: Option<String>| {
        files.report("E0011", &item.place, message, near);
        None
    };
    let (kind, arguments) = match text.split_once('(') {
        Some((kind, rest)) => match rest.strip_suffix(')') {
            Some(arguments) => (kind.trim(), Some(arguments)),
            None => return wrong(format!("`{text}` lacks its closing parenthesis"), None),
        },
        None => (text, None),
    };
    match (kind, arguments) {
        ("lifetime", None) => Some(Window::Lifetime),
        ("tumbling" | "session", Some(duration)) => {
            let parsed = match parse_duration(duration.trim()) {
                Ok(width) if (1..=WIDTH_MAX).contains(&width) => width,
                Ok(_) => return wrong("a window is from 1us to 3660 days".to_string(), None),
                Err(message) => return wrong(message, None),
            };
            Some(if kind == "tumbling" { Window::Tumbling(parsed) } else { Window::Session(parsed) })
        }
        ("calendar", Some(arguments)) => {
            let (unit, zone_name) = arguments.split_once(',').unwrap_or((arguments, "'UTC'"));
            let unit = match unit.trim() {
                "day" => CalendarUnit::Day,
                "week" => CalendarUnit::Week,
                "month" => CalendarUnit::Month,
                other => {
                    return wrong(
                        format!("`{other}` is not day, week or month"),
                        nearest(other, ["day", "week", "month"]),
                    );
                }
            };
            let zone_name = zone_name.trim().trim_matches('\'');
            match zone(zone_name) {
                Some(zone) => Some(Window::Calendar(unit, zone)),
                None => wrong(format!("'{zone_name}' is not a time zone such as 'Europe/Berlin'"), None),
            }
        }
        (duration, None) if duration.starts_with(|c: char| c.is_ascii_digit()) => match parse_duration(duration) {
            Ok(_) => width(files, item).map(|width| Window::Sliding { width, hop }),
            Err(message) => wrong(message, None),
        },
        _ => {
            let near = nearest(kind, ["lifetime", "tumbling", "session", "calendar"]);
            wrong(
                format!("`{text}` is not a window: lifetime, tumbling(1h), session(30m), calendar(day, 'Zone')"),
                near,
            )
        }
    }
}

/// The declared default, which must be a value of the feature's type.
pub(super) fn check_default(
    files: &Files<'_>,
    feature: &Definition<'_>,
    data_type: &DataType,
) -> Option<Value<'static>> {
    let item = feature.get("default")?;
    let value = match (&item.value, data_type) {
        (ItemValue::Int(v), DataType::Int64) => Some(Value::Int64(*v)),
        (ItemValue::Int(v), DataType::Float64) => Some(Value::Float64(*v as f64)),
        (ItemValue::Float(v), DataType::Float64) if !v.is_nan() => Some(Value::Float64(*v + 0.0)),
        (ItemValue::Bool(v), DataType::Bool) => Some(Value::Bool(*v)),
        (ItemValue::Text(v), DataType::Text) => Some(Value::Text(v.clone().into())),
        (ItemValue::Text(v), DataType::Timestamp) => parse_rfc3339(v).map(Value::Timestamp),
        (ItemValue::Text(v), DataType::Decimal { precision, scale }) => {
            parse_decimal(v, *precision, *scale).map(Value::Decimal)
        }
        (ItemValue::Int(v), DataType::Decimal { precision, scale }) => {
            parse_decimal(&v.to_string(), *precision, *scale).map(Value::Decimal)
        }
        _ => None,
    };
    if value.is_none() {
        let message = format!("the default is {}, but the feature is {data_type}", item.kind());
        files.report("E0016", &item.place, message, None);
    }
    value
}
