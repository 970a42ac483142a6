//! Folding: from the events that a record holds to the cell of one feature, by the feature's kind of window.

use super::joins::{Joined, newest};
use super::{Answer, Context, EventSet, Missing, ReadError, Status, answer};
use crate::aggregates::{Cell, Terms};
use crate::plan::{CellPlan, FeaturePlan, Plan, Range, Window};
use crate::record::{Base, Row, Rows};
use crate::value::Value;

/// The events of one entity, and how far back they are all there.
pub(super) struct Known<'k, 'e> {
    pub plan: &'k Plan,
    pub events: &'k EventSet<'e>,
    pub base: Option<&'k Base<'k>>,
    /// no event at or after this is missing
    pub complete_from: i64,
    /// what the log no longer has of them
    pub missing: Option<&'k Missing>,
    pub context: &'k Context<'k>,
}

/// A cell being filled, and the rows that went in, where somebody wants to know.
struct Filling<'k, 'e> {
    known: &'k Known<'k, 'e>,
    wanted: &'k CellPlan,
    cell: Cell,
    counted: Option<Vec<usize>>,
}

/// A cell, and the rows that went into it, where that was asked.
pub(super) type Folded = (Cell, Vec<usize>);

impl Known<'_, '_> {
    /// Features at `time`. What may depend on missing events, the entity's own or rows of a table, has no answer; without a
    /// status of the key nothing has.
    pub(super) fn read(
        &self,
        features: &[usize],
        time: i64,
        status: Option<Status>,
        out: &mut Vec<Answer>,
    ) -> Result<(), ReadError> {
        for feature in features {
            let feature = &self.plan.features[*feature];
            out.push(match (status, self.fold(feature, time)) {
                (Some(status), Ok(cell)) => answer(self.plan, feature, cell, time, status),
                (None, Ok(_)) | (_, Err(ReadError::BeyondRecord)) => Answer::unanswered(),
                (_, Err(damaged)) => return Err(damaged),
            });
        }
        Ok(())
    }

    /// An error where an event may be missing in `[from, to)`.
    fn all_there(&self, from: Option<i64>, to: i64) -> Result<(), ReadError> {
        let is_missing = self.missing.is_some_and(|missing| missing.is_in(from, to));
        if is_missing { Err(ReadError::BeyondRecord) } else { Ok(()) }
    }

    /// The cell of a feature at `time`.
    pub(super) fn fold(&self, feature: &FeaturePlan, time: i64) -> Result<Cell, ReadError> {
        Ok(self.fold_into(feature, time, None)?.0)
    }

    /// The same, with the numbers of the rows that count; the events are plain rows.
    pub(super) fn trace(&self, feature: &FeaturePlan, time: i64) -> Result<Folded, ReadError> {
        self.fold_into(feature, time, Some(Vec::new()))
    }

    fn fold_into(&self, feature: &FeaturePlan, time: i64, counted: Option<Vec<usize>>) -> Result<Folded, ReadError> {
        let seen_at = time.saturating_sub(feature.offset);
        let wanted = &self.plan.cells[feature.cell];
        let mut filling = Filling { known: self, wanted, cell: Cell::new(&wanted.aggregate), counted };
        let request = self.request(feature)?;
        match feature.window {
            _ if self.plan.table.is_some() => filling.newest_row(feature, seen_at)?,
            Window::LastN(n) => {
                let with_request = request.is_some() && filling.passes(request.as_ref(), 0)?;
                filling.newest_events(n - usize::from(with_request), seen_at)?;
            }
            Window::Session(gap) => filling.session(gap, seen_at)?,
            Window::Lifetime => filling.lifetime(feature.cell, seen_at)?,
            _ => filling.range(feature.cell, feature.window.range(seen_at))?,
        }
        // The request's row is none of the events that a trace numbers.
        let counted = filling.counted.take();
        if let Some(rows) = &request {
            filling.take(rows, 0)?;
        }
        Ok((filling.cell, counted.unwrap_or_default()))
    }

    /// The request's row, where the feature counts it.
    fn request(&self, feature: &FeaturePlan) -> Result<Option<Rows<'_>>, ReadError> {
        let counts = feature.include_request && feature.offset == 0 && feature.window.reaches_now();
        let Some((time, body)) = self.context.request.filter(|_| counts) else { return Ok(None) };
        let mut rows = Rows::default();
        rows.push(self.plan, &Row { time, body })?;
        Ok(Some(rows))
    }
}

impl Filling<'_, '_> {
    /// Everything in a range.
    fn range(&mut self, cell: usize, range: Range) -> Result<(), ReadError> {
        let Known { plan, events, .. } = *self.known;
        self.known.all_there(range.from, range.to)?;
        if self.wanted.joined.is_none() && self.counted.is_none() {
            return Ok(events.fold(plan, range, cell, &mut self.cell)?);
        }
        events.ascend(plan, range, &mut |rows, row| self.take(rows, row))
    }

    /// Everything before `to`: what the record still holds, and the sum of what has left it.
    fn lifetime(&mut self, cell: usize, to: i64) -> Result<(), ReadError> {
        self.range(cell, Range { from: None, to })?;
        let at = self.known.plan.lifetime_cells.iter().position(|at| *at == cell);
        if let Some((base, at)) = self.known.base.zip(at) {
            self.cell.merge(&base.cells[at]);
        }
        Ok(())
    }

    /// The newest `left` events before `to`.
    fn newest_events(&mut self, mut left: usize, to: i64) -> Result<(), ReadError> {
        let Known { plan, events, base, .. } = *self.known;
        if left == 0 {
            return Ok(());
        }
        let mut last = None;
        let mut one = |rows: &Rows<'_>, row: usize| {
            if self.passes(Some(rows), row)? {
                left -= 1;
                last = Some(rows.times[row]);
                self.take(rows, row)?;
            }
            Ok(left > 0)
        };
        newest(plan, events, base, to, &mut one)?;
        // A missing event that is as new as the last one, or newer, may have its place.
        self.known.all_there(last.filter(|_| left == 0), to)
    }

    /// The run of events that is open at `to`.
    fn session(&mut self, gap: i64, to: i64) -> Result<(), ReadError> {
        let Known { plan, events, complete_from, .. } = *self.known;
        let mut edge = to;
        let ended = !events.descend(plan, to, &mut |rows, row| {
            let time = rows.times[row];
            if edge.saturating_sub(time) >= gap {
                return Ok(false);
            }
            if self.passes(Some(rows), row)? {
                edge = time;
                self.take(rows, row)?;
            }
            Ok(true)
        })?;
        // Nothing below says that the run ends here where events may be missing.
        let lowest = edge.saturating_sub(gap).saturating_add(1);
        self.known.all_there(Some(lowest), to)?;
        let open_below = lowest < complete_from;
        if !ended && open_below { Err(ReadError::BeyondRecord) } else { Ok(()) }
    }

    /// Of a table: its newest row, if it is there and in the window.
    fn newest_row(&mut self, feature: &FeaturePlan, seen_at: i64) -> Result<(), ReadError> {
        let Known { plan, events, base, .. } = *self.known;
        let range = feature.window.range(seen_at);
        let mut found = None;
        newest(plan, events, base, seen_at, &mut |rows, row| {
            let time = rows.times[row];
            found = Some(time);
            let from = match feature.window {
                Window::Session(gap) => seen_at.saturating_sub(gap).saturating_add(1),
                _ => range.from.unwrap_or(i64::MIN),
            };
            if rows.passes(plan, row, plan.table) && (from..range.to).contains(&time) {
                self.take(rows, row)?;
            }
            Ok(false)
        })?;
        self.known.all_there(found, seen_at)
    }

    fn passes(&self, rows: Option<&Rows<'_>>, row: usize) -> Result<bool, ReadError> {
        let Some(rows) = rows else { return Ok(false) };
        let (plan, wanted) = (self.known.plan, self.wanted);
        match (&plan.joins, wanted.joined) {
            (Some(joins), Some(at)) => {
                let Some(filter) = &joins.cells[at].filter else { return Ok(true) };
                let joined = Joined::of(plan, joins, rows, row, self.known.context.tables)?;
                Ok(filter.is_true(&joined.frame()))
            }
            _ => Ok(rows.passes(plan, row, wanted.filter)),
        }
    }

    /// Folds a row in, if it passes the filter and has its arguments.
    fn take(&mut self, rows: &Rows<'_>, row: usize) -> Result<(), ReadError> {
        let (plan, wanted) = (self.known.plan, self.wanted);
        let taken = match (&plan.joins, wanted.joined) {
            (Some(joins), Some(at)) => {
                let joined = Joined::of(plan, joins, rows, row, self.known.context.tables)?;
                let (frame, cell) = (joined.frame(), &joins.cells[at]);
                let passes = cell.filter.as_ref().is_none_or(|filter| filter.is_true(&frame));
                let argument = |e: Option<&crate::expression::Expression>| {
                    e.map_or(Value::Bool(true), |e| e.evaluate(&frame).settled())
                };
                let (first, second) = (argument(cell.input.as_ref()), argument(cell.second.as_ref()));
                let counts = passes && !first.is_null() && !second.is_null();
                if counts {
                    let terms = Terms { first: &first, second: &second };
                    self.cell.update(&wanted.aggregate, rows.times[row], || rows.order(row), terms);
                }
                counts
            }
            _ => rows.update(plan, row, wanted, &mut self.cell),
        };
        if taken && let Some(counted) = &mut self.counted {
            counted.push(row);
        }
        Ok(())
    }
}
