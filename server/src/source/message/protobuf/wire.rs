//! The wire format of Protobuf: tags, and past what nobody asked for.

use crate::limits::MESSAGE_DEPTH_MAX;
use crate::source::message::bytes::{Broken, Bytes};

/// How a value stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Varint,
    Eight,
    Counted,
    Group,
    GroupEnd,
    Four,
}

/// A field number, and how its value stands there.
pub(super) fn tag(input: &mut Bytes<'_>) -> Result<(u32, Wire), Broken> {
    let tag = input.varint()?;
    let number = u32::try_from(tag >> 3).ok().filter(|number| (1..1 << 29).contains(number));
    let Some(number) = number else { return Err(format!("{} is no field number", tag >> 3)) };
    let wire = match tag & 7 {
        0 => Wire::Varint,
        1 => Wire::Eight,
        2 => Wire::Counted,
        3 => Wire::Group,
        4 => Wire::GroupEnd,
        5 => Wire::Four,
        other => return Err(format!("field {number} has the unknown wire type {other}")),
    };
    Ok((number, wire))
}

/// Bytes behind their length.
pub(super) fn counted<'m>(input: &mut Bytes<'m>) -> Result<&'m [u8], Broken> {
    let length = input.varint()?;
    input.take(length)
}

/// Reads past a value; past all that stands in it where it is a group.
pub(super) fn skip(input: &mut Bytes<'_>, number: u32, wire: Wire) -> Result<(), Broken> {
    let mut groups = Vec::new();
    let (mut number, mut wire) = (number, wire);
    loop {
        match wire {
            Wire::Varint => drop(input.varint()?),
            Wire::Eight => drop(input.array::<8>()?),
            Wire::Counted => drop(counted(input)?),
            Wire::Four => drop(input.array::<4>()?),
            Wire::Group if groups.len() >= MESSAGE_DEPTH_MAX => {
                return Err(format!("groups are nested more than {MESSAGE_DEPTH_MAX} deep"));
            }
            Wire::Group => groups.push(number),
            Wire::GroupEnd => {
                if groups.pop() != Some(number) {
                    return Err(format!("a group {number} ends that has not begun"));
                }
            }
        }
        if groups.is_empty() {
            return Ok(());
        }
        (number, wire) = tag(input)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skipped(bytes: &[u8]) -> Result<usize, Broken> {
        let mut input = Bytes::new(bytes);
        let (number, wire) = tag(&mut input)?;
        skip(&mut input, number, wire)?;
        Ok(input.left())
    }

    #[test]
    fn every_kind_of_value_can_be_skipped() {
        for (bytes, left) in [
            (&[0x08, 0x96, 0x01, 9][..], 1),
            (&[0x0d, 1, 2, 3, 4], 0),
            (&[0x09, 1, 2, 3, 4, 5, 6, 7, 8], 0),
            (&[0x0a, 2, 1, 2, 7], 1),
            // group 1 { 2: 5, group 3 { } }
            (&[0x0b, 0x10, 5, 0x1b, 0x1c, 0x0c, 7], 1),
        ] {
            assert_eq!(skipped(bytes), Ok(left), "{bytes:?}");
            for cut in 0..bytes.len() - left {
                assert!(skipped(&bytes[..cut]).is_err(), "{bytes:?} to {cut}");
            }
        }
        for (bytes, reason) in [
            (vec![0x0c], "a group 1 ends"),
            (vec![0x0b, 0x14], "a group 2 ends"),
            (vec![0x0f], "wire type 7"),
            (vec![0x00], "0 is no field number"),
            (vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], "4294967295 bytes are claimed"),
            (vec![0x0b; 1_000], "nested more than"),
        ] {
            let told = skipped(&bytes).unwrap_err();
            assert!(told.contains(reason), "{bytes:?}: {told}");
        }
    }
}
