//! Sets by time, such as train and test: a model is tried on what came after that from which it learned.
//!
//! A split by fractions becomes one by times before the first row is written: it cuts where the fraction of the rows, in the
//! order of their times, is reached. Rows of one time are never torn apart, so sets may be off by as many.

use std::io::Error;
use std::path::Path;

use tidemill_features::time::{MAX_TIME, MIN_TIME, parse_rfc3339, rfc3339};

use super::select::Times;
use crate::failure::Failure;

/// Fractions may be sums of rounded ones.
const TOLERANCE: f64 = 1e-9;
/// Sets of one split; each has files of its own.
const SETS_MAX: usize = 16;

/// Sets and where each ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    sets: Vec<(String, End)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// this part of all rows
    Fraction(f64),
    /// before this time
    Until(i64),
    /// takes the rest
    Open,
}

impl Split {
    /// Reads `train=0.8,test=0.2` or `train=2013-10-01,test=2014-01-01` or `train=2013-10-01,test`.
    pub fn parse(text: &str) -> Result<Split, Failure> {
        let mut sets: Vec<(String, End)> = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (name, end) = part.split_once('=').map_or((part, None), |(name, end)| (name, Some(end)));
            if !is_name(name) {
                return Err(wrong(format!("`{name}` is no name for a set: expected [a-z][a-z0-9_]*")));
            }
            if sets.iter().any(|(known, _)| known == name) {
                return Err(wrong(format!("the set `{name}` is there twice")));
            }
            let end = end.map_or(Ok(End::Open), |end| read_end(name, end))?;
            sets.push((name.to_string(), end));
        }
        let split = Split { sets };
        split.check()?;
        Ok(split)
    }

    /// Turns fractions into times, and finds rows that no set would take. `next_times` gives the times of all rows, piece by
    /// piece, in any order; they are kept in a file in the folder `beside`, which has no name and goes away by itself.
    pub fn resolved(
        self,
        mut next_times: impl FnMut() -> Result<Option<Vec<i64>>, Failure>,
        beside: &Path,
    ) -> Result<Split, Failure> {
        let failed =
            |e: Error| Failure::new(crate::failure::Remedy::Internal, "E3011", format!("{}: {e}", beside.display()));
        let mut times = Times::new(beside).map_err(failed)?;
        let mut row = 0;
        while let Some(next) = next_times()? {
            if self.is_resolved() {
                if let Some(at) = next.iter().position(|time| self.set_of(*time).is_none()) {
                    return Err(self.behind_all(row + at as u64, next[at]));
                }
            } else {
                times.add(&next).map_err(failed)?;
            }
            row += next.len() as u64;
        }
        let (mut sets, mut sum) = (self.sets, 0.0);
        let last = sets.len() - 1;
        for (at, (_, end)) in sets.iter_mut().enumerate() {
            let End::Fraction(fraction) = *end else { continue };
            sum += fraction;
            let rank = (sum * row as f64).round() as u64;
            *end = if at == last { End::Open } else { End::Until(cut(&mut times, rank, row).map_err(failed)?) };
        }
        Ok(Split { sets })
    }

    /// Whether all its ends are times.
    pub fn is_resolved(&self) -> bool {
        !self.sets.iter().any(|(_, end)| matches!(end, End::Fraction(_)))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.sets.iter().map(|(name, _)| name.as_str())
    }

    /// Where a set ends, exclusive.
    pub(super) fn until(&self, set: usize) -> Option<i64> {
        if let End::Until(time) = self.sets[set].1 { Some(time) } else { None }
    }

    /// The set of a row; None behind the last one.
    pub(super) fn set_of(&self, time: i64) -> Option<usize> {
        self.sets.iter().position(|(_, end)| match end {
            End::Until(until) => time < *until,
            End::Fraction(_) | End::Open => true,
        })
    }

    /// The error for a row that no set takes; rows count from 1.
    pub(super) fn behind_all(&self, rows_before: u64, time: i64) -> Failure {
        let message = format!(
            "row {} of the spine, at {}, comes after the last set of the split, and rows are never left out: add a last \
             set without an end, such as `rest`",
            rows_before + 1,
            rfc3339(time)
        );
        Failure::invalid("E3013", message)
    }

    fn check(&self) -> Result<(), Failure> {
        if self.sets.len() > SETS_MAX {
            return Err(wrong(format!("{} sets, and at most {SETS_MAX} can be", self.sets.len())));
        }
        let fractions: Vec<f64> =
            self.sets.iter().filter_map(|(_, end)| if let End::Fraction(f) = end { Some(*f) } else { None }).collect();
        if !fractions.is_empty() && fractions.len() < self.sets.len() {
            return Err(wrong("fractions and times cannot be mixed, and every set has a fraction or none".to_string()));
        }
        let sum: f64 = fractions.iter().sum();
        if !fractions.is_empty() && (sum - 1.0).abs() > TOLERANCE {
            return Err(wrong(format!("the fractions add up to {sum}, and have to add up to 1")));
        }
        let (_, before_last) = self.sets.split_last().unwrap_or((&self.sets[0], &[]));
        if let Some((name, _)) = before_last.iter().find(|(_, end)| *end == End::Open) {
            return Err(wrong(format!("the set `{name}` has no end: only the last set takes the rest")));
        }
        let ends: Vec<i64> =
            self.sets.iter().filter_map(|(_, end)| if let End::Until(t) = end { Some(*t) } else { None }).collect();
        match ends.windows(2).find(|pair| pair[0] >= pair[1]) {
            Some(pair) => Err(wrong(format!("{} does not come after {}", rfc3339(pair[1]), rfc3339(pair[0])))),
            None => Ok(()),
        }
    }
}

/// The time before which the first `rank` rows are, or as near to it as rows of one time allow.
fn cut(times: &mut Times, rank: u64, rows: u64) -> Result<i64, Error> {
    if rank >= rows {
        return Ok(if rows == 0 { MIN_TIME } else { MAX_TIME + 1 });
    }
    let found = times.at_rank(rank)?;
    let (before, with) = (found.smaller, found.smaller + found.equal);
    Ok(if with - rank < rank - before { found.time + 1 } else { found.time })
}

fn read_end(name: &str, text: &str) -> Result<End, Failure> {
    if let Ok(fraction) = text.parse::<f64>() {
        let sound = fraction > 0.0 && fraction <= 1.0;
        let wrong = || wrong(format!("`{name}={text}`: a fraction lies above 0 and is at most 1"));
        return if sound { Ok(End::Fraction(fraction)) } else { Err(wrong()) };
    }
    let time = parse_rfc3339(text).or_else(|| parse_rfc3339(&format!("{text}T00:00:00Z")));
    time.map(End::Until).ok_or_else(|| {
        wrong(format!("`{name}={text}`: expected a fraction such as 0.8, a day (UTC) such as 2013-10-01 or an RFC 3339 time with its offset"))
    })
}

fn is_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn wrong(message: String) -> Failure {
    Failure::invalid("E3012", format!("the split cannot be read: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str, times: &[i64]) -> Result<Split, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let mut pieces = times.chunks(3);
        Split::parse(text)?.resolved(|| Ok(pieces.next().map(<[i64]>::to_vec)), folder.path())
    }

    /// How many rows each set gets.
    fn sizes(text: &str, times: &[i64]) -> Vec<usize> {
        let split = resolved(text, times).unwrap();
        let size = |set: usize| times.iter().filter(|time| split.set_of(**time) == Some(set)).count();
        (0..split.sets.len()).map(size).collect()
    }

    #[test]
    fn fractions_cut_by_time_and_never_through_equal_times() {
        let ten: Vec<i64> = [3, -1, 4, 1, 50, 9, 2, 6, 7, 8].to_vec();
        assert_eq!(sizes("train=0.8,test=0.2", &ten), [8, 2]);
        assert_eq!(sizes("train=0.7,check=0.2,test=0.1", &ten), [7, 2, 1]);
        assert_eq!(resolved("train=0.8,test=0.2", &ten).unwrap().until(0), Some(9));
        assert_eq!(sizes("a=0.5,b=0.5", &[1, 1, 1, 1, 2]), [4, 1], "four is nearer to two and a half than none");
        assert_eq!(sizes("a=0.5,b=0.5", &[1, 2, 2, 2, 2]), [1, 4]);
        assert_eq!(sizes("a=0.8,b=0.2", &[5; 7]), [7, 0]);
        assert_eq!(sizes("a=0.1,b=0.9", &[5; 7]), [0, 7]);
        assert_eq!(sizes("a=0.5,b=0.5", &[]), [0, 0]);
        assert_eq!(sizes("a=1", &ten), [10]);
        assert_eq!(sizes("a=0.5,b=0.5", &[MIN_TIME, MAX_TIME]), [1, 1]);
    }

    #[test]
    fn times_cut_where_they_say() {
        let split = Split::parse("train=1970-01-02,check=1970-01-02T00:00:01+00:00,test").unwrap();
        let day = 86_400_000_000;
        let sets: Vec<_> = [day - 1, day, day + 999_999, day + 1_000_000].map(|t| split.set_of(t)).into();
        assert_eq!(sets, [Some(0), Some(1), Some(1), Some(2)]);
        let failure = resolved("train=1970-01-02", &[1, 2, 3, day]).unwrap_err();
        assert_eq!(failure.code, "E3013");
        assert!(failure.message.contains("row 4") && failure.message.contains("1970-01-02T00:00:00"), "{failure}");
    }

    #[test]
    fn what_is_no_split_is_said() {
        let cases = [
            ("", "`` is no name"),
            ("Train=0.8", "`Train` is no name"),
            ("a/../b=0.8", "is no name"),
            ("a=0.5,a=0.5", "the set `a` is there twice"),
            ("a=0.5,b=0.6", "add up to 1.1"),
            ("a=0.5,b", "cannot be mixed"),
            ("a=0.5,b=2013-01-01", "cannot be mixed"),
            ("a=0,b=1", "a fraction lies above 0"),
            ("a=NaN", "a fraction lies above 0"),
            ("a=80%,b=20%", "expected a fraction"),
            ("a=2013-01-01T00:00:00", "with its offset"),
            ("a,b=2013-01-01", "the set `a` has no end"),
            ("a=2014-01-01,b=2013-01-01", "does not come after"),
        ];
        for (text, part) in cases {
            let failure = Split::parse(text).unwrap_err();
            assert!(failure.code == "E3012" && failure.message.contains(part), "{text}: {failure}");
        }
    }
}
