//! Cutting pieces off the front of the log. What they held is summed up in the manifest first: where their files end is where a
//! read of the past has to say that it does not know.

use super::disk::damaged;
use super::frames::{SealedFrames, Wanted};
use super::manifest::{Manifest, SealedPiece};
use super::sealer::{FRAMES_AT_ONCE, Sealer};
use crate::log::shelf::shelf_of;
use crate::log::{Cut, LogError, LogPlace};

impl Sealer {
    /// Cuts off all pieces that end at a place or before it. `go_on` is asked between steps; when it says no, all stays as it
    /// was. Gives what is gone since the log began; None: there is nothing to do, or it was to stop.
    pub fn cut(&self, to: LogPlace, go_on: &mut dyn FnMut() -> bool) -> Result<Option<Cut>, LogError> {
        let manifest = Manifest::load(&self.folder)?;
        let count = manifest.pieces.partition_point(|piece| piece.to() <= to);
        let Some(last) = manifest.pieces[..count].last() else { return Ok(None) };
        let mut cut = manifest.cut.clone();
        for piece in &manifest.pieces[..count] {
            if !self.sum_up(piece, &mut cut, go_on)? {
                return Ok(None);
            }
        }
        if !go_on() {
            return Ok(None);
        }
        cut.set_to(last.to());
        let shelf = shelf_of(&self.folder);
        shelf.announce(&cut);
        Manifest { cut: cut.clone(), pieces: manifest.pieces[count..].to_vec() }.store(&self.folder)?;
        let files = manifest.pieces[..count].iter().flat_map(SealedPiece::files);
        shelf.replaced(files.map(|file| file.path.clone()));
        if go_on() {
            shelf.remove_waiting(&self.folder)?;
        }
        Ok(Some(cut))
    }

    /// Adds what a piece holds. False: it was to stop.
    fn sum_up(&self, piece: &SealedPiece, cut: &mut Cut, go_on: &mut dyn FnMut() -> bool) -> Result<bool, LogError> {
        let frames = SealedFrames::open(&self.folder, piece, piece.from(), &Wanted::All)?;
        let mut frames =
            frames.ok_or_else(|| damaged(&self.folder.join(&piece.frames.path), "a file of its piece is missing"))?;
        let mut count = 0;
        while let Some(read) = frames.next_frame()? {
            count += 1;
            if count % FRAMES_AT_ONCE == 0 && !go_on() {
                return Ok(false);
            }
            cut.take(&read.frame);
        }
        Ok(true)
    }
}
