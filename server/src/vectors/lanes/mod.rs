//! Arithmetic over rows with the widest instructions that the machine has, chosen when the process starts.
//!
//! Four rows at a time: their loads are under way together, which hides the memory's latency without a prefetch instruction, and
//! each piece of the query is loaded once for all four. One call takes many rows, so the choice costs nothing. `pulp` proves that
//! the instructions exist before it uses them, hence no line here needs `unsafe`. Sums of f32 differ in their last bits from one
//! machine to another; what users see is computed by `exact`, which gives the same bits everywhere.

mod exact;
mod floats;
mod halves;
mod int8;
mod packed;

use std::sync::LazyLock;

use pulp::Arch;

pub use exact::{dot, squared_distance};
pub use floats::{dots, squared_distances};
pub use halves::{half_dots, half_squared_distances};
pub use int8::{TRAILER, int8_distances};
pub use packed::{pack, packed_bytes, unpack};

/// Rows of one kind, one after the other, each `stride` cells long.
#[derive(Clone, Copy)]
pub struct Cells<'a, T> {
    /// all rows
    pub cells: &'a [T],
    /// cells from one row to the next
    pub stride: usize,
}

impl<'a, T> Cells<'a, T> {
    /// The rows of up to four ids; fewer are filled up with the last one.
    #[inline(always)]
    fn four(&self, ids: &[u32], length: usize) -> [&'a [T]; 4] {
        let last = ids.len() - 1;
        [self.row(ids[0], length), self.row(ids[last.min(1)], length), self.row(ids[last.min(2)], length), {
            self.row(ids[last.min(3)], length)
        }]
    }

    #[inline(always)]
    fn row(&self, id: u32, length: usize) -> &'a [T] {
        &self.cells[id as usize * self.stride..][..length]
    }
}

/// The instructions in use. `TIDEMILL_SIMD=avx2` or `portable` holds back what a machine has, to compare.
pub fn widest() -> Arch {
    static WIDEST: LazyLock<Arch> = LazyLock::new(|| {
        let asked = std::env::var("TIDEMILL_SIMD").unwrap_or_default();
        all().into_iter().find(|(name, _)| asked.is_empty() || *name == asked).map_or(Arch::Scalar, |(_, arch)| arch)
    });
    *WIDEST
}

/// What this machine has, by name, the widest first.
pub fn all() -> Vec<(&'static str, Arch)> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        found.extend(pulp::x86::V4::try_new().map(|simd| ("avx512", Arch::V4(simd))));
        found.extend(pulp::x86::V3::try_new().map(|simd| ("avx2", Arch::V3(simd))));
    }
    #[cfg(target_arch = "aarch64")]
    found.push(("neon", Arch::new()));
    found.push(("portable", Arch::Scalar));
    found
}

#[cfg(test)]
mod tests;
