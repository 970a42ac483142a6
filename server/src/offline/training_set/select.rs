//! The time at a rank, out of more times than the memory holds: they lie in a file, which is read four times, each time for
//! the next 16 bits of the one that is sought.

use std::fs::File;
use std::io::{BufReader, Error, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Bits that one reading of the file decides: a table of 65,536 counts.
const BITS: u32 = 16;
/// Times that are read together.
const CHUNK: usize = 8192;

/// Times in a file without a name.
pub(super) struct Times {
    file: File,
}

/// What stands at a rank.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AtRank {
    pub time: i64,
    /// how many are smaller
    pub smaller: u64,
    /// how many are the same, this one among them
    pub equal: u64,
}

impl Times {
    pub fn new(folder: &Path) -> Result<Times, Error> {
        Ok(Times { file: tempfile::tempfile_in(folder)? })
    }

    pub fn add(&mut self, times: &[i64]) -> Result<(), Error> {
        let bytes: Vec<u8> = times.iter().flat_map(|time| ordered(*time).to_le_bytes()).collect();
        self.file.write_all(&bytes)
    }

    /// The time that has `rank` others before it when all are sorted; there must be more than that.
    pub fn at_rank(&mut self, rank: u64) -> Result<AtRank, Error> {
        let (mut prefix, mut shift, mut smaller, mut equal) = (0u64, 64, 0, 0);
        while shift > 0 {
            shift -= BITS;
            let counts = self.counts(prefix, shift)?;
            for (digit, count) in counts.iter().enumerate() {
                if smaller + count > rank {
                    (prefix, equal) = (prefix | (digit as u64) << shift, *count);
                    break;
                }
                smaller += count;
            }
        }
        Ok(AtRank { time: (prefix ^ 1 << 63) as i64, smaller, equal })
    }

    /// How often each value of the next bits comes among the times that begin with those known.
    fn counts(&mut self, prefix: u64, shift: u32) -> Result<Vec<u64>, Error> {
        let known = shift + BITS;
        let mut counts = vec![0; 1 << BITS];
        self.file.seek(SeekFrom::Start(0))?;
        let mut reader = BufReader::with_capacity(CHUNK * 8, &self.file);
        let mut bytes = [0; 8];
        loop {
            match reader.read_exact(&mut bytes) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => break,
                Err(e) => return Err(e),
            }
            let number = u64::from_le_bytes(bytes);
            if known == 64 || number >> known == prefix >> known {
                counts[(number >> shift) as usize & ((1 << BITS) - 1)] += 1;
            }
        }
        Ok(counts)
    }
}

/// A number that is ordered as the time is, without a sign.
fn ordered(time: i64) -> u64 {
    time as u64 ^ 1 << 63
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_rank_is_that_of_the_sorted_times(
            mut times in prop::collection::vec(prop_oneof![any::<i64>(), -3i64..3, 65_530i64..65_540], 1..200),
            rank in 0usize..200,
        ) {
            let rank = rank % times.len();
            let folder = tempfile::tempdir().unwrap();
            let mut file = Times::new(folder.path()).unwrap();
            times.chunks(7).for_each(|chunk| file.add(chunk).unwrap());
            let found = file.at_rank(rank as u64).unwrap();
            times.sort_unstable();
            let time = times[rank];
            let count = |with: &dyn Fn(i64) -> bool| times.iter().filter(|t| with(**t)).count() as u64;
            let expected = AtRank { time, smaller: count(&|t| t < time), equal: count(&|t| t == time) };
            prop_assert_eq!(found, expected);
        }
    }
}
