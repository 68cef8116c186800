//! What the engine traced, as edges of the lineage crate.

use engine::column_lineage::{Source as Traced, Traced as Trace};
use lineage::{Edge, Source};

/// The edges of each output column; what bears on all of them is given for each.
pub fn edges_of(traced: &Trace) -> Vec<Edge> {
    let mut edges = Vec::new();
    for output in &traced.outputs {
        for edge in output.sources.iter().chain(&traced.of_all) {
            edges.push(Edge {
                output: output.name.clone(),
                source: source(&edge.source),
                kind: edge.influence,
            });
        }
    }
    edges
}

fn source(source: &Traced) -> Source {
    match source {
        Traced::FeatureView { version, label, column, .. } => {
            Source::FeatureView { version: *version, label: label.clone(), column: column.clone() }
        }
        Traced::Given { table, column } if table == SPINE => Source::Spine { column: column.clone() },
        Traced::Given { table, column } => Source::Given { table: table.clone(), column: column.clone() },
    }
}

/// The name under which the rows of a request's spine are planned.
pub const SPINE: &str = "spine";
