//! Every width of instructions against plain sums, at lengths with and without a rest.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

fn near(a: f32, b: f64, scale: f64) {
    assert!((f64::from(a) - b).abs() <= 1e-5 * (1.0 + scale), "{a} {b}");
}

#[test]
fn every_width_gives_the_plain_sums() {
    let mut random = StdRng::seed_from_u64(1);
    for dims in [1, 3, 7, 8, 15, 16, 17, 31, 32, 33, 100, 127, 384, 1000] {
        let rows = 11;
        let query: Vec<f32> = (0..dims).map(|_| random.random_range(-1.0..1.0)).collect();
        let cells: Vec<f32> = (0..dims * rows).map(|_| random.random_range(-1.0..1.0)).collect();
        let halves: Vec<u16> = cells.iter().map(|x| half::f16::from_f32(*x).to_bits()).collect();
        let ids: Vec<u32> = (0..rows as u32).rev().collect();
        for (name, arch) in all() {
            let mut out = [vec![0.0; rows], vec![0.0; rows], vec![0.0; rows], vec![0.0; rows]];
            let plain = Cells { cells: &cells[..], stride: dims };
            let half = Cells { cells: &halves[..], stride: dims };
            dots(arch, &query, plain, &ids, &mut out[0]);
            squared_distances(arch, &query, plain, &ids, &mut out[1]);
            half_dots(arch, &query, half, &ids, &mut out[2]);
            half_squared_distances(arch, &query, half, &ids, &mut out[3]);
            for (place, id) in ids.iter().enumerate() {
                let row = &cells[*id as usize * dims..][..dims];
                let pairs = || query.iter().zip(row).map(|(q, x)| (f64::from(*q), f64::from(*x)));
                let (product, distance): (f64, f64) =
                    pairs().fold((0.0, 0.0), |(p, d), (q, x)| (p + q * x, d + (q - x) * (q - x)));
                near(out[0][place], product, dims as f64);
                near(out[1][place], distance, dims as f64);
                assert!((f64::from(out[2][place]) - product).abs() < 1e-3 * dims as f64, "{name} {dims}");
                assert!((f64::from(out[3][place]) - distance).abs() < 1e-3 * dims as f64, "{name} {dims}");
                assert!((dot(arch, &query, row) - product).abs() < 1e-9 * dims as f64);
                assert_eq!(dot(arch, &query, row).to_bits(), dot(Arch::Scalar, &query, row).to_bits());
                let exact = squared_distance(arch, &query, row);
                assert!((exact - distance).abs() < 1e-9 * dims as f64);
                assert_eq!(exact.to_bits(), squared_distance(Arch::Scalar, &query, row).to_bits());
            }
        }
    }
}

#[test]
fn int8_sums_are_the_same_whole_numbers_on_every_width() {
    let mut random = StdRng::seed_from_u64(2);
    for stride in [16, 32, 48, 64, 96, 112, 128, 400, 416] {
        let rows = 7;
        let mut query: Vec<i16> = (0..stride).map(|_| random.random_range(-2000..=2000)).collect();
        query[stride - TRAILER..].fill(0);
        let mut cells: Vec<i8> = (0..stride * rows).map(|_| random.random_range(-127..=127)).collect();
        for row in cells.chunks_mut(stride) {
            let trailer: Vec<u8> = [9.0f32, 0.5, -3.0].iter().flat_map(|x| x.to_le_bytes()).collect();
            row[stride - TRAILER..].copy_from_slice(bytemuck::cast_slice(&trailer));
        }
        let ids: Vec<u32> = (0..rows as u32).collect();
        for (name, arch) in all() {
            let mut out = vec![0.0; rows];
            int8_distances(arch, &query, (-2.0, 10.0), Cells { cells: &cells, stride }, &ids, &mut out);
            for (row, out) in cells.chunks(stride).zip(&out) {
                let dot: i64 = query.iter().zip(row).map(|(q, x)| i64::from(*q) * i64::from(*x)).sum();
                let whole = -3.0 + -2.0 * 0.5 * dot as f32 + 10.0;
                assert!((whole - out).abs() <= whole.abs() * 1e-6, "{name} {stride}: {out} for {whole}");
            }
        }
    }
}

/// Whatever the components are, those that are not told to be odd come back bit for bit, on every width.
#[test]
fn packed_rows_are_what_they_were() {
    let mut random = StdRng::seed_from_u64(43);
    let mut component = |kind: usize| match kind {
        0 => random.random_range(-1.0..1.0),
        1 => [0.0, -0.0, 1.0, f32::MIN_POSITIVE, -1e-45, f32::MAX, f32::MIN][random.random_range(0..7)],
        2 => f32::from_bits(random.random_range(0..0x7f80_0000) | (random.random_range(0..2u32) << 31)),
        // Fourteen powers of two below the greatest are as far down as it goes.
        _ => (random.random_range(-17..0) as f32).exp2() * [1.0, -1.25][random.random_range(0..2)],
    };
    for (dims, kind) in
        [1, 2, 3, 7, 16, 31, 32, 33, 64, 100, 384].into_iter().flat_map(|dims| (0..4).map(move |k| (dims, k)))
    {
        for _ in 0..40 {
            let row: Vec<f32> = (0..dims).map(|_| component(kind)).collect();
            let (mut bytes, mut odd) = (vec![9; packed_bytes(dims)], Vec::new());
            pack(&row, &mut bytes, |at| odd.push(at));
            let greatest = row.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            for at in &odd {
                assert!(row[*at] != 0.0 && row[*at].abs() < greatest / 16_000.0, "{} beside {greatest}", row[*at]);
            }
            for (name, arch) in all() {
                let mut out = vec![7.0; dims];
                unpack(arch, &bytes, &mut out);
                odd.iter().for_each(|at| out[*at] = row[*at]);
                assert!(out.iter().zip(&row).all(|(a, b)| a.to_bits() == b.to_bits()), "{name} {dims} {kind}");
            }
        }
    }
}
