//! Dot products of int8 rows with a query of 16-bit numbers, and from them distances.
//!
//! A row ends in three f32 of its own, the last two its scale and its bias: they lie where the sum ends, so they cost no further look into
//! memory. The query has zeros where they are. Products of 8 and 16 bits are added in pairs by one instruction, exactly.

use pulp::Arch;

use super::Cells;

/// Bytes at the end of a row: what its codes lose, its scale and its bias.
pub const TRAILER: usize = 12;

/// For each row `bias + factor * scale * dot(query, row) + offset`. The query is as long as a row, a multiple of 16.
pub fn int8_distances(
    arch: Arch,
    query: &[i16],
    (factor, offset): (f32, f32),
    rows: Cells<i8>,
    ids: &[u32],
    out: &mut [f32],
) {
    match arch {
        #[cfg(target_arch = "x86_64")]
        Arch::V4(simd) => simd.vectorize(x86::Wide { simd, query, factor, offset, rows, ids, out }),
        #[cfg(target_arch = "x86_64")]
        Arch::V3(simd) => simd.vectorize(x86::Narrow { simd, query, factor, offset, rows, ids, out }),
        _ => {
            for (id, out) in ids.iter().zip(out) {
                let row = rows.row(*id, query.len());
                let dot: i32 = query.iter().zip(row).map(|(q, x)| i32::from(*q) * i32::from(*x)).sum();
                *out = finished(row, factor, offset, dot);
            }
        }
    }
}

#[inline(always)]
fn finished(row: &[i8], factor: f32, offset: f32, dot: i32) -> f32 {
    let trailer: &[u8] = bytemuck::cast_slice(&row[row.len() - TRAILER..]);
    let number = |at: usize| f32::from_le_bytes([trailer[at], trailer[at + 1], trailer[at + 2], trailer[at + 3]]);
    // In this order no product of two small numbers is rounded away before the third makes it large.
    number(8) + factor * (number(4) * dot as f32) + offset
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m128i, __m256i, __m512i};

    use pulp::x86::{V3, V4};

    use super::{Cells, finished};

    pub struct Wide<'a> {
        pub simd: V4,
        pub query: &'a [i16],
        pub factor: f32,
        pub offset: f32,
        pub rows: Cells<'a, i8>,
        pub ids: &'a [u32],
        pub out: &'a mut [f32],
    }

    impl pulp::NullaryFnOnce for Wide<'_> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            let (query, rest) = self.query.as_chunks::<32>();
            let rest = rest.as_chunks::<16>().0.first();
            for (ids, out) in self.ids.chunks(4).zip(self.out.chunks_mut(4)) {
                let rows = self.rows.four(ids, self.query.len());
                let dots = wide(self.simd, query, rest, rows);
                for ((out, row), dot) in out.iter_mut().zip(rows).zip(dots) {
                    *out = finished(row, self.factor, self.offset, dot);
                }
            }
        }
    }

    #[inline(always)]
    fn wide(simd: V4, query: &[[i16; 32]], rest: Option<&[i16; 16]>, rows: [&[i8]; 4]) -> [i32; 4] {
        let mut sums: [__m512i; 4] = [simd.avx512f._mm512_setzero_si512(); 4];
        let chunks = rows.map(|row| row.as_chunks::<32>());
        let [(a, _), (b, _), (c, _), (d, _)] = chunks;
        for ((((q, a), b), c), d) in query.iter().zip(a).zip(b).zip(c).zip(d) {
            let q: __m512i = pulp::cast(*q);
            sums[0] = wide_step(simd, q, a, sums[0]);
            sums[1] = wide_step(simd, q, b, sums[1]);
            sums[2] = wide_step(simd, q, c, sums[2]);
            sums[3] = wide_step(simd, q, d, sums[3]);
        }
        // The four sums at once: halves, then pairs within 256 bits.
        // Spelled out: a closure might not be compiled for these instructions.
        let mut halves = [half(simd, sums[0]), half(simd, sums[1]), half(simd, sums[2]), half(simd, sums[3])];
        if let Some(rest) = rest {
            let q: __m256i = pulp::cast(*rest);
            let [(_, a), (_, b), (_, c), (_, d)] = chunks;
            halves[0] = rest_step(*simd, q, a, halves[0]);
            halves[1] = rest_step(*simd, q, b, halves[1]);
            halves[2] = rest_step(*simd, q, c, halves[2]);
            halves[3] = rest_step(*simd, q, d, halves[3]);
        }
        folded(*simd, halves)
    }

    #[inline(always)]
    fn half(simd: V4, sum: __m512i) -> __m256i {
        let upper: __m256i = simd.avx512f._mm512_extracti64x4_epi64::<1>(sum);
        simd.avx2._mm256_add_epi32(simd.avx512f._mm512_castsi512_si256(sum), upper)
    }

    #[inline(always)]
    fn wide_step(simd: V4, q: __m512i, codes: &[i8; 32], sum: __m512i) -> __m512i {
        let codes: __m256i = pulp::cast(*codes);
        let products = simd.avx512bw._mm512_madd_epi16(q, simd.avx512bw._mm512_cvtepi8_epi16(codes));
        simd.avx512f._mm512_add_epi32(sum, products)
    }

    /// The last sixteen codes of a row.
    #[inline(always)]
    fn rest_step(simd: V3, q: __m256i, codes: &[i8], sum: __m256i) -> __m256i {
        match codes.first_chunk() {
            Some(codes) => narrow_step(simd, q, codes, sum),
            None => sum,
        }
    }

    pub struct Narrow<'a> {
        pub simd: V3,
        pub query: &'a [i16],
        pub factor: f32,
        pub offset: f32,
        pub rows: Cells<'a, i8>,
        pub ids: &'a [u32],
        pub out: &'a mut [f32],
    }

    impl pulp::NullaryFnOnce for Narrow<'_> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            let (query, _) = self.query.as_chunks::<16>();
            for (ids, out) in self.ids.chunks(4).zip(self.out.chunks_mut(4)) {
                let rows = self.rows.four(ids, self.query.len());
                let dots = narrow(self.simd, query, rows);
                for ((out, row), dot) in out.iter_mut().zip(rows).zip(dots) {
                    *out = finished(row, self.factor, self.offset, dot);
                }
            }
        }
    }

    #[inline(always)]
    fn narrow(simd: V3, query: &[[i16; 16]], rows: [&[i8]; 4]) -> [i32; 4] {
        let mut sums: [__m256i; 4] = [simd.avx._mm256_setzero_si256(); 4];
        let [(a, _), (b, _), (c, _), (d, _)] = rows.map(|row| row.as_chunks::<16>());
        for ((((q, a), b), c), d) in query.iter().zip(a).zip(b).zip(c).zip(d) {
            let q: __m256i = pulp::cast(*q);
            sums[0] = narrow_step(simd, q, a, sums[0]);
            sums[1] = narrow_step(simd, q, b, sums[1]);
            sums[2] = narrow_step(simd, q, c, sums[2]);
            sums[3] = narrow_step(simd, q, d, sums[3]);
        }
        folded(simd, sums)
    }

    #[inline(always)]
    fn narrow_step(simd: V3, q: __m256i, codes: &[i8; 16], sum: __m256i) -> __m256i {
        let codes: __m128i = pulp::cast(*codes);
        let products = simd.avx2._mm256_madd_epi16(q, simd.avx2._mm256_cvtepi8_epi16(codes));
        simd.avx2._mm256_add_epi32(sum, products)
    }

    /// The sums over the lanes of four registers.
    #[inline(always)]
    fn folded(simd: V3, sums: [__m256i; 4]) -> [i32; 4] {
        let pairs = [simd.avx2._mm256_hadd_epi32(sums[0], sums[1]), simd.avx2._mm256_hadd_epi32(sums[2], sums[3])];
        let fours = simd.avx2._mm256_hadd_epi32(pairs[0], pairs[1]);
        let upper: __m128i = simd.avx2._mm256_extracti128_si256::<1>(fours);
        pulp::cast(simd.sse2._mm_add_epi32(simd.avx._mm256_castsi256_si128(fours), upper))
    }
}
