//! How text becomes a statement: DataFusion's generic dialect, and `FOR SYSTEM_TIME AS OF` beside it.

use std::any::TypeId;

use datafusion::common::{Result, plan_datafusion_err, plan_err};
use datafusion::config::SqlParserOptions;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect};

/// Parses the one statement of a text.
pub fn parse(text: &str, options: &SqlParserOptions) -> Result<Statement> {
    // Where versions of tables are read, `at`, `before` and `changes` can no longer be aliases; so only where one is meant.
    let dialect: &dyn Dialect =
        if text.to_ascii_uppercase().contains("SYSTEM_TIME") { &Versioned } else { &GenericDialect };
    let mut statements = DFParserBuilder::new(text)
        .with_dialect(dialect)
        .with_recursion_limit(options.recursion_limit.get())
        .build()?
        .parse_statements()?;
    if statements.len() > 1 {
        return plan_err!(
            "the text holds {} statements; send them one by one, for each is answered at its own snapshot",
            statements.len()
        );
    }
    statements
        .pop_front()
        .ok_or_else(|| plan_datafusion_err!("the text holds no statement; write one, as in SELECT 1"))
}

/// The generic dialect, which also reads the version of a table.
#[derive(Debug)]
struct Versioned;

macro_rules! as_generic {
    ($($method:ident)*) => {
        $(fn $method(&self) -> bool {
            GenericDialect.$method()
        })*
    };
}

impl Dialect for Versioned {
    fn dialect(&self) -> TypeId {
        TypeId::of::<GenericDialect>()
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        GenericDialect.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        GenericDialect.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        GenericDialect.is_identifier_part(ch)
    }

    // All that the generic dialect overrides in sqlparser 0.62.
    as_generic! {
        supports_unicode_string_literal
        supports_partition_by_after_order_by
        supports_array_join_syntax
        supports_group_by_expr
        supports_group_by_with_modifier
        supports_left_associative_joins_without_parens
        supports_connect_by
        supports_match_recognize
        supports_pipe_operator
        supports_start_transaction_modifier
        supports_window_function_null_treatment_arg
        supports_dictionary_syntax
        supports_window_clause_named_window_reference
        supports_parenthesized_set_variables
        supports_select_wildcard_except
        support_map_literal_syntax
        allow_extract_custom
        allow_extract_single_quotes
        supports_extract_comma_syntax
        supports_create_view_comment_syntax
        supports_parens_around_table_factor
        supports_values_as_table_factor
        supports_create_index_with_clause
        supports_explain_with_utility_options
        supports_limit_comma
        supports_update_order_by
        supports_from_first_select
        supports_projection_trailing_commas
        supports_asc_desc_in_column_definition
        supports_try_convert
        supports_bitwise_shift_operators
        supports_comment_on
        supports_load_extension
        supports_named_fn_args_with_assignment_operator
        supports_struct_literal
        supports_empty_projections
        supports_nested_comments
        supports_multiline_comment_hints
        supports_user_host_grantee
        supports_string_escape_constant
        supports_array_typedef_with_brackets
        supports_match_against
        supports_set_names
        supports_comma_separated_set_assignments
        supports_filter_during_aggregation
        supports_select_wildcard_exclude
        supports_data_type_signed_suffix
        supports_interval_options
        supports_quote_delimited_string
        supports_select_wildcard_replace
        supports_select_wildcard_ilike
        supports_select_wildcard_rename
        supports_optimize_table
        supports_install
        supports_detach
        supports_prewhere
        supports_with_fill
        supports_limit_by
        supports_interpolate
        supports_settings
        supports_select_format
        supports_comment_optimizer_hint
        supports_constraint_keyword_without_name
        supports_key_column_option
        supports_comma_separated_trim
        supports_cte_without_as
        supports_select_item_multi_column_alias
        supports_xml_expressions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, dialect: &dyn Dialect) -> String {
        let mut parser = DFParserBuilder::new(text).with_dialect(dialect).build().unwrap();
        format!("{:?}", parser.parse_statements().map_err(|error| error.to_string()))
    }

    /// Statements that lean on what the generic dialect allows and the plain trait does not.
    #[test]
    fn all_that_has_no_version_reads_as_in_the_generic_dialect() {
        for text in [
            "SELECT * EXCLUDE (a) FROM (VALUES (1, 2)) AS t(a, b)",
            "SELECT * EXCEPT (a), b FROM t GROUP BY ALL",
            "SELECT * REPLACE (a + 1 AS a) FROM t",
            "SELECT * FROM f((SELECT a FROM t), x => ['b'], y := true)",
            "FROM t SELECT a LIMIT 1, 2",
            "SELECT count(*) FILTER (WHERE a > 1) FROM t WINDOW w AS (ORDER BY a)",
            "EXPLAIN (FORMAT TREE) SELECT 1",
            "SELECT {a: 1}, MAP {'a': 1}, E'\\n', U&'\\0041', 1 << 2",
            "SELECT a /* one /* two */ */ FROM a ASOF JOIN b MATCH_CONDITION (a.t >= b.t) ON a.k = b.k",
            "SELECT extract('year' FROM a), trim(a, 'b') FROM t |> WHERE a > 1",
            "SELECT first_value(a) IGNORE NULLS OVER (PARTITION BY b ORDER BY c) FROM ((SELECT 1 AS a))",
        ] {
            assert_eq!(read(text, &Versioned), read(text, &GenericDialect), "{text}");
        }
    }
}
