//! What is read without a plan: features of versions, each looked up by key and time.

use std::sync::Arc;

use catalog::state::ViewVersion;
use engine::column_lineage::{Edge, Influence, Output, Scan, Source, Traced};
use feature::Sequence;

/// The trace of such a read: of each feature, as an output of some name, its value, the keys that found it and the times that chose it.
pub(crate) fn looked_at<'a>(
    features: impl IntoIterator<Item = (&'a ViewVersion, Sequence, &'a str, &'a str)>,
) -> Traced {
    let mut traced = Traced::default();
    for (version, sequence, feature, output) in features {
        let keys = version.keys().iter().map(|key| (key.name.as_str(), Influence::Join));
        let times = ["valid_at", "known_at"].map(|time| (time, Influence::Sort));
        let read: Vec<(&str, Influence)> =
            [(feature, Influence::Identity)].into_iter().chain(keys).chain(times).collect();
        let edge = |(column, influence): &(&str, Influence)| Edge {
            source: Arc::new(Source::FeatureView {
                version: version.version,
                label: version.label(),
                sequence,
                column: (*column).to_owned(),
            }),
            influence: *influence,
        };
        traced.outputs.push(Output {
            name: output.to_owned(),
            expression: format!("{}.{feature}", version.label()),
            sources: read.iter().map(edge).collect(),
        });
        let is_it = |scan: &&mut Scan| scan.version == version.version && scan.sequence == sequence;
        let mut columns = match traced.scans.iter_mut().find(is_it) {
            Some(scan) => std::mem::take(&mut scan.columns),
            None => {
                let (label, columns) = (version.label(), Vec::new());
                traced.scans.push(Scan { version: version.version, label, sequence, columns });
                Vec::new()
            }
        };
        columns.extend(read.iter().map(|(column, _)| (*column).to_owned()));
        columns.sort();
        columns.dedup();
        if let Some(scan) = traced.scans.iter_mut().find(is_it) {
            scan.columns = columns;
        }
    }
    traced
}
