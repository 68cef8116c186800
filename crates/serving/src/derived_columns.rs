//! What the columns of a derived view come from: by column as its query says, and by feature as the graph has it.

use std::collections::{BTreeMap, BTreeSet};

use catalog::records::Parent;
use catalog::state::ViewVersion;
use engine::column_lineage::Traced;
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

/// By feature of a parent, the features of the derived view that it bears on. What bears on a key or a time of the view
/// decides which observations there are, as a filter does, and so bears on all.
pub fn bears_on(view: &FeatureView, parent: &ViewVersion, edges: &[Edge]) -> BTreeMap<String, Vec<String>> {
    let derived: BTreeSet<&str> = view.features.iter().map(|feature| feature.name.as_str()).collect();
    let read: BTreeSet<&str> =
        parent.definition.features.iter().map(|feature| feature.name.as_str()).collect();
    let mut bears_on: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for edge in edges {
        let Source::FeatureView { version, column, .. } = &edge.source else { continue };
        if *version == parent.version && read.contains(column.as_str()) {
            let output = derived.get(edge.output.as_str()).copied();
            bears_on.entry(column).or_default().insert(output.unwrap_or(Parent::ROWS));
        }
    }
    let named = |outputs: BTreeSet<&str>| {
        if outputs.contains(Parent::ROWS) {
            return vec![Parent::ROWS.to_owned()];
        }
        outputs.into_iter().map(str::to_owned).collect()
    };
    bears_on.into_iter().map(|(feature, outputs)| (feature.to_owned(), named(outputs))).collect()
}
