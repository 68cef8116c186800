//! How one column bears on another: the words of column lineage, which are OpenLineage's.

use serde::{Deserialize, Serialize};

/// How a source bears on an output: directly, as part of its value, or indirectly, by choosing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Influence {
    /// Direct: the value itself.
    Identity,
    /// Direct: the value was computed from it.
    Transformation,
    /// Direct: the value was computed from it over several rows.
    Aggregation,
    /// Indirect: keys and conditions of a join.
    Join,
    /// Indirect: made the groups.
    GroupBy,
    /// Indirect: decided which rows there are.
    Filter,
    /// Indirect: put rows in order, or chose one by its order in time.
    Sort,
    /// Indirect: partition and order of a window.
    Window,
    /// Indirect: decided which of several values stands, the default among them.
    Conditional,
}

impl Influence {
    pub fn is_direct(self) -> bool {
        matches!(self, Self::Identity | Self::Transformation | Self::Aggregation)
    }

    /// OpenLineage's type, as this program writes it.
    pub fn directness(self) -> &'static str {
        if self.is_direct() { "direct" } else { "indirect" }
    }

    /// A direct influence made no weaker than another direct one; an indirect one as it is.
    pub fn max_direct(self, other: Self) -> Self {
        if self.is_direct() { self.max(other) } else { self }
    }

    /// OpenLineage's name of the subtype.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "IDENTITY",
            Self::Transformation => "TRANSFORMATION",
            Self::Aggregation => "AGGREGATION",
            Self::Join => "JOIN",
            Self::GroupBy => "GROUP_BY",
            Self::Filter => "FILTER",
            Self::Sort => "SORT",
            Self::Window => "WINDOW",
            Self::Conditional => "CONDITIONAL",
        }
    }
}
