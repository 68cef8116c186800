//! How deep a statement may be. The parser bounds parentheses, and nothing bounds chains: `1 + 1 + 1 …`, `a OR b OR c …`, a
//! thousand joins or subqueries. Such a tree is copied and dropped by recursion, and three thousand levels end the process.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// The longest SQL text, in bytes.
pub const TEXT_BYTES: usize = 1 << 20;
/// Operators that may bear upon each other in one expression, and joins in one FROM.
const OPERATORS: usize = 1_000;
/// SELECTs of a statement, in subqueries, common table expressions and unions.
const SELECTS: usize = 250;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooMuch {
    #[error("the SQL text has {0} bytes; at most {TEXT_BYTES} are allowed")]
    Text(usize),
    #[error(
        "an expression or FROM clause of the statement chains more than {OPERATORS} operators; write `x IN (…)` in place of many ORs, or split the statement"
    )]
    Operators,
    #[error("the statement has more than {SELECTS} SELECTs; split it")]
    Selects,
}

/// What stands between one pair of parentheses.
#[derive(Default)]
struct Level {
    /// Operators since the last comma that parts expressions.
    operators: usize,
    /// Tables that commas part are joined.
    in_from: bool,
}

/// Refuses statements that are too long or too deep. What cannot be read at all is left for the parser to say.
pub fn verify(sql: &str) -> Result<(), TooMuch> {
    if sql.len() > TEXT_BYTES {
        return Err(TooMuch::Text(sql.len()));
    }
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else { return Ok(()) };
    let mut outer = Vec::new();
    let mut level = Level::default();
    // Operators of all levels that are open: no expression here is deeper.
    let mut depth = 0;
    let mut selects = 0;
    for token in tokens {
        match token {
            Token::Whitespace(_) => continue,
            Token::LParen => outer.push(std::mem::take(&mut level)),
            Token::RParen => {
                depth -= level.operators;
                level = outer.pop().unwrap_or_default();
            }
            Token::Comma if !level.in_from => {
                depth -= level.operators;
                level.operators = 0;
            }
            Token::Word(word) => {
                match word.keyword {
                    Keyword::SELECT | Keyword::VALUES => selects += 1,
                    _ => {}
                }
                match word.keyword {
                    Keyword::FROM => level.in_from = true,
                    Keyword::SELECT | Keyword::WHERE | Keyword::GROUP | Keyword::HAVING | Keyword::ORDER => {
                        level.in_from = false;
                    }
                    _ => {}
                }
                if joins_operands(word.keyword) {
                    level.operators += 1;
                    depth += 1;
                }
            }
            Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::NationalStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::Placeholder(_)
            | Token::Period
            | Token::SemiColon
            | Token::RBracket
            | Token::EOF => {}
            // Every other sign is an operator, or counts as one.
            _ => {
                level.operators += 1;
                depth += 1;
            }
        }
        if depth > OPERATORS {
            return Err(TooMuch::Operators);
        }
        if selects > SELECTS {
            return Err(TooMuch::Selects);
        }
    }
    Ok(())
}

/// Words that make a tree deeper by one.
fn joins_operands(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::AND
            | Keyword::OR
            | Keyword::XOR
            | Keyword::NOT
            | Keyword::IS
            | Keyword::IN
            | Keyword::LIKE
            | Keyword::ILIKE
            | Keyword::SIMILAR
            | Keyword::RLIKE
            | Keyword::REGEXP
            | Keyword::BETWEEN
            | Keyword::DIV
            | Keyword::COLLATE
            | Keyword::AT
            | Keyword::JOIN
            | Keyword::UNION
            | Keyword::INTERSECT
            | Keyword::EXCEPT
            | Keyword::MINUS
            | Keyword::EXPLAIN
            | Keyword::CASE
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_bounded_and_lists_are_not() {
        for deep in [
            format!("SELECT 1{}", " + 1".repeat(1_001)),
            format!("SELECT a{} FROM t", " OR a = 1".repeat(501)),
            format!("SELECT {}a", "NOT ".repeat(1_001)),
            format!("SELECT a{}", "::int".repeat(1_001)),
            format!("SELECT a{}", "[1]".repeat(1_001)),
            format!("SELECT 1{}", " + f(1, 2, 3)".repeat(1_001)),
            format!("SELECT 1{} + ({}1)", " + 1".repeat(600), "1 + ".repeat(600)),
            format!("SELECT * FROM t{}", ", t".repeat(1_001)),
            format!("SELECT * FROM t{}", " NATURAL JOIN t".repeat(1_001)),
        ] {
            assert_eq!(verify(&deep), Err(TooMuch::Operators), "{}", &deep[..40]);
        }
        for many in [
            format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(250)),
            format!("SELECT * FROM {}t", "(SELECT * FROM ".repeat(250)),
            format!("WITH a AS (SELECT 1){} SELECT * FROM a", ", b AS (SELECT * FROM a)".repeat(250)),
        ] {
            assert_eq!(verify(&many), Err(TooMuch::Selects), "{}", &many[..40]);
        }
        assert_eq!(verify(&"x".repeat(TEXT_BYTES + 1)), Err(TooMuch::Text(TEXT_BYTES + 1)));
        for fine in [
            format!("SELECT a FROM t WHERE a IN (1{})", ", -2".repeat(50_000)),
            format!("SELECT a{} FROM t", ", a + b * 2 AS c".repeat(10_000)),
            format!("SELECT 1{}", " + 1".repeat(1_000)),
            format!("SELECT a FROM t WHERE a = 0{}", " OR a = 1".repeat(499)),
            format!("SELECT '{}'", " + 1".repeat(5_000)),
            format!("SELECT 1 -- {}", " + 1".repeat(5_000)),
            "SELECT 'open".to_owned(),
            ")))(((,,,".to_owned(),
        ] {
            assert_eq!(verify(&fine), Ok(()), "{}", &fine[..9]);
        }
    }
}
