//! JSON objects: one a line, or one a message. Values go straight from the bytes into typed slots, without a tree in between.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tidemill_features::definitions::{FieldType, Source, TimeUnit};
use tidemill_features::value::{DataType, Value};

use super::decode::{Bad, Decoder};
use crate::columnar::scalar;
use crate::limits::EVENT_BYTES_MAX;

/// Decodes lines; an empty line is skipped.
pub fn decode(body: &[u8], decoder: &mut Decoder) {
    let source = decoder.source();
    let mut slots = Vec::new();
    for line in body.split(|byte| *byte == b'\n') {
        if decoder.is_full() {
            break;
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        slots.clear();
        slots.resize(source.fields.len(), Value::Null);
        let row = object(line, &source, &[], &mut slots);
        decoder.row(row.map(|()| slots.as_slice()), &|| line.to_vec());
    }
}

/// Reads one object into the slots of a row, one for each column. Columns that are `given` from elsewhere are not looked for in it.
pub fn object<'a>(body: &'a [u8], source: &Source, given: &[usize], slots: &mut [Value<'a>]) -> Result<(), Bad> {
    if body.len() > EVENT_BYTES_MAX {
        return Err(("E1006", format!("the event has {} bytes, more than {EVENT_BYTES_MAX}", body.len())));
    }
    let text = std::str::from_utf8(body).map_err(|e| ("E1001", format!("not UTF-8 at byte {}", e.valid_up_to())))?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let row = RowVisitor { source, given, slots };
    let parsed = reader.deserialize_map(row).and_then(|()| reader.end());
    parsed.map_err(|error| {
        let message = error.to_string();
        match message.starts_with("column `") {
            true if error.is_data() => {
                // The place that the parser adds stands last; a text of the event may say the same.
                let end = message.rfind(" at line ").unwrap_or(message.len());
                ("E1002", message[..end].to_string())
            }
            _ => ("E1001", format!("not a JSON object: {message}")),
        }
    })
}

struct RowVisitor<'r, 'a> {
    source: &'r Source,
    given: &'r [usize],
    slots: &'r mut [Value<'a>],
}

impl<'a> Visitor<'a> for RowVisitor<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        // Producers write their columns in the declared order more often than not: try the next one first.
        let mut expected = 0;
        while let Some(key) = map.next_key::<std::borrow::Cow<'_, str>>()? {
            let fields = &self.source.fields;
            let at = match fields.get(expected) {
                Some((name, _)) if *name == key => Some(expected),
                _ => fields.iter().position(|(name, _)| *name == key),
            };
            match at {
                Some(at) if !self.given.contains(&at) => {
                    let (name, field) = &fields[at];
                    self.slots[at] = map.next_value_seed(Slot { name, field })?;
                    expected = at + 1;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Slot<'f> {
    name: &'f str,
    field: &'f FieldType,
}

impl Slot<'_> {
    fn wrong<E: Error>(self, reason: impl fmt::Display) -> E {
        E::custom(format!("column `{}`: {reason}", self.name))
    }
}

impl<'a> DeserializeSeed<'a> for Slot<'_> {
    type Value = Value<'a>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Value<'a>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Slot<'_> {
    type Value = Value<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.field.data_type)
    }

    fn visit_unit<E: Error>(self) -> Result<Value<'a>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, v: bool) -> Result<Value<'a>, E> {
        match self.field.data_type {
            DataType::Bool => Ok(Value::Bool(v)),
            ref other => Err(self.wrong(format!("{v} is not {other}"))),
        }
    }

    fn visit_i64<E: Error>(self, v: i64) -> Result<Value<'a>, E> {
        scalar::from_int(v, self.field).map_err(|e| self.wrong(e))
    }

    fn visit_u64<E: Error>(self, v: u64) -> Result<Value<'a>, E> {
        match i64::try_from(v) {
            Ok(v) => self.visit_i64(v),
            Err(_) => scalar::from_large(v, self.field).map_err(|e| self.wrong(e)),
        }
    }

    fn visit_f64<E: Error>(self, v: f64) -> Result<Value<'a>, E> {
        scalar::from_float(v, self.field).map_err(|e| self.wrong(e))
    }

    fn visit_borrowed_str<E: Error>(self, v: &'a str) -> Result<Value<'a>, E> {
        scalar::from_text(v.into(), self.field).map_err(|e| self.wrong(e))
    }

    fn visit_str<E: Error>(self, v: &str) -> Result<Value<'a>, E> {
        scalar::from_text(v.to_string().into(), self.field).map_err(|e| self.wrong(e))
    }

    fn visit_seq<S: SeqAccess<'a>>(self, mut list: S) -> Result<Value<'a>, S::Error> {
        let (items, length) = match &self.field.data_type {
            DataType::List(items) => ((**items).clone(), None),
            DataType::Vector(dims) => (DataType::Float32, Some(*dims as usize)),
            other => return Err(self.wrong(format!("a list is not {other}"))),
        };
        let items = FieldType { data_type: items, unit: TimeUnit::Text };
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(Slot { name: self.name, field: &items })? {
            values.push(value);
        }
        match length {
            Some(dims) if dims != values.len() => {
                Err(self.wrong(format!("a vector of {} numbers, not {dims}", values.len())))
            }
            Some(_) if values.iter().any(Value::is_null) => Err(self.wrong("a vector without one of its numbers")),
            _ => Ok(Value::List(values)),
        }
    }

    fn visit_map<M: MapAccess<'a>>(self, _: M) -> Result<Value<'a>, M::Error> {
        Err(self.wrong(format!("an object is not {}", self.field.data_type)))
    }
}

#[cfg(test)]
mod tests {
    use tidemill_features::definitions::{DefinitionFile, check};

    use super::*;

    #[test]
    fn a_vector_has_all_its_numbers() {
        let text =
            "[source.s]\nconnector = 'push'\nevent_time = 'at'\nfields = { v = 'vector<2>', at = 'timestamp' }\n";
        let registry = check(&[DefinitionFile { path: "a.toml".into(), text: text.into() }]).unwrap();
        let reason = |vector: &str| {
            let mut decoder = Decoder::new(registry.sources[0].clone(), Default::default(), 0);
            decode(format!(r#"{{"v":{vector},"at":"1970-01-01T00:00:00Z"}}"#).as_bytes(), &mut decoder);
            decoder.finish().bad.first().map(|bad| bad.reason.clone())
        };
        assert_eq!(reason("[1, 2.5]"), None);
        assert!(reason("[1]").unwrap().contains("a vector of 1 numbers, not 2"));
        assert!(reason("[1, null]").unwrap().contains("without one of its numbers"));
    }
}
