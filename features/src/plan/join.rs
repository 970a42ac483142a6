//! What of an event is only known at read: columns of table rows, and all that is computed from them.
//!
//! A table row may come after the events that see it, so nothing that depends on one is ever stored: a record keeps the raw
//! columns of its events and the keys of the rows that they see, and a read looks the rows up as of each event's time. That is
//! slower than a tile and right in every order of arrival.

use crate::expression::Expression;

/// How to compute the joined cells of a view from a raw event.
#[derive(Debug)]
pub struct JoinPlan {
    /// columns that expressions see: the source's, the tables', the selected ones
    pub width: usize,
    /// column, and the plan's input that holds it
    pub raw: Vec<(usize, usize)>,
    /// in declared order
    pub tables: Vec<JoinedTable>,
    /// columns computed at read, in declared order
    pub select: Vec<(usize, Expression)>,
    /// aggregates over joined columns
    pub cells: Vec<JoinedCell>,
}

/// A table whose rows events see.
#[derive(Debug)]
pub struct JoinedTable {
    /// the view that keeps the table's rows, by its name
    pub view: String,
    /// the plan's input that holds the key
    pub key: usize,
    /// where its columns start
    pub first_column: usize,
    /// how many they are
    pub columns: usize,
}

/// Arguments and filter of an aggregate over joined columns.
#[derive(Debug)]
pub struct JoinedCell {
    /// the argument
    pub input: Option<Expression>,
    /// the second one
    pub second: Option<Expression>,
    /// which events count
    pub filter: Option<Expression>,
}
