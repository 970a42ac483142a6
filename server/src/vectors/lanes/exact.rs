//! What a score is computed by: f64 sums over sixteen lanes in a fixed order, the same bits on every machine.
//!
//! Products of two f32 are exact in f64, and no compiler may change the order of the sums, so wider instructions give the same.

use pulp::Arch;

/// The dot product.
pub fn dot(arch: Arch, a: &[f32], b: &[f32]) -> f64 {
    run::<false>(arch, a, b)
}

/// The squared Euclidean distance.
pub fn squared_distance(arch: Arch, a: &[f32], b: &[f32]) -> f64 {
    run::<true>(arch, a, b)
}

fn run<const SQUARED: bool>(arch: Arch, a: &[f32], b: &[f32]) -> f64 {
    let pair = Pair::<SQUARED>(a, b);
    match arch {
        #[cfg(target_arch = "x86_64")]
        Arch::V4(simd) => simd.vectorize(pair),
        #[cfg(target_arch = "x86_64")]
        Arch::V3(simd) => simd.vectorize(pair),
        _ => pulp::NullaryFnOnce::call(pair),
    }
}

struct Pair<'a, const SQUARED: bool>(&'a [f32], &'a [f32]);

impl<const SQUARED: bool> pulp::NullaryFnOnce for Pair<'_, SQUARED> {
    type Output = f64;

    #[inline(always)]
    fn call(self) -> f64 {
        let mut sums = [0.0f64; 16];
        let (a, a_tail) = self.0.as_chunks::<16>();
        let (b, b_tail) = self.1.as_chunks::<16>();
        for (a, b) in a.iter().zip(b) {
            for lane in 0..16 {
                sums[lane] += term::<SQUARED>(a[lane], b[lane]);
            }
        }
        for (lane, (a, b)) in a_tail.iter().zip(b_tail).enumerate() {
            sums[lane] += term::<SQUARED>(*a, *b);
        }
        let mut width = 16;
        while width > 1 {
            width /= 2;
            for lane in 0..width {
                sums[lane] += sums[lane + width];
            }
        }
        sums[0]
    }
}

#[inline(always)]
fn term<const SQUARED: bool>(a: f32, b: f32) -> f64 {
    let (a, b) = (f64::from(a), f64::from(b));
    match SQUARED {
        true => (a - b) * (a - b),
        false => a * b,
    }
}
