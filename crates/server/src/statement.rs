//! SQL as a ticket or a command in JSON has it: the text, or the text and the state of the store that it is asked of.

use std::fmt;

use feature::AsOf;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serving::Query;
use tonic::Status;

use crate::request;

/// `"SELECT …"`, or `{"query": "SELECT …", "as_of": 7}`.
#[derive(Debug, PartialEq, Eq)]
pub struct Statement {
    text: String,
    as_of: Option<AsOf>,
}

/// The members of one that says more than its text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members {
    query: String,
    #[serde(default)]
    as_of: Option<AsOf>,
}

impl Statement {
    /// # Errors
    /// Those of [`request::sql`].
    pub fn query(self) -> Result<Query, Status> {
        Ok(request::sql(self.text)?.with_as_of(self.as_of))
    }
}

/// A query as [`Statement`] reads it.
pub fn written(query: &Query) -> serde_json::Value {
    match query.as_of() {
        None => query.text().into(),
        Some(as_of) => serde_json::json!({ "query": query.text(), "as_of": as_of }),
    }
}

impl<'de> Deserialize<'de> for Statement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

struct Written;

impl<'de> Visitor<'de> for Written {
    type Value = Statement;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SQL text, or an object of `query` and `as_of`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Statement, E> {
        Ok(Statement { text: text.to_owned(), as_of: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Statement, A::Error> {
        let Members { query, as_of } = Members::deserialize(MapAccessDeserializer::new(members))?;
        Ok(Statement { text: query, as_of })
    }
}

#[cfg(test)]
mod tests {
    use feature::Sequence;

    use super::*;

    #[test]
    fn a_statement_is_read_as_it_is_written() {
        let at = Some(AsOf::Sequence(Sequence(7)));
        for (text, as_of) in [
            (r#""SELECT 1""#, None),
            (r#"{"query":"SELECT 1","as_of":7}"#, at),
            (
                r#"{"query":"SELECT 1","as_of":"2013-01-01T10:00:00Z"}"#,
                "2013-01-01T10:00:00Z".parse::<AsOf>().ok(),
            ),
        ] {
            let read: Statement = serde_json::from_str(text).unwrap();
            assert_eq!(read, Statement { text: "SELECT 1".to_owned(), as_of });
            assert_eq!(written(&read.query().unwrap()).to_string(), text);
        }
        let alone: Statement = serde_json::from_str(r#"{"query": "SELECT 1"}"#).unwrap();
        assert_eq!(alone.as_of, None);
    }

    #[test]
    fn what_is_wrong_with_a_statement_is_named() {
        for (text, why) in [
            ("5", "expected SQL text, or an object of `query` and `as_of`"),
            ("{}", "missing field `query`"),
            (r#"{"query": "SELECT 1", "asof": 7}"#, "unknown field `asof`"),
            (r#"{"query": "SELECT 1", "as_of": "noon"}"#, "`noon` is neither a sequence of the log"),
        ] {
            let error = serde_json::from_str::<Statement>(text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
