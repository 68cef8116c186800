//! The point-in-time join: its left columns pass, and each right column is found by keys and chosen by times.

use std::rc::Rc;

use datafusion::logical_expr::Expr;

use super::relations::{Column, Inputs, Relation, Set, Walk};
use super::sources::features_of;
use super::{Influence, Refusal};
use crate::point_in_time::Output;
use crate::point_in_time::plan::{PointInTime, Right, Rule};
use crate::sql::feature_view;

impl Walk {
    /// Exactly one row comes out for each left row and in its place, so that what decides about right rows bears on right columns only.
    pub fn point_in_time(&mut self, node: &PointInTime) -> Result<Relation, Refusal> {
        let left = self.relation(&node.left)?;
        let mut added = Vec::new();
        for right in &node.rights {
            match &right.rule {
                Rule::FeatureView { keys, .. } => {
                    added.extend(self.looked_up(right, keys, &left.inputs())?);
                }
                Rule::Plain { keys, time } => {
                    added.extend(self.nearest(right, keys, time, &left.inputs())?);
                }
            }
        }
        let columns = left.columns.iter().cloned().chain(added).collect();
        Ok(Relation { columns, ..left })
    }

    /// By a feature view version's whole rule.
    fn looked_up(
        &mut self,
        right: &Right,
        keys: &[Expr],
        spine: &Inputs<'_>,
    ) -> Result<Vec<Column>, Refusal> {
        let Some(table) = feature_view(&right.plan) else {
            return Err(Refusal {
                node: "PointInTime".to_owned(),
                reason: "its right side is not the feature view that its rule is for".to_owned(),
            });
        };
        let Some(features) = features_of(&table) else { return Ok(Vec::new()) };
        let mut chosen = Set::new();
        for key in keys {
            self.add(&mut chosen, key, spine, Influence::Join)?;
        }
        self.add(&mut chosen, &right.at, spine, Influence::Sort)?;
        for key in table.version().keys() {
            chosen.insert((self.sources.number(features.column(key.name.as_str())), Influence::Join));
        }
        let valid_at = self.sources.number(features.column("valid_at"));
        chosen.insert((valid_at, Influence::Sort));
        chosen.insert((self.sources.number(features.column("known_at")), Influence::Sort));
        self.matched.extend(chosen.iter().map(|(source, _)| *source));
        let scanned = self.relation(&right.plan)?;
        let declared = &table.version().definition.features;
        let mut columns = Vec::with_capacity(scanned.columns.len());
        for (field, column) in scanned.schema.fields().iter().zip(&scanned.columns) {
            let (feature, values) = match table.output(field.name()) {
                Some(Output::Feature(at)) => (declared.get(at), column.sources.clone()),
                // Nothing of the value but whether it is there.
                Some(Output::NullReason(at)) => {
                    let sources = column.sources.iter().map(|(source, _)| (*source, Influence::Conditional));
                    (declared.get(at), Rc::new(sources.collect()))
                }
                _ => (None, column.sources.clone()),
            };
            let mut sources = self.with_all(&values, &chosen)?;
            if feature.is_some_and(|feature| feature.default.is_some()) {
                let matched = Set::from([(valid_at, Influence::Conditional)]);
                sources = self.with_all(&sources, &matched)?;
            }
            columns.push(Column { sources, text: column.text.clone() });
        }
        Ok(columns)
    }

    /// The nearest row of any plan.
    fn nearest(
        &mut self,
        right: &Right,
        keys: &[(Expr, Expr)],
        time: &Expr,
        spine: &Inputs<'_>,
    ) -> Result<Vec<Column>, Refusal> {
        let other = self.relation(&right.plan)?;
        let mut chosen = Set::new();
        for (one, key) in keys {
            self.add(&mut chosen, one, spine, Influence::Join)?;
            self.add(&mut chosen, key, &other.inputs(), Influence::Join)?;
        }
        self.add(&mut chosen, &right.at, spine, Influence::Sort)?;
        self.add(&mut chosen, time, &other.inputs(), Influence::Sort)?;
        let chosen = self.with_all(&Rc::new(chosen), &other.rows)?;
        self.matched.extend(chosen.iter().map(|(source, _)| *source));
        let mut columns = Vec::with_capacity(other.columns.len());
        for column in &other.columns {
            let sources = self.with_all(&column.sources, &chosen)?;
            columns.push(Column { sources, text: column.text.clone() });
        }
        Ok(columns)
    }
}
