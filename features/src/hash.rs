//! Hashes that users and stored data depend on: XXH3-64 with seed 0. They never change.

use xxhash_rust::xxh3::xxh3_64;

use crate::codec::put_value;
use crate::value::Value;

/// hash64 of bytes.
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// hash64 of a value: text and bytes by their bytes, other types by their stored form.
pub fn hash_value(value: &Value<'_>) -> u64 {
    match value {
        Value::Text(v) => xxh3_64(v.as_bytes()),
        Value::Bytes(v) => xxh3_64(v),
        Value::Null => 0,
        other => {
            let mut bytes = Vec::with_capacity(16);
            put_value(&mut bytes, other);
            xxh3_64(&bytes)
        }
    }
}
