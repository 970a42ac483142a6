//! Bytes of a message, read from the front. What a message claims is compared with what is left before anything is taken.

/// The rest of a message.
pub(super) struct Bytes<'m> {
    rest: &'m [u8],
    length: usize,
}

/// What is wrong with the bytes, in a few words.
pub(super) type Broken = String;

impl<'m> Bytes<'m> {
    pub(super) fn new(message: &'m [u8]) -> Self {
        Bytes { rest: message, length: message.len() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    /// How many bytes were read.
    pub(super) fn position(&self) -> usize {
        self.length - self.rest.len()
    }

    /// The next bytes, which must be there.
    pub(super) fn take(&mut self, count: u64) -> Result<&'m [u8], Broken> {
        let at = usize::try_from(count).ok().filter(|at| *at <= self.rest.len());
        let Some(at) = at else {
            return Err(format!("{count} bytes are claimed where {} are left", self.rest.len()));
        };
        let (taken, rest) = self.rest.split_at(at);
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(format!("{N} bytes are expected where {} are left", self.rest.len()));
        };
        self.rest = rest;
        Ok(*taken)
    }

    /// A number of one to ten bytes, seven bits in each, the lowest first.
    pub(super) fn varint(&mut self) -> Result<u64, Broken> {
        if let Some((&first, rest)) = self.rest.split_first()
            && first < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(first));
        }
        let mut number = 0;
        for (at, byte) in self.rest.iter().take(10).enumerate() {
            // The tenth byte has room for one bit.
            if at == 9 && *byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[at + 1..];
                return Ok(number);
            }
        }
        let what = if self.rest.len() < 10 { "the bytes end inside a number" } else { "a number beyond 64 bits" };
        Err(what.to_string())
    }

    /// The same with the sign in the lowest bit.
    pub(super) fn zigzag(&mut self) -> Result<i64, Broken> {
        self.varint().map(unzigzag)
    }
}

/// 0, -1, 1, -2, … of 0, 1, 2, 3, …
pub(super) fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_lengths() {
        for number in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u64::from(u32::MAX), u64::MAX >> 1, u64::MAX] {
            let (mut written, mut left) = (Vec::new(), number);
            while left >= 0x80 {
                written.push(left as u8 | 0x80);
                left >>= 7;
            }
            written.push(left as u8);
            let mut bytes = Bytes::new(&written);
            assert_eq!((bytes.varint(), bytes.left()), (Ok(number), 0));
            for cut in 0..written.len() {
                assert!(Bytes::new(&written[..cut]).varint().is_err());
            }
        }
        assert!(Bytes::new(&[0xff; 11]).varint().is_err());
        let mut beyond = [0xff; 10];
        beyond[9] = 2;
        assert!(Bytes::new(&beyond).varint().unwrap_err().contains("64 bits"));
        assert_eq!([0, 1, 2, 3, u64::MAX].map(unzigzag), [0, -1, 1, -2, i64::MIN]);
    }

    #[test]
    fn claims_are_compared_with_what_is_left() {
        let mut bytes = Bytes::new(b"abc");
        assert_eq!(bytes.take(2), Ok(&b"ab"[..]));
        assert!(bytes.take(2).unwrap_err().contains("2 bytes are claimed where 1 are left"));
        assert!(bytes.take(u64::MAX).is_err() && bytes.array::<2>().is_err());
        assert_eq!((bytes.array(), bytes.position(), bytes.is_empty()), (Ok([b'c']), 3, true));
    }
}
