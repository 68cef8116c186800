//! What the asker of a session may see of a feature view: which of its rows, and which features as they are. It is decided
//! elsewhere, and holds in every place that values leave a file by.

mod closed_table;
mod question;
mod rows;
mod sight;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use catalog::state::ViewVersion;
use datafusion::common::{DataFusionError, Result};
use feature::policy::{Mask, MaskKey, RowFilter};

pub use closed_table::ClosedTable;
pub use question::{AccessQuestion, AccessRelations, Moment};
pub use rows::{VisibleRows, check_filter};
pub use sight::{Sight, Sights};

/// Decides what may be seen of a version. A snapshot without one shows everything: that is for the store's own work.
pub trait Guards: fmt::Debug + Send + Sync {
    /// None where nothing is kept from the asker.
    ///
    /// # Errors
    /// [`Denied`] where the view may not be read at all.
    fn of(&self, version: &ViewVersion) -> Result<Option<Arc<Guard>>>;

    /// Whether the asker is called so: what they did themselves is no secret to them.
    fn is_asker(&self, principal: &str) -> bool;
}

/// What is not allowed, by whom it was asked, and by which policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Denied {
    /// What was asked for, as `lineament.reads` writes it: `weather@1.temp`, `weather@1.*`.
    pub asked: String,
    message: String,
}

impl Denied {
    pub fn new(asked: impl Into<String>, message: impl Into<String>) -> Self {
        Self { asked: asked.into(), message: message.into() }
    }

    /// What an error says was denied, if it was.
    pub fn of(error: &DataFusionError) -> Option<&Self> {
        match error.find_root() {
            DataFusionError::External(cause) => cause.downcast_ref::<Self>(),
            _ => None,
        }
    }

    /// A version as a whole.
    pub fn version(version: &ViewVersion, message: impl Into<String>) -> Self {
        Self::new(format!("{}.*", version.label()), message)
    }
}

impl From<Denied> for DataFusionError {
    fn from(denied: Denied) -> Self {
        Self::External(Box::new(denied))
    }
}

/// What is kept from an asker of one version.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// Features that may not be read, by their position, and who says so.
    denied: BTreeMap<usize, String>,
    /// Those that are shown otherwise than they are. No mask here does nothing.
    masks: BTreeMap<usize, Mask>,
    key: Option<MaskKey>,
    rows: Option<Arc<VisibleRows>>,
    names: Arc<BTreeMap<String, usize>>,
}

impl Guard {
    /// # Errors
    /// [`Denied`] where a filter is none over the version's keys: what cannot be filtered is not shown.
    pub fn new(
        version: &ViewVersion,
        denied: BTreeMap<usize, String>,
        masks: BTreeMap<usize, Mask>,
        key: Option<MaskKey>,
        filters: &[RowFilter],
    ) -> Result<Self> {
        let features = &version.definition.features;
        let of_type = |(place, mask): (usize, Mask)| {
            let feature = features.get(place)?;
            Some((place, mask.of_type(&feature.data_type.arrow())))
        };
        let masks = masks.into_iter().filter_map(of_type).collect();
        let names = features.iter().enumerate().map(|(place, feature)| (feature.name.to_string(), place));
        let rows = match filters {
            [] => None,
            filters => Some(Arc::new(VisibleRows::compile(version, filters)?)),
        };
        Ok(Self { denied, masks, key, rows, names: Arc::new(names.collect()) })
    }

    /// Whether nothing is kept from the asker.
    pub fn is_open(&self) -> bool {
        self.denied.is_empty() && self.masks.is_empty() && self.rows.is_none()
    }

    /// Which rows may be seen; none where all.
    pub fn rows(&self) -> Option<&Arc<VisibleRows>> {
        self.rows.as_ref()
    }

    /// Features that are masked, by their positions.
    pub fn masks(&self) -> &BTreeMap<usize, Mask> {
        &self.masks
    }

    pub fn mask(&self, feature: usize) -> Option<Mask> {
        self.masks.get(&feature).copied()
    }

    /// Whether a column is denied or masked: no condition may look at its values.
    pub fn veils(&self, column: &str) -> bool {
        let place = self.names.get(column);
        place.is_some_and(|place| self.denied.contains_key(place) || self.masks.contains_key(place))
    }

    /// Why a feature may not be read, if so.
    pub fn denial(&self, feature: usize) -> Option<&str> {
        self.denied.get(&feature).map(String::as_str)
    }

    /// # Errors
    /// [`Denied`] for columns that hold a denied feature.
    pub fn allow<'a>(
        &self,
        version: &ViewVersion,
        columns: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), Denied> {
        let refused: BTreeSet<usize> = columns
            .into_iter()
            .filter_map(|column| self.names.get(column).copied())
            .filter(|place| self.denied.contains_key(place))
            .collect();
        let Some(first) = refused.first() else { return Ok(()) };
        let names = refused.iter().filter_map(|place| version.definition.features.get(*place));
        let names: Vec<String> =
            names.map(|feature| format!("{}.{}", version.label(), feature.name)).collect();
        let why = self.denied.get(first).map_or("", String::as_str);
        Err(Denied::new(
            names.join(", "),
            format!(
                "`{}` may not be read: {why}; leave it out, or ask whoever governs the store",
                names.join("`, `")
            ),
        ))
    }

    /// The values of a feature as they are shown.
    pub fn shown(&self, feature: usize, values: ArrayRef) -> ArrayRef {
        match (self.mask(feature), &self.key) {
            (None, _) => values,
            (Some(mask), Some(key)) => mask.apply(&values, key),
            // Without the secret nothing can be hashed.
            (Some(mask @ Mask::Round(_)), None) => mask.apply(&values, &MaskKey::new([0; 32])),
            (Some(_), None) => arrow::array::new_null_array(values.data_type(), values.len()),
        }
    }

    /// Rows with those of their columns masked that are; columns go by their names.
    pub fn masked(&self, batch: RecordBatch) -> Result<RecordBatch> {
        if self.masks.is_empty() {
            return Ok(batch);
        }
        let (schema, mut columns, rows) = batch.into_parts();
        for (field, column) in schema.fields().iter().zip(&mut columns) {
            if let Some(place) = self.names.get(field.name()) {
                *column = self.shown(*place, column.clone());
            }
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
    }
}
