//! Functions that make much out of little, held to a size.
//!
//! `repeat('x', 2000000000)` takes its memory within one call, before any pool can count it. So what such a call would make is
//! told from its arguments, and refused where it is too much. `||` is held to the same size, because a recursive query can
//! double a text each time.

mod growth;
mod joined_text;

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawDictionaryExpr};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Documentation, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature,
};

use growth::Growth;
use joined_text::JoinedText;

/// Bytes that a call may make of a batch of rows.
const BATCH_BYTES: u64 = 256 << 20;
/// Bytes of a constant text. It is written out for each row that it stands beside.
const CONSTANT_BYTES: u64 = 64 << 10;
/// … and of a constant list.
const CONSTANT_LIST_BYTES: u64 = 8 << 20;
/// Rows of a series that stands as a table. They are made as they are read, and take no memory.
const SERIES_ROWS: u64 = 100_000_000;

const SERIES: [&str; 2] = ["generate_series", "range"];

/// A session whose functions are bounded where they need it.
pub fn bound_functions(mut state: SessionState) -> Result<SessionState> {
    let mut bounded = Vec::new();
    for (name, growth) in growth::FUNCTIONS {
        let Some(inner) = state.scalar_functions().get(name).cloned() else {
            return internal_err!("there is no function `{name}` to be bounded");
        };
        let function = Arc::new(ScalarUDF::from(BoundedFunction { inner: inner.as_ref().clone(), growth }));
        state.register_udf(function.clone())?;
        bounded.push(function);
    }
    let named = |name: &str| bounded.iter().find(|function| function.name() == name).cloned();
    let (Some(pair), Some(named_pair), Some(map), Some(list)) =
        (named("struct"), named("named_struct"), named("map"), named("make_array"))
    else {
        return internal_err!("a function that literals are planned to is not bounded");
    };
    state.register_function_rewrite(Arc::new(Rewrite {
        bounded,
        text: Arc::new(JoinedText::default().into()),
    }))?;
    for name in SERIES {
        let Some(inner) = state.table_functions().get(name).map(|table| table.function().clone()) else {
            continue;
        };
        state.register_udtf(name, Arc::new(BoundedSeries { name, inner }));
    }
    let mut planners: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(Literals { pair, named_pair, map, list })];
    planners.extend(state.expr_planners().iter().cloned());
    Ok(SessionStateBuilder::new_from_existing(state).with_expr_planners(planners).build())
}

/// Literals of nested types, as `{'a': 1}`, are planned to functions of the library: to ours in their place.
#[derive(Debug)]
struct Literals {
    pair: Arc<ScalarUDF>,
    named_pair: Arc<ScalarUDF>,
    map: Arc<ScalarUDF>,
    list: Arc<ScalarUDF>,
}

fn call(func: &Arc<ScalarUDF>, args: Vec<Expr>) -> Expr {
    Expr::ScalarFunction(ScalarFunction { func: func.clone(), args })
}

impl ExprPlanner for Literals {
    fn plan_dictionary_literal(
        &self,
        expr: RawDictionaryExpr,
        _: &DFSchema,
    ) -> Result<PlannerResult<RawDictionaryExpr>> {
        let args = expr.keys.into_iter().zip(expr.values).flat_map(|(key, value)| [key, value]).collect();
        Ok(PlannerResult::Planned(call(&self.named_pair, args)))
    }

    fn plan_struct_literal(&self, args: Vec<Expr>, named: bool) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(call(if named { &self.named_pair } else { &self.pair }, args)))
    }

    fn plan_array_literal(&self, exprs: Vec<Expr>, _: &DFSchema) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(call(&self.list, exprs)))
    }

    fn plan_make_map(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        if !args.len().is_multiple_of(2) {
            return plan_err!("a map needs a value for each key");
        }
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        let mut args = args.into_iter();
        while let (Some(key), Some(value)) = (args.next(), args.next()) {
            keys.push(key);
            values.push(value);
        }
        let lists = vec![call(&self.list, keys), call(&self.list, values)];
        Ok(PlannerResult::Planned(call(&self.map, lists)))
    }
}

/// Some functions come from elsewhere than the session: `[a, b]` and `||` are planned to ones of the library.
#[derive(Debug)]
struct Rewrite {
    bounded: Vec<Arc<ScalarUDF>>,
    text: Arc<ScalarUDF>,
}

impl FunctionRewrite for Rewrite {
    fn name(&self) -> &str {
        "bounded functions"
    }

    fn rewrite(&self, expr: Expr, _: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        Ok(match expr {
            Expr::ScalarFunction(ScalarFunction { func, args }) => {
                let ours = self.bounded.iter().find(|bounded| bounded.name() == func.name());
                match ours {
                    Some(ours) if !Arc::ptr_eq(ours, &func) => {
                        Transformed::yes(Expr::ScalarFunction(ScalarFunction { func: ours.clone(), args }))
                    }
                    _ => Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args })),
                }
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right }) => {
                // A chain becomes one call: each link would copy what is there so far.
                let mut args = match *left {
                    Expr::ScalarFunction(call) if Arc::ptr_eq(&call.func, &self.text) => call.args,
                    other => vec![other],
                };
                args.push(*right);
                Transformed::yes(Expr::ScalarFunction(ScalarFunction { func: self.text.clone(), args }))
            }
            other => Transformed::no(other),
        })
    }
}

fn verify(name: &str, bytes: u64, constant: bool, gives: &DataType) -> Result<()> {
    let most = match (constant, gives.is_nested()) {
        (false, _) => BATCH_BYTES,
        (true, false) => CONSTANT_BYTES,
        (true, true) => CONSTANT_LIST_BYTES,
    };
    if bytes > most {
        let of = if constant { "a constant" } else { "values" };
        return exec_err!(
            "{name} would make {of} of {bytes} bytes; at most {most} are allowed at once: ask for shorter ones"
        );
    }
    Ok(())
}

/// Fields of a type, those within others included. A struct of two such structs has twice as many, and so on.
const TYPE_FIELDS: usize = 1_000;

fn bounded_type(name: &str, data_type: DataType) -> Result<DataType> {
    fn fits(data_type: &DataType, left: &mut usize) -> bool {
        let mut all = |fields: &mut dyn Iterator<Item = &FieldRef>| {
            for field in fields {
                let Some(fewer) = left.checked_sub(1) else { return false };
                *left = fewer;
                if !fits(field.data_type(), left) {
                    return false;
                }
            }
            true
        };
        match data_type {
            DataType::Struct(fields) => all(&mut fields.iter()),
            DataType::List(field)
            | DataType::LargeList(field)
            | DataType::ListView(field)
            | DataType::LargeListView(field)
            | DataType::FixedSizeList(field, _)
            | DataType::Map(field, _) => all(&mut std::iter::once(field)),
            _ => true,
        }
    }
    if fits(&data_type, &mut TYPE_FIELDS.clone()) {
        return Ok(data_type);
    }
    plan_err!(
        "{name} would make a type of more than {TYPE_FIELDS} fields within each other; at most {TYPE_FIELDS} are allowed: leave some out"
    )
}

/// A function that looks at its arguments first.
#[derive(Debug, PartialEq, Eq, Hash)]
struct BoundedFunction {
    inner: ScalarUDF,
    growth: Growth,
}

/// What is left out is what would put another function in this one's place.
impl ScalarUDFImpl for BoundedFunction {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        bounded_type(self.name(), self.inner.inner().return_type(types)?)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let field = self.inner.inner().return_field_from_args(args)?;
        bounded_type(self.name(), field.data_type().clone())?;
        Ok(field)
    }

    fn is_strict(&self) -> bool {
        self.inner.inner().is_strict()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let bytes = self.growth.bytes(&args.args, if constant { 1 } else { args.number_rows })?;
        verify(self.name(), bytes, constant, args.return_type())?;
        self.inner.invoke_with_args(args)
    }

    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        Ok(ExprSimplifyResult::Original(args))
    }

    fn short_circuits(&self) -> bool {
        self.inner.short_circuits()
    }

    fn evaluate_bounds(&self, inputs: &[&Interval]) -> Result<Interval> {
        self.inner.evaluate_bounds(inputs)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.preserves_lex_ordering(inputs)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

/// A series as a table.
#[derive(Debug)]
struct BoundedSeries {
    name: &'static str,
    inner: Arc<dyn TableFunctionImpl>,
}

impl TableFunctionImpl for BoundedSeries {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let literals: Option<Vec<ColumnarValue>> = args
            .exprs()
            .iter()
            .map(|expr| match expr {
                Expr::Literal(value, _) => Some(ColumnarValue::Scalar(value.clone())),
                _ => None,
            })
            .collect();
        // Anything but literals the function itself refuses.
        if let Some(literals) = literals
            && !literals.iter().any(|literal| matches!(literal, ColumnarValue::Scalar(ScalarValue::Null)))
        {
            let rows = growth::series_length(&literals, 1)?;
            if rows > SERIES_ROWS {
                return plan_err!(
                    "{} would make {rows} rows; at most {SERIES_ROWS} are allowed: ask for a shorter series",
                    self.name
                );
            }
        }
        self.inner.call_with_args(args)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn run(sql: &str) -> Result<usize> {
        let context = SessionContext::new_with_state(bound_functions(SessionContext::new().state())?);
        let batches = context.sql(sql).await?.collect().await?;
        Ok(batches.iter().map(arrow::array::RecordBatch::num_rows).sum())
    }

    #[tokio::test]
    async fn little_is_made_and_much_is_refused() {
        for (sql, rows) in [
            (
                "SELECT repeat('x', 60000), lpad('x', 100), rpad('x', 100, 'ab'), replace('abc', 'b', 'xyz')",
                1,
            ),
            (
                "SELECT repeat(NULL, 3), repeat('x', NULL), repeat('x', -3), lpad('x', -1), range(5, 1), range(1, 5, -1)",
                1,
            ),
            ("SELECT unnest(range(0, 1000000))", 1_000_000),
            ("SELECT unnest(generate_series(5))", 6),
            ("SELECT unnest(generate_series(DATE '2020-01-01', DATE '2020-03-01', INTERVAL '1 month'))", 3),
            ("SELECT * FROM generate_series(1, 100000)", 100_000),
            ("SELECT * FROM range(TIMESTAMP '2020-01-01', TIMESTAMP '2020-01-02', INTERVAL '1 hour')", 24),
            ("SELECT * FROM generate_series(1, NULL)", 0),
            ("SELECT repeat('x', value) FROM range(0, 8000)", 8_000),
            (
                "SELECT 1 WHERE 'a' || 1 || 'b' = 'a1b' AND ('a' || NULL || 'b') IS NULL AND 'é' || arrow_cast('ü', 'Utf8View') = 'éü'",
                1,
            ),
            ("SELECT * FROM range(0, 10) WHERE 'x' || value || arrow_cast('y', 'LargeUtf8') = 'x7y'", 1),
            (
                "SELECT value || 'a' || NULL, [value] || [1, 2], concat(value, 'a'), concat_ws('-', 'a', value) FROM range(0, 10)",
                10,
            ),
            (
                "SELECT array_repeat(1, 10), array_resize([1], 10, 0), array_to_string([1, 2], ','), make_array(1, 2)",
                1,
            ),
            ("SELECT regexp_replace('aaa', 'a', 'bb', 'g')", 1),
            (
                "SELECT {'a': 1, 'b': {'c': 2}}, struct(1, 2), named_struct('a', 1), MAP {'a': 1, 'b': 2}, make_map('a', 1), [1, 2], [[1]], {'a': 1}['a']",
                1,
            ),
        ] {
            assert_eq!(run(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")), rows, "{sql}");
        }
        for sql in [
            "SELECT repeat('x', 2000000000)",
            "SELECT repeat(arrow_cast('x', 'LargeUtf8'), 9000000000000000000)",
            "SELECT length(repeat('x', 2000000000))",
            "SELECT repeat('xxxxxxxxxx', value) FROM range(100000, 108192)",
            "SELECT lpad('x', 2000000000)",
            "SELECT rpad('x', 2000000000, 'ab')",
            "SELECT lpad('x', value * 1000) FROM range(1, 8000)",
            "SELECT replace(repeat('x', 60000), 'x', repeat('y', 60000))",
            "SELECT replace(repeat('x', 60000), '', repeat('y', 60000))",
            "SELECT regexp_replace(repeat('x', 60000), 'x', repeat('y', 60000), 'g')",
            "SELECT range(0, 10000000000)",
            "SELECT range(0, 9223372036854775807, 1)",
            "SELECT range(-9223372036854775807, 9223372036854775807)",
            "SELECT generate_series(9223372036854775807, -9223372036854775807, -1)",
            "SELECT generate_series(0, value * 1000000) FROM range(1, 100)",
            "SELECT generate_series(TIMESTAMP '1970-01-01', TIMESTAMP '2200-01-01', INTERVAL '1 nanosecond')",
            "SELECT array_repeat(1, 10000000000)",
            "SELECT array_repeat(array_repeat(1, 100000), 100000)",
            "SELECT array_resize([1], 10000000000, 0)",
            "SELECT array_to_string(range(0, 1000000), repeat('x', 60000))",
            "SELECT concat_ws(repeat('x', 60000), 'a', 'b', 'c')",
            "SELECT repeat('x', 60000) || repeat('x', 60000)",
            "SELECT concat(repeat('x', 60000), repeat('x', 60000))",
            "SELECT array_concat(range(0, 1000000), range(0, 1000000))",
            "SELECT range(0, 1000000) || range(0, 1000000)",
            "SELECT [range(0, 1000000), range(0, 1000000)]",
            "SELECT * FROM generate_series(1, 1000000000000)",
            "SELECT * FROM range(9223372036854775807)",
            "SELECT * FROM generate_series(TIMESTAMP '1970-01-01', TIMESTAMP '2200-01-01', INTERVAL '1 nanosecond')",
            "WITH RECURSIVE t AS (SELECT arrow_cast('x', 'LargeUtf8') AS a, 1 AS n UNION ALL SELECT a || a, n + 1 FROM t WHERE n < 45) SELECT length(a) FROM t",
            "WITH RECURSIVE t AS (SELECT [1] AS a, 1 AS n UNION ALL SELECT array_concat(a, a), n + 1 FROM t WHERE n < 45) SELECT count(*) FROM t",
        ] {
            let error = run(sql).await.expect_err(sql).to_string();
            assert!(error.contains("at most") && error.contains("are allowed"), "{sql}: {error}");
        }
    }

    #[tokio::test]
    async fn types_that_double_are_refused_while_they_are_planned() {
        for (item, name) in [
            ("named_struct('x', a, 'y', a)", "named_struct"),
            ("{'x': a, 'y': a}", "named_struct"),
            ("struct(a, a)", "struct"),
            ("(a, a)", "struct"),
            ("[{'x': a, 'y': a}]", "named_struct"),
            ("arrays_zip([a], [a])", "arrays_zip"),
            ("map([a], [a])", "map"),
            ("MAP {a: a}", "map"),
        ] {
            let mut sql = "WITH c0 AS (SELECT 1 AS a)".to_owned();
            for at in 1..60 {
                sql.push_str(&format!(", c{at} AS (SELECT {item} AS a FROM c{})", at - 1));
            }
            let error = run(&(sql + " SELECT * FROM c59")).await.expect_err(item).to_string();
            assert!(error.contains(&format!("{name} would make a type")), "{item}: {error}");
        }
    }
}
