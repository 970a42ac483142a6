//! Attributes by slot, of which a search keeps a copy that costs nothing.
//!
//! A tree of three levels. A write copies the nodes on its way that some search still holds, a hundred pointers or so, and no others;
//! so writes go on while a search looks at the attributes of its own moment.

use std::sync::Arc;

use tidemill_features::value::Value;

/// The attributes of one vector.
type Row = Arc<[Value<'static>]>;
/// Slots of one leaf.
type Leaf = Arc<Vec<Row>>;
/// Leaves of one branch.
type Branch = Arc<Vec<Leaf>>;

/// Slots of a leaf, and leaves of a branch.
const WIDTH: usize = 64;

/// See above.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    branches: Arc<Vec<Branch>>,
    bytes: usize,
}

impl Attributes {
    /// Those of a slot; none where none were given.
    pub fn get(&self, slot: u32) -> &[Value<'static>] {
        let slot = slot as usize;
        let branch = self.branches.get(slot / WIDTH / WIDTH);
        let leaf = branch.and_then(|branch| branch.get(slot / WIDTH % WIDTH));
        leaf.and_then(|leaf| leaf.get(slot % WIDTH)).map_or(&[], |row| row)
    }

    /// Gives a slot attributes.
    pub fn set(&mut self, slot: u32, row: Row) {
        let slot = slot as usize;
        let branch = grown(&mut self.branches, slot / WIDTH / WIDTH);
        let leaf = grown(branch, slot / WIDTH % WIDTH);
        let place = grown(leaf, slot % WIDTH);
        self.bytes += of_row(&row);
        self.bytes -= of_row(&std::mem::replace(place, row));
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Of slots without attributes nothing is counted.
fn of_row(row: &Row) -> usize {
    let beside = if row.is_empty() { 0 } else { 2 * size_of::<usize>() + size_of::<Row>() };
    row.iter().map(of_value).sum::<usize>() + beside
}

fn of_value(value: &Value<'_>) -> usize {
    let beyond = match value {
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        _ => 0,
    };
    size_of::<Value<'_>>() + beyond
}

/// An element, to be written; elements up to it come into being, and what others still hold is copied.
fn grown<T: Clone + Default>(list: &mut Arc<Vec<T>>, at: usize) -> &mut T {
    let list = Arc::make_mut(list);
    if list.len() <= at {
        list.resize_with(at + 1, T::default);
    }
    &mut list[at]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_stays_as_it_was() {
        let mut attributes = Attributes::default();
        let row = |number: u32| -> Row { [Value::Int64(i64::from(number))].into() };
        // Far apart and close together, at the edges of leaves and branches.
        let slots = [0, 1, 63, 64, 4_095, 4_096, 70_000, 300_000];
        slots.iter().for_each(|slot| attributes.set(*slot, row(*slot)));
        let before = attributes.clone();
        for slot in slots {
            attributes.set(slot, row(slot + 1));
        }
        attributes.set(2, row(9));
        let number = |row: &[Value<'static>]| match row {
            [Value::Int64(number)] => *number,
            other => panic!("{other:?}"),
        };
        for slot in slots {
            assert_eq!(number(before.get(slot)), i64::from(slot));
            assert_eq!(number(attributes.get(slot)), i64::from(slot) + 1);
        }
        assert!(before.get(2).is_empty() && before.get(u32::MAX).is_empty());
        assert!(attributes.bytes() > before.bytes());
    }
}
