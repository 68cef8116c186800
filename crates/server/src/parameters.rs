//! Parameters of a prepared statement, written into its text.
//!
//! What is recorded of a read is its text, so a bound value belongs there. Placeholders are found by the tokenizer that the
//! engine itself reads SQL with: one in a quoted text or a comment is none.

use std::fmt::Write;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::util::display::array_value_to_string;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer};
use serde_json::Value;
use serving::Parameters;

/// Why parameters cannot be bound.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    #[error("the statement cannot be read: {0}")]
    Text(String),
    #[error("`{0}` is not a placeholder that can be bound here; write ? or $1, $2, …")]
    Placeholder(String),
    #[error("the statement has {wanted} parameters, and {given} were given")]
    Count { wanted: usize, given: usize },
    #[error("parameters were given for {0} rows; a query takes one row of them: run it once a row")]
    Rows(usize),
    #[error(
        "parameter {number} has the type {given}, which cannot be bound; bind a number, text, truth value, date or time"
    )]
    Type { number: usize, given: DataType },
    #[error("parameter {number} cannot be written: {why}")]
    Value { number: usize, why: String },
    #[error(
        "with its parameters the statement has more than {0} bytes, the most that are allowed: send long or many values as the rows of a spine or an upload"
    )]
    Long(usize),
}

/// A placeholder: where it stands in the text, and which parameter it is for (0 is the first).
struct Placeholder {
    start: usize,
    end: usize,
    parameter: usize,
}

/// How many parameters a statement takes.
pub fn count(sql: &str) -> Result<usize, ParameterError> {
    Ok(wanted(&placeholders(sql)?))
}

/// The statement with numbers for its placeholders, `?` among them, so that each can be told from the others.
pub fn numbered(sql: &str) -> Result<String, ParameterError> {
    let mut text = String::new();
    let mut written = 0;
    for Placeholder { start, end, parameter } in placeholders(sql)? {
        text.push_str(sql.get(written..start).unwrap_or_default());
        // A word may stand right beside a `?`, and would be one with the number. Writing to a text does not fail.
        let _ = write!(text, " ${} ", parameter + 1);
        written = end;
    }
    text.push_str(sql.get(written..).unwrap_or_default());
    Ok(text)
}

/// The type that a parameter is told to have where the statement wants this one: that of its values for a dictionary, and none where
/// nothing of the type can be bound.
pub fn told(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => told(values),
        plain if bindable(plain) => plain.clone(),
        _ => DataType::Null,
    }
}

/// The statement with the values of the batch's one row, a column a parameter, in place of its placeholders. `most` is how many
/// bytes it may have then.
pub fn bind(sql: &str, values: &RecordBatch, most: usize) -> Result<String, ParameterError> {
    let found = placeholders(sql)?;
    let wanted = wanted(&found);
    if wanted != values.num_columns() {
        return Err(ParameterError::Count { wanted, given: values.num_columns() });
    }
    if values.num_rows() != 1 {
        return Err(ParameterError::Rows(values.num_rows()));
    }
    let literals = values.columns().iter().enumerate().map(|(at, column)| literal(at + 1, column));
    let literals = literals.collect::<Result<Vec<_>, _>>()?;
    let mut bound = String::new();
    let mut written = 0;
    for Placeholder { start, end, parameter } in found {
        bound.push_str(sql.get(written..start).unwrap_or_default());
        bound.push_str(literals.get(parameter).map(String::as_str).unwrap_or_default());
        written = end;
        // One long value may stand at many places.
        if bound.len() > most {
            return Err(ParameterError::Long(most));
        }
    }
    bound.push_str(sql.get(written..).unwrap_or_default());
    if bound.len() > most {
        return Err(ParameterError::Long(most));
    }
    Ok(bound)
}

/// The values by the names of their placeholders, `$1` the first, as they are recorded beside the statement: numbers and truth values as such,
/// all else as text.
pub fn named(values: &RecordBatch) -> Result<Parameters, ParameterError> {
    let mut named = Parameters::new();
    for (at, column) in values.columns().iter().enumerate() {
        let number = at + 1;
        let data_type = column.data_type();
        let value = if column.is_empty() || column.is_null(0) || *data_type == DataType::Null {
            Value::Null
        } else {
            let text = array_value_to_string(column, 0)
                .map_err(|why| ParameterError::Value { number, why: why.to_string() })?;
            let plain = data_type.is_integer() || data_type.is_floating() || *data_type == DataType::Boolean;
            // What JSON has no number for, as NaN, stays text, and so does an integer that not every reader takes exactly.
            let read: Option<Value> = if plain { serde_json::from_str(&text).ok() } else { None };
            let exact = |value: &Value| {
                value.as_i64().is_none_or(|integer| integer.unsigned_abs() <= 1 << 53)
                    && value.as_u64().is_none_or(|integer| integer <= 1 << 53)
            };
            read.filter(exact).unwrap_or(Value::String(text))
        };
        named.insert(format!("${number}"), value);
    }
    Ok(named)
}

fn wanted(placeholders: &[Placeholder]) -> usize {
    placeholders.iter().map(|placeholder| placeholder.parameter + 1).max().unwrap_or(0)
}

fn placeholders(sql: &str) -> Result<Vec<Placeholder>, ParameterError> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql)
        .tokenize_with_location()
        .map_err(|error| ParameterError::Text(error.to_string()))?;
    let mut position = Position::default();
    let mut found = Vec::new();
    let mut unnumbered = 0;
    for token in tokens {
        let Token::Placeholder(text) = &token.token else { continue };
        let parameter = match text.strip_prefix('$').map(str::parse::<usize>) {
            Some(Ok(number)) if (1..=1_000).contains(&number) => number - 1,
            _ if text == "?" => {
                unnumbered += 1;
                unnumbered - 1
            }
            _ => return Err(ParameterError::Placeholder(text.clone())),
        };
        let start = position.advance(sql, token.span.start);
        found.push(Placeholder { start, end: start + text.len(), parameter });
    }
    Ok(found)
}

/// A place in a text, in bytes and as the tokenizer tells it: it counts lines and signs from 1.
struct Position {
    bytes: usize,
    line: u64,
    column: u64,
}

impl Default for Position {
    fn default() -> Self {
        Self { bytes: 0, line: 1, column: 1 }
    }
}

impl Position {
    /// Goes on to a later place; gives its bytes. Never back, so that all places together cost one reading of the text.
    fn advance(&mut self, sql: &str, to: Location) -> usize {
        for sign in sql.get(self.bytes..).unwrap_or_default().chars() {
            if (self.line, self.column) >= (to.line, to.column) {
                break;
            }
            self.bytes += sign.len_utf8();
            if sign == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        self.bytes
    }
}

/// A value as an SQL expression of exactly its type.
fn literal(number: usize, column: &dyn Array) -> Result<String, ParameterError> {
    let data_type = column.data_type();
    if let DataType::Null = data_type {
        return Ok("NULL".to_owned());
    }
    if !bindable(data_type) {
        return Err(ParameterError::Type { number, given: data_type.clone() });
    }
    if column.is_null(0) {
        return Ok(format!("arrow_cast(NULL, {})", quoted(&data_type.to_string())));
    }
    let text = array_value_to_string(column, 0)
        .map_err(|error| ParameterError::Value { number, why: error.to_string() })?;
    Ok(match data_type {
        DataType::Int64 | DataType::Boolean => text,
        DataType::Utf8 => quoted(&text),
        _ => format!("arrow_cast({}, {})", quoted(&text), quoted(&data_type.to_string())),
    })
}

fn bindable(data_type: &DataType) -> bool {
    data_type.is_integer()
        || data_type.is_floating()
        || matches!(
            data_type,
            DataType::Boolean
                | DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Utf8View
                | DataType::Date32
                | DataType::Decimal128(_, _)
                | DataType::Timestamp(
                    TimeUnit::Second | TimeUnit::Millisecond | TimeUnit::Microsecond | TimeUnit::Nanosecond,
                    _
                )
        )
}

fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for sign in text.chars() {
        if sign == '\'' {
            quoted.push('\'');
        }
        // Writing to a text does not fail.
        let _ = quoted.write_char(sign);
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BinaryArray, BooleanArray, Float64Array, Int32Array, Int64Array, StringArray,
        TimestampMicrosecondArray,
    };

    use super::*;

    fn row(columns: Vec<ArrayRef>) -> RecordBatch {
        RecordBatch::try_from_iter(
            columns.into_iter().enumerate().map(|(at, column)| (format!("{at}"), column)),
        )
        .unwrap()
    }

    #[test]
    fn values_take_the_place_of_placeholders_and_of_nothing_else() {
        let values =
            row(vec![Arc::new(StringArray::from(vec!["O'Hare"])), Arc::new(Int64Array::from(vec![-3]))]);
        let bound = |sql: &str| bind(sql, &values, 1_000).unwrap();
        assert_eq!(bound("SELECT ?, ?"), "SELECT 'O''Hare', -3");
        assert_eq!(bound("SELECT $2, $1, $2"), "SELECT -3, 'O''Hare', -3");
        assert_eq!(
            bound("SELECT 'é?', \"?\", -- ?\n  ? /* $1 */ ,\n$2 AS \"ü?\""),
            "SELECT 'é?', \"?\", -- ?\n  'O''Hare' /* $1 */ ,\n-3 AS \"ü?\""
        );
    }

    #[test]
    fn placeholders_are_numbered_and_nothing_else_changes() {
        assert_eq!(
            numbered("SELECT 'é?', ? AND?, \"?\" -- ?\n, $4").unwrap(),
            "SELECT 'é?',  $1  AND $2 , \"?\" -- ?\n,  $4 "
        );
        // What is bound is the same, numbered or not.
        let values = row(vec![Arc::new(Int64Array::from(vec![1])), Arc::new(Int64Array::from(vec![2]))]);
        let text = numbered("SELECT? WHERE?").unwrap();
        assert_eq!(bind(&text, &values, 1_000).unwrap(), "SELECT 1  WHERE 2 ");
        assert!(numbered("SELECT $name").is_err());
    }

    #[test]
    fn types_that_are_told_can_be_bound() {
        let words = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        assert_eq!(told(&words), DataType::Utf8);
        assert_eq!(told(&DataType::Float32), DataType::Float32);
        assert_eq!(told(&DataType::Binary), DataType::Null);
    }

    #[test]
    fn values_keep_their_type() {
        let values = row(vec![
            Arc::new(Int32Array::from(vec![7])),
            Arc::new(Float64Array::from(vec![f64::NAN])),
            Arc::new(BooleanArray::from(vec![true])),
            Arc::new(TimestampMicrosecondArray::from(vec![1_000_001]).with_timezone("UTC")),
            Arc::new(Float64Array::from(vec![None])),
        ]);
        assert_eq!(
            bind("?,?,?,?,?", &values, 1_000).unwrap(),
            "arrow_cast('7', 'Int32'),arrow_cast('NaN', 'Float64'),true,\
             arrow_cast('1970-01-01T00:00:01.000001Z', 'Timestamp(µs, \"UTC\")'),arrow_cast(NULL, 'Float64')"
        );
    }

    #[test]
    fn values_are_named_for_the_record() {
        let values = row(vec![
            Arc::new(Int32Array::from(vec![7])),
            Arc::new(Float64Array::from(vec![f64::NAN])),
            Arc::new(BooleanArray::from(vec![true])),
            Arc::new(StringArray::from(vec!["1"])),
            Arc::new(Float64Array::from(vec![None])),
            Arc::new(Int64Array::from(vec![i64::MAX])),
        ]);
        let named = serde_json::json!(named(&values).unwrap());
        let expected = serde_json::json!({
            "$1": 7, "$2": "NaN", "$3": true, "$4": "1", "$5": null, "$6": "9223372036854775807"
        });
        assert_eq!(named, expected);
    }

    #[test]
    fn what_cannot_be_bound_is_named() {
        let one = row(vec![Arc::new(Int64Array::from(vec![1]))]);
        let two = row(vec![Arc::new(Int64Array::from(vec![1, 2]))]);
        let bytes = row(vec![Arc::new(BinaryArray::from(vec![b"x".as_slice()]))]);
        assert_eq!(bind("SELECT 1", &one, 1_000), Err(ParameterError::Count { wanted: 0, given: 1 }));
        assert_eq!(bind("SELECT $3", &one, 1_000), Err(ParameterError::Count { wanted: 3, given: 1 }));
        assert_eq!(bind("SELECT ?", &two, 1_000), Err(ParameterError::Rows(2)));
        assert_eq!(bind("SELECT $name", &one, 1_000), Err(ParameterError::Placeholder("$name".to_owned())));
        assert_eq!(bind("SELECT $0", &one, 1_000), Err(ParameterError::Placeholder("$0".to_owned())));
        assert!(matches!(bind("SELECT ?", &bytes, 1_000), Err(ParameterError::Type { number: 1, .. })));
        assert!(matches!(bind("SELECT 'open", &one, 1_000), Err(ParameterError::Text(_))));
        assert_eq!(count("SELECT $1, $2, '?'"), Ok(2));
    }

    #[test]
    fn a_statement_of_many_or_long_parameters_is_bounded_and_read_once() {
        let long = row(vec![Arc::new(StringArray::from(vec!["x".repeat(1_000)]))]);
        let many = format!("SELECT $1{}", ",$1".repeat(300_000));
        let started = std::time::Instant::now();
        assert_eq!(bind(&many, &long, 1 << 20), Err(ParameterError::Long(1 << 20)));
        let one = row(vec![Arc::new(Int64Array::from(vec![7]))]);
        assert_eq!(bind(&many, &one, 1 << 20).unwrap(), format!("SELECT 7{}", ",7".repeat(300_000)));
        assert!(started.elapsed() < std::time::Duration::from_secs(5), "{:?}", started.elapsed());
    }
}
