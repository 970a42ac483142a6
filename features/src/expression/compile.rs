//! From text to closures: parses with `sqlparser`, resolves names, checks types, builds one closure a node.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use sqlparser::ast::{
    BinaryOperator, CastKind, DateTimeField, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident,
    Spanned, UnaryOperator, Value as Literal,
};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token};

use super::words::{WORDS_MAX, words};
use super::{Expression, Fault, Typed, arithmetic, calendar, cast, compare, functions, lists, logic, text};
use crate::value::{DataType, Value};

/// Longest expression text, in bytes: far above what a person writes, far below what would cost memory.
const TEXT_MAX: usize = 64 * 1024;
/// Deepest nesting; the compiler recurses.
const DEPTH_MAX: usize = 64;
/// Most nodes of a compiled expression. Each is the work of a row; without BETWEEN and CASE x WHEN, whose operand is compiled
/// once for each comparison, there cannot be more than words.
const NODES_MAX: usize = 4 * WORDS_MAX;

/// What the names of an expression mean.
pub trait Scope {
    /// The column and type of a name such as `amount` or `card_activity.txn_count_1h`, or what to say about it.
    fn resolve(&self, path: &[&str]) -> Result<(usize, DataType), (String, Option<String>)>;

    /// Whether the expression is computed at read, so that `now()` has a meaning.
    fn at_read(&self) -> bool;

    /// The place and type of a feature of another entity, for `lookup('view:feature', key)`.
    fn lookup(&self, reference: &str, key: Expression) -> Result<(usize, DataType), (String, Option<String>)> {
        let _ = key;
        Err((format!("lookup('{reference}', …) belongs into derived features"), None))
    }
}

/// Parses, types and compiles an expression.
pub fn compile(text: &str, scope: &dyn Scope) -> Result<Expression, Fault> {
    let start = Location { line: 1, column: 1 };
    if text.len() > TEXT_MAX {
        return Err(fault(start, format!("an expression of {} bytes is longer than {TEXT_MAX}", text.len())));
    }
    let dialect = GenericDialect {};
    let mut parser = Parser::new(&dialect).with_recursion_limit(DEPTH_MAX).with_tokens_with_locations(words(text)?);
    let parsed = parser.parse_expr().map_err(parse_fault)?;
    let next = parser.peek_token();
    if next.token != Token::EOF {
        return Err(fault(next.span.start, format!("expected the end of the expression, found `{}`", next.token)));
    }
    let compiler = Compiler::new(scope);
    let typed = compiler.expression(&parsed)?;
    Ok(compiler.finished(text.to_string(), typed))
}

pub(super) fn fault(at: Location, message: impl Into<String>) -> Fault {
    Fault { line: at.line.max(1), column: at.column.max(1), message: message.into(), near: None }
}

pub(super) fn parse_fault(error: ParserError) -> Fault {
    let message = match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
        ParserError::RecursionLimitExceeded => return fault(Location::empty(), "the expression is nested too deeply"),
    };
    let place = message.rsplit_once(" at Line: ").and_then(|(_, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        Some(Location { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? })
    });
    let said = message.split(" at Line: ").next().unwrap_or(&message);
    let mut said = said.strip_prefix("sql parser error: ").unwrap_or(said).to_string();
    if let Some(first) = said.get_mut(0..1) {
        first.make_ascii_lowercase();
    }
    fault(place.unwrap_or(Location::empty()), said)
}

pub(super) struct Compiler<'s> {
    scope: &'s dyn Scope,
    nodes: Cell<usize>,
    /// columns that were named so far
    columns: RefCell<BTreeSet<usize>>,
}

impl<'s> Compiler<'s> {
    fn new(scope: &'s dyn Scope) -> Self {
        Compiler { scope, nodes: Cell::new(0), columns: RefCell::default() }
    }

    fn finished(&self, text: String, typed: Typed) -> Expression {
        let columns = self.columns.borrow().iter().copied().collect();
        Expression { text, data_type: typed.data_type, columns, evaluate: typed.evaluate }
    }

    fn expression(&self, expr: &Expr) -> Result<Typed, Fault> {
        let at = expr.span().start;
        self.count_node(at)?;
        match expr {
            Expr::Identifier(ident) => self.name(std::slice::from_ref(ident)),
            Expr::CompoundIdentifier(path) => self.name(path),
            Expr::Nested(inner) => self.expression(inner),
            Expr::Value(value) => literal(&value.value, value.span.start),
            Expr::TypedString(typed) => {
                let value = literal(&typed.value.value, at)?;
                cast::compile(value, &typed.data_type, false, at)
            }
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } if matches!(&**expr, Expr::Value(v) if is_number(&v.value)) =>
            {
                // Read with its sign: the smallest int64 has no positive twin.
                literal(&Literal::Number(format!("-{expr}"), false), at)
            }
            Expr::UnaryOp { op, expr } => self.unary(*op, self.expression(expr)?, at),
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right, at),
            Expr::IsNull(inner) => Ok(logic::is_null(self.expression(inner)?, true)),
            Expr::IsNotNull(inner) => Ok(logic::is_null(self.expression(inner)?, false)),
            Expr::IsTrue(inner) => logic::is_bool(self.expression(inner)?, Some(true), true, at),
            Expr::IsNotTrue(inner) => logic::is_bool(self.expression(inner)?, Some(true), false, at),
            Expr::IsFalse(inner) => logic::is_bool(self.expression(inner)?, Some(false), true, at),
            Expr::IsNotFalse(inner) => logic::is_bool(self.expression(inner)?, Some(false), false, at),
            Expr::IsUnknown(inner) => logic::is_bool(self.expression(inner)?, None, true, at),
            Expr::IsNotUnknown(inner) => logic::is_bool(self.expression(inner)?, None, false, at),
            Expr::IsDistinctFrom(a, b) => self.distinct_from(a, b, true, at),
            Expr::IsNotDistinctFrom(a, b) => self.distinct_from(a, b, false, at),
            Expr::InList { expr, list, negated } => {
                let items = list.iter().map(|item| self.expression(item)).collect::<Result<Vec<_>, _>>()?;
                compare::in_list(self.expression(expr)?, items, *negated, at)
            }
            Expr::Between { expr, negated, low, high } => {
                let above = compare::compile(self.expression(expr)?, &BinaryOperator::GtEq, self.expression(low)?, at)?;
                let below =
                    compare::compile(self.expression(expr)?, &BinaryOperator::LtEq, self.expression(high)?, at)?;
                let both = logic::and(above, below, at)?;
                if *negated { logic::not(both, at) } else { Ok(both) }
            }
            Expr::Like { negated, any: false, expr, pattern, escape_char: None } => {
                let like = text::like(self.expression(expr)?, self.expression(pattern)?, at)?;
                if *negated { logic::not(like, at) } else { Ok(like) }
            }
            Expr::Case { operand, conditions, else_result, .. } => {
                let mut arms = Vec::with_capacity(conditions.len());
                for when in conditions {
                    let mut condition = self.expression(&when.condition)?;
                    if let Some(operand) = operand {
                        let operand = self.expression(operand)?;
                        condition =
                            compare::compile(operand, &BinaryOperator::Eq, condition, when.condition.span().start)?;
                    }
                    arms.push((condition, self.expression(&when.result)?));
                }
                let otherwise = else_result.as_ref().map(|e| self.expression(e)).transpose()?;
                logic::case(arms, otherwise, at)
            }
            Expr::Cast { kind, expr, data_type, .. } => {
                let quiet = matches!(kind, CastKind::TryCast | CastKind::SafeCast);
                cast::compile(self.expression(expr)?, data_type, quiet, at)
            }
            Expr::Extract { field, expr, .. } => self.extract(field, expr, at),
            _ => self.call(expr, at),
        }
    }

    fn count_node(&self, at: Location) -> Result<(), Fault> {
        self.nodes.set(self.nodes.get() + 1);
        match self.nodes.get() {
            0..=NODES_MAX => Ok(()),
            _ => Err(fault(at, "the expression repeats itself too often: BETWEEN or CASE inside of one another")),
        }
    }

    fn distinct_from(&self, a: &Expr, b: &Expr, expected: bool, at: Location) -> Result<Typed, Fault> {
        // The parser takes all that follows for the right side, where SQL ends it at AND and OR.
        if matches!(b, Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or, .. }) {
            let message = "IS DISTINCT FROM beside AND and OR stands in parentheses: (a IS DISTINCT FROM b) AND c";
            return Err(fault(b.span().start, message));
        }
        compare::distinct_from(self.expression(a)?, self.expression(b)?, expected, at)
    }

    fn extract(&self, field: &DateTimeField, time: &Expr, at: Location) -> Result<Typed, Fault> {
        let unit = match field {
            // `extract('hour', t)`, which the parser takes for a form of EXTRACT: the unit without its quotes.
            DateTimeField::Custom(name) => name.value.clone(),
            other => other.to_string(),
        };
        let unit = Typed::constant(Some(DataType::Text), Value::Text(unit.to_lowercase().into()));
        calendar::extract(vec![unit, self.expression(time)?], at)
    }

    /// Functions, and those whose syntax the parser knows as something of its own.
    fn call(&self, expr: &Expr, at: Location) -> Result<Typed, Fault> {
        let compiled = |list: &[&Expr]| list.iter().map(|e| self.expression(e)).collect::<Result<Vec<_>, _>>();
        let (name, arguments) = match expr {
            Expr::Function(function) => return self.function(function, at),
            Expr::Floor { expr, .. } => ("floor", compiled(&[expr])?),
            Expr::Ceil { expr, .. } => ("ceil", compiled(&[expr])?),
            Expr::Trim { expr, trim_where: None, trim_what: None, trim_characters: None } => {
                ("trim", compiled(&[expr])?)
            }
            Expr::Substring { expr, substring_from: Some(from), substring_for, .. } => {
                let mut list: Vec<&Expr> = vec![expr, from];
                list.extend(substring_for.as_deref());
                ("substr", compiled(&list)?)
            }
            Expr::Array(array) => {
                let items = array.elem.iter().map(|item| self.expression(item)).collect::<Result<Vec<_>, _>>()?;
                return lists::array(items, at);
            }
            other => return Err(fault(at, format!("`{other}` is not part of the expression language"))),
        };
        functions::compile(name, arguments, self.scope.at_read(), at)
    }

    fn function(&self, function: &Function, at: Location) -> Result<Typed, Fault> {
        let plain = function.over.is_none() && function.filter.is_none() && function.within_group.is_empty();
        let FunctionArguments::List(list) = &function.args else {
            return Err(fault(at, format!("`{}` needs its arguments in parentheses", function.name)));
        };
        if !plain || !list.clauses.is_empty() || list.duplicate_treatment.is_some() {
            return Err(fault(at, format!("`{}` takes plain arguments only", function.name)));
        }
        let mut arguments = Vec::with_capacity(list.args.len());
        for argument in &list.args {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument else {
                return Err(fault(argument.span().start, format!("`{argument}` is not a value")));
            };
            arguments.push(self.expression(expr)?);
        }
        let name = function.name.to_string().to_lowercase();
        if name == "lookup" {
            let key = list.args.get(1).map(ToString::to_string).unwrap_or_default();
            return self.lookup(arguments, key, at);
        }
        functions::compile(&name, arguments, self.scope.at_read(), at)
    }

    fn lookup(&self, mut arguments: Vec<Typed>, key_text: String, at: Location) -> Result<Typed, Fault> {
        let key = arguments.pop();
        let ([Typed { literal: Some(Value::Text(reference)), .. }], Some(key)) = (&arguments[..], key) else {
            return Err(fault(at, "lookup takes a feature as text and a key: lookup('view:feature', key)"));
        };
        let key = self.finished(key_text, key);
        let found = self.scope.lookup(reference, key);
        let (column, data_type) = found.map_err(|(message, near)| Fault { near, ..fault(at, message) })?;
        self.columns.borrow_mut().insert(column);
        Ok(Typed::new(data_type, move |frame| frame.columns[column].value(frame.row)))
    }

    fn name(&self, path: &[Ident]) -> Result<Typed, Fault> {
        let at = path.first().map_or(Location::empty(), |ident| ident.span.start);
        let parts: Vec<&str> = path.iter().map(|ident| ident.value.as_str()).collect();
        let (index, data_type) =
            self.scope.resolve(&parts).map_err(|(message, near)| Fault { near, ..fault(at, message) })?;
        self.columns.borrow_mut().insert(index);
        Ok(Typed::new(data_type, move |frame| frame.columns[index].value(frame.row)))
    }

    fn unary(&self, op: UnaryOperator, operand: Typed, at: Location) -> Result<Typed, Fault> {
        match op {
            UnaryOperator::Not => logic::not(operand, at),
            UnaryOperator::Minus => arithmetic::negate(operand, at),
            UnaryOperator::Plus => Ok(operand),
            other => Err(fault(at, format!("`{other}` is not an operator of the expression language"))),
        }
    }

    fn binary(&self, left: &Expr, op: &BinaryOperator, right: &Expr, at: Location) -> Result<Typed, Fault> {
        use BinaryOperator as Op;
        let (a, b) = (self.expression(left)?, self.expression(right)?);
        match op {
            Op::And => logic::and(a, b, at),
            Op::Or => logic::or(a, b, at),
            Op::Eq | Op::NotEq | Op::Lt | Op::LtEq | Op::Gt | Op::GtEq => compare::compile(a, op, b, at),
            Op::Plus | Op::Minus | Op::Multiply | Op::Divide | Op::Modulo => arithmetic::compile(a, op, b, at),
            Op::StringConcat => text::join(a, b, at),
            other => Err(fault(at, format!("`{other}` is not an operator of the expression language"))),
        }
    }
}

fn is_number(value: &Literal) -> bool {
    matches!(value, Literal::Number(..))
}

fn literal(value: &Literal, at: Location) -> Result<Typed, Fault> {
    let (data_type, value) = match value {
        Literal::Null => return Ok(Typed::constant(None, Value::Null)),
        Literal::Boolean(v) => (DataType::Bool, Value::Bool(*v)),
        Literal::SingleQuotedString(v) => (DataType::Text, Value::Text(v.clone().into())),
        Literal::Number(digits, _) => match digits.parse::<i64>() {
            Ok(whole) => (DataType::Int64, Value::Int64(whole)),
            Err(_) => match digits.parse::<f64>() {
                Ok(number) if number.is_finite() => (DataType::Float64, Value::Float64(number)),
                _ => return Err(fault(at, format!("`{digits}` is not a number that float64 can hold"))),
            },
        },
        Literal::DoubleQuotedString(v) => return Err(fault(at, format!("text stands in single quotes: '{v}'"))),
        other => return Err(fault(at, format!("`{other}` is not a literal of the expression language"))),
    };
    Ok(Typed::constant(Some(data_type), value))
}

/// An aggregate call such as `first_k(lower(country), 5)`: its name and its arguments, each with its text.
pub struct Call {
    /// in lower case
    pub name: String,
    /// in order
    pub arguments: Vec<Argument>,
}

impl Call {
    /// The call in canonical form.
    pub fn text(&self) -> String {
        let arguments: Vec<&str> = self.arguments.iter().map(|argument| argument.expression.text.as_str()).collect();
        format!("{}({})", self.name, arguments.join(", "))
    }
}

/// An argument of an aggregate.
pub struct Argument {
    /// the expression
    pub expression: Expression,
    /// its value where it is a literal
    pub literal: Option<Value<'static>>,
    /// where it stands
    pub place: (u64, u64),
}

/// Parses a call whose name is not a function of the language, and compiles its arguments.
pub fn compile_call(text: &str, scope: &dyn Scope) -> Result<Call, Fault> {
    let start = Location { line: 1, column: 1 };
    if text.len() > TEXT_MAX {
        return Err(fault(start, format!("an expression of {} bytes is longer than {TEXT_MAX}", text.len())));
    }
    let dialect = GenericDialect {};
    let mut parser = Parser::new(&dialect).with_recursion_limit(DEPTH_MAX).with_tokens_with_locations(words(text)?);
    let parsed = parser.parse_expr().map_err(parse_fault)?;
    let next = parser.peek_token();
    if next.token != Token::EOF {
        return Err(fault(next.span.start, format!("expected the end of the aggregate, found `{}`", next.token)));
    }
    let Expr::Function(function) = &parsed else {
        return Err(fault(start, "an aggregate is a call such as count() or sum(amount)"));
    };
    let name = function.name.to_string().to_lowercase();
    let FunctionArguments::List(list) = &function.args else {
        return Err(fault(start, format!("`{name}` needs its arguments in parentheses")));
    };
    if list.duplicate_treatment.is_some()
        || !list.clauses.is_empty()
        || function.over.is_some()
        || function.filter.is_some()
    {
        return Err(fault(start, format!("`{name}` takes plain arguments only")));
    }
    let compiler = Compiler::new(scope);
    let mut arguments = Vec::with_capacity(list.args.len());
    for argument in &list.args {
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument else {
            return Err(fault(start, format!("`{argument}` is not a value; write count() without an argument")));
        };
        let at = expr.span().start;
        let typed = compiler.expression(expr)?;
        let (literal, place) = (typed.literal.clone(), (at.line.max(1), at.column.max(1)));
        arguments.push(Argument { expression: compiler.finished(expr.to_string(), typed), literal, place });
    }
    Ok(Call { name, arguments })
}
