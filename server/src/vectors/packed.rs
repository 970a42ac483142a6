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
    count: usize,
    /// each row, and behind it whether some of its components do not fit
    bytes: Vec<u8>,
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
    /// Packs rows.
    pub fn new(rows: &Rows<f32>) -> Self {
        let dims = rows.cells().stride;
        PackedRows { dims, count: 0, bytes: Vec::new(), odd: Vec::new() }.with(rows)
    }

    /// These and more behind them.
    #[must_use]
    pub fn with(&self, rows: &Rows<f32>) -> Self {
        let (row_bytes, count) = (self.row_bytes(), self.count + rows.count());
        let mut bytes = Vec::with_capacity(row_bytes * count);
        bytes.extend_from_slice(&self.bytes);
        bytes.resize(row_bytes * count, 0);
        let mut odd = self.odd.clone();
        for number in 0..rows.count() {
            let (row, place) = (rows.row(number), self.count + number);
            let (packed, is_odd) = bytes[place * row_bytes..][..row_bytes].split_at_mut(row_bytes - 1);
            lanes::pack(row, packed, |at| {
                odd.push(Odd { row: place as u32, at: at as u32, value: row[at] });
                is_odd[0] = 1;
            });
        }
        odd.shrink_to_fit();
        PackedRows { dims: self.dims, count, bytes, odd }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Components of each.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.bytes.capacity() + self.odd.capacity() * size_of::<Odd>()
    }

    /// Reads one row.
    pub fn read(&self, row: usize, out: &mut [f32]) {
        let row_bytes = self.row_bytes();
        let (packed, is_odd) = self.bytes[row * row_bytes..][..row_bytes].split_at(row_bytes - 1);
        lanes::unpack(lanes::widest(), packed, out);
        if is_odd[0] != 0 {
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
        let row_bytes = self.row_bytes();
        let row = |id: &u32| self.bytes[*id as usize * row_bytes..][..row_bytes].iter().step_by(LINE_BYTES);
        std::hint::black_box(ids.iter().flat_map(row).fold(0, |sum: u8, byte| sum.wrapping_add(*byte)));
    }

    fn row_bytes(&self) -> usize {
        lanes::packed_bytes(self.dims) + 1
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

    fn component(random: &mut StdRng, kind: usize) -> f32 {
        match kind {
            0 => random.random_range(-1.0..1.0),
            1 => [0.0, -0.0, 1.0, f32::MIN_POSITIVE, -1e-45, f32::MAX, f32::MIN][random.random_range(0..7)],
            2 => f32::from_bits(random.random_range(0..0x7f80_0000) | random.random_range(0..2u32) << 31),
            // Fourteen powers of two below the greatest are as far down as it goes.
            _ => (random.random_range(-17..0) as f32).exp2() * [1.0, -1.25][random.random_range(0..2)],
        }
    }

    /// Every bit of every component comes back, however small it is beside the others, on every width of instructions.
    #[test]
    fn every_bit_comes_back() {
        let mut random = StdRng::seed_from_u64(41);
        for dims in [1, 2, 3, 7, 16, 31, 33, 64, 100, 384] {
            for kind in 0..4 {
                let mut rows = Rows::zeros(dims, 40);
                (0..40).for_each(|row| rows.row_mut(row).iter_mut().for_each(|x| *x = component(&mut random, kind)));
                let packed = PackedRows::new(&rows).with(&rows);
                assert!(packed.odd.len() <= 80 * dims / 100 || kind > 0, "{kind} {dims}");
                assert!(!packed.odd.is_empty() || kind < 3 || dims < 7, "{kind} {dims}");
                let mut out = vec![0.0; dims];
                for row in 0..80 {
                    packed.read(row, &mut out);
                    let bits = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&out), bits(rows.row(row % 40)));
                    let row_bytes = packed.row_bytes();
                    let read = |(_, arch)| {
                        lanes::unpack(arch, &packed.bytes[row * row_bytes..][..row_bytes - 1], &mut out);
                        bits(&out)
                    };
                    let widths: Vec<_> = lanes::all().into_iter().map(read).collect();
                    assert!(widths.windows(2).all(|pair| pair[0] == pair[1]));
                }
            }
        }
    }
}
