//! What was said of a version at an earlier sequence. The state keeps the words of now; tags and owners may be others since, and
//! policies decide by them.

use std::sync::Arc;

use feature::definition::FeatureView;
use feature::{Definition, Sequence, VersionId};
use serde_json::Value;

use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::records::{Record, Subject};
use crate::state::{State, ViewVersion};

/// The definition of a version as it was described at a sequence. Entries are read only where it was described again since.
///
/// # Errors
/// Those of the storage; `Damaged` for an entry that is gone or cannot be read.
pub async fn of_view(
    catalog: &Catalog,
    state: &State,
    version: &ViewVersion,
    at: Sequence,
) -> Result<Arc<FeatureView>> {
    let described: Vec<Sequence> = state
        .log()
        .iter()
        .filter(|line| line.records.iter().any(|(_, name)| *name == DESCRIBED))
        .map(|line| line.by.sequence)
        .filter(|sequence| *sequence >= version.by.sequence)
        .collect();
    if described.last().is_none_or(|last| *last <= at) {
        return Ok(version.definition.clone());
    }
    // It was defined with its first words.
    let first = version.by.sequence;
    for sequence in described.into_iter().rev().filter(|sequence| *sequence <= at).chain([first]) {
        if let Some(view) = said_in(catalog, sequence, version.version).await? {
            return Ok(Arc::new(view));
        }
    }
    Ok(version.definition.clone())
}

/// The name of the record, as lines of the log have it.
const DESCRIBED: &str = "described";

async fn said_in(catalog: &Catalog, sequence: Sequence, version: VersionId) -> Result<Option<FeatureView>> {
    let missing = || storage::Error::corrupt(format!("log entry {sequence}"), "it is gone");
    let (entry, _) = catalog.store().log().read(sequence).await?.ok_or_else(missing)?;
    let mut said = None;
    for raw in &entry.records {
        let record =
            Record::decode(raw.number, &raw.body).map_err(|error| Error::record(sequence, &error))?;
        match record {
            Record::Described(body) if body.subject == Subject::FeatureView && body.version == version => {
                said = Some(body.definition);
            }
            Record::ViewVersionDefined(body) if body.version == version => said = Some(body.definition),
            _ => {}
        }
    }
    said.as_ref().map(|said| view_of(sequence, said)).transpose()
}

fn view_of(sequence: Sequence, said: &Value) -> Result<FeatureView> {
    let wrong = |why: &str| storage::Error::corrupt(format!("log entry {sequence}"), why);
    match Definition::from_json(said) {
        Ok(Definition::FeatureView(view)) => Ok(view),
        Ok(other) => Err(wrong(&format!("it describes a feature view as {}", other.kind())).into()),
        Err(error) => Err(wrong(&error.to_string()).into()),
    }
}
