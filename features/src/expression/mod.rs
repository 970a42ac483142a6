//! Expressions: SQL scalar syntax, typed when checked, compiled to closures over columns.
//!
//! `sqlparser` reads the text; `compile` types it and turns it into one closure per node; `Expression::evaluate` runs it on
//! one row of a `Frame`, the same code for one row and for 8192. Expressions are total: what cannot be computed (division by
//! zero, overflow, a failed cast) is null and counts as a row error. In reading order: `frame` (what a row is), `compile`
//! (the tree), then operators and functions by family.

mod arithmetic;
mod calendar;
mod cast;
mod compare;
mod compile;
mod frame;
mod functions;
mod lists;
mod logic;
mod math;
mod text;
mod words;

use std::fmt;

pub use self::compile::{Argument, Call, Scope, compile, compile_call};
pub use self::frame::{Column, Frame};
pub use self::functions::{FUNCTIONS, FUNCTIONS_VERSION};

use crate::value::{DataType, Value};

/// A compiled node: from a row to a value that may borrow from the row.
pub(crate) type Evaluate = Box<dyn for<'a> Fn(&Frame<'a>) -> Value<'a> + Send + Sync>;

/// A typed, compiled expression.
pub struct Expression {
    /// the text that it came from
    pub text: String,
    /// None where the expression is the literal NULL
    pub data_type: Option<DataType>,
    /// the columns that it reads, ascending
    pub columns: Vec<usize>,
    evaluate: Evaluate,
}

impl Expression {
    /// A column as it is.
    pub(crate) fn column(name: &str, at: usize, data_type: DataType) -> Self {
        let typed = Typed::new(data_type, move |frame| frame.columns[at].value(frame.row));
        Expression { text: name.to_string(), data_type: typed.data_type, columns: vec![at], evaluate: typed.evaluate }
    }

    /// A test of one column that is no SQL.
    pub(crate) fn test<F>(text: &str, at: usize, passes: F) -> Self
    where
        F: for<'a> Fn(&Value<'a>) -> bool + Send + Sync + 'static,
    {
        let typed = Typed::new(DataType::Bool, move |frame| Value::Bool(passes(&frame.columns[at].value(frame.row))));
        Expression { text: text.to_string(), data_type: typed.data_type, columns: vec![at], evaluate: typed.evaluate }
    }

    /// The value for one row.
    #[inline]
    pub fn evaluate<'a>(&self, frame: &Frame<'a>) -> Value<'a> {
        (self.evaluate)(frame)
    }

    /// Whether a boolean expression is true (not false, not null) for one row.
    #[inline]
    pub fn is_true(&self, frame: &Frame<'_>) -> bool {
        matches!((self.evaluate)(frame), Value::Bool(true))
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression({})", self.text)
    }
}

/// What is wrong with an expression, and where in its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// counts from 1
    pub line: u64,
    /// counts from 1, in characters
    pub column: u64,
    /// lower case, no full stop
    pub message: String,
    /// a known name close to an unknown one
    pub near: Option<String>,
}

/// A node while it is being built.
pub(crate) struct Typed {
    pub data_type: Option<DataType>,
    pub evaluate: Evaluate,
    /// the value of a literal
    pub literal: Option<Value<'static>>,
}

impl Typed {
    pub(crate) fn new<F>(data_type: DataType, evaluate: F) -> Typed
    where
        F: for<'a> Fn(&Frame<'a>) -> Value<'a> + Send + Sync + 'static,
    {
        Typed { data_type: Some(data_type), evaluate: Box::new(evaluate), literal: None }
    }

    pub(crate) fn constant(data_type: Option<DataType>, value: Value<'static>) -> Typed {
        let kept = value.clone();
        Typed { data_type, evaluate: constant(kept), literal: Some(value) }
    }

    /// Whether the value is of this type, or NULL, which is of every type.
    pub(crate) fn is(&self, data_type: &DataType) -> bool {
        self.data_type.as_ref().is_none_or(|own| own == data_type)
    }

    pub(crate) fn type_name(&self) -> String {
        self.data_type.as_ref().map_or_else(|| "null".to_string(), DataType::to_string)
    }
}

fn constant(value: Value<'static>) -> Evaluate {
    fn typed<F: for<'a> Fn(&Frame<'a>) -> Value<'a> + Send + Sync + 'static>(f: F) -> Evaluate {
        Box::new(f)
    }
    typed(move |_| value.clone())
}

#[cfg(test)]
mod forms;
#[cfg(test)]
mod tests;
