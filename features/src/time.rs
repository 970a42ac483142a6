//! Times and durations: text to microseconds and back. No clock is read here or anywhere in this crate.

use std::fmt;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Microseconds in a second.
pub const SECOND: i64 = 1_000_000;
/// Microseconds in an hour.
pub const HOUR: i64 = 3600 * SECOND;
/// Microseconds in a day of 24 hours.
pub const DAY: i64 = 24 * HOUR;
/// The first microsecond of the year 1.
pub const MIN_TIME: i64 = -62_135_596_800 * SECOND;
/// The last microsecond of the year 9999.
pub const MAX_TIME: i64 = 253_402_300_800 * SECOND - 1;

const UNITS: [(&str, i64); 7] =
    [("us", 1), ("ms", 1000), ("s", SECOND), ("m", 60 * SECOND), ("h", HOUR), ("d", DAY), ("w", 7 * DAY)];

/// Reads a duration such as `90s` or `1d12h`, in microseconds; the error says what was expected.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let expected = "expected a duration such as \"10m\", \"1h\" or \"1d12h\" (us, ms, s, m, h, d, w)";
    let mut total: i64 = 0;
    let mut rest = text;
    if rest.is_empty() {
        return Err(expected.to_string());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        if digits == 0 || letters == 0 {
            return Err(format!("`{text}` is not a duration: {expected}"));
        }
        let unit = &rest[digits..digits + letters];
        if ["mo", "month", "months", "y", "year", "years"].contains(&unit) {
            return Err(format!(
                "`{unit}` has no fixed length: months and years differ; use days, or a calendar window"
            ));
        }
        let Some((_, size)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!("`{unit}` is not a unit of time: {expected}"));
        };
        let too_long = || format!("`{text}` is longer than 1000 years");
        let amount: i64 = rest[..digits].parse().map_err(|_| too_long())?;
        total = amount.checked_mul(*size).and_then(|part| total.checked_add(part)).ok_or_else(too_long)?;
        rest = &rest[digits + letters..];
    }
    if total > 1000 * 366 * DAY {
        return Err(format!("`{text}` is longer than 1000 years"));
    }
    Ok(total)
}

/// Writes a duration with the largest unit that divides it.
pub fn duration_text(micros: i64) -> String {
    let (name, size) = UNITS.iter().rev().find(|(_, size)| micros % size == 0).unwrap_or(&UNITS[0]);
    format!("{}{name}", micros / size)
}

/// Reads RFC 3339 text with its offset; finer than a microsecond is floored. None where the text is no such time or lies
/// outside the years 1 to 9999.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let part = bytes.get(range)?;
        part.iter().all(u8::is_ascii_digit).then(|| part.iter().fold(0, |n, b| n * 10 + i64::from(b - b'0')))
    };
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, byte)| bytes.get(*at) != Some(byte)) || !b"Tt ".contains(bytes.get(10)?) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1..=12).contains(&month)
        || day < 1
        || day > days_in_month(year, month)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    let mut at = 19;
    let mut micros = 0;
    if bytes.get(at) == Some(&b'.') {
        let digits = bytes[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        for place in 0..6 {
            let digit = if place < digits { i64::from(bytes[at + 1 + place] - b'0') } else { 0 };
            micros = micros * 10 + digit;
        }
        at += 1 + digits;
    }
    let offset = match bytes.get(at)? {
        b'Z' | b'z' if bytes.len() == at + 1 => 0,
        sign @ (b'+' | b'-') if bytes.len() == at + 6 && bytes[at + 3] == b':' => {
            let (hours, minutes) = (number(at + 1..at + 3)?, number(at + 4..at + 6)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 3600 + minutes * 60) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    let seconds = days_from_civil(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset;
    let time = seconds * SECOND + micros;
    (MIN_TIME..=MAX_TIME).contains(&time).then_some(time)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since the epoch of a date of the proleptic Gregorian calendar; the month is counted from March so that the leap day
/// comes last (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Writes a time as RFC 3339 with six digits of a second and `Z`.
pub fn rfc3339(time: i64) -> String {
    Rfc3339(time).to_string()
}

struct Rfc3339(i64);

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.0.clamp(MIN_TIME, MAX_TIME);
        // Not by way of an instant: jiff's end a day before the year 9999 does, so that every zone can show them.
        match EPOCH.checked_add(jiff::SignedDuration::from_micros(time)) {
            Ok(c) => write!(
                f,
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
                c.year(),
                c.month(),
                c.day(),
                c.hour(),
                c.minute(),
                c.second(),
                time.rem_euclid(SECOND)
            ),
            Err(_) => write!(f, "{time}us"),
        }
    }
}

/// The wall clock of a zone at a time; None outside the years that the zone rules cover.
pub fn civil(time: i64, zone: &TimeZone) -> Option<DateTime> {
    jiff::Timestamp::from_microsecond(time).ok().map(|t| zone.to_datetime(t))
}

/// The first instant at which a zone's wall clock shows this time or, where it never does, the first instant after the gap.
pub fn instant(local: DateTime, zone: &TimeZone) -> Option<i64> {
    use jiff::tz::AmbiguousOffset;
    let ambiguous = zone.to_ambiguous_timestamp(local);
    let offset = match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { offset } => offset,
        AmbiguousOffset::Fold { before, .. } => before,
        AmbiguousOffset::Gap { before, .. } => {
            // With the offset from before the gap, a time inside it lands as far behind the change as it stands inside the
            // gap; the change itself is the last one before that.
            let landed = before.to_timestamp(local).ok()?;
            let after = landed.checked_add(jiff::SignedDuration::from_micros(1)).ok()?;
            return zone.preceding(after).next().map(|change| change.timestamp().as_microsecond());
        }
    };
    offset.to_timestamp(local).ok().map(|t| t.as_microsecond())
}

/// A time zone by its IANA name. Zones come from a database inside the program, so that all machines agree.
pub fn zone(name: &str) -> Option<TimeZone> {
    TimeZone::get(name).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("1h"), Ok(HOUR));
        assert_eq!(parse_duration("1d12h"), Ok(36 * HOUR));
        assert!(parse_duration("1y").unwrap_err().contains("no fixed length"));
        assert!(parse_duration("").is_err() && parse_duration("h").is_err() && parse_duration("-1h").is_err());
        assert!(parse_duration("1001w99999999999999999999d").is_err());
        assert_eq!(duration_text(36 * HOUR), "36h");
        assert_eq!(duration_text(90 * SECOND), "90s");
    }

    #[test]
    fn rfc3339_reads_and_writes() {
        assert_eq!(parse_rfc3339("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(
            parse_rfc3339("2026-11-22T20:41:07.5126789+01:00").map(rfc3339).as_deref(),
            Some("2026-11-22T19:41:07.512678Z")
        );
        assert_eq!(parse_rfc3339("1969-12-31T23:59:59.999999999Z"), Some(-1));
        assert_eq!(parse_rfc3339("2026-11-22T20:41:07"), None, "an offset is needed");
        assert_eq!(parse_rfc3339("2026-02-29T00:00:00Z"), None);
        assert_eq!(rfc3339(MAX_TIME), "9999-12-31T23:59:59.999999Z");
        for (day, exists) in [("2024-02-29", true), ("2000-02-29", true), ("1900-02-29", false), ("2100-02-29", false)]
        {
            assert_eq!(parse_rfc3339(&format!("{day}T00:00:00Z")).is_some(), exists, "{day}");
        }
        assert_eq!(parse_rfc3339("0001-01-01T00:00:00Z"), Some(MIN_TIME));
        assert_eq!(parse_rfc3339("0000-12-31T00:00:00Z"), None);
        assert_eq!(parse_rfc3339("9999-12-31T23:59:59.999999Z"), Some(MAX_TIME));
        assert_eq!(parse_rfc3339("10000-01-01T00:00:00Z"), None);
    }

    #[test]
    fn durations_of_every_unit() {
        let sum = 2 * HOUR + 3 * 60 * SECOND + 4 * SECOND + 5_006;
        for (text, micros) in [
            ("1us", 1),
            ("1ms", 1_000),
            ("1s", 1_000_000),
            ("1m", 60_000_000),
            ("1h", 3_600_000_000),
            ("1d", 86_400_000_000),
            ("1w", 604_800_000_000),
            ("2h3m4s5ms6us", sum),
            ("366000d", 366_000 * DAY),
        ] {
            assert_eq!(parse_duration(text), Ok(micros), "{text}");
        }
        for (text, wrong) in [
            ("", "expected a duration"),
            ("h", "`h` is not a duration"),
            ("5", "`5` is not a duration"),
            ("1h5", "`1h5` is not a duration"),
            ("1h h", "is not a duration"),
            ("1x", "`x` is not a unit of time"),
            ("1h2mo", "`mo` has no fixed length"),
            ("366000d1us", "longer than 1000 years"),
            ("1us366000d", "longer than 1000 years"),
            ("9223372036854775807w", "longer than 1000 years"),
            ("9223372036854775807us1us", "longer than 1000 years"),
        ] {
            let message = parse_duration(text).unwrap_err();
            assert!(message.contains(wrong), "{text}: {message}");
        }
    }

    #[test]
    fn durations_take_the_largest_unit_that_divides_them() {
        for text in ["999us", "1001us", "1ms", "999ms", "1s", "61s", "1m", "59m", "1h", "25h", "1d", "8d", "1w", "2w"] {
            assert_eq!(duration_text(parse_duration(text).unwrap()), text);
        }
    }

    /// Every month ends with its last day, in leap years and others.
    #[test]
    fn months_have_their_days() {
        for (year, february) in [(2023, 28), (2024, 29), (1900, 28), (2000, 29), (2100, 28)] {
            let days = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            for (month, days) in (1..).zip(days) {
                let exists = |day: i32| parse_rfc3339(&format!("{year}-{month:02}-{day:02}T00:00:00Z")).is_some();
                assert!(exists(1) && exists(days) && !exists(0) && !exists(days + 1), "{year}-{month}");
            }
        }
    }

    /// None of the characters of a time can be another or be left out, and nothing can follow.
    #[test]
    fn every_character_of_a_time_counts() {
        for text in ["2026-11-22T20:41:07.512+01:30", "2026-11-22T20:41:07Z"] {
            assert!(parse_rfc3339(text).is_some() && parse_rfc3339(&format!("{text}0")).is_none());
            for at in 0..text.len() {
                for wrong in ["x", "/", ";", ""] {
                    let broken = format!("{}{wrong}{}", &text[..at], &text[at + 1..]);
                    // One digit less of a fraction is still a fraction.
                    let shorter = wrong.is_empty()
                        && text[at..].starts_with(|c: char| c.is_ascii_digit())
                        && (20..23).contains(&at);
                    assert_eq!(parse_rfc3339(&broken).is_some(), shorter, "{broken}");
                }
                assert_eq!(parse_rfc3339(&text[..at]), None);
            }
        }
    }

    #[test]
    fn fields_of_a_time_have_their_ranges() {
        let at = |text: &str| parse_rfc3339(text);
        let midnight = at("2026-11-22T00:00:00Z").unwrap();
        for (text, micros) in [
            ("2026-11-22t00:00:00z", 0),
            ("2026-11-22 23:59:59Z", 86_399_000_000),
            ("2026-11-22T00:00:00.5Z", 500_000),
            ("2026-11-22T00:00:00.0000019Z", 1),
            ("2026-11-22T00:00:00.1234567Z", 123_456),
            ("2026-11-22T00:00:00+01:30", -5_400_000_000),
            ("2026-11-22T00:00:00-01:30", 5_400_000_000),
            ("2026-11-22T00:00:00+23:59", -86_340_000_000),
            ("2026-11-22T00:00:00-23:59", 86_340_000_000),
        ] {
            assert_eq!(at(text), Some(midnight + micros), "{text}");
        }
        for text in [
            "2026-00-22T00:00:00Z",
            "2026-13-22T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T00:60:00Z",
            "2026-11-22T00:00:60Z",
            "2026-11-22T00:00:00.Z",
            "2026-11-22T00:00:00+24:00",
            "2026-11-22T00:00:00+00:60",
            "9999-12-31T23:59:59-00:01",
            "0001-01-01T00:00:00+00:01",
        ] {
            assert_eq!(at(text), None, "{text}");
        }
        assert_eq!(rfc3339(i64::MAX), "9999-12-31T23:59:59.999999Z");
        assert_eq!(rfc3339(i64::MIN), "0001-01-01T00:00:00.000000Z");
    }

    proptest! {
        /// Written by the calendar of another library, read by ours.
        #[test]
        fn times_come_back(time in MIN_TIME..=MAX_TIME, day in -720_000i64..2_930_000) {
            for time in [time, (day * DAY).clamp(MIN_TIME, MAX_TIME)] {
                prop_assert_eq!(parse_rfc3339(&rfc3339(time)), Some(time));
            }
        }
    }
}
