//! What is known of the values of a batch, from the statistics of its files.

use serde_json::{Map, Number, Value, json};

/// A batch's files, counted together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    pub rows: u64,
    pub bytes: u64,
    pub files: u64,
    /// Features, in the order of the definition. Keys are not among them: a least key is somebody's.
    pub columns: Vec<ColumnProfile>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ColumnProfile {
    pub column: String,
    pub nulls: u64,
    /// Of numbers; none where it is not known, or JSON has no such number.
    pub least: Option<Number>,
    pub greatest: Option<Number>,
}

impl Profile {
    /// The body of `outputStatistics`.
    pub(super) fn statistics(&self) -> Value {
        json!({ "rowCount": self.rows, "size": self.bytes, "fileCount": self.files })
    }

    /// The body of `dataQualityMetrics`.
    pub(super) fn metrics(&self) -> Value {
        let mut columns = Map::new();
        for profile in &self.columns {
            let mut metrics = Map::new();
            metrics.insert("nullCount".to_owned(), profile.nulls.into());
            metrics.insert("count".to_owned(), self.rows.saturating_sub(profile.nulls).into());
            if let (Some(least), Some(greatest)) = (&profile.least, &profile.greatest) {
                metrics.insert("min".to_owned(), least.clone().into());
                metrics.insert("max".to_owned(), greatest.clone().into());
            }
            columns.insert(profile.column.clone(), Value::Object(metrics));
        }
        json!({
            "rowCount": self.rows,
            "bytes": self.bytes,
            "fileCount": self.files,
            "columnMetrics": columns,
        })
    }
}
