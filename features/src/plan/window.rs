//! Windows: which events a feature looks at, as a function of T.

use jiff::ToSpan;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;

use crate::time::{DAY, HOUR, civil, instant};

/// The kinds of windows.
#[derive(Clone, Debug, PartialEq)]
pub enum Window {
    /// `[T - width, T)`, its left edge on a multiple of `hop` where one is declared
    Sliding {
        /// microseconds
        width: i64,
        /// microseconds
        hop: Option<i64>,
    },
    /// everything before T
    Lifetime,
    /// the newest n events before T
    LastN(usize),
    /// the last complete bucket, aligned to the epoch
    Tumbling(i64),
    /// from the local start of the day, ISO week or month that holds T
    Calendar(CalendarUnit, TimeZone),
    /// the run of events with gaps below this, open at T
    Session(i64),
}

/// Longest past that is kept for sessions only.
const SESSION_REACH_MAX: i64 = 90 * DAY;

/// Units of calendar windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalendarUnit {
    /// local midnight to local midnight
    Day,
    /// from Monday
    Week,
    /// from the first
    Month,
}

/// Events with `from <= event_time < to`; no `from`: no left edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// inclusive
    pub from: Option<i64>,
    /// exclusive
    pub to: i64,
}

impl Window {
    /// The range of event times that the window covers at `time` (T less the feature's offset). For last_n it is what the
    /// events are chosen from.
    pub fn range(&self, time: i64) -> Range {
        let floored = |value: i64, unit: i64| value.saturating_sub(value.rem_euclid(unit));
        match self {
            Window::Sliding { width, hop } => {
                let from = time.saturating_sub(*width);
                Range { from: Some(hop.map_or(from, |hop| floored(from, hop))), to: time }
            }
            Window::Lifetime | Window::LastN(_) | Window::Session(_) => Range { from: None, to: time },
            Window::Tumbling(width) => {
                let to = floored(time, *width);
                Range { from: Some(to.saturating_sub(*width)), to }
            }
            Window::Calendar(unit, zone) => Range { from: Some(local_start(*unit, zone, time)), to: time },
        }
    }

    /// How far before T the window can look.
    pub fn reach(&self) -> i64 {
        match self {
            Window::Sliding { width, hop } => width.saturating_add(hop.unwrap_or(0)),
            Window::Lifetime | Window::LastN(_) => 0,
            // A session has no longest length. Events of this age stay in the record; for a longer one the log answers.
            Window::Session(gap) => gap.saturating_mul(64).clamp(DAY, SESSION_REACH_MAX.max(*gap)),
            Window::Tumbling(width) => width.saturating_mul(2),
            Window::Calendar(CalendarUnit::Day, _) => 25 * HOUR,
            Window::Calendar(CalendarUnit::Week, _) => 7 * DAY + HOUR,
            Window::Calendar(CalendarUnit::Month, _) => 31 * DAY + HOUR,
        }
    }

    /// Whether it holds the event that happens at T itself, were there one: the row of a request.
    pub fn reaches_now(&self) -> bool {
        !matches!(self, Window::Tumbling(_))
    }

    /// Whether events of any age can be in it.
    pub fn is_unbounded(&self) -> bool {
        matches!(self, Window::Lifetime | Window::LastN(_) | Window::Session(_))
    }
}

fn local_start(unit: CalendarUnit, zone: &TimeZone, time: i64) -> i64 {
    let start = civil(time, zone).and_then(|local| {
        let day = match unit {
            CalendarUnit::Day => local.date(),
            CalendarUnit::Week => {
                let back = local.date().weekday().since(Weekday::Monday);
                local.date().checked_sub(i32::from(back).days()).ok()?
            }
            CalendarUnit::Month => local.date().first_of_month(),
        };
        instant(day.to_datetime(jiff::civil::Time::midnight()), zone)
    });
    // Outside the years of the calendar there is no local day, and no event either.
    start.unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{SECOND, parse_rfc3339, zone};

    #[test]
    fn edges() {
        let range = |window: Window, t| {
            let range = window.range(t);
            (range.from, range.to)
        };
        assert_eq!(range(Window::Sliding { width: 10, hop: None }, 25), (Some(15), 25));
        assert_eq!(range(Window::Sliding { width: 10, hop: Some(10) }, 25), (Some(10), 25));
        assert_eq!(range(Window::Sliding { width: 10, hop: Some(10) }, 5), (Some(-10), 5));
        assert_eq!(range(Window::Tumbling(10), 25), (Some(10), 20));
        assert_eq!(range(Window::Tumbling(10), 20), (Some(10), 20));
        assert_eq!(range(Window::Tumbling(10), -1), (Some(-20), -10));
        assert_eq!(range(Window::Sliding { width: SECOND, hop: None }, i64::MIN), (Some(i64::MIN), i64::MIN));
    }

    #[test]
    fn local_days_follow_the_clocks() {
        let start = |zone_name: &str, unit, at: &str| {
            let zone = zone(zone_name).unwrap();
            crate::time::rfc3339(local_start(unit, &zone, parse_rfc3339(at).unwrap()))
        };
        assert_eq!(start("Europe/Berlin", CalendarUnit::Day, "2026-03-29T12:00:00Z"), "2026-03-28T23:00:00.000000Z");
        assert_eq!(start("Europe/Berlin", CalendarUnit::Day, "2026-03-30T12:00:00Z"), "2026-03-29T22:00:00.000000Z");
        assert_eq!(start("Europe/Berlin", CalendarUnit::Week, "2026-11-22T12:00:00Z"), "2026-11-15T23:00:00.000000Z");
        assert_eq!(start("UTC", CalendarUnit::Month, "2026-02-03T00:00:00Z"), "2026-02-01T00:00:00.000000Z");
        // Midnight of this day does not exist: clocks went from 00:00 to 01:00.
        assert_eq!(
            start("America/Sao_Paulo", CalendarUnit::Day, "2018-11-04T12:00:00Z"),
            "2018-11-04T03:00:00.000000Z"
        );
        // Midnight of this day came twice (clocks went back from 01:00 to 00:00): the first.
        assert_eq!(start("America/Havana", CalendarUnit::Day, "2018-11-04T12:00:00Z"), "2018-11-04T04:00:00.000000Z");
    }
}
