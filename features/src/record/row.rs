//! Raw events as a record keeps them: time since the one before, place in the order (where it matters), flags, columns.

use std::cmp::Ordering;

use crate::aggregates::{Cell, EventOrder, Terms};
use crate::codec::{Cursor, Damaged, put_delta, put_optional, put_value, put_varint};
use crate::plan::{CellPlan, Plan};
use crate::value::Value;

/// A raw event whose columns are still bytes: `body` is all that follows the time.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// event time, microseconds
    pub time: i64,
    /// place, flags and columns, encoded
    pub body: &'a [u8],
}

/// Appends the body of an event: what a row holds besides its time.
pub fn encode_body(
    plan: &Plan,
    order: &EventOrder<'_>,
    filters: impl Fn(usize) -> bool,
    inputs: &[Value<'_>],
    out: &mut Vec<u8>,
) {
    if plan.order_kept {
        put_varint(out, u64::from(order.partition));
        put_varint(out, order.offset);
        if plan.id_type.is_some() {
            put_optional(out, &order.id);
        }
    }
    let flags = out.len();
    out.resize(flags + plan.flag_bytes(), 0);
    let mut set = |bit: usize| out[flags + bit / 8] |= 1 << (bit % 8);
    (0..plan.filters).filter(|i| filters(*i)).for_each(&mut set);
    (0..inputs.len()).filter(|i| inputs[*i].is_null()).for_each(|i| set(plan.filters + i));
    inputs.iter().filter(|v| !v.is_null()).for_each(|v| put_value(out, v));
}

/// Rows, decoded: columns of values by row.
#[derive(Debug, Default)]
pub struct Rows<'a> {
    /// event times, ascending
    pub times: Vec<i64>,
    orders: Vec<EventOrder<'a>>,
    flags: Vec<u8>,
    values: Vec<Value<'a>>,
}

impl<'a> Rows<'a> {
    /// Decodes the body of one more event.
    pub fn push(&mut self, plan: &Plan, row: &Row<'a>) -> Result<(), Damaged> {
        let mut cursor = Cursor::new(row.body);
        self.read(plan, row.time, &mut cursor)
    }

    #[inline]
    fn read(&mut self, plan: &Plan, time: i64, cursor: &mut Cursor<'a>) -> Result<(), Damaged> {
        if plan.order_kept {
            self.orders.push(read_order(plan, time, cursor)?);
        }
        let flags = cursor.take(plan.flag_bytes())?;
        for (i, data_type) in plan.inputs.iter().enumerate() {
            let null = bit(flags, plan.filters + i);
            self.values.push(if null { Value::Null } else { cursor.value(data_type)? });
        }
        self.flags.extend_from_slice(flags);
        self.times.push(time);
        Ok(())
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Whether a row passes a feature's filter.
    #[inline]
    pub fn passes(&self, plan: &Plan, row: usize, filter: Option<usize>) -> bool {
        filter.is_none_or(|filter| bit(&self.flags[row * plan.flag_bytes()..], filter))
    }

    /// A column of a row.
    #[inline]
    pub fn value(&self, plan: &Plan, row: usize, input: usize) -> &Value<'a> {
        &self.values[row * plan.inputs.len() + input]
    }

    /// Folds a row into a cell (not a joined one), if it passes the cell's filter and no argument is null.
    #[inline]
    pub fn update(&self, plan: &Plan, row: usize, wanted: &CellPlan, cell: &mut Cell) -> bool {
        if !self.passes(plan, row, wanted.filter) {
            return false;
        }
        let first = wanted.input.map_or(&Value::Bool(true), |input| self.value(plan, row, input));
        let second = wanted.second.map_or(first, |input| self.value(plan, row, input));
        if first.is_null() || second.is_null() {
            return false;
        }
        cell.update(&wanted.aggregate, self.times[row], || self.order(row), Terms { first, second });
        true
    }

    /// A row's place in the total order; only its time where the view does not need more.
    #[inline]
    pub fn order(&self, row: usize) -> EventOrder<'_> {
        match self.orders.get(row) {
            Some(order) => EventOrder { id: order.id.borrowed(), ..*order },
            None => EventOrder { time: self.times[row], ..EventOrder::default() },
        }
    }

    /// Copies what is borrowed.
    pub fn into_owned(self) -> Rows<'static> {
        Rows {
            times: self.times,
            orders: self.orders.into_iter().map(|o| o.to_owned()).collect(),
            flags: self.flags,
            values: self.values.into_iter().map(Value::into_owned).collect(),
        }
    }
}

#[inline]
fn bit(flags: &[u8], index: usize) -> bool {
    flags[index / 8] & (1 << (index % 8)) != 0
}

fn read_order<'a>(plan: &Plan, time: i64, cursor: &mut Cursor<'a>) -> Result<EventOrder<'a>, Damaged> {
    Ok(EventOrder {
        time,
        partition: u32::try_from(cursor.varint()?).map_err(|_| Damaged)?,
        offset: cursor.varint()?,
        id: match &plan.id_type {
            Some(id_type) => cursor.optional(id_type)?,
            None => Value::Null,
        },
    })
}

/// Skips over the body of a row.
fn skip_body(plan: &Plan, cursor: &mut Cursor<'_>) -> Result<(), Damaged> {
    if plan.order_kept {
        read_order(plan, 0, cursor)?;
    }
    let flags = cursor.take(plan.flag_bytes())?;
    for (i, data_type) in plan.inputs.iter().enumerate() {
        if !bit(flags, plan.filters + i) {
            cursor.pass(data_type)?;
        }
    }
    Ok(())
}

/// Puts rows into their canonical order: by time, then by place; events that are equal in both are equal bytes.
pub fn sort_rows(plan: &Plan, rows: &mut [Row<'_>]) -> Result<(), Damaged> {
    let mut damaged = false;
    rows.sort_by(|a, b| canonical_order(plan, a, b, &mut damaged));
    if damaged { Err(Damaged) } else { Ok(()) }
}

/// The same for rows that carry a number.
pub fn sort_numbered(plan: &Plan, rows: &mut [(usize, Row<'_>)]) -> Result<(), Damaged> {
    let mut damaged = false;
    rows.sort_by(|(_, a), (_, b)| canonical_order(plan, a, b, &mut damaged));
    if damaged { Err(Damaged) } else { Ok(()) }
}

fn canonical_order(plan: &Plan, a: &Row<'_>, b: &Row<'_>, damaged: &mut bool) -> Ordering {
    a.time
        .cmp(&b.time)
        .then_with(|| if plan.order_kept { order_at_equal_time(plan, a, b, damaged) } else { a.body.cmp(b.body) })
}

fn order_at_equal_time(plan: &Plan, a: &Row<'_>, b: &Row<'_>, damaged: &mut bool) -> Ordering {
    let place = |row: &Row<'_>| read_order(plan, row.time, &mut Cursor::new(row.body)).map(|o| o.to_owned());
    match (place(a), place(b)) {
        (Ok(a), Ok(b)) => a.order_at_equal_time(&b),
        _ => {
            *damaged = true;
            a.body.cmp(b.body)
        }
    }
}

/// Appends rows behind one at `previous`.
pub fn append_rows(rows: &[Row<'_>], mut previous: i64, out: &mut Vec<u8>) {
    for row in rows {
        put_delta(out, row.time - previous);
        out.extend_from_slice(row.body);
        previous = row.time;
    }
}

/// Appends the rows of a leaf and sorted new ones by their times; what stands behind the last new one is not looked at. False:
/// an old and a new one have the same time, so that more than that decides, and what was appended is of no use.
pub fn merge_rows(
    plan: &Plan,
    count: usize,
    stored: Cursor<'_>,
    mut new: &[Row<'_>],
    out: &mut Vec<u8>,
) -> Result<bool, Damaged> {
    let (whole, mut cursor) = (stored.rest(), stored);
    let (mut copied, mut time, mut last) = (0, 0, 0);
    for _ in 0..count {
        let Some(first) = new.first() else { break };
        let start = whole.len() - cursor.rest().len();
        time = cursor.time_after(time)?;
        if first.time < time {
            let (before, behind) = new.split_at(new.partition_point(|row| row.time < time));
            out.extend_from_slice(&whole[copied..start]);
            append_rows(before, last, out);
            put_delta(out, time - before.last().map_or(last, |row| row.time));
            copied = whole.len() - cursor.rest().len();
            new = behind;
        }
        if new.first().is_some_and(|row| row.time == time) {
            return Ok(false);
        }
        last = time;
        skip_body(plan, &mut cursor)?;
    }
    out.extend_from_slice(&whole[copied..]);
    append_rows(new, last, out);
    Ok(true)
}

/// Walks the rows of a leaf without decoding their columns.
pub fn split_rows<'a>(plan: &Plan, count: usize, mut cursor: Cursor<'a>) -> Result<Vec<Row<'a>>, Damaged> {
    let mut rows = Vec::with_capacity(count.min(cursor.rest().len()));
    let mut time = 0i64;
    for _ in 0..count {
        time = cursor.time_after(time)?;
        let start = cursor.rest();
        skip_body(plan, &mut cursor)?;
        rows.push(Row { time, body: &start[..start.len() - cursor.rest().len()] });
    }
    Ok(rows)
}

/// Decodes the rows of a leaf.
pub fn read_rows<'a>(plan: &Plan, count: usize, mut cursor: Cursor<'a>) -> Result<Rows<'a>, Damaged> {
    let mut rows = Rows::default();
    let count = count.min(cursor.rest().len());
    rows.times.reserve(count);
    rows.values.reserve(count * plan.inputs.len());
    let mut time = 0i64;
    for _ in 0..count {
        time = cursor.time_after(time)?;
        rows.read(plan, time, &mut cursor)?;
    }
    Ok(rows)
}
