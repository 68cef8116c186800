//! A table of a checkpoint as Parquet, of which some columns of some rows are read at a time.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use bytes::Bytes;
use feature::Sequence;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelectionPolicy,
};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, Encoding};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use storage::checkpoint::PartBytes;

use super::by_line;
use crate::state::Table;

/// Columns of bytes that look random: neither a dictionary nor compression makes them smaller.
const RANDOM: [&str; 9] = [
    "batch",
    "training_set",
    "digest",
    "manifest.digest",
    "body.digest",
    "quarantine.digest",
    "profile.digest",
    "sources.list.element.digest",
    "selected.list.element.hits.list.element.batch",
];
/// Columns of numbers that grow by little.
const GROWING: [&str; 3] = ["sequence", "committed_at", "place"];

/// Of the table that is read by lines: rows of a group, whose dictionaries and list of pages every reader passes, and of a page, all of
/// which is decoded.
const GROUP_ROWS: usize = 65_536;
const PAGE_ROWS: usize = 1_024;
/// Of the others.
const LARGE_GROUP_ROWS: usize = 1 << 20;
/// A group of fewer rows is read whole: what lies before is passed faster than it is found.
const READ_WHOLE: usize = 64;

/// The columns of a table's file.
pub(crate) fn schema(table: Table) -> SchemaRef {
    if table == Table::Batches { by_line::schema() } else { table.schema() }
}

/// The bytes of a table's file; the same rows give the same bytes from the same program.
pub(crate) fn encode(table: Table, rows: &RecordBatch) -> Result<Bytes, ParquetError> {
    let path = |column: &str| ColumnPath::from(column.split('.').map(str::to_owned).collect::<Vec<_>>());
    let mut properties = WriterProperties::builder()
        .set_created_by("lineament".to_owned())
        .set_compression(Compression::LZ4_RAW)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_max_row_group_row_count(Some(LARGE_GROUP_ROWS));
    if table == Table::Batches {
        properties = properties
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_data_page_row_count_limit(PAGE_ROWS)
            .set_write_batch_size(PAGE_ROWS);
    }
    for column in GROWING.into_iter().map(path) {
        properties = properties
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
    }
    // Digests of sets and definitions are text, which is like others often enough.
    if !matches!(table, Table::TrainingSets | Table::Definitions) {
        for column in RANDOM.into_iter().map(path) {
            properties = properties
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_compression(column, Compression::UNCOMPRESSED);
        }
    }
    let options =
        ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), rows.schema(), options)?;
    writer.write(rows)?;
    Ok(writer.into_inner()?.into())
}

/// A file of a table that was opened. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct TableFile {
    table: Table,
    /// Entries that its rows belong to, both ends included.
    pub from: Sequence,
    pub until: Sequence,
    pub rows: usize,
    bytes: PartBytes,
    metadata: ArrowReaderMetadata,
}

impl TableFile {
    /// # Errors
    /// Where it is no readable Parquet file, or has other columns or another number of rows than it should.
    pub fn open(
        table: Table,
        (from, until): (Sequence, Sequence),
        rows: u64,
        bytes: PartBytes,
    ) -> Result<Self, String> {
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let metadata = ArrowReaderMetadata::load(&bytes, options)
            .map_err(|error| wrong(table, &format!("is not a readable Parquet file ({error})")))?;
        let found = metadata.metadata().file_metadata().num_rows();
        if u64::try_from(found) != Ok(rows) {
            return Err(wrong(table, &format!("has {found} rows, and {rows} were written")));
        }
        let types = |fields: &arrow::datatypes::Fields| -> Vec<_> {
            fields.iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
        };
        if types(metadata.schema().fields()) != types(schema(table).fields()) {
            return Err(wrong(table, "has other columns than this program writes"));
        }
        let rows = usize::try_from(rows).map_err(|error| wrong(table, &error.to_string()))?;
        Ok(Self { table, from, until, rows, bytes, metadata })
    }

    /// Rows that were just encoded, as a file.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn of(table: Table, range: (Sequence, Sequence), rows: u64, bytes: Bytes) -> Result<Self, String> {
        Self::open(table, range, rows, bytes.into())
    }

    /// Which rows each group has.
    pub fn groups(&self) -> Vec<Range<usize>> {
        let mut from = 0;
        let groups = self.metadata.metadata().row_groups().iter().map(|group| {
            let until = from + usize::try_from(group.num_rows()).unwrap_or_default();
            std::mem::replace(&mut from, until)..until
        });
        groups.collect()
    }

    /// All columns of all rows.
    ///
    /// # Errors
    /// Where they cannot be read, or are null where they may not be.
    pub fn all(&self) -> Result<RecordBatch, String> {
        self.read(&[], 0..self.rows)
    }

    /// Some columns of some rows, the columns in the order of the table; all of them where none is named.
    ///
    /// # Errors
    /// As [`Self::all`].
    pub fn read(&self, columns: &[&str], rows: Range<usize>) -> Result<RecordBatch, String> {
        self.read_as(&self.metadata, &schema(self.table), columns, rows)
    }

    /// The same with these columns of text as dictionaries.
    ///
    /// # Errors
    /// As [`Self::all`].
    pub fn read_with_dictionaries(
        &self,
        columns: &[&str],
        dictionaries: &[&str],
        rows: Range<usize>,
    ) -> Result<RecordBatch, String> {
        let dictionary = |field: &FieldRef| -> FieldRef {
            if !dictionaries.contains(&field.name().as_str()) {
                return field.clone();
            }
            let of = DataType::Dictionary(Box::new(DataType::Int32), Box::new(field.data_type().clone()));
            Arc::new(Field::new(field.name(), of, field.is_nullable()))
        };
        let told = |schema: &Schema| Schema::new(schema.fields().iter().map(dictionary).collect::<Vec<_>>());
        let (read, wanted) = (told(self.metadata.schema()), told(&schema(self.table)));
        let options = ArrowReaderOptions::new().with_schema(Arc::new(read));
        let metadata = ArrowReaderMetadata::try_new(self.metadata.metadata().clone(), options)
            .map_err(|error| self.unreadable(&error))?;
        self.read_as(&metadata, &wanted, columns, rows)
    }

    fn read_as(
        &self,
        metadata: &ArrowReaderMetadata,
        schema: &Schema,
        columns: &[&str],
        rows: Range<usize>,
    ) -> Result<RecordBatch, String> {
        let places: Vec<usize> = (0..schema.fields().len())
            .filter(|place| columns.is_empty() || columns.contains(&schema.field(*place).name().as_str()))
            .collect();
        let projected = Arc::new(schema.project(&places).map_err(|error| self.unreadable(&error))?);
        if rows.is_empty() {
            return Ok(RecordBatch::new_empty(projected));
        }
        let mut groups = Vec::new();
        let mut before = None;
        for (place, group) in self.groups().into_iter().enumerate() {
            if group.start < rows.end && rows.start < group.end {
                groups.push(place);
                before.get_or_insert(rows.start.saturating_sub(group.start));
            }
        }
        let mask = ProjectionMask::roots(metadata.parquet_schema(), places);
        let builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(self.bytes.clone(), metadata.clone())
                .with_projection(mask)
                .with_row_groups(groups)
                .with_batch_size(rows.len().max(READ_WHOLE))
                .with_row_selection_policy(RowSelectionPolicy::Selectors)
                .with_offset(before.unwrap_or_default())
                .with_limit(rows.len());
        let reader = builder.build().map_err(|error| self.unreadable(&error))?;
        let batches = reader.collect::<Result<Vec<_>, _>>().map_err(|error| self.unreadable(&error))?;
        let all = match batches.as_slice() {
            [all] => all.clone(),
            several => {
                let schema = several.first().map_or_else(|| projected.clone(), RecordBatch::schema);
                concat_batches(&schema, several).map_err(|error| self.unreadable(&error))?
            }
        };
        if all.num_rows() != rows.len() {
            return Err(self.unreadable(&"it has fewer rows than it says"));
        }
        // This also finds nulls where none may be.
        RecordBatch::try_new(projected, all.columns().to_vec()).map_err(|error| self.unreadable(&error))
    }

    /// What is wrong with rows that do not belong to the entries of the file.
    pub fn of_no_entry(&self) -> String {
        format!("rows of its table `{}` belong to no entry of it", self.table.name())
    }

    fn unreadable(&self, error: &dyn std::fmt::Display) -> String {
        wrong(self.table, &format!("cannot be read ({error})"))
    }
}

fn wrong(table: Table, why: &str) -> String {
    format!("its table `{}` {why}", table.name())
}
