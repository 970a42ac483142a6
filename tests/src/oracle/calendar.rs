//! Where a local day, ISO week or month starts, found the long way: every moment at which a local day can start
//! is tried, and the first one that has the date wins. The zones are those of the bundled database.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::model::Period;

const HOUR: i64 = 3_600_000_000;

/// The start of the period that holds `t`.
pub fn start(period: Period, zone: &str, t: i64) -> i64 {
    let zone = time_zone(zone);
    first_instant(&zone, first_date(period, local_date(&zone, t)))
}

/// The start of the period after the one that holds `t`.
pub fn next_start(period: Period, zone: &str, t: i64) -> i64 {
    let zone = time_zone(zone);
    let first = first_date(period, local_date(&zone, t));
    let length = match period {
        Period::Day => 1.day(),
        Period::Week => 1.week(),
        Period::Month => 1.month(),
    };
    first_instant(&zone, first.checked_add(length).expect("dates of tests are far from the last one"))
}

fn first_date(period: Period, date: Date) -> Date {
    match period {
        Period::Day => date,
        Period::Week => {
            let since_monday = i64::from(date.weekday().to_monday_zero_offset());
            date.checked_sub(since_monday.days()).expect("dates of tests are far from the first one")
        }
        Period::Month => date.first_of_month(),
    }
}

/// The earliest moment at which clocks of the zone show this date, or a later one if none shows it.
fn first_instant(zone: &TimeZone, date: Date) -> i64 {
    let midnight = date.to_datetime(Time::midnight()).to_zoned(TimeZone::UTC).expect("in range").timestamp();
    let midnight = midnight.as_microsecond();
    // No zone is 26 hours from UTC, so two days on either side hold the start.
    let (from, to) = (midnight - 48 * HOUR, midnight + 48 * HOUR);
    let offset_at = |t: i64| i64::from(zone.to_offset(instant(t)).seconds()) * 1_000_000;
    let changes = zone.following(instant(from)).map(|change| change.timestamp().as_microsecond());
    let changes: Vec<i64> = changes.take_while(|change| *change <= to).collect();
    // A day starts where a midnight is, by one of the offsets around, or where the clocks jump.
    let mut candidates = vec![midnight - offset_at(from)];
    for change in changes {
        candidates.extend([change, midnight - offset_at(change)]);
    }
    let has_begun = |t: &i64| local_date(zone, *t) >= date;
    candidates.into_iter().filter(has_begun).min().expect("a midnight by the last offset has the date")
}

fn local_date(zone: &TimeZone, t: i64) -> Date {
    instant(t).to_zoned(zone.clone()).date()
}

fn instant(t: i64) -> Timestamp {
    Timestamp::from_microsecond(t).expect("times of tests are of the years that have dates")
}

fn time_zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().expect("a time").as_microsecond()
    }

    fn check(period: Period, zone: &str, t: &str, expected: &str) {
        let found = start(period, zone, at(t));
        assert_eq!(found, at(expected), "{zone} {t}: {}", instant(found));
        assert!(next_start(period, zone, at(t)) > at(t));
    }

    #[test]
    fn days_weeks_and_months() {
        check(Period::Day, "UTC", "1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z");
        check(Period::Day, "UTC", "1969-12-31T23:59:59.999999Z", "1969-12-31T00:00:00Z");
        check(Period::Day, "Asia/Kathmandu", "2023-05-01T18:15:00Z", "2023-05-01T18:15:00Z");
        check(Period::Day, "Asia/Kathmandu", "2023-05-01T18:14:59Z", "2023-04-30T18:15:00Z");
        check(Period::Week, "Europe/Berlin", "2024-01-01T00:00:00Z", "2023-12-31T23:00:00Z");
        check(Period::Week, "Europe/Berlin", "2023-12-31T22:59:59Z", "2023-12-24T23:00:00Z");
        check(Period::Month, "Europe/Berlin", "2023-03-31T22:00:00Z", "2023-03-31T22:00:00Z");
        check(Period::Month, "Europe/Berlin", "2023-03-31T21:59:59Z", "2023-02-28T23:00:00Z");
    }

    #[test]
    fn days_of_23_and_25_hours() {
        check(Period::Day, "Europe/Berlin", "2023-03-26T21:00:00Z", "2023-03-25T23:00:00Z");
        assert_eq!(next_start(Period::Day, "Europe/Berlin", at("2023-03-26T21:00:00Z")), at("2023-03-26T22:00:00Z"));
        assert_eq!(next_start(Period::Day, "Europe/Berlin", at("2023-10-29T00:00:00Z")), at("2023-10-29T23:00:00Z"));
    }

    #[test]
    fn midnights_that_are_skipped_or_shown_twice() {
        // Havana: 00:00 becomes 01:00 in spring; 01:00 becomes 00:00 in autumn.
        check(Period::Day, "America/Havana", "2023-03-12T12:00:00Z", "2023-03-12T05:00:00Z");
        check(Period::Day, "America/Havana", "2023-11-05T12:00:00Z", "2023-11-05T04:00:00Z");
        check(Period::Day, "America/Havana", "2023-11-05T04:30:00Z", "2023-11-05T04:00:00Z");
        check(Period::Month, "Asia/Beirut", "2023-03-30T12:00:00Z", "2023-02-28T22:00:00Z");
        // Toronto 1919: 23:30 became 00:30, so the day began at half past midnight.
        check(Period::Day, "America/Toronto", "1919-03-31T12:00:00Z", "1919-03-31T04:30:00Z");
        // Samoa left out the 30th of December 2011.
        check(Period::Day, "Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z");
        check(Period::Day, "Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z");
    }
}
