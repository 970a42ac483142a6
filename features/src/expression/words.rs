//! The words of an expression, before they are parsed: few enough, and nested so that the parser is done in no time.
//!
//! Where a keyword of SQL such as CAST begins something that is broken, the parser starts over and takes the keyword for a
//! name. It does so inside of what it takes up again, too: 24 broken `floor(` inside of one another would keep it busy for
//! minutes, each one more for twice as long. So such words may only be nested a few times.

use sqlparser::dialect::GenericDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::ParserError;
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::Fault;
use super::compile::{fault, parse_fault};

/// Most words; the compiler recurses along chains of operators.
pub(super) const WORDS_MAX: usize = 800;
/// Deepest nesting of words that the parser may take up again: three times the work for each, at worst.
const TAKEN_UP_MAX: usize = 8;

/// Words that the parser may take up again with all that stands in the parentheses behind them.
const WITH_PARENTHESES: [Keyword; 20] = [
    Keyword::ARRAY,
    Keyword::CASE,
    Keyword::CAST,
    Keyword::CEIL,
    Keyword::CONVERT,
    Keyword::EXISTS,
    Keyword::EXTRACT,
    Keyword::FLOOR,
    Keyword::IN,
    Keyword::MAP,
    Keyword::MATCH,
    Keyword::NOT,
    Keyword::OVERLAY,
    Keyword::POSITION,
    Keyword::SAFE_CAST,
    Keyword::STRUCT,
    Keyword::SUBSTRING,
    Keyword::TRIM,
    Keyword::TRY_CAST,
    Keyword::TRY_CONVERT,
];

/// The same without parentheses. None of them is part of the language, but columns may be called so.
const WITHOUT: [Keyword; 9] = [
    Keyword::BOX,
    Keyword::CIRCLE,
    Keyword::INTERVAL,
    Keyword::LINE,
    Keyword::LSEG,
    Keyword::PATH,
    Keyword::POINT,
    Keyword::POLYGON,
    Keyword::PRIOR,
];

/// The words of a text. There are few enough that no chain of operators can exhaust the stack.
pub(super) fn words(text: &str) -> Result<Vec<TokenWithSpan>, Fault> {
    let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location();
    let tokens = tokens.map_err(|e| parse_fault(ParserError::TokenizerError(e.to_string())))?;
    let words = || tokens.iter().filter(|t| !matches!(t.token, Token::Whitespace(_)));
    if let Some(beyond) = words().nth(WORDS_MAX) {
        let message = format!("an expression of {} words is longer than {WORDS_MAX}", words().count());
        return Err(fault(beyond.span.start, message));
    }
    let (mut around, mut depth, mut before) = (Vec::new(), 0, Keyword::NoKeyword);
    for word in words() {
        let keyword = if let Token::Word(word) = &word.token { word.keyword } else { Keyword::NoKeyword };
        match word.token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                around.push(depth);
                depth += usize::from(WITH_PARENTHESES.contains(&before));
            }
            Token::RParen | Token::RBracket | Token::RBrace => depth = around.pop().unwrap_or(0),
            _ => depth += usize::from(WITHOUT.contains(&keyword)),
        }
        if depth > TAKEN_UP_MAX {
            return Err(fault(word.span.start, "the expression is nested too deeply"));
        }
        before = keyword;
    }
    Ok(tokens)
}
