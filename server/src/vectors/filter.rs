//! Which vectors a search may return.

/// What a search asks of a vector besides being near.
#[derive(Clone, Copy)]
pub enum Filter<'a> {
    /// its slot is marked
    Slots(&'a Bitmap),
    /// this says so of its slot and key; a scan asks it for every vector, a walk for those that it meets
    Keys(&'a dyn Fn(u32, &[u8]) -> bool),
}

/// A mark for each slot of an index. Slots that it does not know have none.
#[derive(Clone, Debug, Default)]
pub struct Bitmap {
    words: Vec<u64>,
}

impl Bitmap {
    /// No marks, with room for so many slots.
    pub fn new(slots: usize) -> Self {
        Bitmap { words: vec![0; slots.div_ceil(64)] }
    }

    /// Marks a slot.
    pub fn set(&mut self, slot: u32) {
        let word = slot as usize / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (slot % 64);
    }

    /// Whether a slot is marked.
    #[inline]
    pub fn get(&self, slot: u32) -> bool {
        self.words.get(slot as usize / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    /// The marked slots.
    pub fn slots(&self) -> impl Iterator<Item = u32> {
        self.words.iter().enumerate().flat_map(|(number, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(number as u32 * 64 + bit)
            })
        })
    }

    /// How many are marked.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }
}

impl FromIterator<u32> for Bitmap {
    fn from_iter<I: IntoIterator<Item = u32>>(slots: I) -> Self {
        let mut bitmap = Bitmap::default();
        slots.into_iter().for_each(|slot| bitmap.set(slot));
        bitmap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_kept_counted_and_listed() {
        let slots = [0, 1, 63, 64, 130, 500];
        let bitmap: Bitmap = slots.into_iter().collect();
        assert_eq!(bitmap.slots().collect::<Vec<_>>(), slots);
        assert_eq!(bitmap.count(), 6);
        assert!(bitmap.get(63) && !bitmap.get(62) && !bitmap.get(u32::MAX));
        assert_eq!(Bitmap::new(100).count(), 0);
    }
}
