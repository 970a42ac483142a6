//! CSV with a header line. Columns are matched by name; a missing one is null, an unknown one ignored.

use tidemill_features::value::Value;

use super::decode::{Bad, Decoder, wrong_value};
use crate::columnar::scalar;
use crate::limits::EVENT_BYTES_MAX;

/// Decodes a whole CSV text; without its first line nothing can be read.
pub fn decode(body: &[u8], decoder: &mut Decoder) -> Result<(), String> {
    let mut reader = ::csv::ReaderBuilder::new().flexible(true).from_reader(body);
    let headers = reader.byte_headers().map_err(|e| format!("the header line cannot be read: {e}"))?.clone();
    let source = decoder.source();
    let places: Vec<Option<usize>> =
        source.fields.iter().map(|(name, _)| headers.iter().position(|header| header == name.as_bytes())).collect();
    if places.iter().all(Option::is_none) {
        return Err("the header line names no column of the source".to_string());
    }
    let mut record = ::csv::ByteRecord::new();
    while let (false, Ok(true)) = (decoder.is_full(), reader.read_byte_record(&mut record)) {
        let row: Result<Vec<Value<'_>>, Bad> = (|| {
            if record.as_slice().len() > EVENT_BYTES_MAX {
                return Err(("E1006", format!("the event has more than {EVENT_BYTES_MAX} bytes")));
            }
            if record.len() != headers.len() {
                return Err(("E1001", format!("{} cells under {} headers", record.len(), headers.len())));
            }
            let mut values = Vec::with_capacity(places.len());
            for (place, (name, field)) in places.iter().zip(&source.fields) {
                let cell = place.and_then(|at| record.get(at)).unwrap_or(b"");
                let text = std::str::from_utf8(cell).map_err(|_| wrong_value(name, "not UTF-8"))?;
                values.push(scalar::from_cell(text, field).map_err(|reason| wrong_value(name, &reason))?);
            }
            Ok(values)
        })();
        let payload = || record.iter().collect::<Vec<_>>().join(&b',');
        match row {
            Ok(values) => decoder.row(Ok(&values), &payload),
            Err(bad) => decoder.row(Err(bad), &payload),
        }
    }
    Ok(())
}
