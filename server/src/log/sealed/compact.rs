//! Compaction: adjacent pieces of about the same size become one, so that files stay few and sorted runs long.
//!
//! The new files stand beside the old ones until the manifest names them, and it does so only after every frame has come back
//! from them as from the old ones. The old files go once no reader is left that began before.

use std::collections::BTreeMap;

use super::disk::damaged;
use super::frame_rows::{read_dead, read_frames, write_dead, write_frames};
use super::frames::{SealedFrames, Wanted};
use super::manifest::{EventsFile, Manifest, PositionRange, SealedPiece, StoredSchema};
use super::merge::merge;
use super::sealer::{FRAMES_AT_ONCE, Sealer};
use crate::limits::{COMPACT_PIECES, COMPACT_PIECES_MAX};
use crate::log::shelf::shelf_of;
use crate::log::{LogError, LogPlace};

/// Pieces differ by less than this factor where they count as of one size.
const SAME_SIZE: u64 = 2;

impl Sealer {
    /// Makes one piece of several, where that pays. `go_on` is asked between steps; when it says no, all stays as it was. Gives
    /// how many pieces became one; None: there is nothing to do, or it was to stop. Pieces that cannot be read are left alone
    /// from then on.
    pub fn compact_next(&mut self, go_on: &mut dyn FnMut() -> bool) -> Result<Option<usize>, LogError> {
        let manifest = Manifest::load(&self.folder)?;
        let Some((from, to)) = self.worth_it(&manifest) else { return Ok(None) };
        let old = &manifest.pieces[from..to];
        let compacted = self.compacted(old, go_on);
        if compacted.is_err() {
            self.left_alone.extend(old.iter().map(SealedPiece::from));
        }
        let Some(new) = compacted? else { return Ok(None) };
        let mut pieces = manifest.pieces.clone();
        pieces.splice(from..to, [new]);
        Manifest { cut: manifest.cut.clone(), pieces }.store(&self.folder)?;
        let shelf = shelf_of(&self.folder);
        shelf.replaced(old.iter().flat_map(SealedPiece::files).map(|file| file.path.clone()));
        if go_on() {
            shelf.remove_waiting(&self.folder)?;
        }
        Ok(Some(to - from))
    }

    /// Removes files that were replaced, once nobody reads them any more.
    pub fn remove_replaced(&self) -> Result<(), LogError> {
        shelf_of(&self.folder).remove_waiting(&self.folder)
    }

    /// The first pieces, by their range, that are enough, alike, and not too large together.
    fn worth_it(&self, manifest: &Manifest) -> Option<(usize, usize)> {
        let pieces = &manifest.pieces;
        let sizes: Vec<u64> = pieces.iter().map(size_of).collect();
        (0..pieces.len()).find_map(|from| {
            let (mut least, mut most, mut total) = (u64::MAX, 0, 0);
            let mut to = from;
            while to < pieces.len() && to - from < COMPACT_PIECES_MAX {
                let (piece, size) = (&pieces[to], sizes[to]);
                (least, most, total) = (least.min(size), most.max(size), total + size);
                let alike = most < least.saturating_mul(SAME_SIZE) && total <= self.compacted_bytes;
                let fits = pieces[from..to].iter().all(|other| same_keys(other, piece));
                if !alike || !fits || self.left_alone.contains(&piece.from()) {
                    break;
                }
                to += 1;
            }
            (to - from >= COMPACT_PIECES).then_some((from, to))
        })
    }

    /// One piece out of several, whose frames were compared with theirs. None: it was to stop.
    fn compacted(&self, old: &[SealedPiece], go_on: &mut dyn FnMut() -> bool) -> Result<Option<SealedPiece>, LogError> {
        let (from, to) = (old[0].from(), old[old.len() - 1].to());
        // No piece of this range was there before: pieces only grow.
        let stem = format!("{:020}-{:012}-{:020}-{:012}", from.segment, from.offset, to.segment, to.offset);
        let mut new = self.frames_of(old, &stem)?;
        (new.log_bytes, new.accepted) = (old.iter().map(size_of).sum(), accepted(old));
        new.positions = positions(old);
        new.set_to(to);
        for (at, stored) in new.schemas.iter().enumerate() {
            let of_schema = |piece: &SealedPiece| {
                let own = piece.schemas.iter().position(|own| own == stored)?;
                piece.events.iter().find(|events| events.schema == own).cloned()
            };
            let files: Vec<EventsFile> = old.iter().filter_map(of_schema).collect();
            let Some(first) = files.first() else { continue };
            if !go_on() {
                return Ok(None);
            }
            let name = format!("events/{}/{stem}-{at:02}.parquet", stored.source);
            let schema = stored.schema();
            let schema = schema.ok_or_else(|| damaged(&self.folder.join(&name), "a column has an unknown type"))?;
            let Some(file) = merge(&self.folder, name, &schema, &files, go_on)? else { return Ok(None) };
            let times = (
                files.iter().map(|file| file.times.0).min().unwrap_or(first.times.0),
                files.iter().map(|file| file.times.1).max().unwrap_or(first.times.1),
            );
            new.events.push(EventsFile { schema: at, key: first.key.clone(), times, file });
        }
        let is_same = go_on() && self.come_back(old, &new, go_on)? && go_on();
        Ok(is_same.then_some(new))
    }

    /// A piece with the frames and bad events of several, still without events.
    fn frames_of(&self, old: &[SealedPiece], stem: &str) -> Result<SealedPiece, LogError> {
        let (mut frames, mut dead) = (Vec::new(), Vec::new());
        let mut schemas: Vec<StoredSchema> = Vec::new();
        for piece in old {
            let missing = |path: &str| damaged(&self.folder.join(path), "it is missing");
            let of_piece = read_frames(&self.folder, &piece.frames)?.ok_or_else(|| missing(&piece.frames.path))?;
            let mut places = Vec::with_capacity(piece.schemas.len());
            for schema in &piece.schemas {
                let known = schemas.iter().position(|known| known == schema);
                places.push(known.unwrap_or(schemas.len()) as u64);
                schemas.extend(known.is_none().then(|| schema.clone()));
            }
            for mut frame in of_piece {
                let place = places.get(frame.schema as usize).copied();
                frame.schema =
                    place.ok_or_else(|| damaged(&self.folder.join(&piece.frames.path), "a frame has no columns"))?;
                frames.push(frame);
            }
            if let Some(file) = &piece.dead {
                dead.extend(read_dead(&self.folder, file)?.ok_or_else(|| missing(&file.path))?);
            }
        }
        let file = write_frames(&self.folder, format!("frames/{stem}.parquet"), &frames)?;
        let mut new = SealedPiece::new(old[0].from(), old[0].from(), file);
        new.schemas = schemas;
        if !dead.is_empty() {
            new.dead = Some(write_dead(&self.folder, format!("dead/{stem}.parquet"), &dead)?);
        }
        Ok(new)
    }

    /// Whether a piece gives the same frames as those that it shall replace, to the byte. False: it was to stop.
    fn come_back(
        &self,
        old: &[SealedPiece],
        new: &SealedPiece,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<bool, LogError> {
        let path = self.folder.join(&new.frames.path);
        let differs = |place: LogPlace| {
            let (offset, segment) = (place.offset, place.segment);
            damaged(
                &path,
                format!("the frame at byte {offset} of segment {segment} is not what it was; nothing is replaced"),
            )
        };
        let open = |piece: &SealedPiece| {
            let opened = SealedFrames::open(&self.folder, piece, piece.from(), &Wanted::All)?;
            opened.ok_or_else(|| differs(piece.from()))
        };
        let mut compacted = open(new)?;
        let (mut is, mut was) = (Vec::new(), Vec::new());
        let mut count = 0;
        for piece in old {
            let mut frames = open(piece)?;
            while let Some(expected) = frames.next_frame()? {
                count += 1;
                if count % FRAMES_AT_ONCE == 0 && !go_on() {
                    return Ok(false);
                }
                let found = compacted.next_frame()?.ok_or_else(|| differs(expected.place))?;
                is.clear();
                was.clear();
                found.frame.encode(&mut is);
                expected.frame.encode(&mut was);
                if is != was || found.place != expected.place || found.end != expected.end {
                    return Err(differs(expected.place));
                }
            }
        }
        match compacted.next_frame()? {
            Some(more) => Err(differs(more.place)),
            None => Ok(true),
        }
    }
}

/// Bytes of the log that a piece has; of those that do not say, a guess from its files, which are some four times as small.
fn size_of(piece: &SealedPiece) -> u64 {
    match piece.log_bytes {
        0 => 4 * piece.files().map(|file| file.bytes).sum::<u64>(),
        known => known,
    }
}

/// Whether events with the same columns are sorted by the same key in both.
fn same_keys(a: &SealedPiece, b: &SealedPiece) -> bool {
    let fits = |of_a: &EventsFile, of_b: &EventsFile| {
        a.schemas.get(of_a.schema) != b.schemas.get(of_b.schema) || of_a.key == of_b.key
    };
    a.events.iter().all(|of_a| b.events.iter().all(|of_b| fits(of_a, of_b)))
}

fn accepted(pieces: &[SealedPiece]) -> Option<(i64, i64)> {
    let all: Option<Vec<(i64, i64)>> = pieces.iter().map(|piece| piece.accepted).collect();
    let all = all?;
    all.iter().map(|(least, _)| *least).min().zip(all.iter().map(|(_, most)| *most).max())
}

fn positions(pieces: &[SealedPiece]) -> Vec<PositionRange> {
    let mut all: BTreeMap<(&str, u32), (u64, u64)> = BTreeMap::new();
    for range in pieces.iter().flat_map(|piece| &piece.positions) {
        let known = all.entry((&range.source, range.partition)).or_insert((range.from, range.to));
        *known = (known.0.min(range.from), known.1.max(range.to));
    }
    let range = |((source, partition), (from, to)): ((&str, u32), (u64, u64))| PositionRange {
        source: source.to_string(),
        partition,
        from,
        to,
    };
    all.into_iter().map(range).collect()
}
