//! Keys of rows, one after the other in one piece of memory.

/// Keys of which 256 lie in one group: within it, four bytes say where a key ends.
const GROUP: usize = 256;

/// As long as all keys have the same length, nothing is noted of where they lie.
#[derive(Debug, Default)]
pub struct Keys {
    bytes: Vec<u8>,
    count: usize,
    /// of each key, where there are no ends
    length: usize,
    /// by key, from the start of its group
    ends: Vec<u32>,
    /// by group
    starts: Vec<usize>,
}

impl Keys {
    /// Appends a key.
    pub fn push(&mut self, key: &[u8]) {
        if self.count == 0 {
            self.length = key.len();
        }
        if self.ends.is_empty() && key.len() != self.length {
            (1..=self.count).for_each(|number| self.note(number * self.length));
        }
        self.bytes.extend_from_slice(key);
        if !self.ends.is_empty() || key.len() != self.length {
            self.note(self.bytes.len());
        }
        self.count += 1;
    }

    fn note(&mut self, end: usize) {
        if self.ends.len().is_multiple_of(GROUP) {
            self.starts.push(self.end(self.ends.len()));
        }
        // Keys are of 128 KiB at most, so a group has 32 MiB.
        self.ends.push((end - self.starts[self.starts.len() - 1]) as u32);
    }

    /// Where the first keys end.
    fn end(&self, keys: usize) -> usize {
        keys.checked_sub(1).map_or(0, |last| self.starts[last / GROUP] + self.ends[last] as usize)
    }

    /// The key of a row.
    pub fn get(&self, row: usize) -> &[u8] {
        match self.ends.is_empty() {
            true => &self.bytes[row * self.length..][..self.length],
            false => &self.bytes[self.end(row)..self.end(row + 1)],
        }
    }

    /// Gives back what was reserved and is not used.
    pub fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.starts.shrink_to_fit();
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let ends = self.ends.capacity() * size_of::<u32>() + self.starts.capacity() * size_of::<usize>();
        self.bytes.capacity() + ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_they_were_given() {
        for equal in [0, 1, 255, 256, 257, 700] {
            for odd in ["", "a longer one", "abcd"] {
                let mut keys = Keys::default();
                let mut given: Vec<Vec<u8>> = (0..equal as u32).map(|number| number.to_be_bytes().to_vec()).collect();
                given.push(odd.into());
                given.extend((0..600).map(|number| vec![7; number % 11]));
                given.iter().for_each(|key| keys.push(key));
                keys.shrink();
                (0..given.len()).for_each(|row| assert_eq!(keys.get(row), given[row], "{equal} {odd} {row}"));
            }
        }
        let mut keys = Keys::default();
        (0..1_000u32).for_each(|number| keys.push(&number.to_be_bytes()));
        keys.shrink();
        assert_eq!(keys.bytes(), 4_000);
        assert_eq!(keys.get(999), 999u32.to_be_bytes());
        let mut empty = Keys::default();
        (0..3).for_each(|_| empty.push(b""));
        assert_eq!(empty.get(2), b"");
    }
}
