//! How records and chunks lie on a disk: format, definition, commit sequence, checksum, then their bytes.

use crate::codec::Damaged;

/// Version of the record format. An older one must stay readable; golden files hold each of them.
pub const FORMAT: u16 = 2;
const LENGTH: usize = 22;

/// A stored record or chunk, its checksum verified.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// hash of the view's definition
    pub definition: u64,
    /// commit that wrote it
    pub sequence: u64,
    /// the record or chunk
    pub body: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// The bytes to store.
    pub fn seal(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(LENGTH + self.body.len());
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&self.definition.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(self.body);
        let checksum = checksum(&out);
        out[18..LENGTH].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Opens stored bytes; any changed bit is `Damaged`.
    pub fn open(stored: &'a [u8]) -> Result<Self, Damaged> {
        let (header, body) = stored.split_at_checked(LENGTH).ok_or(Damaged)?;
        let word = |at: usize| -> Result<[u8; 8], Damaged> { header[at..at + 8].try_into().map_err(|_| Damaged) };
        let written = u32::from_le_bytes(header[18..].try_into().map_err(|_| Damaged)?);
        if header[..2] != FORMAT.to_le_bytes() || written != checksum(stored) {
            return Err(Damaged);
        }
        Ok(Envelope { definition: u64::from_le_bytes(word(2)?), sequence: u64::from_le_bytes(word(10)?), body })
    }
}

/// Over everything but the checksum itself.
fn checksum(stored: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&stored[..18]);
    hasher.update(&stored[LENGTH..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_seen() {
        let sealed = Envelope { definition: 7, sequence: 9, body: b"body" }.seal();
        assert_eq!(Envelope::open(&sealed).unwrap().body, b"body");
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Envelope::open(&flipped).is_err(), "bit {bit}");
        }
        assert!(Envelope::open(&sealed[..10]).is_err());
    }
}
