//! How many tables a statement reads once its common table expressions are written out.
//!
//! A few lines can name tables without end: `b AS (SELECT * FROM a, a)`, `c AS (SELECT * FROM b, b)`, and so on.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{ObjectName, Query, Statement, Visitor};

use super::{Limit, TooMuch};
use crate::sql::walk::walk;

const RELATIONS: Limit = Limit {
    what: "tables and subqueries, those of each WITH counted as often as it is named,",
    most: 300,
    instead: "split the statement",
};

/// Refuses statements that read too many tables.
pub fn verify(statement: &Statement) -> Result<(), TooMuch> {
    let mut count = Count::default();
    walk(statement, &mut count);
    RELATIONS.verify(count.total)
}

#[derive(Default)]
struct Count {
    open: Vec<Open>,
    total: u64,
}

/// A query that is being visited.
#[derive(Default)]
struct Open {
    /// Its common table expressions: which query each is, its name, and its count once that is known.
    named: Vec<(*const Query, String, Option<u64>)>,
    count: u64,
}

impl Visitor for Count {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let named = query.with.iter().flat_map(|with| &with.cte_tables);
        let named = named
            .map(|cte| (std::ptr::from_ref(cte.query.as_ref()), cte.alias.name.value.to_lowercase(), None));
        self.open.push(Open { named: named.collect(), count: 1 });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let Some(closed) = self.open.pop() else { return ControlFlow::Continue(()) };
        let Some(outer) = self.open.last_mut() else {
            self.total = self.total.saturating_add(closed.count);
            return ControlFlow::Continue(());
        };
        match outer.named.iter_mut().find(|(defined, ..)| std::ptr::eq(*defined, query)) {
            Some((_, _, count)) => *count = Some(closed.count),
            None => outer.count = outer.count.saturating_add(closed.count),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let name = match relation.0.as_slice() {
            [part] => part.as_ident().map(|name| name.value.to_lowercase()),
            _ => None,
        };
        // One that is being defined is not known yet, so that a recursive one counts as a table.
        let known = name.and_then(|name| {
            let mut all = self.open.iter().rev().flat_map(|open| open.named.iter().rev());
            all.find_map(|(_, known, count)| count.filter(|_| *known == name))
        });
        if let Some(open) = self.open.last_mut() {
            open.count = open.count.saturating_add(known.unwrap_or(1));
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn count(sql: &str) -> u64 {
        let statements = Parser::parse_sql(&GenericDialect {}, sql).unwrap();
        let mut count = Count::default();
        walk(&statements[0], &mut count);
        count.total
    }

    #[test]
    fn what_a_with_names_is_counted_as_often_as_it_is_named() {
        assert_eq!(count("SELECT 1"), 1);
        assert_eq!(count("SELECT * FROM t, u JOIN v ON true"), 4);
        assert_eq!(count("SELECT * FROM t WHERE a IN (SELECT a FROM u)"), 4);
        assert_eq!(count("WITH a AS (SELECT * FROM t) SELECT * FROM a, A, \"a\""), 7);
        assert_eq!(count("WITH a AS (SELECT * FROM t) SELECT 1"), 1);
        assert_eq!(count("WITH RECURSIVE a AS (SELECT 1 UNION ALL SELECT * FROM a) SELECT * FROM a"), 3);
        // Within, another may have the same name.
        assert_eq!(
            count(
                "WITH a AS (SELECT * FROM t, t, t) SELECT * FROM (WITH a AS (SELECT 1) SELECT * FROM a) x, a"
            ),
            1 + 2 + 4
        );
    }

    #[test]
    fn doubling_is_refused() {
        let mut sql = "WITH c0 AS (SELECT 1)".to_owned();
        for at in 1..60 {
            write!(sql, ", c{at} AS (SELECT * FROM c{0} UNION ALL SELECT * FROM c{0})", at - 1).unwrap();
        }
        sql.push_str(" SELECT * FROM c59");
        let statements = Parser::parse_sql(&GenericDialect {}, &sql).unwrap();
        let refused = verify(&statements[0]).unwrap_err();
        assert!(refused.found > 1 << 58, "{refused}");
    }
}
