//! `columnLineage` from the edges of a manifest.

use serde_json::{Map, Value, json};

use super::Telling;
use super::naming::Named;
use crate::edges::{Edge, Source};
use crate::manifest::Manifest;

/// A source column of an output column, with all that it does to it.
#[derive(PartialEq)]
struct Influence<'a> {
    dataset: Named,
    column: &'a str,
    edges: Vec<&'a Edge>,
}

impl Influence<'_> {
    fn json(&self) -> Value {
        let mut field = self.dataset.json();
        field["field"] = self.column.into();
        let transformations: Vec<Value> = self
            .edges
            .iter()
            .map(|edge| {
                let direct = if edge.kind.is_direct() { "DIRECT" } else { "INDIRECT" };
                json!({ "type": direct, "subtype": edge.kind, "masking": false })
            })
            .collect();
        field["transformations"] = transformations.into();
        field
    }
}

impl Telling<'_> {
    /// The body of `columnLineage` of a training set; none where a column's sources are not known, since half
    /// of an answer would be taken for the whole.
    pub(super) fn column_lineage(&self, manifest: &Manifest, spine: &Named) -> Option<Value> {
        let columns: Vec<&str> = manifest.columns.iter().map(|column| column.name.as_str()).collect();
        let is_known = |column: &&str| manifest.lineage.iter().any(|edge| edge.output == **column);
        columns.iter().all(is_known).then(|| self.lineage_of(&columns, &manifest.lineage, spine))
    }

    /// The body of `columnLineage` where all sources are known: a column without any is constant.
    pub(super) fn lineage_of(&self, columns: &[&str], lineage: &[Edge], spine: &Named) -> Value {
        let mut shared = self.touching_all(columns, lineage, spine);
        let mut fields = Map::new();
        for column in columns {
            let of_column = lineage.iter().filter(|edge| edge.output == *column);
            let influences = self.influences(of_column, spine);
            let own = influences.iter().filter_map(|influence| {
                let own = influence.edges.iter().copied().filter(|edge| !is_shared(&shared, influence, edge));
                let own = Influence {
                    dataset: influence.dataset.clone(),
                    column: influence.column,
                    edges: own.collect(),
                };
                (!own.edges.is_empty()).then(|| own.json())
            });
            fields.insert((*column).to_owned(), json!({ "inputFields": own.collect::<Vec<_>>() }));
        }
        let mut body = json!({ "fields": fields });
        if !shared.is_empty() {
            body["dataset"] = shared.drain(..).map(|influence| influence.json()).collect();
        }
        body
    }

    /// The indirect sources of every column, which are said of the dataset once.
    fn touching_all<'a>(&self, columns: &[&str], lineage: &'a [Edge], spine: &Named) -> Vec<Influence<'a>> {
        let Some(first) = columns.first() else { return Vec::new() };
        let touches = |column: &str, edge: &Edge| {
            lineage
                .iter()
                .any(|other| other.output == column && other.source == edge.source && other.kind == edge.kind)
        };
        let everywhere = |edge: &&Edge| {
            edge.output == *first
                && !edge.kind.is_direct()
                && columns.iter().all(|column| touches(column, edge))
        };
        self.influences(lineage.iter().filter(everywhere), spine)
    }

    /// Edges by their source column, in the order in which those come.
    fn influences<'a>(&self, edges: impl Iterator<Item = &'a Edge>, spine: &Named) -> Vec<Influence<'a>> {
        let mut influences: Vec<Influence<'a>> = Vec::new();
        for edge in edges {
            let (dataset, column) = self.source_of(&edge.source, spine);
            let known =
                influences.iter_mut().find(|known| known.dataset == dataset && known.column == column);
            match known {
                Some(known) if known.edges.iter().any(|other| other.kind == edge.kind) => {}
                Some(known) => known.edges.push(edge),
                None => influences.push(Influence { dataset, column, edges: vec![edge] }),
            }
        }
        influences
    }

    fn source_of<'a>(&self, source: &'a Source, spine: &Named) -> (Named, &'a str) {
        match source {
            Source::FeatureView { version, label, column } => {
                let name = self.state.view_version(*version).map(|version| self.view_named(version));
                let by_label = || {
                    let name = label.split_once('@').map_or(label.as_str(), |(name, _)| name);
                    self.namespace.named(name)
                };
                (name.unwrap_or_else(by_label), column)
            }
            Source::Spine { column } => (spine.clone(), column),
            Source::Given { table, column } => (self.namespace.named(table), column),
        }
    }
}

fn is_shared(shared: &[Influence<'_>], influence: &Influence<'_>, edge: &Edge) -> bool {
    shared.iter().any(|other| {
        other.dataset == influence.dataset
            && other.column == influence.column
            && other.edges.iter().any(|shared| shared.kind == edge.kind)
    })
}
