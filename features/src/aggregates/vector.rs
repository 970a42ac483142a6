//! vector_sum and vector_avg: an exact sum for each element, rounded once to a 32-bit float.

use super::cell::{Finished, NoValue};
use super::sum::Sum;
use crate::codec::{Cursor, Damaged};
use crate::value::Value;

/// A sum for each element.
#[derive(Clone, Debug)]
pub struct VectorSum {
    elements: Vec<Sum>,
}

impl VectorSum {
    pub(super) fn new(dims: u32) -> Self {
        VectorSum { elements: vec![Sum::default(); dims as usize] }
    }

    pub(super) fn update(&mut self, value: &Value<'_>) {
        // Decode lets no vector in that lacks a number; damaged bytes may have one all the same.
        if let Value::List(items) = value {
            let numbers = self.elements.iter_mut().zip(items).filter(|(_, item)| !item.is_null());
            numbers.for_each(|(sum, item)| sum.update(item));
        }
    }

    pub(super) fn merge(&mut self, other: &VectorSum) {
        self.elements.iter_mut().zip(&other.elements).for_each(|(own, other)| own.merge(other));
    }

    pub(super) fn finish(&self, mean: bool) -> Finished {
        let mut items = Vec::with_capacity(self.elements.len());
        for sum in &self.elements {
            let single = match sum.infinite()? {
                Some(infinity) => infinity,
                None => sum.single(mean).ok_or(NoValue::Overflow)?,
            };
            items.push(Value::Float64(single));
        }
        Ok(Value::List(items))
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.elements.iter().for_each(|sum| sum.encode(out));
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>, dims: u32) -> Result<VectorSum, Damaged> {
        Ok(VectorSum { elements: (0..dims).map(|_| Sum::decode(cursor)).collect::<Result<_, _>>()? })
    }
}
