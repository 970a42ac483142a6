//! Records of real events: equal bytes however the events were grouped, values equal to those out of the log; then some bytes
//! are flipped, and whatever comes out is values or `Damaged`.
#![no_main]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use tidemill_features::read::{Answer, Context, History};
use tidemill_features::record::Fate;
use tidemill_features::stream::{EventBatch, Prepared};
use tidemill_features::time::SECOND;
use tidemill_fuzz::rows::{NOW, batch};
use tidemill_fuzz::stored::{Kept, Target};

fn same(a: &Answer, b: &Answer) -> bool {
    a.value.same(&b.value) && (a.status, a.newest, a.capped) == (b.status, b.newest, b.capped)
}

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let target = Target::of(u.arbitrary()?);
    let source = target.source();
    let mut batches: Vec<EventBatch> = Vec::new();
    let flips: Vec<(u16, u8)> = (0..u.int_in_range(0..=6u8)?).map(|_| u.arbitrary()).collect::<Result<_>>()?;
    let times = [NOW + i64::from(u.arbitrary::<i32>()?) * SECOND, NOW + i64::from(u.arbitrary::<i16>()?)];
    for _ in 0..u.int_in_range(1..=3u8)? {
        let first = batches.last().and_then(|batch| batch.offsets.last()).map_or(0, |last| last + 1);
        batches.push(batch(&source, u, first)?);
    }
    let prepared: Vec<Prepared<'_>> = batches.iter().map(|batch| target.prepared(batch)).collect();
    let (mut kept, mut one_by_one) = (Kept::default(), Kept::default());
    let mut history = History::new(target.plan());
    let mut any_late = false;
    for (batch, prepared) in batches.iter().zip(&prepared) {
        let events: Vec<_> = (0..batch.len()).map(|row| prepared.incoming(row)).collect();
        let applied = target.apply(&kept, &events).expect("a record of ours is not damaged");
        any_late |= applied.fates.contains(&Fate::Late);
        kept.keep(applied);
        for event in &events {
            one_by_one.keep(target.apply(&one_by_one, std::slice::from_ref(event)).expect("nor is this one"));
            history.push(event).expect("nor are events");
        }
    }
    assert!(kept.record == one_by_one.record, "the bytes depend on how events were grouped");
    assert!(kept.chunks == one_by_one.chunks, "the chunks depend on how events were grouped");
    let features: Vec<usize> = (0..target.plan().features.len()).collect();
    for time in times {
        let Ok(read) = kept.read(target.plan(), None, time) else { continue };
        let log = history.read(&Context::default(), &features, time).expect("the log is not damaged");
        for ((feature, read), log) in target.plan().features.iter().zip(&read).zip(&log) {
            assert!(
                same(read, log),
                "{} at {time}: {read:?}, but {log:?} out of the log; late: {any_late}",
                feature.name
            );
        }
    }
    for (at, mask) in flips {
        flip(&mut kept, usize::from(at), mask);
    }
    for time in times {
        let _ = kept.read(target.plan(), None, time);
    }
    let _ = target.apply_some(&kept);
    Ok(())
}

/// Changes one byte of the record or of a chunk.
fn flip(kept: &mut Kept, at: usize, mask: u8) {
    let record = kept.record.iter_mut().map(|record| &mut record[..]);
    let mut chunks: Vec<Vec<u8>> = kept.chunks.values().map(|chunk| chunk.to_vec()).collect();
    let mut parts: Vec<&mut [u8]> = record.chain(chunks.iter_mut().map(|chunk| &mut chunk[..])).collect();
    let count = parts.len().max(1);
    if let Some(part) = parts.get_mut(at % count) {
        let place = (at / count) % part.len().max(1);
        if let Some(byte) = part.get_mut(place) {
            *byte ^= mask;
        }
    }
    for (own, changed) in kept.chunks.values_mut().zip(chunks) {
        *own = changed.into();
    }
}

fuzz_target!(|data: &[u8]| {
    // Bytes that end too early are a case that ends too early.
    let _ = run(&mut Unstructured::new(data));
});
