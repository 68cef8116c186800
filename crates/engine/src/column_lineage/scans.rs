//! What a plan reads once it is optimised: versions, columns, and whether the edges explain all of it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{LogicalPlan, TableScan};

use super::sources::{Features, Table, features_of, table_of};
use super::{Refusal, Scan, Source, Traced};
use crate::feature_view::read_from;
use crate::point_in_time::plan::{PointInTime, Rule};

/// What the scans of a plan read.
#[derive(Default)]
pub struct Read {
    columns: BTreeMap<Features, BTreeSet<String>>,
    /// What scans give to the plan above them. The match of a point-in-time join reads more, by its own rule.
    given: BTreeSet<Source>,
}

/// Reads an optimised plan. What EXPLAIN only shows is not read.
pub fn read(plan: &LogicalPlan) -> Read {
    let mut read = Read::default();
    let _ = plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::Explain(_) => return Ok(TreeNodeRecursion::Jump),
            LogicalPlan::TableScan(scan) => read.scan(scan),
            LogicalPlan::Extension(extension) => {
                if let Some(node) = extension.node.as_any().downcast_ref::<PointInTime>() {
                    read.matched(node);
                }
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    });
    read
}

impl Read {
    fn scan(&mut self, scan: &TableScan) {
        let mut columns: BTreeSet<String> =
            scan.projected_schema.fields().iter().map(|field| field.name().clone()).collect();
        // What a condition in the scan looks at was read, though the scan does not give it.
        let filters = scan.filters.iter().flat_map(|filter| filter.column_refs());
        columns.extend(filters.map(|column| column.name.clone()));
        match table_of(scan) {
            Ok(Table::Features(features)) => {
                self.given.extend(columns.iter().map(|column| features.column(column)));
                let columns = columns.iter().map(|column| read_from(column).to_owned());
                self.columns.entry(features).or_default().extend(columns);
            }
            Ok(Table::Given(table)) => {
                let given = columns.into_iter().map(|column| Source::Given { table: table.clone(), column });
                self.given.extend(given);
            }
            // What is not known has no columns; the walk refuses it by name.
            Ok(Table::System(_) | Table::Series) | Err(_) => {}
        }
    }

    /// Keys and times that a point-in-time join reads of a feature view beside what its scan gives.
    fn matched(&mut self, node: &PointInTime) {
        for right in node.rights.iter().filter(|right| matches!(right.rule, Rule::FeatureView { .. })) {
            let Some(table) = crate::sql::feature_view(&right.plan) else { continue };
            let Some(features) = features_of(&table) else { continue };
            let columns = self.columns.entry(features).or_default();
            columns.extend(table.version().keys().iter().map(|key| key.name.to_string()));
            columns.extend(["valid_at", "known_at"].map(str::to_owned));
        }
    }

    pub fn scans(&self) -> Vec<Scan> {
        let scan = |(features, columns): (&Features, &BTreeSet<String>)| Scan {
            version: features.version,
            label: features.label.clone(),
            sequence: features.sequence,
            columns: columns.iter().cloned().collect(),
        };
        self.columns.iter().map(scan).collect()
    }

    /// A column that is read though no edge names it.
    pub fn unexplained(&self, traced: &Traced) -> Option<Refusal> {
        if traced.refused.is_some() {
            return None;
        }
        let edges = traced.edges().map(|(_, edge)| edge.source.as_ref());
        let named: HashSet<&Source> = edges.chain(traced.unused.iter().map(AsRef::as_ref)).collect();
        let missing = self.given.iter().find(|source| !named.contains(source))?;
        Some(Refusal {
            node: "TableScan".to_owned(),
            reason: format!("scan not explained: `{missing}` is read, and no output column is traced to it"),
        })
    }
}
