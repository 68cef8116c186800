//! Column lineage: each output column's sources, pinned to versions, in OpenLineage's words.

use feature::{Influence, VersionId};
use serde::{Deserialize, Serialize};

/// A column that something is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "of")]
pub enum Source {
    /// A column of a feature view version; `valid_at` and `known_at` among them.
    FeatureView { version: VersionId, label: String, column: String },
    /// A column of the spine that was given.
    Spine { column: String },
    /// A column of other rows that the caller gave, as a table of the session.
    Given { table: String, column: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// The output column.
    pub output: String,
    pub source: Source,
    pub kind: Influence,
}

/// The edges of a spine column: it is carried through.
pub fn carried(column: &str) -> Edge {
    Edge {
        output: column.to_owned(),
        source: Source::Spine { column: column.to_owned() },
        kind: Influence::Identity,
    }
}

/// The edges of one feature of a point-in-time join: its value, the keys that found it, and the times that chose it.
pub fn looked_up(
    output: &str,
    version: VersionId,
    label: &str,
    feature: &str,
    keys: &[&str],
    at: &str,
    has_default: bool,
) -> Vec<Edge> {
    let of_view = |column: &str, kind: Influence| Edge {
        output: output.to_owned(),
        source: Source::FeatureView { version, label: label.to_owned(), column: column.to_owned() },
        kind,
    };
    let of_spine = |column: &str, kind: Influence| Edge {
        output: output.to_owned(),
        source: Source::Spine { column: column.to_owned() },
        kind,
    };
    let mut edges = vec![of_view(feature, Influence::Identity)];
    for key in keys {
        edges.push(of_view(key, Influence::Join));
        edges.push(of_spine(key, Influence::Join));
    }
    edges.push(of_view("valid_at", Influence::Sort));
    edges.push(of_view("known_at", Influence::Sort));
    edges.push(of_spine(at, Influence::Sort));
    if has_default {
        edges.push(of_view("valid_at", Influence::Conditional));
    }
    edges
}

/// The edges of what says why a feature is null, from those of the feature: nothing of its value but whether it is there.
pub fn why_null(output: &str, of_feature: Vec<Edge>) -> Vec<Edge> {
    let kind = |kind: Influence| if kind.is_direct() { Influence::Conditional } else { kind };
    let edge = |edge: Edge| Edge { output: output.to_owned(), kind: kind(edge.kind), ..edge };
    of_feature.into_iter().map(edge).collect()
}

#[cfg(test)]
mod tests {
    use feature::Id;

    use super::*;

    #[test]
    fn a_feature_has_one_direct_source() {
        let version = VersionId::from(feature::BatchId::from(uuid_of(7)).uuid());
        let edges = looked_up("temp", version, "weather@1", "temp", &["origin"], "at", false);
        let direct: Vec<&Edge> = edges.iter().filter(|edge| edge.kind.is_direct()).collect();
        assert_eq!(direct.len(), 1);
        assert_eq!(edges.len(), 6);
        let json = serde_json::to_value(direct[0]).unwrap();
        assert_eq!(json["kind"], "IDENTITY");
        assert_eq!(json["source"]["of"], "feature_view");
    }

    #[test]
    fn why_a_feature_is_null_tells_nothing_of_its_value() {
        let version = VersionId::from(feature::BatchId::from(uuid_of(7)).uuid());
        let edges = looked_up("temp", version, "weather@1", "temp", &["origin"], "at", true);
        let why = why_null("temp__null_reason", edges.clone());
        assert_eq!(why.len(), edges.len());
        assert!(why.iter().all(|edge| edge.output == "temp__null_reason" && !edge.kind.is_direct()));
        assert_eq!(why[0].kind, Influence::Conditional);
    }

    #[test]
    fn a_kind_is_written_as_openlineage_names_it() {
        for kind in [
            Influence::Identity,
            Influence::Transformation,
            Influence::Aggregation,
            Influence::Join,
            Influence::GroupBy,
            Influence::Filter,
            Influence::Sort,
            Influence::Window,
            Influence::Conditional,
        ] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }

    fn uuid_of(number: u128) -> uuid::Uuid {
        uuid::Uuid::from_u128(number)
    }
}
