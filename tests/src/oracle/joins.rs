//! Tables beside events: each event sees the row of its key as of its own time, whichever came first.

use super::accept::{self, Event, Fate};
use super::model::{Datum, Join, Row, Source, View};

/// The rows of a joined table that count, in the total order.
pub struct Table<'a> {
    join: &'a Join,
    source: &'a Source,
    rows: Vec<Event>,
}

impl<'a> Table<'a> {
    /// `rows` are all rows of the table, in log order.
    pub fn new(join: &'a Join, source: &'a Source, rows: &[Row]) -> Table<'a> {
        // As a view of the table by the joined column would see it: keyless rows and duplicates do not count,
        // and there is no late.
        let view = View {
            name: join.name.clone(),
            entity_keys: vec![join.on.clone()],
            source: source.name.clone(),
            filter: None,
            select: Vec::new(),
            joins: Vec::new(),
            features: Vec::new(),
            derived: Vec::new(),
        };
        let fates = accept::fates(&view, source, rows);
        let counted = rows.iter().zip(fates).filter(|(_, fate)| matches!(fate, Fate::Applied | Fate::Late));
        let mut rows: Vec<Event> = counted.filter_map(|(row, _)| accept::accept(source, row)).collect();
        rows.sort_by(accept::total_order);
        Table { join, source, rows }
    }

    /// Leaves rows out.
    pub fn retain(&mut self, keep: &dyn Fn(&Event) -> bool) {
        self.rows.retain(|row| keep(row));
    }

    /// Adds the columns of the table as of the event's time.
    pub fn attach(&self, source: &Source, event: &mut Event) {
        let key = accept::field(source, event, &self.join.on);
        let is_before = |row: &&Event| row.event_time < event.event_time;
        let is_of_key = |row: &&Event| accept::field(self.source, row, &self.join.on).same(&key);
        let newest = self.rows.iter().rev().find(|row| !key.is_null() && is_before(row) && is_of_key(row));
        let found = newest.filter(|row| !accept::is_delete(self.source, row));
        for (index, (field, _)) in self.source.fields.iter().enumerate() {
            let value = found.map_or(Datum::Null, |row| row.columns[index].clone());
            event.joined.push((format!("{}.{field}", self.join.name), value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::expression::{Expr, Operator};
    use super::super::sample::{SECOND, row, source};
    use super::*;

    const DAY: i64 = 86_400 * SECOND;

    /// Table rows are (partition, key, event time, id, x) in log order; x below 0 is a delete.
    fn check(rows: &[(u32, &str, i64, i64, f64)], key: Datum, t: i64, expected: Option<f64>) {
        let negative = Expr::binary(Operator::Less, Expr::column("x"), Expr::int(0));
        let table = Source { name: "people".into(), table: true, delete_when: Some(negative), ..source() };
        let rows: Vec<Row> =
            rows.iter().enumerate().map(|(i, r)| row(r.0, i as u64, r.1, r.2, r.3, 100 * DAY, r.4)).collect();
        let join = Join { name: "p".into(), source: "people".into(), on: "card".into() };
        let mut event = accept::accept(&source(), &row(0, 0, "a", t, 0, t, 0.0)).expect("a good row");
        event.columns[0] = key;
        Table::new(&join, &table, &rows).attach(&source(), &mut event);
        let found = event.joined.iter().find(|(name, _)| name == "p.x").expect("a joined column").1.clone();
        let expected = expected.map_or(Datum::Null, Datum::Float);
        assert!(found.same(&expected), "{found:?} is not {expected:?}");
    }

    fn a() -> Datum {
        Datum::Text("a".into())
    }

    #[test]
    fn strictly_before_the_event_in_any_order_of_arrival() {
        let rows = [(0, "a", 10, 1, 1.0), (0, "b", 12, 2, 2.0), (0, "a", 5, 3, 3.0)];
        check(&rows, a(), 5, None);
        check(&rows, a(), 6, Some(3.0));
        check(&rows, a(), 10, Some(3.0));
        check(&rows, a(), 11, Some(1.0));
        check(&rows, Datum::Text("c".into()), 99, None);
        check(&rows, Datum::Null, 99, None);
    }

    #[test]
    fn equal_times_by_id_and_deletes() {
        check(&[(0, "a", 1, 9, 1.0), (1, "a", 1, 2, 2.0)], a(), 2, Some(1.0));
        check(&[(0, "a", 1, 1, 1.0), (0, "a", 2, 2, -1.0)], a(), 9, None);
        check(&[(0, "a", 1, 1, 1.0), (0, "a", 2, 2, -1.0)], a(), 2, Some(1.0));
        check(&[(0, "a", 1, 1, 1.0), (0, "a", 2, 2, -1.0), (0, "a", 3, 3, 3.0)], a(), 9, Some(3.0));
    }

    #[test]
    fn duplicates_do_not_count_and_nothing_is_late() {
        check(&[(0, "a", 1, 7, 1.0), (0, "a", 2, 7, 2.0)], a(), 9, Some(1.0));
        check(&[(0, "a", 1, 7, 1.0), (1, "a", 2, 7, 2.0)], a(), 9, Some(2.0));
        check(&[(0, "b", 1, 7, 1.0), (0, "a", 2, 7, 2.0)], a(), 9, Some(2.0));
        check(&[(0, "a", 90 * DAY, 1, 1.0), (0, "a", 1, 2, 2.0)], a(), 9, Some(2.0));
    }
}
