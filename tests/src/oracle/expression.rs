//! The SQL scalar expressions that cases are made of, and their text for the definition file.
//! Everything is put in parentheses, so the text needs no precedence. Evaluation is in `evaluate`.
//! Well typed by construction: both sides of COALESCE, CASE, LEAST … have one type.

use super::model::Datum;

#[derive(Clone, Debug)]
pub enum Expr {
    Column(String),
    Literal(Datum),
    Negate(Box<Expr>),
    Not(Box<Expr>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    IsNull {
        x: Box<Expr>,
        negated: bool,
    },
    Case {
        branches: Vec<(Expr, Expr)>,
        otherwise: Option<Box<Expr>>,
    },
    In {
        x: Box<Expr>,
        list: Vec<Expr>,
    },
    Between {
        x: Box<Expr>,
        low: Box<Expr>,
        high: Box<Expr>,
    },
    Like {
        x: Box<Expr>,
        pattern: String,
    },
    /// CAST, or TRY_CAST; both give null when they fail.
    Cast {
        x: Box<Expr>,
        to: CastTo,
        quietly: bool,
    },
    Call(Function, Vec<Expr>),
    /// The feature of another key; only in derived features, where `derived` replaces it before evaluation.
    Lookup {
        view: String,
        feature: String,
        key: Box<Expr>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CastTo {
    Int64,
    Float64,
    Text,
    Bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    Div,
    Coalesce,
    NullIf,
    Lower,
    Upper,
    Length,
    Substr,
    Concat,
    Trim,
    StartsWith,
    Abs,
    Floor,
    Ceil,
    Round,
    Least,
    Greatest,
    Hash64,
}

impl Expr {
    pub fn column(name: &str) -> Expr {
        Expr::Column(name.to_string())
    }

    pub fn int(value: i64) -> Expr {
        Expr::Literal(Datum::Int(value))
    }

    pub fn float(value: f64) -> Expr {
        Expr::Literal(Datum::Float(value))
    }

    pub fn text(value: &str) -> Expr {
        Expr::Literal(Datum::Text(value.to_string()))
    }

    pub fn binary(operator: Operator, left: Expr, right: Expr) -> Expr {
        Expr::Binary(operator, Box::new(left), Box::new(right))
    }

    pub fn call(function: Function, arguments: &[Expr]) -> Expr {
        Expr::Call(function, arguments.to_vec())
    }

    pub fn sql(&self) -> String {
        match self {
            Expr::Column(name) => name.clone(),
            Expr::Literal(value) => literal(value),
            Expr::Negate(x) => format!("(- {})", x.sql()),
            Expr::Not(x) => format!("(NOT {})", x.sql()),
            Expr::Binary(operator, left, right) => format!("({} {} {})", left.sql(), operator.sql(), right.sql()),
            Expr::IsNull { x, negated } => format!("({} IS {}NULL)", x.sql(), if *negated { "NOT " } else { "" }),
            Expr::Case { branches, otherwise } => case(branches, otherwise.as_deref()),
            Expr::In { x, list } => format!("({} IN ({}))", x.sql(), comma_separated(list)),
            Expr::Between { x, low, high } => format!("({} BETWEEN {} AND {})", x.sql(), low.sql(), high.sql()),
            Expr::Like { x, pattern } => format!("({} LIKE {})", x.sql(), quoted(pattern)),
            Expr::Cast { x, to, quietly } => {
                format!("{}({} AS {})", if *quietly { "TRY_CAST" } else { "CAST" }, x.sql(), to.sql())
            }
            Expr::Call(function, arguments) => format!("{}({})", function.sql(), comma_separated(arguments)),
            Expr::Lookup { view, feature, key } => format!("lookup('{view}:{feature}', {})", key.sql()),
        }
    }

    /// Every column that the expression names, in order, with repetitions.
    pub fn columns(&self) -> Vec<&str> {
        if let Expr::Column(name) = self {
            return vec![name];
        }
        self.children().into_iter().flat_map(Expr::columns).collect()
    }

    /// Those of which more than being null is looked at.
    pub fn columns_by_value(&self) -> Vec<&str> {
        match self {
            Expr::Column(name) => vec![name],
            Expr::IsNull { x, .. } if matches!(**x, Expr::Column(_)) => Vec::new(),
            _ => self.children().into_iter().flat_map(Expr::columns_by_value).collect(),
        }
    }

    /// The same with each lookup replaced, the inner ones first: `replace` gets view, feature and key.
    pub fn without_lookups(&self, replace: &mut dyn FnMut(&str, &str, Expr) -> Expr) -> Expr {
        let mut on = |x: &Expr| x.without_lookups(replace);
        match self {
            Expr::Column(_) | Expr::Literal(_) => self.clone(),
            Expr::Negate(x) => Expr::Negate(Box::new(on(x))),
            Expr::Not(x) => Expr::Not(Box::new(on(x))),
            Expr::Binary(operator, left, right) => Expr::binary(*operator, on(left), on(right)),
            Expr::IsNull { x, negated } => Expr::IsNull { x: Box::new(on(x)), negated: *negated },
            Expr::Case { branches, otherwise } => Expr::Case {
                branches: branches.iter().map(|(when, then)| (on(when), on(then))).collect(),
                otherwise: otherwise.as_ref().map(|x| Box::new(on(x))),
            },
            Expr::In { x, list } => Expr::In { x: Box::new(on(x)), list: list.iter().map(on).collect() },
            Expr::Between { x, low, high } => {
                Expr::Between { x: Box::new(on(x)), low: Box::new(on(low)), high: Box::new(on(high)) }
            }
            Expr::Like { x, pattern } => Expr::Like { x: Box::new(on(x)), pattern: pattern.clone() },
            Expr::Cast { x, to, quietly } => Expr::Cast { x: Box::new(on(x)), to: *to, quietly: *quietly },
            Expr::Call(function, arguments) => Expr::Call(*function, arguments.iter().map(on).collect()),
            Expr::Lookup { view, feature, key } => {
                let key = on(key);
                replace(view, feature, key)
            }
        }
    }

    fn children(&self) -> Vec<&Expr> {
        match self {
            Expr::Column(_) | Expr::Literal(_) => Vec::new(),
            Expr::Negate(x) | Expr::Not(x) => vec![x],
            Expr::IsNull { x, .. } | Expr::Like { x, .. } | Expr::Cast { x, .. } => vec![x],
            Expr::Lookup { key, .. } => vec![key],
            Expr::Binary(_, left, right) => vec![left, right],
            Expr::Between { x, low, high } => vec![x, low, high],
            Expr::In { x, list } => std::iter::once(&**x).chain(list).collect(),
            Expr::Call(_, arguments) => arguments.iter().collect(),
            Expr::Case { branches, otherwise } => {
                let pairs = branches.iter().flat_map(|(when, then)| [when, then]);
                pairs.chain(otherwise.as_deref()).collect()
            }
        }
    }
}

impl Operator {
    fn sql(self) -> &'static str {
        match self {
            Operator::Add => "+",
            Operator::Subtract => "-",
            Operator::Multiply => "*",
            Operator::Divide => "/",
            Operator::Remainder => "%",
            Operator::Equal => "=",
            Operator::NotEqual => "<>",
            Operator::Less => "<",
            Operator::LessOrEqual => "<=",
            Operator::Greater => ">",
            Operator::GreaterOrEqual => ">=",
            Operator::And => "AND",
            Operator::Or => "OR",
        }
    }
}

impl CastTo {
    fn sql(self) -> &'static str {
        match self {
            CastTo::Int64 => "BIGINT",
            CastTo::Float64 => "DOUBLE",
            CastTo::Text => "VARCHAR",
            CastTo::Bool => "BOOLEAN",
        }
    }
}

impl Function {
    fn sql(self) -> &'static str {
        match self {
            Function::Div => "div",
            Function::Coalesce => "coalesce",
            Function::NullIf => "nullif",
            Function::Lower => "lower",
            Function::Upper => "upper",
            Function::Length => "length",
            Function::Substr => "substr",
            Function::Concat => "concat",
            Function::Trim => "trim",
            Function::StartsWith => "starts_with",
            Function::Abs => "abs",
            Function::Floor => "floor",
            Function::Ceil => "ceil",
            Function::Round => "round",
            Function::Least => "least",
            Function::Greatest => "greatest",
            Function::Hash64 => "hash64",
        }
    }
}

/// The text of a constant.
pub fn literal(value: &Datum) -> String {
    match value {
        Datum::Null => "NULL".to_string(),
        Datum::Bool(true) => "TRUE".to_string(),
        Datum::Bool(false) => "FALSE".to_string(),
        // Its absolute value is no int64, so SQL has no literal for it.
        Datum::Int(i64::MIN) => format!("(- {} - 1)", i64::MAX),
        Datum::Int(i) if *i < 0 => format!("(- {})", i.unsigned_abs()),
        Datum::Int(i) => i.to_string(),
        Datum::Float(f) if !f.is_finite() => panic!("SQL has no literal for {f}"),
        Datum::Float(f) if f.is_sign_negative() => format!("(- {:?})", f.abs()),
        Datum::Float(f) => format!("{f:?}"),
        Datum::Text(text) => quoted(text),
        other => panic!("no literal is generated for {other:?}"),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn case(branches: &[(Expr, Expr)], otherwise: Option<&Expr>) -> String {
    let mut sql = "CASE".to_string();
    for (when, then) in branches {
        sql += &format!(" WHEN {} THEN {}", when.sql(), then.sql());
    }
    if let Some(otherwise) = otherwise {
        sql += &format!(" ELSE {}", otherwise.sql());
    }
    sql + " END"
}

fn comma_separated(list: &[Expr]) -> String {
    list.iter().map(Expr::sql).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_expressions() {
        let minus_five = Expr::Negate(Box::new(Expr::int(-5)));
        assert_eq!(minus_five.sql(), "(- (- 5))");
        assert_eq!(Expr::text("it's").sql(), "'it''s'");
        assert_eq!(Expr::int(i64::MIN).sql(), "(- 9223372036854775807 - 1)");
        assert_eq!(Expr::float(1e308).sql(), "1e308");
        let call = Expr::call(Function::NullIf, &[Expr::column("a"), Expr::int(0)]);
        assert_eq!(Expr::binary(Operator::Divide, Expr::column("b"), call).sql(), "(b / nullif(a, 0))");
    }

    #[test]
    fn columns_are_found_everywhere() {
        let case = Expr::Case {
            branches: vec![(Expr::column("a"), Expr::column("b"))],
            otherwise: Some(Box::new(Expr::In { x: Box::new(Expr::column("c")), list: vec![Expr::column("d")] })),
        };
        assert_eq!(case.columns(), ["a", "b", "c", "d"]);
    }
}
