//! Problems of definitions: an E-number, a place, what was expected, the near name.

use std::fmt;

/// One mistake in a definition file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// such as `E0007`; `definitions/codes.rs` lists them
    pub code: &'static str,
    /// path of the file
    pub file: String,
    /// counts from 1
    pub line: usize,
    /// counts from 1, in characters
    pub column: usize,
    /// lower case, no full stop
    pub message: String,
    /// a known name that is close to an unknown one
    pub near: Option<String>,
    /// the line itself, for the caret
    pub source_line: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.code, self.message)?;
        writeln!(f, "  --> {}:{}:{}", self.file, self.line, self.column)?;
        let number = self.line.to_string();
        writeln!(f, "{:width$} |", "", width = number.len() + 1)?;
        writeln!(f, "{number}  | {}", self.source_line)?;
        // Tabs stay tabs, so that the caret stands where the terminal put the column.
        let indent: String =
            self.source_line.chars().take(self.column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        write!(f, "{:width$} | {indent}^", "", width = number.len() + 1)?;
        match &self.near {
            Some(near) => write!(f, " did you mean `{near}`?"),
            None => Ok(()),
        }
    }
}

/// The known name closest to an unknown one: at most a third of its letters may differ.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    // A key may be 64 kB; names that can be meant are short.
    let name: String = name.chars().take(80).collect();
    let allowed = (name.chars().count() / 3).max(1);
    let best = known.into_iter().map(|k| (distance(&name, k), k)).min_by_key(|(d, _)| *d);
    best.filter(|(distance, _)| *distance <= allowed).map(|(_, k)| k.to_string())
}

/// Edit distance in which two letters swapped count once (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().take(80).collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn near_names() {
        assert_eq!(nearest("amuont", ["amount", "country"]).as_deref(), Some("amount"));
        assert_eq!(nearest("zzz", ["amount", "country"]), None);
        assert_eq!(nearest("cont", ["count", "sum"]).as_deref(), Some("count"));
    }

    /// Of two names as close as each other the first; a third of the letters may differ, one at least.
    #[test]
    fn near_enough() {
        assert_eq!(nearest("ab", ["xb", "ax"]).as_deref(), Some("xb"));
        assert_eq!(nearest("ab", ["xy"]), None);
        assert_eq!(nearest("a", ["b"]).as_deref(), Some("b"));
        assert_eq!(nearest("abcdef", ["abcdxy"]).as_deref(), Some("abcdxy"));
        assert_eq!(nearest("abcdef", ["abcxyz"]), None);
        assert_eq!(nearest("ab", []), None);
    }

    #[test]
    fn the_caret_stands_below_its_column() {
        let mut problem = Problem {
            code: "E0007",
            file: "features/cards.toml".to_string(),
            line: 12,
            column: 4,
            message: "unknown key `wher`".to_string(),
            near: Some("where".to_string()),
            source_line: "\tä wher = 1".to_string(),
        };
        let shown = "E0007: unknown key `wher`\n  --> features/cards.toml:12:4\n    |\n12  | \tä wher = 1\n    | \t  ^";
        assert_eq!(problem.to_string(), format!("{shown} did you mean `where`?"));
        problem.near = None;
        assert_eq!(problem.to_string(), shown);
    }

    /// The distance by its definition.
    fn defined(a: &[char], b: &[char]) -> usize {
        let (Some((x, front)), Some((y, back))) = (a.split_last(), b.split_last()) else { return a.len() + b.len() };
        let replaced = defined(front, back) + usize::from(x != y);
        let best = replaced.min(defined(front, b) + 1).min(defined(a, back) + 1);
        match (a, b) {
            ([front @ .., p, q], [back @ .., r, s]) if p == s && q == r => best.min(defined(front, back) + 1),
            _ => best,
        }
    }

    proptest! {
        #[test]
        fn distances_are_those_of_the_definition(a in "[abc]{0,5}", b in "[abc]{0,5}") {
            let letters = |text: &str| text.chars().collect::<Vec<char>>();
            prop_assert_eq!(distance(&a, &b), defined(&letters(&a), &letters(&b)));
        }
    }
}
