//! The same over rows of f16, which are widened to f32 as they are read.
//!
//! AVX-512 has an instruction for that. Elsewhere the bits are moved into place and multiplied by 2^112, which is right for
//! subnormal numbers too; rows hold neither infinities nor NaN.

use pulp::Arch;

use super::Cells;

/// The dot product of the query with each of the rows.
pub fn half_dots(arch: Arch, query: &[f32], rows: Cells<u16>, ids: &[u32], out: &mut [f32]) {
    run::<false>(arch, query, rows, ids, out);
}

/// The squared Euclidean distance of the query to each of the rows.
pub fn half_squared_distances(arch: Arch, query: &[f32], rows: Cells<u16>, ids: &[u32], out: &mut [f32]) {
    run::<true>(arch, query, rows, ids, out);
}

fn run<const SQUARED: bool>(arch: Arch, query: &[f32], rows: Cells<u16>, ids: &[u32], out: &mut [f32]) {
    match arch {
        #[cfg(target_arch = "x86_64")]
        Arch::V4(simd) => simd.vectorize(x86::Wide::<SQUARED> { simd, query, rows, ids, out }),
        #[cfg(target_arch = "x86_64")]
        Arch::V3(simd) => simd.vectorize(Portable::<SQUARED> { query, rows, ids, out }),
        _ => pulp::NullaryFnOnce::call(Portable::<SQUARED> { query, rows, ids, out }),
    }
}

/// An f16 as f32, by its bits.
#[inline(always)]
fn widened(half: u16) -> f32 {
    const TWO_POW_112: f32 = f32::from_bits((112 + 127) << 23);
    f32::from_bits((u32::from(half & 0x7fff) << 13) | (u32::from(half & 0x8000) << 16)) * TWO_POW_112
}

struct Portable<'a, const SQUARED: bool> {
    query: &'a [f32],
    rows: Cells<'a, u16>,
    ids: &'a [u32],
    out: &'a mut [f32],
}

impl<const SQUARED: bool> pulp::NullaryFnOnce for Portable<'_, SQUARED> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (id, out) in self.ids.iter().zip(self.out) {
            *out = one::<SQUARED>(self.query, self.rows.row(*id, self.query.len()));
        }
    }
}

#[inline(always)]
fn one<const SQUARED: bool>(query: &[f32], row: &[u16]) -> f32 {
    let mut sums = [0.0f32; 16];
    let (query, query_tail) = query.as_chunks::<16>();
    let (row, row_tail) = row.as_chunks::<16>();
    for (q, x) in query.iter().zip(row) {
        for lane in 0..16 {
            sums[lane] += term::<SQUARED>(q[lane], widened(x[lane]));
        }
    }
    for (lane, (q, x)) in query_tail.iter().zip(row_tail).enumerate() {
        sums[lane] += term::<SQUARED>(*q, widened(*x));
    }
    sums.iter().sum()
}

#[inline(always)]
fn term<const SQUARED: bool>(q: f32, x: f32) -> f32 {
    match SQUARED {
        true => (q - x) * (q - x),
        false => q * x,
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m256i, __m512};

    use pulp::x86::V4;

    use super::Cells;

    pub struct Wide<'a, const SQUARED: bool> {
        pub simd: V4,
        pub query: &'a [f32],
        pub rows: Cells<'a, u16>,
        pub ids: &'a [u32],
        pub out: &'a mut [f32],
    }

    impl<const SQUARED: bool> pulp::NullaryFnOnce for Wide<'_, SQUARED> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            for (ids, out) in self.ids.chunks(4).zip(self.out.chunks_mut(4)) {
                let rows = self.rows.four(ids, self.query.len());
                let sums = four::<SQUARED>(self.simd, self.query, rows);
                out.copy_from_slice(&sums[..out.len()]);
            }
        }
    }

    #[inline(always)]
    fn four<const SQUARED: bool>(simd: V4, query: &[f32], rows: [&[u16]; 4]) -> [f32; 4] {
        let mut sums: [__m512; 4] = [simd.avx512f._mm512_setzero_ps(); 4];
        let (query, query_tail) = query.as_chunks::<16>();
        let (a, a_tail) = rows[0].as_chunks::<16>();
        let (b, b_tail) = rows[1].as_chunks::<16>();
        let (c, c_tail) = rows[2].as_chunks::<16>();
        let (d, d_tail) = rows[3].as_chunks::<16>();
        for ((((q, a), b), c), d) in query.iter().zip(a).zip(b).zip(c).zip(d) {
            let q: __m512 = pulp::cast(*q);
            sums[0] = step::<SQUARED>(simd, q, a, sums[0]);
            sums[1] = step::<SQUARED>(simd, q, b, sums[1]);
            sums[2] = step::<SQUARED>(simd, q, c, sums[2]);
            sums[3] = step::<SQUARED>(simd, q, d, sums[3]);
        }
        if !query_tail.is_empty() {
            let mut whole = [0.0f32; 16];
            whole[..query_tail.len()].copy_from_slice(query_tail);
            let q: __m512 = pulp::cast(whole);
            for (sum, tail) in sums.iter_mut().zip([a_tail, b_tail, c_tail, d_tail]) {
                let mut whole = [0u16; 16];
                whole[..tail.len()].copy_from_slice(tail);
                *sum = step::<SQUARED>(simd, q, &whole, *sum);
            }
        }
        [
            simd.avx512f._mm512_reduce_add_ps(sums[0]),
            simd.avx512f._mm512_reduce_add_ps(sums[1]),
            simd.avx512f._mm512_reduce_add_ps(sums[2]),
            simd.avx512f._mm512_reduce_add_ps(sums[3]),
        ]
    }

    #[inline(always)]
    fn step<const SQUARED: bool>(simd: V4, q: __m512, halves: &[u16; 16], sum: __m512) -> __m512 {
        let halves: __m256i = pulp::cast(*halves);
        let x = simd.avx512f._mm512_cvtph_ps(halves);
        match SQUARED {
            true => {
                let difference = simd.avx512f._mm512_sub_ps(q, x);
                simd.avx512f._mm512_fmadd_ps(difference, difference, sum)
            }
            false => simd.avx512f._mm512_fmadd_ps(q, x, sum),
        }
    }
}
