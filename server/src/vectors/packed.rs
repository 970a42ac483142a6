//! Rows of vectors in fewer bytes of memory, bit for bit.
//!
//! A search looks at few vectors, after it has looked at many codes, so a vector may cost a little more to read: seven eighths of
//! the memory for a fraction of a microsecond. Components that do not fit that form are rare, and kept in a list beside the rows.

use super::lanes::{self, Cells};
use super::rows::Rows;
use crate::limits::VECTOR_UNPACK_BYTES;

/// Rows in packed form, one after the other.
#[derive(Debug)]
pub struct PackedRows {
    dims: usize,
    /// each row, and behind it whether some of its components do not fit
    rows: Rows<u8>,
    /// these, by row and place
    odd: Vec<Odd>,
}

/// Rows whose memory is asked for together.
const TOUCHED: usize = 8;
/// What comes from memory at once.
const LINE_BYTES: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Odd {
    row: u32,
    at: u32,
    value: f32,
}

impl PackedRows {
    /// Packs rows, if that takes less memory.
    pub fn new(rows: &Rows<f32>) -> Option<Self> {
        let dims = rows.cells().stride;
        let packed =
            PackedRows { dims, rows: Rows::zeros(lanes::packed_bytes(dims) + 1, 0), odd: Vec::new() }.with(rows);
        packed.filter(|packed| packed.bytes() < rows.bytes())
    }

    /// These and more behind them. None: so many components do not fit that it does not pay.
    pub fn with(&self, rows: &Rows<f32>) -> Option<Self> {
        let count = self.count() + rows.count();
        let mut all = Rows::zeros(self.rows.cells().stride, count);
        (0..self.count()).for_each(|row| all.row_mut(row).copy_from_slice(self.rows.row(row)));
        let mut odd = self.odd.clone();
        for number in 0..rows.count() {
            let (row, place) = (rows.row(number), self.count() + number);
            let (is_odd, packed) = all.row_mut(place).split_last_mut()?;
            lanes::pack(row, packed, |at| {
                odd.push(Odd { row: place as u32, at: at as u32, value: row[at] });
                *is_odd = 1;
            });
            if odd.len() * size_of::<Odd>() > count * self.dims / 2 {
                return None;
            }
        }
        odd.shrink_to_fit();
        Some(PackedRows { dims: self.dims, rows: all, odd })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.rows.count()
    }

    /// Components of each.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.rows.bytes() + self.odd.capacity() * size_of::<Odd>()
    }

    /// Reads one row.
    pub fn read(&self, row: usize, out: &mut [f32]) {
        let Some((is_odd, packed)) = self.rows.row(row).split_last() else { return };
        lanes::unpack(lanes::widest(), packed, out);
        if *is_odd != 0 {
            let first = self.odd.partition_point(|odd| (odd.row as usize) < row);
            let own = self.odd[first..].iter().take_while(|odd| odd.row as usize == row);
            own.for_each(|odd| out[odd.at as usize] = odd.value);
        }
    }

    /// Asks for the memory of rows that do not lie one behind the other, which the machine cannot foresee: so it waits once for some
    /// rows, and not once for each.
    fn touch(&self, ids: &[u32]) {
        if ids.windows(2).all(|pair| pair[0] + 1 == pair[1]) {
            return;
        }
        let row = |id: &u32| self.rows.row(*id as usize).iter().step_by(LINE_BYTES);
        std::hint::black_box(ids.iter().flat_map(row).fold(0, |sum: u8, byte| sum.wrapping_add(*byte)));
    }

    /// Hands over rows in the order in which they are asked for, some at once.
    pub fn visit(&self, ids: &[u32], buffer: &mut Vec<f32>, mut visit: impl FnMut(Cells<f32>, &[u32])) {
        let most = (VECTOR_UNPACK_BYTES / (self.dims * size_of::<f32>())).max(1);
        let places: Vec<u32> = (0..most.min(ids.len()) as u32).collect();
        for ids in ids.chunks(most) {
            buffer.resize(ids.len() * self.dims, 0.0);
            for (ids, out) in ids.chunks(TOUCHED).zip(buffer.chunks_mut(TOUCHED * self.dims)) {
                self.touch(ids);
                for (id, out) in ids.iter().zip(out.chunks_exact_mut(self.dims)) {
                    self.read(*id as usize, out);
                }
            }
            visit(Cells { cells: buffer, stride: self.dims }, &places[..ids.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn rows(dims: usize, count: usize, mut component: impl FnMut(usize) -> f32) -> Rows<f32> {
        let mut rows = Rows::zeros(dims, count);
        (0..count).for_each(|row| rows.row_mut(row).iter_mut().enumerate().for_each(|(at, x)| *x = component(at)));
        rows
    }

    /// Every bit of every component comes back, also of those few that are very small beside the others.
    #[test]
    fn every_bit_comes_back() {
        let mut random = StdRng::seed_from_u64(41);
        for dims in [8, 16, 31, 33, 64, 100, 384] {
            let rows = rows(dims, 200, |_| match random.random_range(0..100) {
                0 => [0.0, -0.0, 1e-30, -1e-6, f32::MIN_POSITIVE, 1e-45][random.random_range(0..6)],
                _ => random.random_range(-1.0..1.0),
            });
            let packed = PackedRows::new(&rows).unwrap().with(&rows).unwrap();
            assert!(!packed.odd.is_empty() && packed.bytes() < 2 * 200 * dims * 4);
            let mut out = vec![0.0; dims];
            for row in 0..400 {
                packed.read(row, &mut out);
                let bits = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&out), bits(rows.row(row % 200)));
            }
        }
    }

    /// A component that is so great in all vectors that the others are nothing beside it: nothing is gained, and no memory taken.
    #[test]
    fn what_does_not_pay_is_left() {
        let spiked = rows(100, 1_000, |at| if at == 0 { 1e6 } else { 1.5 });
        assert!(PackedRows::new(&spiked).is_none());
        let even = PackedRows::new(&rows(100, 1_000, |_| 1.5)).unwrap();
        assert!(even.with(&spiked).is_none());
        assert!(PackedRows::new(&rows(1, 1_000, |_| 1.5)).is_none(), "more than a float");
    }
}
