//! Many views at once: joins, derived features that read other views, and lookups of other keys. All keys and
//! values of one request, at one T.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use super::accept::Event;
use super::derived;
use super::joins::Table;
use super::model::{Answer, Datum, Row, Source, View};
use super::read::{self, Request};

/// What a read can see. `rows` are the log of all sources, each row with the index of its source.
#[derive(Clone, Copy, Debug)]
pub struct Project<'a> {
    pub sources: &'a [Source],
    pub views: &'a [View],
    pub rows: &'a [(usize, Row)],
}

/// When an event of a source could first be read: what training knows of the past (§7).
pub type Visible<'a> = &'a dyn Fn(&Source, &Event) -> i64;

/// The keys of all entities, by column name.
pub type Keys = HashMap<String, Datum>;

/// All outputs of all views as `view:feature`, views in order, features before derived ones.
pub fn read_service(project: Project<'_>, keys: &Keys, request: Option<&Request>, t: i64) -> Vec<(String, Answer)> {
    Reading::new(project, request, t).all(keys)
}

/// The same of only those events that could be read at `t`. What became of an event does not depend on that.
pub fn read_seen(
    project: Project<'_>,
    keys: &Keys,
    request: Option<&Request>,
    t: i64,
    visible: Visible<'_>,
) -> Vec<(String, Answer)> {
    Reading { visible: Some(visible), ..Reading::new(project, request, t) }.all(keys)
}

/// All outputs of one view; the others are only read where its derived features name them.
pub fn read_view(
    project: Project<'_>,
    view: &View,
    keys: &Keys,
    request: Option<&Request>,
    t: i64,
) -> Vec<(String, Answer)> {
    Reading::new(project, request, t).view(view, keys)
}

struct Reading<'a> {
    project: Project<'a>,
    request: Option<&'a Request>,
    t: i64,
    visible: Option<Visible<'a>>,
    /// The features of a view and key that have been read, since many derived ones name them.
    known: RefCell<BTreeMap<String, Vec<(String, Answer)>>>,
}

/// Whose features: those of the request itself, whose row may count, or those of a key that was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Request,
    Lookup,
}

impl<'a> Reading<'a> {
    fn new(project: Project<'a>, request: Option<&'a Request>, t: i64) -> Reading<'a> {
        Reading { project, request, t, visible: None, known: RefCell::default() }
    }

    fn all(&self, keys: &Keys) -> Vec<(String, Answer)> {
        let mut answers = Vec::new();
        for view in self.project.views {
            for (name, answer) in self.view(view, keys) {
                answers.push((format!("{}:{name}", view.name), answer));
            }
        }
        answers
    }

    fn view(&self, view: &View, keys: &Keys) -> Vec<(String, Answer)> {
        let names = view.features.iter().map(|feature| &feature.name).chain(view.derived.iter().map(|(name, _)| name));
        names.map(|name| (name.clone(), self.output(view, name, keys, Of::Request))).collect()
    }

    /// A feature, or a derived one from what it names.
    fn output(&self, view: &View, name: &str, keys: &Keys, of: Of) -> Answer {
        let Some((_, expression)) = view.derived.iter().find(|(derived, _)| derived == name) else {
            let found = self.features(view, keys, of).into_iter().find(|(feature, _)| feature == name);
            return found.unwrap_or_else(|| panic!("no feature {}:{name}", view.name)).1;
        };
        let find = |path: &str| match path.split_once('.') {
            Some((other, name)) => self.output(self.view_named(other), name, keys, of),
            None => self.output(view, path, keys, of),
        };
        let look_up = |other: &str, name: &str, key: &Datum| {
            let other = self.view_named(other);
            let [column] = &other.entity_keys[..] else { panic!("{} has more than one key column", other.name) };
            let keys = Keys::from([(column.clone(), key.clone())]);
            self.output(other, name, &keys, Of::Lookup)
        };
        derived::answer(expression, &find, &look_up)
    }

    fn features(&self, view: &View, keys: &Keys, of: Of) -> Vec<(String, Answer)> {
        let value = |column: &String| {
            let value = keys.get(column).unwrap_or_else(|| panic!("{}: no key {column}", view.name));
            value.clone()
        };
        let key: Vec<Datum> = view.entity_keys.iter().map(value).collect();
        let identity = format!("{} {key:?} {of:?}", view.name);
        if let Some(answers) = self.known.borrow().get(&identity) {
            return answers.clone();
        }
        let request = self.request.filter(|_| of == Of::Request);
        let answers = self.read_features(view, &key, request);
        self.known.borrow_mut().insert(identity, answers.clone());
        answers
    }

    fn read_features(&self, view: &View, key: &[Datum], request: Option<&Request>) -> Vec<(String, Answer)> {
        let source = self.source_named(&view.source);
        let mut events = read::events_of(view, source, &self.rows_of(source), key);
        events.retain(|event| self.sees(source, event));
        let mut row = request.map(|request| read::request_row(view, source, key, request, self.t));
        for join in &view.joins {
            let of = self.source_named(&join.source);
            let mut table = Table::new(join, of, &self.rows_of(of));
            table.retain(&|row| self.sees(of, row));
            for event in events.iter_mut().chain(&mut row) {
                table.attach(source, event);
            }
        }
        read::features(view, source, &events, self.t, row.as_ref())
    }

    fn sees(&self, source: &Source, event: &Event) -> bool {
        self.visible.is_none_or(|visible| visible(source, event) <= self.t)
    }

    fn view_named(&self, name: &str) -> &'a View {
        self.project.views.iter().find(|view| view.name == name).unwrap_or_else(|| panic!("no view {name}"))
    }

    fn source_named(&self, name: &str) -> &'a Source {
        self.project.sources.iter().find(|source| source.name == name).unwrap_or_else(|| panic!("no source {name}"))
    }

    fn rows_of(&self, source: &Source) -> Vec<Row> {
        let is_of = |row: &&(usize, Row)| self.project.sources[row.0].name == source.name;
        self.project.rows.iter().filter(is_of).map(|(_, row)| row.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::expression::{Expr, Operator};
    use super::super::model::{Aggregate, Join, Status, Window};
    use super::super::sample::{feature, row, source, view};
    use super::*;

    /// Of the events of card `a` at 10 (x = 1) and 20 (x = 2) and card `b` at 15 (x = 5), and the table rows of
    /// `a` at 12 (x = 100) and `b` at 5 (x = 200), which come last.
    fn check(views: &[View], t: i64, request: Option<&Request>, output: &str, expected: Answer) {
        let table = Source { name: "people".into(), table: true, ..source() };
        let event = |offset: u64, card: &str, time: i64, x: f64| row(0, offset, card, time, offset as i64, time, x);
        let rows = [
            (0, event(0, "a", 10, 1.0)),
            (0, event(1, "a", 20, 2.0)),
            (0, event(2, "b", 15, 5.0)),
            (1, event(0, "a", 12, 100.0)),
            (1, event(1, "b", 5, 200.0)),
        ];
        let sources = [source(), table];
        let project = Project { sources: &sources, views, rows: &rows };
        let keys = Keys::from([("card".into(), Datum::Text("a".into())), ("event".into(), Datum::Int(2))]);
        let answers = read_service(project, &keys, request, t);
        let found = answers.iter().find(|(name, _)| name == output).expect("an output").1.clone();
        assert!(found.same(&expected), "{output} is {found:?}");
    }

    fn present(x: f64, newest: i64) -> Answer {
        Answer::exact(Datum::Float(x), Status::Present, Some(newest))
    }

    fn last(x: &str) -> View {
        view(vec![feature("last", Aggregate::Last(Expr::column(x)), Window::Lifetime)])
    }

    fn joined() -> View {
        let join = Join { name: "p".into(), source: "people".into(), on: "card".into() };
        View { joins: vec![join], ..last("p.x") }
    }

    #[test]
    fn joins_are_as_of_each_event() {
        check(&[joined()], 11, None, "cards:last", Answer::exact(Datum::Null, Status::Empty, None));
        check(&[joined()], 21, None, "cards:last", present(100.0, 20));
        let mut filtered = joined();
        filtered.features[0].aggregate = Aggregate::Count;
        filtered.features[0].filter = Some(Expr::IsNull { x: Box::new(Expr::column("p.card")), negated: false });
        check(&[filtered], 99, None, "cards:last", Answer::exact(Datum::Int(1), Status::Present, Some(10)));
        let mut selected = joined();
        selected.select = vec![("twice".into(), Expr::binary(Operator::Add, Expr::column("p.x"), Expr::column("x")))];
        selected.features[0].aggregate = Aggregate::Last(Expr::column("twice"));
        check(&[selected], 99, None, "cards:last", present(102.0, 20));
    }

    #[test]
    fn the_row_of_a_request_sees_the_table_as_of_now() {
        let mut view = joined();
        view.features[0].include_request = true;
        let request = Request::default();
        check(&[view.clone()], 12, Some(&request), "cards:last", Answer::exact(Datum::Null, Status::Empty, None));
        check(&[view], 13, Some(&request), "cards:last", present(100.0, 13));
    }

    #[test]
    fn derived_features_read_other_views() {
        let by_id = View { name: "ids".into(), entity_keys: vec!["event".into()], ..last("x") };
        let mut first = last("x");
        let sum = |left: &str, right: &str| Expr::binary(Operator::Add, Expr::column(left), Expr::column(right));
        // Over a derived feature of a view that is declared later, which reads this one in turn.
        first.derived = vec![("outer".into(), sum("ids.inner", "last"))];
        let by_id = View { derived: vec![("inner".into(), sum("last", "cards.last"))], ..by_id };
        let views = [first, by_id];
        check(&views, 99, None, "ids:inner", present(7.0, 20));
        check(&views, 99, None, "cards:outer", present(9.0, 20));
        check(&views, 12, None, "cards:outer", Answer::exact(Datum::Null, Status::NotFound, Some(10)));
    }

    #[test]
    fn lookups_read_another_key_without_the_row_of_the_request() {
        let lookup = |feature: &str, key: Expr| Expr::Lookup {
            view: "cards".into(),
            feature: feature.into(),
            key: Box::new(key),
        };
        let mut view = last("x");
        view.features[0].include_request = true;
        view.derived = vec![
            ("twice".into(), Expr::binary(Operator::Add, Expr::column("last"), Expr::column("last"))),
            ("other".into(), lookup("twice", Expr::text("b"))),
            ("nobody".into(), lookup("last", Expr::text("c"))),
        ];
        let request = Request::from([("x".into(), Datum::Float(50.0))]);
        let views = [view];
        check(&views, 99, Some(&request), "cards:twice", present(100.0, 99));
        check(&views, 99, Some(&request), "cards:other", present(10.0, 15));
        check(&views, 99, Some(&request), "cards:nobody", Answer::exact(Datum::Null, Status::NotFound, None));
    }
}
