//! Keys as an index has them: their bytes compare as their values do, since equal scores are ordered by key. (Keys of records
//! begin with lengths.)

use tidemill_features::codec::{Cursor, Damaged};
use tidemill_features::stream::encode_key;
use tidemill_features::value::{DataType, Value};

/// Names and types of the columns of a key.
pub type KeyColumns = [(String, DataType)];

/// The key of a record as an index has it.
pub fn ordered(columns: &KeyColumns, key: &[u8]) -> Result<Vec<u8>, Damaged> {
    let mut cursor = Cursor::new(key);
    let mut out = Vec::with_capacity(key.len() + 2);
    for (_, data_type) in columns {
        match cursor.value(data_type)? {
            Value::Bool(v) => out.push(u8::from(v)),
            Value::Int64(v) | Value::Timestamp(v) => out.extend((v.cast_unsigned() ^ (1 << 63)).to_be_bytes()),
            Value::Decimal(v) => out.extend((v.cast_unsigned() ^ (1 << 127)).to_be_bytes()),
            Value::Text(v) => put_bytes(&mut out, v.as_bytes()),
            Value::Bytes(v) => put_bytes(&mut out, &v),
            _ => return Err(Damaged),
        }
    }
    Ok(out)
}

/// Two zeros end them; a zero within them is followed by 255, which is more.
fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        out.push(*byte);
        if *byte == 0 {
            out.push(255);
        }
    }
    out.extend([0, 0]);
}

/// The key of a record from that of an index.
pub fn encoded(columns: &KeyColumns, ordered: &[u8]) -> Result<Vec<u8>, Damaged> {
    let mut cursor = Cursor::new(ordered);
    let mut values = Vec::with_capacity(columns.len());
    for (_, data_type) in columns {
        values.push(match data_type {
            DataType::Bool => Value::Bool(cursor.byte()? == 1),
            DataType::Int64 => Value::Int64(whole(&mut cursor)?),
            DataType::Timestamp => Value::Timestamp(whole(&mut cursor)?),
            DataType::Decimal { .. } => {
                let bytes: [u8; 16] = cursor.take(16)?.try_into().map_err(|_| Damaged)?;
                Value::Decimal((u128::from_be_bytes(bytes) ^ (1 << 127)).cast_signed())
            }
            DataType::Text => Value::Text(String::from_utf8(bytes(&mut cursor)?).map_err(|_| Damaged)?.into()),
            DataType::Bytes => Value::Bytes(bytes(&mut cursor)?.into()),
            _ => return Err(Damaged),
        });
    }
    encode_key(values).ok_or(Damaged)
}

fn whole(cursor: &mut Cursor<'_>) -> Result<i64, Damaged> {
    let bytes: [u8; 8] = cursor.take(8)?.try_into().map_err(|_| Damaged)?;
    Ok((u64::from_be_bytes(bytes) ^ (1 << 63)).cast_signed())
}

fn bytes(cursor: &mut Cursor<'_>) -> Result<Vec<u8>, Damaged> {
    let mut found = Vec::new();
    loop {
        match cursor.byte()? {
            0 => match cursor.byte()? {
                0 => return Ok(found),
                _ => found.push(0),
            },
            byte => found.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use tidemill_features::stream::KEY_BYTES_MAX;

    use super::*;
    use crate::limits::VECTOR_KEY_BYTES_MAX;

    #[test]
    fn the_longest_keys_fit_an_index() {
        let zeros = "\0".repeat(KEY_BYTES_MAX - 3);
        let decimal = DataType::Decimal { precision: 38, scale: 0 };
        let wide = vec![("n".to_string(), decimal); 16];
        let longest = [
            (vec![("a".to_string(), DataType::Text)], encode_key([Value::text(&zeros)]).unwrap()),
            (wide, encode_key(vec![Value::Decimal(0); 16]).unwrap()),
        ];
        for (columns, key) in longest {
            assert!(key.len() <= KEY_BYTES_MAX);
            assert!(ordered(&columns, &key).unwrap().len() <= VECTOR_KEY_BYTES_MAX);
        }
    }

    #[test]
    fn bytes_compare_as_values_do_and_come_back() {
        let text = |text: &'static str| Value::text(text);
        let keys: Vec<(DataType, Vec<Value<'static>>)> = vec![
            (DataType::Int64, [i64::MIN, -300, -1, 0, 1, 200, i64::MAX].map(Value::Int64).to_vec()),
            (DataType::Text, ["", "\0", "\0\0", "\0a", "a", "a\0", "aa", "i13", "i3", "z", "é"].map(text).to_vec()),
            (DataType::Bool, [false, true].map(Value::Bool).to_vec()),
            (DataType::Decimal { precision: 38, scale: 2 }, [-5_i128, 0, 7].map(Value::Decimal).to_vec()),
        ];
        for (data_type, values) in keys {
            // A second column tells whether the first one ends by itself.
            let columns = [("a".to_string(), data_type), ("b".to_string(), DataType::Text)];
            let all = values.iter().flat_map(|value| [value, value].into_iter().zip(["", "x"]));
            let all: Vec<Vec<u8>> = all.filter_map(|(a, b)| encode_key([a.clone(), text(b)])).collect();
            let made: Vec<Vec<u8>> = all.iter().map(|key| ordered(&columns, key).unwrap()).collect();
            assert!(made.is_sorted_by(|a, b| a < b), "{columns:?}");
            for (key, made) in all.iter().zip(&made) {
                assert_eq!(encoded(&columns, made).unwrap(), *key);
                assert!(encoded(&columns, &made[..made.len() - 1]).is_err());
            }
        }
    }
}
