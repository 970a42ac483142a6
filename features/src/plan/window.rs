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

    /// The first time after `from` at which the window is to be looked at again, because time alone lets the oldest event that it
    /// has leave, or the next one come in: the first events from its edge and from its end on. It may be too early, never too
    /// late. None: there is none.
    pub fn next_change(&self, from: i64, oldest: Option<i64>, next: Option<i64>) -> Option<i64> {
        let is_edged = !matches!(self, Window::Lifetime | Window::LastN(_));
        let oldest = oldest.filter(|event| is_edged && *event < self.range(from).to);
        let leaves = oldest.map(|event| self.first(from, |time| self.edge(time) > event));
        let enters = next.map(|event| self.first(from.max(event), |time| self.range(time).to > event));
        leaves.into_iter().chain(enters).min()
    }

    /// Events before it are not in the window at `time`, whatever other events there are.
    pub fn edge(&self, time: i64) -> i64 {
        match self {
            Window::Session(gap) => time.saturating_sub(*gap).saturating_add(1),
            _ => self.range(time).from.unwrap_or(i64::MIN),
        }
    }

    /// The first time after `from` at which something holds that, once it does, holds for good. What lies behind the window's
    /// reach is looked at when that has passed.
    fn first(&self, from: i64, holds: impl Fn(i64) -> bool) -> i64 {
        let (mut before, mut at) = (from, from.saturating_add(self.reach()).saturating_add(1));
        while before.saturating_add(1) < at {
            let middle = before + (at - before) / 2;
            if holds(middle) { at = middle } else { before = middle }
        }
        at
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

    /// Time is walked through step by step: between two changes that are told nothing comes into the window or leaves it.
    #[test]
    fn changes_are_told_in_time() {
        let events = [3_i64, 4, 10, 11, 11, 30, 31, 77];
        let windows = [
            Window::Sliding { width: 10, hop: None },
            Window::Sliding { width: 10, hop: Some(4) },
            Window::Sliding { width: 3, hop: Some(10) },
            Window::Tumbling(7),
            Window::Lifetime,
            Window::LastN(2),
            Window::Session(5),
        ];
        for window in windows {
            let held = |time: i64| -> Vec<i64> {
                let to = window.range(time).to;
                events.into_iter().filter(|event| (window.edge(time)..to).contains(event)).collect()
            };
            let mut told = Some(-20);
            for time in -20..140 {
                if told.is_some_and(|told| told <= time) {
                    let oldest = events.into_iter().find(|event| *event >= window.edge(time));
                    let next = events.into_iter().find(|event| *event >= window.range(time).to);
                    told = window.next_change(time, oldest, next);
                    assert!(told.is_none_or(|told| told > time));
                } else {
                    assert_eq!(held(time), held(time - 1), "{window:?} at {time}");
                }
            }
            assert!(window == Window::Lifetime || window == Window::LastN(2) || held(139).is_empty());
        }
        let day = Window::Calendar(CalendarUnit::Day, zone("Europe/Berlin").unwrap());
        let [event, midnight] = ["2026-03-29T12:00:00Z", "2026-03-29T22:00:00Z"].map(|at| parse_rfc3339(at).unwrap());
        assert_eq!(day.next_change(event + 1, Some(event), None), Some(midnight));
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

    /// Both changes of a year in three zones; Lord Howe moves its clocks by half an hour.
    #[test]
    fn days_weeks_and_months_over_both_changes() {
        let start = |zone_name: &str, unit, at: &str| {
            let zone = zone(zone_name).unwrap();
            crate::time::rfc3339(local_start(unit, &zone, parse_rfc3339(at).unwrap()))
        };
        use CalendarUnit::{Day, Month, Week};
        let cases = [
            ("Europe/Berlin", Day, "2026-03-29T23:59:59+02:00", "2026-03-28T23:00:00.000000Z"),
            ("Europe/Berlin", Day, "2026-03-30T00:00:00+02:00", "2026-03-29T22:00:00.000000Z"),
            ("Europe/Berlin", Week, "2026-03-29T12:00:00+02:00", "2026-03-22T23:00:00.000000Z"),
            ("Europe/Berlin", Month, "2026-03-31T12:00:00+02:00", "2026-02-28T23:00:00.000000Z"),
            ("Europe/Berlin", Day, "2026-10-25T23:00:00+01:00", "2026-10-24T22:00:00.000000Z"),
            ("Europe/Berlin", Day, "2026-10-26T00:00:00+01:00", "2026-10-25T23:00:00.000000Z"),
            ("Europe/Berlin", Month, "2026-10-31T12:00:00+01:00", "2026-09-30T22:00:00.000000Z"),
            ("America/New_York", Day, "2026-03-08T12:00:00-04:00", "2026-03-08T05:00:00.000000Z"),
            ("America/New_York", Day, "2026-03-09T12:00:00-04:00", "2026-03-09T04:00:00.000000Z"),
            ("America/New_York", Week, "2026-03-08T12:00:00-04:00", "2026-03-02T05:00:00.000000Z"),
            ("America/New_York", Day, "2026-11-01T01:30:00-05:00", "2026-11-01T04:00:00.000000Z"),
            ("America/New_York", Month, "2026-11-30T12:00:00-05:00", "2026-11-01T04:00:00.000000Z"),
            ("Australia/Lord_Howe", Day, "2026-04-05T12:00:00+10:30", "2026-04-04T13:00:00.000000Z"),
            ("Australia/Lord_Howe", Day, "2026-04-06T12:00:00+10:30", "2026-04-05T13:30:00.000000Z"),
            ("Australia/Lord_Howe", Day, "2026-10-04T12:00:00+11:00", "2026-10-03T13:30:00.000000Z"),
            ("Australia/Lord_Howe", Week, "2026-10-05T12:00:00+11:00", "2026-10-04T13:00:00.000000Z"),
            ("Australia/Lord_Howe", Month, "2026-10-05T12:00:00+11:00", "2026-09-30T13:30:00.000000Z"),
        ];
        for (zone_name, unit, at, expected) in cases {
            assert_eq!(start(zone_name, unit, at), expected, "{zone_name} {unit:?} {at}");
        }
    }

    /// The start never lies ahead, and every moment before the next start has the same one, whatever the clocks do.
    #[test]
    fn starts_hold_for_the_whole_day() {
        for zone_name in ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Toronto", "Pacific/Apia"]
        {
            let zone = zone(zone_name).unwrap();
            let mut time = parse_rfc3339("2011-12-20T00:00:00Z").unwrap();
            let mut starts = Vec::new();
            while time < parse_rfc3339("2012-12-31T00:00:00Z").unwrap() {
                let start = local_start(CalendarUnit::Day, &zone, time);
                assert!(start <= time && time - start <= 25 * HOUR, "{zone_name} {time}");
                assert_eq!(local_start(CalendarUnit::Day, &zone, start), start, "{zone_name} {time}");
                starts.push(start);
                time += HOUR / 2;
            }
            assert!(starts.is_sorted(), "{zone_name}");
        }
    }
}
