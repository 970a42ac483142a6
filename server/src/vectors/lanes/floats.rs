//! Dot products and squared distances of f32 rows.

use pulp::{Arch, Scalar128b, Simd, WithSimd};

use super::Cells;

/// The dot product of the query with each of the rows.
pub fn dots(arch: Arch, query: &[f32], rows: Cells<f32>, ids: &[u32], out: &mut [f32]) {
    run(arch, Batch::<false> { query, rows, ids, out });
}

/// The squared Euclidean distance of the query to each of the rows.
pub fn squared_distances(arch: Arch, query: &[f32], rows: Cells<f32>, ids: &[u32], out: &mut [f32]) {
    run(arch, Batch::<true> { query, rows, ids, out });
}

fn run<const SQUARED: bool>(arch: Arch, batch: Batch<SQUARED>) {
    match arch {
        // One lane at a time is slow: four are what every x86-64 has, and compilers know them elsewhere.
        Arch::Scalar => batch.with_simd(Scalar128b),
        wider => wider.dispatch(batch),
    }
}

struct Batch<'a, const SQUARED: bool> {
    query: &'a [f32],
    rows: Cells<'a, f32>,
    ids: &'a [u32],
    out: &'a mut [f32],
}

impl<const SQUARED: bool> WithSimd for Batch<'_, SQUARED> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (ids, out) in self.ids.chunks(4).zip(self.out.chunks_mut(4)) {
            let rows = self.rows.four(ids, self.query.len());
            let sums = four::<S, SQUARED>(simd, self.query, rows);
            out.copy_from_slice(&sums[..out.len()]);
        }
    }
}

#[inline(always)]
fn four<S: Simd, const SQUARED: bool>(simd: S, query: &[f32], rows: [&[f32]; 4]) -> [f32; 4] {
    let (query, query_tail) = S::as_simd_f32s(query);
    let (a, a_tail) = S::as_simd_f32s(rows[0]);
    let (b, b_tail) = S::as_simd_f32s(rows[1]);
    let (c, c_tail) = S::as_simd_f32s(rows[2]);
    let (d, d_tail) = S::as_simd_f32s(rows[3]);
    let mut sums = [simd.splat_f32s(0.0); 4];
    for ((((q, a), b), c), d) in query.iter().zip(a).zip(b).zip(c).zip(d) {
        sums[0] = step::<S, SQUARED>(simd, *q, *a, sums[0]);
        sums[1] = step::<S, SQUARED>(simd, *q, *b, sums[1]);
        sums[2] = step::<S, SQUARED>(simd, *q, *c, sums[2]);
        sums[3] = step::<S, SQUARED>(simd, *q, *d, sums[3]);
    }
    if !query_tail.is_empty() {
        let q = simd.partial_load_f32s(query_tail);
        sums[0] = step::<S, SQUARED>(simd, q, simd.partial_load_f32s(a_tail), sums[0]);
        sums[1] = step::<S, SQUARED>(simd, q, simd.partial_load_f32s(b_tail), sums[1]);
        sums[2] = step::<S, SQUARED>(simd, q, simd.partial_load_f32s(c_tail), sums[2]);
        sums[3] = step::<S, SQUARED>(simd, q, simd.partial_load_f32s(d_tail), sums[3]);
    }
    [
        simd.reduce_sum_f32s(sums[0]),
        simd.reduce_sum_f32s(sums[1]),
        simd.reduce_sum_f32s(sums[2]),
        simd.reduce_sum_f32s(sums[3]),
    ]
}

#[inline(always)]
fn step<S: Simd, const SQUARED: bool>(simd: S, q: S::f32s, x: S::f32s, sum: S::f32s) -> S::f32s {
    match SQUARED {
        true => {
            let difference = simd.sub_f32s(q, x);
            simd.mul_add_e_f32s(difference, difference, sum)
        }
        false => simd.mul_add_e_f32s(q, x, sum),
    }
}
