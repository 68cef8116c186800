//! The walk over the nodes of a plan: what the columns of each come from, by their positions, and what decides its rows.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use datafusion::common::{DFSchema, DFSchemaRef, NullEquality};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, Distinct, DistinctOn, Expr, Join, JoinType, Limit, LogicalPlan, SortExpr, TableScan, Union,
    Unnest, Values, Window,
};

use super::sources::{Features, Sources, Table, table_of};
use super::{Edge, Influence, Output, ROWS, Refusal, Source};
use crate::point_in_time::plan::PointInTime;
use crate::sql::with_deep_stack;

/// How many steps a walk may take; each is an expression's part or a source put into a set.
const STEPS: usize = 5_000_000;
/// How many edges a plan may have.
const EDGES: usize = 100_000;

/// Sources by number, each with how it bears.
pub type Set = BTreeSet<(u32, Influence)>;

/// A column of a relation. Sets and texts are shared, since most columns are passed on as they are.
#[derive(Clone)]
pub struct Column {
    pub sources: Rc<Set>,
    pub text: Rc<str>,
}

/// What a node gives.
pub struct Relation {
    pub schema: DFSchemaRef,
    /// In the order of the schema.
    pub columns: Vec<Column>,
    /// Decides which rows there are and in which order, and so bears on every column.
    pub rows: Rc<Set>,
    /// The rows themselves, as sources that can be counted.
    pub of: Rc<BTreeSet<u32>>,
    /// What the rows are in order of, where they are in order.
    pub order: Option<Rc<Set>>,
}

/// What expressions of a node see: the columns of its inputs, and their rows.
pub struct Inputs<'a> {
    pub of: Vec<(&'a DFSchema, &'a [Column])>,
    pub rows: Rc<BTreeSet<u32>>,
}

/// Columns around a subquery, which it may name.
pub struct Scope {
    pub schema: DFSchemaRef,
    pub columns: Vec<Column>,
}

/// A walk over one plan.
#[derive(Default)]
pub struct Walk {
    pub sources: Sources,
    /// The innermost is last.
    pub outer: Vec<Scope>,
    /// What chose rows of point-in-time joins.
    pub matched: BTreeSet<u32>,
    functions: BTreeSet<String>,
    filters: Vec<String>,
    system: BTreeSet<String>,
    steps: usize,
}

impl Walk {
    /// The columns of a plan, and what bears on all of them.
    pub fn output(&mut self, plan: &LogicalPlan) -> Result<(Vec<Output>, Vec<Edge>), Refusal> {
        let relation = self.relation(plan)?;
        let edges = relation.columns.iter().map(|column| column.sources.len()).sum::<usize>();
        if edges + relation.rows.len() > EDGES {
            return Err(refused(plan, format!("its columns have more than {EDGES} edges to their sources")));
        }
        let of_all = self.edges(&relation.rows);
        let mut outputs = Vec::with_capacity(relation.columns.len());
        for (field, column) in plan.schema().fields().iter().zip(&relation.columns) {
            outputs.push(Output {
                name: field.name().clone(),
                expression: column.text.to_string(),
                sources: self.edges(&column.sources),
            });
        }
        Ok((outputs, of_all))
    }

    /// Sources that chose rows of point-in-time joins.
    pub fn matched(&self) -> Vec<Arc<Source>> {
        self.matched.iter().filter_map(|number| self.sources.get(*number)).collect()
    }

    /// Filters, functions and tables without features that were met.
    pub fn seen(self) -> (Vec<String>, Vec<String>, Vec<String>) {
        (self.filters, self.functions.into_iter().collect(), self.system.into_iter().collect())
    }

    fn edges(&self, set: &Set) -> Vec<Edge> {
        let edge = |(number, influence): &(u32, Influence)| {
            Some(Edge { source: self.sources.get(*number)?, influence: *influence })
        };
        set.iter().filter_map(edge).collect()
    }

    pub fn uses(&mut self, function: &str) {
        if !self.functions.contains(function) {
            self.functions.insert(function.to_owned());
        }
    }

    /// Counts steps of the walk.
    pub fn spend(&mut self, steps: usize) -> Result<(), Refusal> {
        self.steps += steps + 1;
        if self.steps <= STEPS {
            return Ok(());
        }
        Err(Refusal {
            node: "plan".to_owned(),
            reason: format!("tracing its columns takes more than {STEPS} steps; split the statement"),
        })
    }

    /// Traces one node and all beneath it. The match has no arm for what it does not name: a new kind of node has no rule until it is
    /// given one here.
    pub fn relation(&mut self, plan: &LogicalPlan) -> Result<Relation, Refusal> {
        with_deep_stack(|| self.node(plan))
    }

    fn node(&mut self, plan: &LogicalPlan) -> Result<Relation, Refusal> {
        self.spend(plan.schema().fields().len())?;
        let relation = match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan)?,
            LogicalPlan::Projection(projection) => {
                let input = self.relation(&projection.input)?;
                let mut columns = Vec::with_capacity(projection.expr.len());
                for expression in &projection.expr {
                    columns.push(self.column(expression, &input.inputs())?);
                }
                Relation { columns, ..input }
            }
            LogicalPlan::Filter(filter) => {
                let input = self.relation(&filter.input)?;
                self.filter(&filter.predicate, input)?
            }
            LogicalPlan::Window(window) => self.window(window)?,
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate)?,
            LogicalPlan::Sort(sort) => {
                let input = self.relation(&sort.input)?;
                let keys = self.sorted(&sort.expr, &input.inputs())?;
                let rows = self.with(&input.rows, &keys, Influence::Sort)?;
                let sorted = Relation { rows, order: Some(Rc::new(keys)), ..input };
                if sort.fetch.is_some() { self.cut(sorted)? } else { sorted }
            }
            LogicalPlan::Join(join) => self.join(join)?,
            LogicalPlan::Repartition(repartition) => {
                Relation { order: None, ..self.relation(&repartition.input)? }
            }
            LogicalPlan::Union(union) => self.union(union)?,
            // Rows of it, where it has columns, are all null.
            LogicalPlan::EmptyRelation(empty) => constant(&empty.schema),
            LogicalPlan::Values(values) => self.values(values)?,
            LogicalPlan::Subquery(subquery) => self.relation(&subquery.subquery)?,
            LogicalPlan::SubqueryAlias(alias) => self.relation(&alias.input)?,
            LogicalPlan::Limit(limit) => self.limit(limit)?,
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let input = self.relation(input)?;
                let mut rows = Set::clone(&input.rows);
                for column in &input.columns {
                    self.spend(column.sources.len())?;
                    rows.extend(column.sources.iter().map(|(source, _)| (*source, Influence::GroupBy)));
                }
                Relation { rows: Rc::new(rows), order: None, ..input }
            }
            LogicalPlan::Distinct(Distinct::On(distinct)) => self.distinct_on(distinct)?,
            LogicalPlan::Unnest(unnest) => self.unnest(unnest)?,
            // A plan is shown, and no rows are read.
            LogicalPlan::Explain(explain) => constant(&explain.schema),
            LogicalPlan::DescribeTable(table) => constant(&table.output_schema),
            LogicalPlan::Analyze(analyze) => {
                let input = self.relation(&analyze.input)?;
                // It counts rows and shows nothing of them, but anything that is computed may show in what took how long.
                let mut rows = Set::clone(&input.rows);
                for column in &input.columns {
                    self.spend(column.sources.len())?;
                    rows.extend(column.sources.iter().map(|(source, _)| (*source, Influence::Conditional)));
                }
                let counted: Set = input.of.iter().map(|row| (*row, Influence::Aggregation)).collect();
                let mut shown = constant(&analyze.schema);
                for column in &mut shown.columns {
                    column.sources = Rc::new(counted.clone());
                }
                Relation { rows: Rc::new(rows), ..shown }
            }
            LogicalPlan::Extension(extension) => {
                match extension.node.as_any().downcast_ref::<PointInTime>() {
                    Some(node) => self.point_in_time(node)?,
                    None => {
                        return Err(Refusal {
                            node: extension.node.name().to_owned(),
                            reason: "a node of this kind has no rule".to_owned(),
                        });
                    }
                }
            }
            LogicalPlan::RecursiveQuery(query) => {
                return Err(Refusal {
                    node: "RecursiveQuery".to_owned(),
                    reason: format!(
                        "`{}` is defined by itself, and what its columns come from changes with each round",
                        query.name
                    ),
                });
            }
            LogicalPlan::Statement(_) | LogicalPlan::Dml(_) | LogicalPlan::Ddl(_) | LogicalPlan::Copy(_) => {
                return Err(refused(plan, "it does more than read".to_owned()));
            }
        };
        if relation.columns.len() != plan.schema().fields().len() {
            return Err(refused(
                plan,
                format!(
                    "it has {} columns, and {} were traced",
                    plan.schema().fields().len(),
                    relation.columns.len()
                ),
            ));
        }
        Ok(Relation { schema: plan.schema().clone(), ..relation })
    }

    fn scan(&mut self, scan: &TableScan) -> Result<Relation, Refusal> {
        let table = table_of(scan)?;
        if let Table::System(view) = &table {
            self.system.insert(view.clone());
        }
        let mut columns = Vec::with_capacity(scan.projected_schema.fields().len());
        for field in scan.projected_schema.fields() {
            let (source, text) = match &table {
                Table::Features(features) => (Some(features.column(field.name())), None),
                Table::Given(table) => {
                    (Some(Source::Given { table: table.clone(), column: field.name().clone() }), None)
                }
                Table::System(view) => (None, Some(format!("{view}.{}", field.name()))),
                Table::Series => (None, Some(field.name().clone())),
            };
            let text = text.or_else(|| source.as_ref().map(Source::to_string)).unwrap_or_default();
            let sources = source.map(|source| (self.sources.number(source), Influence::Identity));
            columns.push(Column { sources: Rc::new(sources.into_iter().collect()), text: text.into() });
        }
        let of = match &table {
            Table::Features(features) => Some(self.rows_of(features)),
            Table::Given(table) => {
                let rows = Source::Given { table: table.clone(), column: ROWS.to_owned() };
                Some(self.sources.number(rows))
            }
            Table::System(_) | Table::Series => None,
        };
        let mut relation = Relation {
            schema: scan.projected_schema.clone(),
            columns,
            rows: Rc::default(),
            of: Rc::new(of.into_iter().collect()),
            order: None,
        };
        // Only plans that are optimised have these, and there they may name columns that the scan does not give.
        if !scan.filters.is_empty() {
            return Err(Refusal {
                node: scan.table_name.to_string(),
                reason: "its scan has filters of its own, which have no rule".to_owned(),
            });
        }
        if scan.fetch.is_some() {
            relation = self.cut(relation)?;
        }
        Ok(relation)
    }

    pub fn rows_of(&mut self, features: &Features) -> u32 {
        self.sources.number(features.column(ROWS))
    }

    fn filter(&mut self, predicate: &Expr, input: Relation) -> Result<Relation, Refusal> {
        self.filters.push(self.text(predicate, &input.inputs()));
        let mut rows = input.rows.clone();
        for part in split_conjunction(predicate) {
            let sources = self.expression(part, &input.inputs())?;
            // A comparison with what is around a subquery joins the two.
            let influence = if part.contains_outer() { Influence::Join } else { Influence::Filter };
            rows = self.with(&rows, &sources, influence)?;
        }
        Ok(Relation { rows, ..input })
    }

    fn window(&mut self, window: &Window) -> Result<Relation, Refusal> {
        let mut input = self.relation(&window.input)?;
        let mut added = Vec::with_capacity(window.window_expr.len());
        for expression in &window.window_expr {
            added.push(self.column(expression, &input.inputs())?);
        }
        input.columns.extend(added);
        Ok(input)
    }

    fn aggregate(&mut self, aggregate: &Aggregate) -> Result<Relation, Refusal> {
        let input = self.relation(&aggregate.input)?;
        let (columns, keys) = self.groups(aggregate, &input.inputs())?;
        let rows = self.with(&input.rows, &keys, Influence::GroupBy)?;
        Ok(Relation { columns, rows, order: None, ..input })
    }

    /// Sources of the keys of an order.
    pub fn sorted(&mut self, keys: &[SortExpr], inputs: &Inputs<'_>) -> Result<Set, Refusal> {
        let mut all = Set::new();
        for key in keys {
            let sources = self.expression(&key.expr, inputs)?;
            self.spend(sources.len())?;
            all.extend(sources.iter().copied());
        }
        Ok(all)
    }

    fn join(&mut self, join: &Join) -> Result<Relation, Refusal> {
        let left = self.relation(&join.left)?;
        let right = if is_lateral(&join.right) {
            self.outer.push(Scope { schema: left.schema.clone(), columns: left.columns.clone() });
            let right = self.relation(&join.right);
            self.outer.pop();
            right?
        } else {
            self.relation(&join.right)?
        };
        let mut keys = Set::new();
        // INTERSECT and EXCEPT are planned as joins in which null equals null; the right side decides which rows stay.
        let of_sets = join.null_equality == NullEquality::NullEqualsNull
            && matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti);
        let influence = if of_sets { Influence::Filter } else { Influence::Join };
        for (one, other) in &join.on {
            let left_key = self.expression(one, &left.inputs())?;
            let right_key = self.expression(other, &right.inputs())?;
            self.spend(left_key.len() + right_key.len())?;
            keys.extend(left_key.iter().chain(right_key.iter()).map(|(source, _)| (*source, influence)));
        }
        let of: BTreeSet<u32> = left.of.union(&right.of).copied().collect();
        let both = Inputs {
            of: vec![(&left.schema, left.columns.as_slice()), (&right.schema, right.columns.as_slice())],
            rows: Rc::new(of.clone()),
        };
        if let Some(condition) = &join.filter {
            for part in split_conjunction(condition) {
                let sources = self.expression(part, &both)?;
                self.spend(sources.len())?;
                keys.extend(sources.iter().map(|(source, _)| (*source, influence)));
            }
        }
        if join.on.is_empty() && join.filter.is_none() {
            // Each row as often as there are rows on the other side.
            keys.extend(of.iter().map(|row| (*row, influence)));
        }
        let mut rows = self.with_all(&left.rows, &right.rows)?;
        rows = self.with_all(&rows, &keys)?;
        let mark = || Column { sources: Rc::new(keys.clone()), text: "mark".into() };
        let columns = match join.join_type {
            JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => {
                left.columns.into_iter().chain(right.columns).collect()
            }
            JoinType::LeftSemi | JoinType::LeftAnti => left.columns,
            JoinType::RightSemi | JoinType::RightAnti => right.columns,
            JoinType::LeftMark => left.columns.into_iter().chain([mark()]).collect(),
            JoinType::RightMark => right.columns.into_iter().chain([mark()]).collect(),
        };
        Ok(Relation { schema: join.schema.clone(), columns, rows, of: Rc::new(of), order: None })
    }

    fn union(&mut self, union: &Union) -> Result<Relation, Refusal> {
        let mut columns: Vec<Column> = Vec::new();
        let mut rows = Rc::default();
        let mut of = BTreeSet::new();
        for (number, input) in union.inputs.iter().enumerate() {
            let input = self.relation(input)?;
            rows = self.with_all(&rows, &input.rows)?;
            of.extend(input.of.iter().copied());
            if number == 0 {
                columns = input.columns;
                continue;
            }
            if columns.len() != input.columns.len() {
                return Err(Refusal {
                    node: "Union".to_owned(),
                    reason: "its sides do not have the same number of columns".to_owned(),
                });
            }
            for (column, other) in columns.iter_mut().zip(input.columns) {
                column.sources = self.with_all(&column.sources, &other.sources)?;
                if column.text != other.text {
                    column.text = super::text::either(&column.text, &other.text);
                }
            }
        }
        Ok(Relation { schema: union.schema.clone(), columns, rows, of: Rc::new(of), order: None })
    }

    fn values(&mut self, values: &Values) -> Result<Relation, Refusal> {
        let mut relation = constant(&values.schema);
        let inputs = Inputs { of: Vec::new(), rows: Rc::default() };
        for row in &values.values {
            for (column, expression) in relation.columns.iter_mut().zip(row) {
                let sources = self.expression(expression, &inputs)?;
                if !sources.is_empty() {
                    column.sources = self.with_all(&column.sources, &sources)?;
                }
            }
        }
        Ok(relation)
    }

    fn limit(&mut self, limit: &Limit) -> Result<Relation, Refusal> {
        let mut input = self.relation(&limit.input)?;
        let none = Inputs { of: Vec::new(), rows: Rc::default() };
        for expression in [&limit.skip, &limit.fetch].into_iter().flatten() {
            let sources = self.expression(expression, &none)?;
            input.rows = self.with(&input.rows, &sources, Influence::Filter)?;
        }
        self.cut(input)
    }

    /// Only some of the rows: by their order, or any of them where they have none.
    fn cut(&mut self, input: Relation) -> Result<Relation, Refusal> {
        let chosen: Set = match &input.order {
            Some(order) => order.iter().map(|(source, _)| (*source, Influence::Filter)).collect(),
            None => input.of.iter().map(|row| (*row, Influence::Filter)).collect(),
        };
        let rows = self.with_all(&input.rows, &chosen)?;
        Ok(Relation { rows, ..input })
    }

    fn distinct_on(&mut self, distinct: &DistinctOn) -> Result<Relation, Refusal> {
        let input = self.relation(&distinct.input)?;
        let inputs = input.inputs();
        let mut columns = Vec::with_capacity(distinct.select_expr.len());
        for expression in &distinct.select_expr {
            columns.push(self.column(expression, &inputs)?);
        }
        let mut rows = input.rows.clone();
        for expression in &distinct.on_expr {
            let sources = self.expression(expression, &inputs)?;
            rows = self.with(&rows, &sources, Influence::GroupBy)?;
        }
        match &distinct.sort_expr {
            Some(keys) => {
                let keys = self.sorted(keys, &inputs)?;
                rows = self.with(&rows, &keys, Influence::Sort)?;
            }
            // Any row of a group stands for it.
            None => {
                let any: Set = input.of.iter().map(|row| (*row, Influence::Filter)).collect();
                rows = self.with_all(&rows, &any)?;
            }
        }
        drop(inputs);
        Ok(Relation { columns, rows, order: None, ..input })
    }

    fn unnest(&mut self, unnest: &Unnest) -> Result<Relation, Refusal> {
        let input = self.relation(&unnest.input)?;
        let lists: BTreeSet<usize> = unnest.list_type_columns.iter().map(|(at, _)| *at).collect();
        let mut rows = input.rows.clone();
        for at in &lists {
            if let Some(column) = input.columns.get(*at) {
                // As a join with the list's elements: it decides how often each row is there.
                rows = self.with(&rows, &column.sources, Influence::Join)?;
            }
        }
        let mut columns = Vec::with_capacity(unnest.dependency_indices.len());
        for at in &unnest.dependency_indices {
            let Some(column) = input.columns.get(*at) else {
                return Err(Refusal {
                    node: "Unnest".to_owned(),
                    reason: format!("it unnests column {at} of {}", input.columns.len()),
                });
            };
            columns.push(if lists.contains(at) || unnest.struct_type_columns.contains(at) {
                Column {
                    sources: transformed(&column.sources),
                    text: super::text::call("unnest", &column.text),
                }
            } else {
                column.clone()
            });
        }
        Ok(Relation { columns, rows, order: None, ..input })
    }

    /// A column that an expression gives.
    pub fn column(&mut self, expression: &Expr, inputs: &Inputs<'_>) -> Result<Column, Refusal> {
        let sources = self.expression(expression, inputs)?;
        let text = self.column_text(expression, inputs);
        Ok(Column { sources, text })
    }

    /// Adds an expression's sources to a set, all of which bear in one way.
    pub fn add(
        &mut self,
        set: &mut Set,
        expression: &Expr,
        inputs: &Inputs<'_>,
        influence: Influence,
    ) -> Result<(), Refusal> {
        let sources = self.expression(expression, inputs)?;
        self.spend(sources.len())?;
        set.extend(sources.iter().map(|(source, _)| (*source, influence)));
        Ok(())
    }

    /// A set with all of another, which bears in one way.
    pub fn with(&mut self, set: &Rc<Set>, other: &Set, influence: Influence) -> Result<Rc<Set>, Refusal> {
        if other.iter().all(|(source, _)| set.contains(&(*source, influence))) {
            return Ok(set.clone());
        }
        self.spend(set.len() + other.len())?;
        let mut all = Set::clone(set);
        all.extend(other.iter().map(|(source, _)| (*source, influence)));
        Ok(Rc::new(all))
    }

    /// Both sets.
    pub fn with_all(&mut self, set: &Rc<Set>, other: &Set) -> Result<Rc<Set>, Refusal> {
        if other.is_subset(set) {
            return Ok(set.clone());
        }
        self.spend(set.len() + other.len())?;
        Ok(Rc::new(set.union(other).copied().collect()))
    }
}

impl Relation {
    pub fn inputs(&self) -> Inputs<'_> {
        Inputs { of: vec![(&self.schema, self.columns.as_slice())], rows: self.of.clone() }
    }
}

impl Inputs<'_> {
    /// As a scope for what is inside a subquery; one for each input.
    pub fn scopes(&self) -> Vec<Scope> {
        let scope = |(schema, columns): &(&DFSchema, &[Column])| Scope {
            schema: DFSchemaRef::new((*schema).clone()),
            columns: columns.to_vec(),
        };
        self.of.iter().map(scope).collect()
    }
}

/// What is part of a value that is computed. Indirect sources stay what they are.
pub fn transformed(set: &Rc<Set>) -> Rc<Set> {
    if set.iter().all(|(_, influence)| *influence != Influence::Identity) {
        return set.clone();
    }
    Rc::new(
        set.iter()
            .map(|(source, influence)| (*source, (*influence).max_direct(Influence::Transformation)))
            .collect(),
    )
}

/// A relation that holds nothing of the store.
fn constant(schema: &DFSchemaRef) -> Relation {
    let column = |name: &String| Column { sources: Rc::default(), text: name.as_str().into() };
    Relation {
        schema: schema.clone(),
        columns: schema.fields().iter().map(|field| column(field.name())).collect(),
        rows: Rc::default(),
        of: Rc::default(),
        order: None,
    }
}

/// Whether a side of a join may name columns of the side before it.
fn is_lateral(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Subquery(_) => true,
        LogicalPlan::SubqueryAlias(alias) => is_lateral(&alias.input),
        LogicalPlan::Projection(projection) => is_lateral(&projection.input),
        _ => false,
    }
}

fn refused(plan: &LogicalPlan, reason: String) -> Refusal {
    let shown = plan.display().to_string();
    let node = shown.split([':', ' ']).next().unwrap_or_default().to_owned();
    Refusal { node, reason }
}
