//! Which events a window holds at a moment, and where the request's own row comes in.

use super::accept::Event;
use super::calendar;
use super::model::Window;

/// `events` passed the feature's `where` and are in the total order. `row` is the request's row at `t`: only for
/// windows as seen at the moment of the read itself.
pub fn pick<'a>(window: &Window, events: &[&'a Event], t: i64, row: Option<&'a Event>) -> Vec<&'a Event> {
    let (from, to) = match window {
        Window::Sliding { width, hop: None } | Window::Ttl(width) => (t - width, t),
        Window::Sliding { width, hop: Some(hop) } => ((t - width).div_euclid(*hop) * hop, t),
        Window::Tumbling(width) => (t.div_euclid(*width) * width - width, t.div_euclid(*width) * width),
        Window::Calendar(period, zone) => (calendar::start(*period, zone, t), t),
        Window::Lifetime | Window::LastN(_) | Window::Session(_) => (i64::MIN, t),
    };
    let held = |event: &&Event| from <= event.event_time && event.event_time < to;
    let mut picked: Vec<&Event> = events.iter().copied().filter(held).collect();
    if let Window::Session(gap) = window {
        picked = open_session(picked, *gap, t);
    }
    // The last complete bucket ends before any row of now. In an open session the row is one more event, and
    // where none is open it is a session of its own.
    let reaches_t = !matches!(window, Window::Tumbling(_));
    picked.extend(row.filter(|_| reaches_t));
    if let Window::LastN(n) = window {
        picked.drain(..picked.len().saturating_sub(*n));
    }
    picked
}

/// The longest run at the end in which every gap, that up to `t` too, is less than `gap`.
fn open_session(mut events: Vec<&Event>, gap: i64, t: i64) -> Vec<&Event> {
    let mut session = Vec::new();
    let mut next = t;
    while let Some(event) = events.pop() {
        if i128::from(next) - i128::from(event.event_time) >= i128::from(gap) {
            break;
        }
        next = event.event_time;
        session.push(event);
    }
    session.reverse();
    session
}

#[cfg(test)]
mod tests {
    use super::super::model::Period;
    use super::super::sample::{SECOND, row, source};
    use super::super::{accept, model::Row};
    use super::*;

    const HOUR: i64 = 3600 * SECOND;
    const DAY: i64 = 24 * HOUR;

    fn event(time: i64) -> Event {
        let row: Row = row(0, 0, "a", time, 0, time, 0.0);
        accept::accept(&source(), &row).expect("a good row")
    }

    /// `with_row` adds a request row at `t`.
    fn check_with(window: Window, times: &[i64], t: i64, with_row: bool, expected: &[i64]) {
        let events: Vec<Event> = times.iter().map(|time| event(*time)).collect();
        let row = event(t);
        let picked = pick(&window, &events.iter().collect::<Vec<_>>(), t, Some(&row).filter(|_| with_row));
        let found: Vec<i64> = picked.iter().map(|event| event.event_time).collect();
        assert_eq!(found, expected, "{window:?} at {t}");
    }

    fn check(window: Window, times: &[i64], t: i64, expected: &[i64]) {
        check_with(window, times, t, false, expected);
    }

    #[test]
    fn sessions_break_at_the_gap() {
        let times = [0, 10, 19, 19, 28];
        check(Window::Session(10), &times, 29, &[10, 19, 19, 28]);
        check(Window::Session(10), &times, 37, &[10, 19, 19, 28]);
        check(Window::Session(10), &times, 38, &[]);
        check(Window::Session(11), &times, 38, &[0, 10, 19, 19, 28]);
        check(Window::Session(10), &times, 19, &[10]);
        check(Window::Session(1), &times, 20, &[]);
        check(Window::Session(1), &[], 20, &[]);
    }

    #[test]
    fn the_row_of_the_request() {
        let times = [0, 10, 19];
        check_with(Window::Session(10), &times, 28, true, &[10, 19, 28]);
        check_with(Window::Session(10), &times, 29, true, &[29]);
        check_with(Window::LastN(2), &times, 20, true, &[19, 20]);
        check_with(Window::Tumbling(10), &times, 20, true, &[10, 19]);
        check_with(Window::Lifetime, &times, 10, true, &[0, 10]);
        check_with(Window::Sliding { width: 1, hop: None }, &times, 20, true, &[19, 20]);
        check_with(Window::Ttl(1), &[], 20, true, &[20]);
        check_with(Window::Calendar(Period::Day, "UTC".into()), &[DAY - 1], DAY, true, &[DAY]);
    }

    #[test]
    fn calendar_windows_reach_up_to_t() {
        let times = [-1, 0, HOUR, DAY - HOUR, DAY - 1, DAY];
        check(Window::Calendar(Period::Day, "UTC".into()), &times, DAY - 1, &[0, HOUR, DAY - HOUR]);
        check(Window::Calendar(Period::Day, "UTC".into()), &times, DAY, &[]);
        // In Berlin the first of January 1970 began an hour before the epoch.
        check(Window::Calendar(Period::Day, "Europe/Berlin".into()), &times, DAY - HOUR, &[]);
        check(Window::Calendar(Period::Day, "Europe/Berlin".into()), &times, DAY - 1, &[DAY - HOUR]);
        check(Window::Calendar(Period::Month, "Europe/Berlin".into()), &times, HOUR, &[-1, 0]);
        // A Thursday: the week began on the 29th of December.
        check(Window::Calendar(Period::Week, "UTC".into()), &[-3 * DAY - 1, -3 * DAY], 0, &[-3 * DAY]);
    }
}
