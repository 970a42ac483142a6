//! distinct and count_distinct: the set of values seen, and its size.
//!
//! A count is exact up to 256 values. A larger set becomes HyperLogLog registers: which of the two it is follows from the
//! set's size alone, so that equal sets have equal bytes.

use super::capped::Capped;
use super::registers::Registers;
use crate::codec::{Cursor, Damaged};
use crate::hash::hash_value;
use crate::value::{DataType, Value};

/// Values that a `distinct` list shows at most; of more, those with the smallest hash64 stay, whatever their order.
pub const DISTINCT_MAX: usize = 10_000;

/// The values of `distinct`.
#[derive(Clone, Debug)]
pub struct Distinct {
    values: Capped<()>,
}

impl Distinct {
    pub(super) fn new() -> Self {
        Distinct { values: Capped::new(DISTINCT_MAX) }
    }

    pub(super) fn update(&mut self, value: &Value<'_>) {
        self.values.update(value, || (), |()| ());
    }

    pub(super) fn merge(&mut self, other: &Distinct) {
        self.values.merge(&other.values, || (), |(), ()| ());
    }

    pub(super) fn is_capped(&self) -> bool {
        self.values.full
    }

    pub(super) fn finish(&self) -> Value<'static> {
        Value::List(self.values.ascending().into_iter().map(|(value, ())| value.clone()).collect())
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.values.encode(out, |(), _| ());
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>, of: &DataType) -> Result<Distinct, Damaged> {
        Ok(Distinct { values: Capped::decode(cursor, DISTINCT_MAX, of, |_| Ok(()))? })
    }
}

/// Sets up to this size are counted exactly.
pub const EXACT_MAX: usize = 256;

/// What `count_distinct` counts.
#[derive(Clone, Debug)]
pub enum DistinctCount {
    /// the values themselves
    Values(Capped<()>),
    /// of a set of more than `EXACT_MAX` values
    Registers(Registers),
}

impl DistinctCount {
    pub(super) fn new() -> Self {
        DistinctCount::Values(Capped::new(usize::MAX))
    }

    pub(super) fn update(&mut self, value: &Value<'_>) {
        match self {
            DistinctCount::Values(values) => {
                values.update(value, || (), |()| ());
                self.promote();
            }
            DistinctCount::Registers(registers) => registers.update(hash_value(value)),
        }
    }

    fn promote(&mut self) {
        if let DistinctCount::Values(values) = self
            && values.len() > EXACT_MAX
        {
            let mut registers = Registers::default();
            values.values().for_each(|value| registers.update(hash_value(value)));
            *self = DistinctCount::Registers(registers);
        }
    }

    pub(super) fn merge(&mut self, other: &DistinctCount) {
        match (&mut *self, other) {
            (_, DistinctCount::Values(values)) => values.values().for_each(|value| self.update(value)),
            (DistinctCount::Registers(own), DistinctCount::Registers(other)) => own.merge(other),
            (DistinctCount::Values(values), DistinctCount::Registers(other)) => {
                let mut registers = other.clone();
                values.values().for_each(|value| registers.update(hash_value(value)));
                *self = DistinctCount::Registers(registers);
            }
        }
    }

    pub(super) fn finish(&self) -> Value<'static> {
        Value::Int64(match self {
            DistinctCount::Values(values) => values.len() as i64,
            DistinctCount::Registers(registers) => registers.estimate().max(EXACT_MAX as i64 + 1),
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            DistinctCount::Values(values) => {
                out.push(0);
                values.encode(out, |(), _| ());
            }
            DistinctCount::Registers(registers) => {
                out.push(1);
                registers.encode(out);
            }
        }
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>, of: &DataType) -> Result<DistinctCount, Damaged> {
        Ok(match cursor.byte()? {
            0 => DistinctCount::Values(Capped::decode(cursor, usize::MAX, of, |_| Ok(()))?),
            _ => DistinctCount::Registers(Registers::decode(cursor)?),
        })
    }
}
