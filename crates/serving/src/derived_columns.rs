//! What the columns of a derived view come from: by column as its query says, and by feature as the graph has it.

use std::collections::{BTreeMap, BTreeSet};

use catalog::records::Parent;
use catalog::state::ViewVersion;
use engine::column_lineage::Traced;
use feature::Influence;
use feature::definition::{FeatureView, KnownAt};
use lineage::{Edge, Source};

use crate::column_edges::edges_of;

/// The edges of the view's columns, which may have other names in the query; none where it could not be traced.
pub fn edges_of_view(view: &FeatureView, traced: &Traced) -> Option<Vec<Edge>> {
    if traced.refused.is_some() {
        return None;
    }
    let mut named: Vec<(&str, String)> =
        view.keys.iter().map(|key| (key.column.as_str(), key.key.to_string())).collect();
    named.extend(view.occurrence.iter().map(|seen| (seen.column.as_str(), seen.name.to_string())));
    named.push((view.time.valid_at.as_str(), "valid_at".to_owned()));
    if let KnownAt::Column(column) = &view.time.known_at {
        named.push((column.as_str(), "known_at".to_owned()));
    }
    named.extend(view.features.iter().map(|feature| (feature.column.as_str(), feature.name.to_string())));
    let edges = edges_of(traced);
    let mut of_view = Vec::new();
    for (column, name) in named {
        let of_column = edges.iter().filter(|edge| edge.output == column);
        of_view.extend(of_column.map(|edge| Edge { output: name.clone(), ..edge.clone() }));
    }
    Some(of_view)
}

/// By feature of a parent, the features of the derived view that it bears on, and [`Parent::ROWS`] where it bears on a key
/// or a time: that decides which observations there are, as a filter does, and so bears on all.
pub fn bears_on(view: &FeatureView, parent: &ViewVersion, edges: &[Edge]) -> BTreeMap<String, Vec<String>> {
    let derived: BTreeSet<&str> = view.features.iter().map(|feature| feature.name.as_str()).collect();
    let read: BTreeSet<&str> =
        parent.definition.features.iter().map(|feature| feature.name.as_str()).collect();
    let of_parent: Vec<(&str, &Edge)> = edges
        .iter()
        .filter_map(|edge| match &edge.source {
            Source::FeatureView { version, column, .. }
                if *version == parent.version && read.contains(column.as_str()) =>
            {
                Some((column.as_str(), edge))
            }
            _ => None,
        })
        .collect();
    // What bears on keys and times, and by which kinds: those are said once, of the rows.
    let of_rows: Vec<(&str, Influence)> = of_parent
        .iter()
        .filter(|(_, edge)| !derived.contains(edge.output.as_str()))
        .map(|(column, edge)| (*column, edge.kind))
        .collect();
    let mut bears_on: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (column, edge) in of_parent {
        let outputs = bears_on.entry(column.to_owned()).or_default();
        if !derived.contains(edge.output.as_str()) {
            outputs.insert(Parent::ROWS.to_owned());
        } else if edge.kind.is_direct() || !of_rows.contains(&(column, edge.kind)) {
            outputs.insert(edge.output.clone());
        }
    }
    bears_on.into_iter().map(|(feature, outputs)| (feature, outputs.into_iter().collect())).collect()
}
