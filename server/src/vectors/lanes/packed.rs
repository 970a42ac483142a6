//! The components of a vector in three and a half bytes instead of four, bit for bit.
//!
//! Components of one vector are of a like size, so their exponents are: what is kept of each is how far below the greatest it is,
//! in four bits; 15 stands for the exponent 0 (zero and what is next to it). Sign and fraction are kept as they are. Of 32
//! components, which lie together, the same byte of all comes after the other, so that a wide instruction takes many at once.

use pulp::Arch;

/// Components that lie together; at the end of a row fewer.
const TOGETHER: usize = 32;
/// Their bytes.
const BYTES: usize = bytes_of(TOGETHER);
/// The exponent 0, as it is kept.
const ZERO: u8 = 15;

const fn bytes_of(components: usize) -> usize {
    3 * components + components.div_ceil(2)
}

/// Bytes of a packed row: the greatest exponent, then the components.
pub fn packed_bytes(dims: usize) -> usize {
    1 + dims / TOGETHER * BYTES + bytes_of(dims % TOGETHER)
}

/// Packs a row; tells the places of components that are too small beside the greatest, which come out wrong.
pub fn pack(row: &[f32], bytes: &mut [u8], mut odd: impl FnMut(usize)) {
    let greatest = row.iter().map(|x| exponent(*x)).max().unwrap_or(0);
    bytes.fill(0);
    bytes[0] = greatest;
    for (number, (row, bytes)) in row.chunks(TOGETHER).zip(bytes[1..].chunks_mut(BYTES)).enumerate() {
        let (count, half) = (row.len(), row.len().div_ceil(2));
        for (at, x) in row.iter().enumerate() {
            let [low, middle, high, _] = x.to_bits().to_le_bytes();
            bytes[at] = low;
            bytes[count + at] = middle;
            bytes[2 * count + at] = (high & 0x7f) | if x.is_sign_negative() { 0x80 } else { 0 };
            let below = match (exponent(*x), greatest - exponent(*x)) {
                (0, _) => ZERO,
                (_, below) if below < ZERO => below,
                _ => {
                    odd(number * TOGETHER + at);
                    ZERO
                }
            };
            bytes[3 * count + at % half] |= if at < half { below } else { below << 4 };
        }
    }
}

fn exponent(x: f32) -> u8 {
    (x.to_bits() >> 23) as u8
}

/// The components of a packed row.
pub fn unpack(arch: Arch, bytes: &[u8], row: &mut [f32]) {
    let unpacking = Unpack(bytes, row);
    match arch {
        #[cfg(target_arch = "x86_64")]
        Arch::V4(simd) => simd.vectorize(unpacking),
        #[cfg(target_arch = "x86_64")]
        Arch::V3(simd) => simd.vectorize(unpacking),
        _ => pulp::NullaryFnOnce::call(unpacking),
    }
}

struct Unpack<'a>(&'a [u8], &'a mut [f32]);

impl pulp::NullaryFnOnce for Unpack<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let greatest = u32::from(self.0[0]);
        let (bytes, bytes_rest) = self.0[1..].as_chunks::<BYTES>();
        let (rows, row_rest) = self.1.as_chunks_mut::<TOGETHER>();
        for (bytes, row) in bytes.iter().zip(rows) {
            components(greatest, bytes, row);
        }
        components(greatest, bytes_rest, row_rest);
    }
}

#[inline(always)]
fn components(greatest: u32, bytes: &[u8], row: &mut [f32]) {
    let (count, half) = (row.len(), row.len().div_ceil(2));
    let (low, rest) = bytes.split_at(count);
    let (middle, rest) = rest.split_at(count);
    let (high, exponents) = rest.split_at(count);
    for at in 0..half {
        row[at] = component(greatest, exponents[at] & 0xf, [low[at], middle[at], high[at]]);
    }
    for at in half..count {
        row[at] = component(greatest, exponents[at - half] >> 4, [low[at], middle[at], high[at]]);
    }
}

#[inline(always)]
fn component(greatest: u32, below: u8, [low, middle, high]: [u8; 3]) -> f32 {
    let exponent = if below == ZERO { 0 } else { greatest.wrapping_sub(u32::from(below)) };
    let high = u32::from(high);
    let sign = (high & 0x80) << 24;
    let fraction = ((high & 0x7f) << 16) | (u32::from(middle) << 8) | u32::from(low);
    f32::from_bits(sign | (exponent << 23) | fraction)
}
