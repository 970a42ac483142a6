//! Definition files as trees with places: TOML parsed so that every mistake, also one inside an expression, can be pointed at.

use std::cell::RefCell;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::expression::Fault;
use crate::problem::Problem;

/// A definition file.
#[derive(Clone, Debug)]
pub struct DefinitionFile {
    /// as shown to the user
    pub path: String,
    /// TOML
    pub text: String,
}

/// Where something stands.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub file: usize,
    pub span: Range<usize>,
}

/// A value with its place.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub place: Place,
    pub value: ItemValue,
}

#[derive(Clone, Debug)]
pub(super) enum ItemValue {
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    Array(Vec<Item>),
    Table(Vec<(Key, Item)>),
    Datetime,
}

#[derive(Clone, Debug)]
pub(super) struct Key {
    pub name: String,
    pub place: Place,
}

/// All files and the problems found in them so far.
pub(super) struct Files<'f> {
    pub files: &'f [DefinitionFile],
    problems: RefCell<Vec<Problem>>,
}

/// Problems that are told at most; what comes after a thousand is noise.
const PROBLEMS_MAX: usize = 1000;

impl<'f> Files<'f> {
    pub(super) fn new(files: &'f [DefinitionFile]) -> Self {
        Files { files, problems: RefCell::new(Vec::new()) }
    }

    /// Parses one file; syntax errors become problems, and what could be read is returned all the same.
    pub(super) fn parse(&self, file: usize) -> Vec<(Key, Item)> {
        let (table, errors) = DeTable::parse_recoverable(&self.files[file].text);
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            let message = error.message().lines().next().unwrap_or("broken TOML").to_string();
            self.report("E0001", &Place { file, span }, format!("not TOML: {message}"), None);
        }
        entries(file, table.get_ref())
    }

    pub(super) fn report(&self, code: &'static str, place: &Place, message: impl Into<String>, near: Option<String>) {
        self.report_at(code, place.file, place.span.start, message.into(), near);
    }

    /// Whether there are as many problems as are told: what would be reported from here on need not be looked for.
    pub(super) fn is_full(&self) -> bool {
        self.problems.borrow().len() >= PROBLEMS_MAX
    }

    fn report_at(&self, code: &'static str, file: usize, offset: usize, message: String, near: Option<String>) {
        if self.is_full() {
            return;
        }
        let DefinitionFile { path, text } = &self.files[file];
        let before = text.get(..offset.min(text.len())).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let rest = &text[line_start..];
        let problem = Problem {
            code,
            file: path.clone(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message,
            near,
            source_line: rest.lines().next().unwrap_or("").chars().take(300).collect(),
        };
        let mut problems = self.problems.borrow_mut();
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }

    /// Reports a fault of an expression at its place inside the file.
    pub(super) fn report_fault(&self, code: &'static str, text: &Item, fault: Fault) {
        let offset = self.offset_in_text(text, fault.line, fault.column);
        self.report_at(code, text.place.file, offset, fault.message, fault.near);
    }

    /// The place in the file of a character of a text value: behind its quotes and escapes.
    fn offset_in_text(&self, item: &Item, line: u64, column: u64) -> usize {
        let raw = self.files[item.place.file].text.get(item.place.span.clone()).unwrap_or("");
        let quote = raw.chars().next().unwrap_or(' ');
        // A text without its quotes is broken TOML, read all the same so that it can be named.
        if quote != '"' && quote != '\'' {
            return item.place.span.start;
        }
        let quotes = if raw.starts_with("\"\"\"") || raw.starts_with("'''") { 3 } else { 1 };
        let mut at = quotes;
        if quotes == 3 {
            at += if raw[at..].starts_with("\r\n") { 2 } else { usize::from(raw[at..].starts_with('\n')) };
        }
        let (mut at_line, mut at_column) = (1, 1);
        while (at_line, at_column) < (line, column) {
            let Some(next) = raw[at..].chars().next() else { break };
            at += match (next, raw[at + next.len_utf8()..].chars().next()) {
                ('\\', Some('u')) if quote == '"' => 6,
                ('\\', Some('U')) if quote == '"' => 10,
                ('\\', Some('x')) if quote == '"' => 4,
                ('\\', Some(escaped)) if quote == '"' => 1 + escaped.len_utf8(),
                _ => next.len_utf8(),
            };
            if !raw.is_char_boundary(at) {
                break;
            }
            (at_line, at_column) = if next == '\n' { (at_line + 1, 1) } else { (at_line, at_column + 1) };
        }
        item.place.span.start + at.min(raw.len())
    }

    /// Everything reported, by place.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        let file = |p: &Problem| self.files.iter().position(|f| f.path == p.file);
        problems.sort_by_key(|p| (file(p), p.line, p.column));
        problems
    }

    pub(super) fn any_problems(&self) -> bool {
        !self.problems.borrow().is_empty()
    }
}

fn entries(file: usize, table: &DeTable<'_>) -> Vec<(Key, Item)> {
    let key = |k: &Spanned<std::borrow::Cow<'_, str>>| Key {
        name: k.get_ref().to_string(),
        place: Place { file, span: k.span() },
    };
    table.iter().map(|(k, v)| (key(k), item(file, v))).collect()
}

fn item(file: usize, value: &Spanned<DeValue<'_>>) -> Item {
    let place = Place { file, span: value.span() };
    let value = match value.get_ref() {
        DeValue::String(text) => ItemValue::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()) {
            Ok(number) => ItemValue::Int(number),
            Err(_) => ItemValue::Datetime,
        },
        DeValue::Float(number) => ItemValue::Float(number.as_str().replace('_', "").parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => ItemValue::Bool(*flag),
        DeValue::Datetime(_) => ItemValue::Datetime,
        DeValue::Array(list) => ItemValue::Array(list.iter().map(|v| item(file, v)).collect()),
        DeValue::Table(table) => ItemValue::Table(entries(file, table)),
    };
    Item { place, value }
}

impl Item {
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            ItemValue::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn table(&self) -> Option<&[(Key, Item)]> {
        match &self.value {
            ItemValue::Table(entries) => Some(entries),
            _ => None,
        }
    }

    /// As an error message calls it.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            ItemValue::Text(_) => "a text",
            ItemValue::Int(_) => "an integer",
            ItemValue::Float(_) => "a float",
            ItemValue::Bool(_) => "a bool",
            ItemValue::Array(_) => "a list",
            ItemValue::Table(_) => "a table",
            ItemValue::Datetime => "a date",
        }
    }
}
