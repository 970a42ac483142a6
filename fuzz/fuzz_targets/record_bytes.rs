//! Any bytes as a stored record and its chunks, read at several times and with events folded in: values or `Damaged`.
//!
//! Checksums keep such bytes away from the engine; this is about what happens when they do not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidemill_features::time::{MAX_TIME, MIN_TIME};
use tidemill_fuzz::rows::NOW;
use tidemill_fuzz::stored::{Kept, Target};

/// One byte chooses the view, two say how long the record is, two how long each chunk is.
fn parts(data: &[u8]) -> Option<(u8, Kept)> {
    let (view, mut rest) = data.split_first()?;
    let mut parts = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
        parts.push(&after[..length]);
        rest = &after[length..];
    }
    let (record, chunks) = parts.split_first()?;
    let stray = chunks.iter().map(|chunk| (*chunk).into()).collect();
    Some((*view, Kept { record: Some(record.to_vec()), stray, ..Kept::default() }))
}

fuzz_target!(|data: &[u8]| {
    let Some((view, mut kept)) = parts(data) else { return };
    let target = Target::of(view);
    for time in [NOW, NOW + 1, MIN_TIME, MAX_TIME] {
        let _ = kept.read(target.plan(), None, time);
    }
    if let Ok(applied) = target.apply_some(&kept) {
        kept.keep(applied);
        let _ = kept.read(target.plan(), None, NOW);
    }
});
