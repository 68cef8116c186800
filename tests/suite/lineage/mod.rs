//! What came from what: the graph against a plain reading of the records, and the registry end to end.

mod column_edges;
mod derived;
mod derived_expired;
mod derived_features;
mod derived_untraced;
mod histories;
mod impact;
mod openlineage;
mod scenario;
