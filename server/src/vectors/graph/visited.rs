//! Which rows a walk has seen: a stamp for each row, and the stamp of this walk.

/// Clearing costs nothing, but once in 255 walks: wider stamps would be cleared less often, and fewer of them stay in the caches.
#[derive(Debug, Default)]
pub struct Visited {
    stamps: Vec<u8>,
    now: u8,
}

impl Visited {
    /// Begins a walk over so many rows.
    pub fn begin(&mut self, rows: usize) {
        if self.stamps.len() < rows {
            self.stamps.resize(rows, 0);
        }
        if self.now == u8::MAX {
            self.stamps.fill(0);
            self.now = 0;
        }
        self.now += 1;
    }

    /// Whether the row is seen for the first time.
    #[inline(always)]
    pub fn first(&mut self, row: u32) -> bool {
        let stamp = &mut self.stamps[row as usize];
        let new = *stamp != self.now;
        *stamp = self.now;
        new
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.stamps.capacity() * size_of::<u8>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_outlive_their_wrap() {
        let mut visited = Visited::default();
        for _ in 0..1_000 {
            visited.begin(3);
            assert!(visited.first(1));
            assert!(!visited.first(1));
        }
        visited.begin(5);
        assert!(visited.first(4) && visited.first(1));
    }
}
