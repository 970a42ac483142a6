//! The rows that are asked for: entity keys and what only the request knows, as columns.

use super::{ReadPlan, Refused};
use crate::expression::Column;
use crate::stream::{KEY_BYTES_MAX, encode_key};

/// The columns of a request.
#[derive(Clone, Debug)]
pub struct Keys {
    /// by the plan's keys
    pub columns: Vec<Column>,
    /// by the plan's request values
    pub request: Vec<Column>,
    /// rows
    pub rows: usize,
}

/// Encoded keys by the plan's views, then row.
pub type EncodedKeys = Vec<Vec<Vec<u8>>>;

/// Bytes that the encoding adds to a key: a length for each of at most 16 columns.
const KEY_FRAMING: usize = 64;

/// Encodes the keys of a request.
pub fn encode_keys(plan: &ReadPlan, keys: &Keys) -> Result<EncodedKeys, Refused> {
    let mut encoded = Vec::with_capacity(plan.views.len());
    for view in &plan.views {
        let mut rows = Vec::with_capacity(keys.rows);
        for row in 0..keys.rows {
            let Some(key) = encode_key(view.keys.iter().map(|at| keys.columns[*at].value(row))) else {
                return Err(Refused::invalid("E2013", format!("the key of row {} is null", row + 1)));
            };
            if key.len() > KEY_BYTES_MAX + KEY_FRAMING {
                let message = format!("the key of row {} is longer than {KEY_BYTES_MAX} bytes", row + 1);
                return Err(Refused::invalid("E2012", message));
            }
            rows.push(key);
        }
        encoded.push(rows);
    }
    Ok(encoded)
}
