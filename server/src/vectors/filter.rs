//! Which vectors a search may return.

/// What a search asks of a vector besides being near.
#[derive(Clone, Copy)]
pub enum Filter<'a> {
    /// its slot is marked
    Slots(&'a Bitmap),
    /// this says so of its slot and key: asked for candidates only, and for some vectors to estimate how many pass
    Keys(&'a dyn Fn(u32, &[u8]) -> bool),
}

impl Filter<'_> {
    /// Whether a vector passes.
    #[inline]
    pub fn passes(&self, slot: u32, key: &[u8]) -> bool {
        match self {
            Filter::Slots(bitmap) => bitmap.get(slot),
            Filter::Keys(test) => test(slot, key),
        }
    }
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
