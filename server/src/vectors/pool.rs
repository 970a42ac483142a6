//! Candidates in the order of their distance: the pool that a walk over a graph works on, and the list that a scan fills.

/// A distance as a whole number of the same order. NaN comes last.
pub fn ordered(distance: f32) -> u32 {
    let bits = distance.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// The distance again.
pub fn distance(ordered: u32) -> f32 {
    f32::from_bits(if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered })
}

const EXPANDED: u64 = 1;
const PASSING: u64 = 2;

/// One sorted array in place of two heaps: what is near, what of it was looked around already, and what of it passes the filter.
/// It holds as many rows that pass as it is asked for, and every nearer row that does not: those show the way only.
#[derive(Debug, Default)]
pub struct Pool {
    entries: Vec<u64>,
    next: usize,
    passing: usize,
    limit: usize,
}

impl Pool {
    /// Empties it, for so many rows that pass.
    pub fn reset(&mut self, limit: usize) {
        self.entries.clear();
        (self.next, self.passing, self.limit) = (0, 0, limit);
    }

    /// Distances from here on are of no interest.
    pub fn bound(&self) -> u32 {
        match self.passing < self.limit {
            true => u32::MAX,
            false => self.entries.last().map_or(u32::MAX, |entry| (entry >> 32) as u32),
        }
    }

    /// Takes in a row that is nearer than the bound.
    pub fn insert(&mut self, ordered: u32, row: u32, passes: bool) {
        let entry = u64::from(ordered) << 32 | u64::from(row) << 2 | if passes { PASSING } else { 0 };
        let place = self.entries.partition_point(|other| *other < entry);
        self.entries.insert(place, entry);
        self.next = self.next.min(place);
        if !passes {
            return;
        }
        self.passing += 1;
        if self.passing < self.limit {
            return;
        }
        while self.passing > self.limit || self.entries.last().is_some_and(|entry| entry & PASSING == 0) {
            let left = self.entries.pop().unwrap_or(PASSING);
            self.passing -= usize::from(left & PASSING != 0);
        }
    }

    /// The nearest row that was not looked around yet.
    pub fn next(&mut self) -> Option<u32> {
        while let Some(entry) = self.entries.get_mut(self.next) {
            self.next += 1;
            if *entry & EXPANDED == 0 {
                *entry |= EXPANDED;
                return Some(row(*entry));
            }
        }
        None
    }

    /// Rows that pass, with their distances, the nearest first.
    pub fn found(&self) -> impl Iterator<Item = (f32, u32)> {
        self.entries
            .iter()
            .filter(|entry| **entry & PASSING != 0)
            .map(|entry| (distance((entry >> 32) as u32), row(*entry)))
    }

    /// How many that is.
    pub fn passing(&self) -> usize {
        self.passing
    }
}

fn row(entry: u64) -> u32 {
    (entry as u32) >> 2
}

/// A row and its distance as one number: of two, the lesser one is nearer, and none is equal to another.
pub fn entry(ordered: u32, row: u32) -> u64 {
    u64::from(ordered) << 32 | u64::from(row)
}

/// The nearest rows of a scan. It holds up to twice as many as it is asked for, and then lets go of the farther half.
#[derive(Debug)]
pub struct Nearest {
    entries: Vec<u64>,
    keep: usize,
    bound: u64,
}

impl Nearest {
    /// For so many rows.
    pub fn new(keep: usize) -> Self {
        Nearest { entries: Vec::new(), keep, bound: u64::MAX }
    }

    /// Takes in an entry, if it is near enough.
    pub fn push(&mut self, entry: u64) {
        if entry >= self.bound {
            return;
        }
        self.entries.push(entry);
        if self.entries.len() >= 2 * self.keep + 16 {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if self.entries.len() > self.keep && self.keep > 0 {
            self.entries.select_nth_unstable(self.keep - 1);
            self.entries.truncate(self.keep);
            self.bound = self.entries[self.keep - 1];
        }
    }

    /// The nearest entries, in their order, and the last of them, which all that were left out are beyond. If none was, there is
    /// no last one.
    pub fn finish(mut self) -> (Vec<u64>, Option<u64>) {
        self.cut();
        self.entries.sort_unstable();
        (self.entries, Some(self.bound).filter(|bound| *bound != u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_keep_their_order() {
        let sorted = [f32::NEG_INFINITY, -1e15, -1.0, -1e-40, 0.0, 1e-40, 0.5, 1e30, f32::INFINITY];
        assert!(sorted.windows(2).all(|pair| ordered(pair[0]) < ordered(pair[1])));
        assert!(sorted.iter().all(|x| distance(ordered(*x)) == *x));
        assert!(ordered(f32::NAN) > ordered(f32::INFINITY));
    }

    #[test]
    fn a_pool_holds_what_passes_and_what_leads_there() {
        let mut pool = Pool::default();
        pool.reset(2);
        for (distance, row, passes) in [(5.0, 5, true), (3.0, 3, false), (4.0, 4, true), (9.0, 9, false)] {
            if ordered(distance) < pool.bound() {
                pool.insert(ordered(distance), row, passes);
            }
        }
        assert_eq!(pool.bound(), ordered(5.0));
        assert_eq!(pool.next(), Some(3));
        pool.insert(ordered(1.0), 1, true);
        assert_eq!(pool.found().collect::<Vec<_>>(), [(1.0, 1), (4.0, 4)]);
        assert_eq!([pool.next(), pool.next(), pool.next()], [Some(1), Some(4), None]);
    }

    #[test]
    fn the_nearest_of_a_scan() {
        let mut nearest = Nearest::new(3);
        for row in (0..1000u32).rev() {
            nearest.push(entry(ordered(row as f32), row));
        }
        let (rows, last) = nearest.finish();
        assert_eq!(rows.iter().map(|entry| *entry as u32).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(last, Some(entry(ordered(2.0), 2)));
        let mut all = Nearest::new(3);
        [7, 5, 6].into_iter().for_each(|row| all.push(entry(ordered(1.0), row)));
        assert_eq!(all.finish(), ([5, 6, 7].map(|row| entry(ordered(1.0), row)).to_vec(), None));
    }
}
