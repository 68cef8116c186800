//! What the tokens tell of a statement, before it is parsed.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::{Limit, TEXT_BYTES, TooMuch};

const TEXT: Limit = Limit {
    what: "bytes",
    most: TEXT_BYTES as u64,
    instead: "send many values as the rows of a spine or an upload, not as text",
};
const TOKENS: Limit = Limit {
    what: "words and signs",
    most: 250_000,
    instead: "send many values as the rows of a spine or an upload, not as text",
};
/// The parser's own limit is 50, and its error does not say what it found.
const NESTING: Limit = Limit {
    what: "levels of parentheses, brackets, CASE or prefixes within each other",
    most: 48,
    instead: "name inner queries by WITH, or split the statement",
};
/// Operators that may bear upon each other in one expression: each may make it a level deeper.
const OPERATORS: Limit = Limit {
    what: "operators in one expression or FROM clause",
    most: 500,
    instead: "write `x IN (…)` in place of many ORs, or split the statement",
};
/// Each has the columns of all before it.
const JOINS: Limit = Limit { what: "joins", most: 100, instead: "join in several statements" };
const SELECTS: Limit = Limit { what: "SELECTs", most: 250, instead: "split the statement" };
/// Each is looked through twice for the tables that it names, and so is each within it.
const WITHS: Limit = Limit {
    what: "WITHs within each other",
    most: 8,
    instead: "name all queries in one WITH, one after another",
};
/// A function that is called by its other name is told by the names of its arguments, twice at each level.
const CALLS: Limit = Limit {
    what: "calls within each other",
    most: 16,
    instead: "name inner results in a subquery or by WITH",
};
const DOTS: Limit =
    Limit { what: "dots in one name", most: 16, instead: "name the column from its table on" };
/// The parser goes back where it guessed wrong, in some constructs twice at each level.
const PARSES: Limit = Limit {
    what: "words and signs, counting each as often as nested CASE, CAST and the like may have it read,",
    most: 1_000_000,
    instead: "nest CASE, CAST, NOT (…), INTERVAL and functions with words among their arguments less deeply",
};

/// Refuses texts that are too long or too deep. What cannot be read at all is left for the parser to say.
pub fn verify(sql: &str) -> Result<(), TooMuch> {
    TEXT.verify(sql.len() as u64)?;
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else { return Ok(()) };
    let mut measure = Measure::default();
    for token in &tokens {
        if !matches!(token, Token::Whitespace(_)) {
            measure.take(token);
        }
    }
    TOKENS.verify(measure.tokens)?;
    NESTING.verify(measure.deepest.nesting)?;
    OPERATORS.verify(measure.deepest.operators)?;
    SELECTS.verify(measure.selects)?;
    JOINS.verify(measure.joins)?;
    WITHS.verify(measure.deepest.withs)?;
    CALLS.verify(measure.deepest.calls)?;
    DOTS.verify(measure.deepest.dots)?;
    PARSES.verify(measure.parses)
}

/// What stands between one pair of brackets.
#[derive(Default)]
struct Level {
    /// Operators since the last comma that parts expressions.
    operators: u64,
    /// CASEs that have no END yet.
    cases: u64,
    withs: u64,
    /// One where a word opened it.
    calls: u64,
    /// How often this level's opening doubles what the parser may do inside.
    doublings: u64,
    /// Tables that commas part are joined.
    in_from: bool,
    /// It stands where a table may: `FROM (…`.
    is_table: bool,
}

/// Sums over all levels that are open.
#[derive(Default, Clone, Copy)]
struct Depth {
    nesting: u64,
    operators: u64,
    doublings: u64,
    withs: u64,
    calls: u64,
    dots: u64,
}

#[derive(Default)]
struct Measure {
    outer: Vec<Level>,
    level: Level,
    depth: Depth,
    /// The greatest that each part of `depth` ever was.
    deepest: Depth,
    tokens: u64,
    selects: u64,
    joins: u64,
    parses: u64,
    /// Prefixes (NOT, minus, INTERVAL) that follow each other directly.
    prefixes: u64,
    before: Before,
}

/// What the token before was, as far as it matters for the next.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// A table may follow.
    Table,
    With,
    /// A word that is first tried as one thing and then as another; what it opens is read so often.
    Guessed(u64),
    /// An operator or a word that an operand follows.
    #[default]
    Operator,
    Comma,
    Open,
    Operand,
}

impl Measure {
    fn take(&mut self, token: &Token) {
        self.tokens += 1;
        match token {
            Token::Period => self.depth.dots += 1,
            Token::Word(_) | Token::Number(..) if self.depth.dots > 0 => {}
            _ => self.depth.dots = 0,
        }
        let before = match token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                self.open(token);
                Before::Open
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                self.close();
                Before::Operand
            }
            Token::Comma => {
                if self.level.in_from {
                    self.joins += 1;
                    self.operator();
                } else {
                    self.depth.operators -= self.level.operators;
                    self.level.operators = 0;
                }
                Before::Comma
            }
            Token::Word(word) if word.quote_style.is_none() => self.word(word.keyword),
            Token::Word(_)
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::NationalStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::Placeholder(_) => Before::Operand,
            Token::Period | Token::SemiColon | Token::EOF => Before::Operator,
            // Every other sign is an operator, or counts as one.
            _ => {
                self.operator();
                self.prefix();
                Before::Operator
            }
        };
        if before != Before::Operator && !matches!(before, Before::Guessed(_)) {
            self.depth.nesting -= std::mem::take(&mut self.prefixes);
        }
        self.before = before;
        self.deepest.nesting = self.deepest.nesting.max(self.depth.nesting);
        self.deepest.operators = self.deepest.operators.max(self.depth.operators);
        self.deepest.calls = self.deepest.calls.max(self.depth.calls);
        self.deepest.withs = self.deepest.withs.max(self.depth.withs);
        self.deepest.dots = self.deepest.dots.max(self.depth.dots);
        let doublings = u32::try_from(self.depth.doublings).unwrap_or(u32::MAX);
        self.parses = self.parses.saturating_add(1u64.checked_shl(doublings).unwrap_or(u64::MAX));
    }

    fn open(&mut self, token: &Token) {
        // An index, as in `a[1][2]`, makes its expression a level deeper.
        if *token == Token::LBracket {
            self.operator();
        }
        let in_table = self.level.is_table && self.before == Before::Open;
        let is_table =
            in_table || self.before == Before::Table || (self.level.in_from && self.before == Before::Comma);
        let doublings = match self.before {
            Before::Guessed(times) => times,
            _ => u64::from(in_table),
        };
        let calls = u64::from(matches!(self.before, Before::Operand | Before::Guessed(_)));
        self.depth.nesting += 1;
        self.depth.doublings += doublings;
        self.depth.calls += calls;
        let level = Level { doublings, is_table, calls, ..Level::default() };
        self.outer.push(std::mem::replace(&mut self.level, level));
    }

    /// What closes nothing is left for the parser to say.
    fn close(&mut self) {
        let Some(outer) = self.outer.pop() else { return };
        let closed = std::mem::replace(&mut self.level, outer);
        self.depth.nesting -= 1 + closed.cases;
        self.depth.operators -= closed.operators;
        self.depth.withs -= closed.withs;
        self.depth.calls -= closed.calls;
        self.depth.doublings -= closed.doublings + closed.cases;
    }

    fn operator(&mut self) {
        self.level.operators += 1;
        self.depth.operators += 1;
    }

    /// An operator directly after another is a prefix: the parser goes a level deeper for each.
    fn prefix(&mut self) {
        if matches!(self.before, Before::Operator | Before::Guessed(_)) {
            self.prefixes += 1;
            self.depth.nesting += 1;
        }
    }

    fn word(&mut self, keyword: Keyword) -> Before {
        match keyword {
            Keyword::SELECT | Keyword::VALUES => self.selects += 1,
            Keyword::JOIN => self.joins += 1,
            _ => {}
        }
        match keyword {
            Keyword::FROM | Keyword::USING | Keyword::UPDATE | Keyword::INTO => self.level.in_from = true,
            Keyword::SELECT | Keyword::WHERE | Keyword::GROUP | Keyword::HAVING | Keyword::ORDER => {
                self.level.in_from = false;
            }
            _ => {}
        }
        if joins_operands(keyword) {
            self.operator();
        }
        match keyword {
            Keyword::CASE => {
                self.level.cases += 1;
                self.depth.nesting += 1;
                self.depth.doublings += 1;
                Before::Guessed(1)
            }
            // After anything but an operand it is a column of that name.
            Keyword::END if self.before == Before::Operand && self.level.cases > 0 => {
                self.level.cases -= 1;
                self.depth.nesting -= 1;
                self.depth.doublings -= 1;
                Before::Operand
            }
            Keyword::NOT => {
                self.prefix();
                Before::Guessed(1)
            }
            Keyword::INTERVAL => {
                self.prefix();
                if self.before == Before::Guessed(1) {
                    // Nothing closes it before the expression ends.
                    self.level.doublings += 1;
                    self.depth.doublings += 1;
                }
                Before::Guessed(1)
            }
            Keyword::WITH => {
                self.level.withs += 1;
                self.depth.withs += 1;
                Before::With
            }
            // `TIMESTAMP WITH TIME ZONE`.
            Keyword::TIME if self.before == Before::With => {
                self.level.withs -= 1;
                self.depth.withs -= 1;
                Before::Operand
            }
            // Not limited by the parser: each is a statement within a statement.
            Keyword::EXPLAIN => {
                self.depth.nesting += 1;
                self.deepest.nesting = self.deepest.nesting.max(self.depth.nesting);
                Before::Operator
            }
            Keyword::FROM
            | Keyword::JOIN
            | Keyword::USING
            | Keyword::UPDATE
            | Keyword::INTO
            | Keyword::APPLY
            | Keyword::ONLY
            | Keyword::LATERAL => Before::Table,
            Keyword::POSITION => Before::Guessed(2),
            Keyword::CAST
            | Keyword::TRY_CAST
            | Keyword::SAFE_CAST
            | Keyword::CONVERT
            | Keyword::TRY_CONVERT
            | Keyword::EXTRACT
            | Keyword::CEIL
            | Keyword::FLOOR
            | Keyword::SUBSTRING
            | Keyword::SUBSTR
            | Keyword::OVERLAY
            | Keyword::TRIM
            | Keyword::ARRAY
            | Keyword::MAP
            | Keyword::STRUCT
            | Keyword::EXISTS
            | Keyword::MATCH
            | Keyword::CURRENT_CATALOG
            | Keyword::CURRENT_DATE
            | Keyword::CURRENT_TIME
            | Keyword::CURRENT_TIMESTAMP
            | Keyword::CURRENT_USER
            | Keyword::LOCALTIME
            | Keyword::LOCALTIMESTAMP
            | Keyword::SESSION_USER
            | Keyword::USER => Before::Guessed(1),
            _ if wants_operand(keyword) => Before::Operator,
            _ => Before::Operand,
        }
    }
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

/// Words that an operand follows.
fn wants_operand(keyword: Keyword) -> bool {
    joins_operands(keyword)
        || matches!(
            keyword,
            Keyword::WHEN
                | Keyword::THEN
                | Keyword::ELSE
                | Keyword::SELECT
                | Keyword::DISTINCT
                | Keyword::WHERE
                | Keyword::HAVING
                | Keyword::BY
                | Keyword::ON
                | Keyword::LIMIT
                | Keyword::OFFSET
                | Keyword::ESCAPE
                | Keyword::ZONE
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(sql: &str) -> Option<&'static str> {
        verify(sql).err().map(|too_much| too_much.what)
    }

    fn nested(open: &str, inner: &str, close: &str, times: usize) -> String {
        format!("{}{inner}{}", open.repeat(times), close.repeat(times))
    }

    #[test]
    fn chains_are_bounded_and_lists_are_not() {
        for deep in [
            format!("SELECT 1{}", " + 1".repeat(501)),
            format!("SELECT a{} FROM t", " OR a = 1".repeat(251)),
            format!("SELECT a{}", "::int".repeat(501)),
            format!("SELECT a{}", "[1]".repeat(501)),
            format!("SELECT 1{}", " + f(1, 2, 3)".repeat(501)),
            format!("SELECT 1{} + ({}1)", " + 1".repeat(300), "1 + ".repeat(300)),
            format!("SELECT * FROM t{}", ", t".repeat(501)),
            format!("SELECT * FROM t{}", " NATURAL JOIN t".repeat(501)),
            format!("SELECT a{}", " IS NULL".repeat(501)),
            format!("SELECT a{}", " AT TIME ZONE 'UTC'".repeat(501)),
        ] {
            assert_eq!(found(&deep), Some(OPERATORS.what), "{}", &deep[..40]);
        }
        for many in [
            format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(250)),
            format!("WITH a AS (SELECT 1){} SELECT * FROM a", ", b AS (SELECT * FROM a)".repeat(250)),
        ] {
            assert_eq!(found(&many), Some(SELECTS.what), "{}", &many[..40]);
        }
        for fine in [
            format!("SELECT a FROM t WHERE a IN (1{})", ", -2".repeat(50_000)),
            format!("SELECT a{} FROM t", ", a + b * 2 AS c".repeat(10_000)),
            format!("SELECT a{} FROM t", ", CASE WHEN NOT (a > 1) THEN CAST(a AS int) END".repeat(1_000)),
            format!("SELECT 1{}", " + 1".repeat(500)),
            format!("SELECT a FROM t WHERE a = 0{}", " OR a = 1".repeat(249)),
            format!("SELECT '{}'", " + 1".repeat(5_000)),
            format!("SELECT 1 -- {}", " + 1".repeat(5_000)),
            format!("SELECT 1 /* {} */", "(".repeat(5_000)),
            format!("SELECT \"{}\"", "(".repeat(5_000)),
            "SELECT 'open".to_owned(),
            ")))(((,,,".to_owned(),
            "END END CASE END END )".to_owned(),
        ] {
            assert_eq!(verify(&fine), Ok(()), "{}", &fine[..9]);
        }
        assert_eq!(found(&format!("SELECT * FROM t{}", ", t".repeat(101))), Some(JOINS.what));
        assert_eq!(found(&format!("SELECT * FROM t{}", " CROSS JOIN t".repeat(101))), Some(JOINS.what));
        assert_eq!(found(&nested("WITH a AS (", "SELECT 1", ") SELECT * FROM a", 9)), Some(WITHS.what));
        assert_eq!(found(&nested("SELECT f(", "1", ")", 17)), Some(CALLS.what));
        assert_eq!(found(&format!("SELECT a{}", "::TIMESTAMP WITH TIME ZONE".repeat(100))), None);
        assert_eq!(found(&"x".repeat(TEXT_BYTES + 1)), Some(TEXT.what));
        assert_eq!(found(&"x,".repeat(150_000)), Some(TOKENS.what));
        assert_eq!(found(&format!("SELECT a{}", ".a".repeat(17))), Some(DOTS.what));
    }

    #[test]
    fn nesting_is_bounded_however_it_is_written() {
        for (open, inner, close) in [
            ("(", "1", ")"),
            ("f(", "1", ")"),
            ("NOT ", "true", ""),
            ("- ", "1", ""),
            ("+ - ~ ", "1", ""),
            ("[", "1", "]"),
            ("{'a': ", "1", "}"),
            ("CASE WHEN a THEN 1 ELSE ", "1", " END"),
            ("CASE end WHEN 1 THEN ", "1", " END"),
            ("INTERVAL ", "'1 day'", ""),
            ("SELECT * FROM (", "t", ")"),
            ("EXPLAIN ", "SELECT 1", ""),
            ("EXPLAIN ANALYZE ", "SELECT 1", ""),
            ("a IN (SELECT ", "1", ")"),
            ("CAST(1 AS Nullable(", "Int8", "))"),
        ] {
            let deep = nested(open, inner, close, 49);
            assert_eq!(found(&deep), Some(NESTING.what), "{open}");
            let message = verify(&deep).unwrap_err().to_string();
            assert!(message.contains("at most 48") && !message.contains("has 48"), "{message}");
            let fine = nested(open, inner, close, 8);
            assert_eq!(verify(&fine), Ok(()), "{open}");
        }
        // One after another is not one within another.
        for part in ["(1)", "- 1", "CASE WHEN a THEN 1 END", "NOT a", "INTERVAL '1 day'", "[1]"] {
            assert_eq!(verify(&format!("SELECT {}", [part; 400].join(", "))), Ok(()), "{part}");
        }
    }

    #[test]
    fn what_is_read_twice_at_each_level_is_bounded() {
        for open in [
            "CAST(",
            "CONVERT(",
            "CEIL(",
            "POSITION(",
            "SUBSTRING(a FROM ",
            "EXTRACT(YEAR FROM ",
            "OVERLAY(",
            "NOT (",
            "NOT(",
            "ARRAY[",
            "CURRENT_TIMESTAMP(",
            "CASE WHEN 1 THEN ",
            "CASE end WHEN 1 THEN ",
            "CASE(",
            "CAST( /* */ CEIL (",
        ] {
            let refused = found(&format!("SELECT {}", open.repeat(21)));
            assert!([Some(PARSES.what), Some(CALLS.what)].contains(&refused), "{open}: {refused:?}");
        }
        assert_eq!(found(&format!("SELECT {}", "SELECT * FROM (((".repeat(14))), Some(PARSES.what));
        // Long within deep costs as much as deeper.
        let list = ", 1".repeat(10_000);
        assert_eq!(found(&format!("SELECT {}1{list}", "CAST(".repeat(10))), Some(PARSES.what));
    }
}
