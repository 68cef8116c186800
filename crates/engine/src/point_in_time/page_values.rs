//! Values of single rows, straight from the pages of a column: what no row asks for is not decoded.
//!
//! A value of a plain page lies at a place that its number tells; one of a dictionary page is an index of a few bits, which is found by
//! walking the page's runs (Parquet's hybrid of run lengths and bit packing, <https://parquet.apache.org/docs/file-format/data-pages/encodings/>).
//! Pages whose rows are not asked for are not read at all. Columns of other encodings are left to Parquet's own reader.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, PrimitiveArray, StringViewArray, StringViewBuilder,
    UInt32Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::take;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Decimal128Type, Float32Type, Float64Type};
use bytes::{Buf, Bytes};
use datafusion::parquet::arrow::arrow_reader::ArrowReaderMetadata;
use datafusion::parquet::basic::{Encoding, Type};
use datafusion::parquet::column::page::{Page, PageReader};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::page_index::offset_index::PageLocation;
use datafusion::parquet::file::reader::{ChunkReader, Length};
use datafusion::parquet::file::serialized_reader::SerializedPageReader;

/// Above this share of a chunk's pages, all of it is read in one piece.
const WHOLE_ABOVE: f64 = 0.7;

/// By page: which of the rows that are asked for lie in it.
type ByPage = Arc<[Range<usize>]>;

/// The rows of one row group that are asked for. Columns whose pages hold the same rows share where these lie.
pub struct GroupRows {
    group: usize,
    /// Ascending, counted from the group's first row; a row may stand there several times.
    rows: Arc<[u32]>,
    /// Of the last column: the first row of each page, and the rows by page.
    last: Option<(Vec<i64>, ByPage)>,
}

/// One column of one row group, and the rows of it that are asked for.
pub struct ColumnRows<'a> {
    footer: &'a ArrowReaderMetadata,
    group: usize,
    column: usize,
    /// As the group's.
    rows: Arc<[u32]>,
    of_page: ByPage,
}

/// Whether values of a column, by its position, can be had this way.
pub fn has_direct_values(footer: &ArrowReaderMetadata, column: usize) -> bool {
    let metadata = footer.metadata();
    if footer.parquet_schema().num_columns() != footer.schema().fields().len() {
        return false;
    }
    let kind = footer.schema().field(column).data_type();
    metadata.offset_index().is_some()
        && metadata.row_groups().iter().all(|group| {
            let chunk = group.column(column);
            let description = chunk.column_descr();
            let physical = matches!(
                (chunk.column_type(), kind),
                (Type::DOUBLE, DataType::Float64)
                    | (Type::FLOAT, DataType::Float32)
                    | (Type::BYTE_ARRAY, DataType::Utf8View)
                    | (Type::FIXED_LEN_BYTE_ARRAY, DataType::FixedSizeBinary(16))
            );
            physical
                && description.max_rep_level() == 0
                && description.max_def_level() <= 1
                && chunk.encodings().all(|encoding| {
                    matches!(encoding, Encoding::PLAIN | Encoding::RLE | Encoding::RLE_DICTIONARY)
                })
        })
}

impl GroupRows {
    /// `rows` are the file's, ascending, all in the row group, whose first row is `first`.
    pub fn new(group: usize, rows: &[u32], first: u64) -> Self {
        let rows = rows.iter().map(|row| (u64::from(*row) - first) as u32).collect();
        Self { group, rows, last: None }
    }

    fn of_pages(&mut self, pages: &[PageLocation]) -> ByPage {
        if let Some((firsts, of_page)) = &self.last
            && pages.iter().map(|page| page.first_row_index).eq(firsts.iter().copied())
        {
            return of_page.clone();
        }
        let firsts: Vec<i64> = pages.iter().map(|page| page.first_row_index).collect();
        let mut from = 0;
        let ends = firsts.iter().skip(1).map(|first| *first as u32).chain([u32::MAX]);
        let of_page: ByPage = ends
            .map(|end| {
                let until = from + self.rows[from..].partition_point(|row| *row < end);
                std::mem::replace(&mut from, until)..until
            })
            .collect();
        self.last = Some((firsts, of_page.clone()));
        of_page
    }
}

impl<'a> ColumnRows<'a> {
    /// None where the file does not say where its pages begin.
    pub fn new(footer: &'a ArrowReaderMetadata, column: usize, rows: &mut GroupRows) -> Option<Self> {
        let of_page = rows.of_pages(locations(footer, rows.group, column)?);
        Some(Self { footer, group: rows.group, column, rows: rows.rows.clone(), of_page })
    }

    /// How many pages hold one of the rows, of how many.
    pub fn pages(&self) -> (usize, usize) {
        (self.of_page.iter().filter(|rows| !rows.is_empty()).count(), self.of_page.len())
    }

    fn chunk(&self) -> &'a datafusion::parquet::file::metadata::ColumnChunkMetaData {
        self.footer.metadata().row_group(self.group).column(self.column)
    }

    fn locations(&self) -> &'a [PageLocation] {
        locations(self.footer, self.group, self.column).unwrap_or_default()
    }

    /// The stretches of the file that hold the values, ascending.
    pub fn stretches(&self) -> Vec<Range<u64>> {
        let (start, length) = self.chunk().byte_range();
        let (hit, all) = self.pages();
        let mut stretches: Vec<Range<u64>> = Vec::new();
        if hit as f64 > WHOLE_ABOVE * all as f64 {
            stretches.push(start..start + length);
            return stretches;
        }
        let locations = self.locations();
        if let Some(first) = locations.first()
            && first.offset as u64 > start
        {
            // The dictionary.
            stretches.push(start..first.offset as u64);
        }
        for (page, _) in locations.iter().zip(self.of_page.iter()).filter(|(_, rows)| !rows.is_empty()) {
            let page = page.offset as u64..page.offset as u64 + page.compressed_page_size as u64;
            match stretches.last_mut() {
                Some(last) if last.end == page.start => last.end = page.end,
                _ => stretches.push(page),
            }
        }
        stretches
    }

    /// The values of the rows, in their order. None where a page is of a kind that is left to Parquet's own reader.
    ///
    /// # Errors
    /// Pages that are damaged.
    pub fn values(&self, bytes: Vec<(u64, Bytes)>) -> Result<Option<ArrayRef>, ParquetError> {
        match self.footer.schema().field(self.column).data_type() {
            DataType::Float64 => self.fixed::<Float64Type, 8>(bytes, f64::from_le_bytes),
            DataType::Float32 => self.fixed::<Float32Type, 4>(bytes, f32::from_le_bytes),
            DataType::Utf8View => self.text(bytes),
            DataType::FixedSizeBinary(16) => self.ids(bytes),
            _ => Ok(None),
        }
    }

    /// Sixteen bytes each.
    fn ids(&self, bytes: Vec<(u64, Bytes)>) -> Result<Option<ArrayRef>, ParquetError> {
        let numbers = self.fixed::<Decimal128Type, 16>(bytes, i128::from_le_bytes)?;
        Ok(numbers.map(|numbers| -> ArrayRef {
            let numbers = numbers.as_primitive::<Decimal128Type>();
            let bytes: Vec<u8> = numbers.values().iter().flat_map(|number| number.to_le_bytes()).collect();
            Arc::new(FixedSizeBinaryArray::new(16, bytes.into(), numbers.nulls().cloned()))
        }))
    }

    fn fixed<T: ArrowPrimitiveType, const WIDTH: usize>(
        &self,
        bytes: Vec<(u64, Bytes)>,
        read: impl Fn([u8; WIDTH]) -> T::Native + Copy,
    ) -> Result<Option<ArrayRef>, ParquetError> {
        let mut values: Vec<T::Native> = Vec::with_capacity(self.rows.len());
        let mut nulls = Nulls::new(self.rows.len());
        let complete = self.each_page(
            bytes,
            |page| Ok(page.as_chunks::<WIDTH>().0.iter().map(|value| read(*value)).collect::<Vec<_>>()),
            |dictionary, page, rows| {
                match page.encoding {
                    Encoding::PLAIN => {
                        let stored = page.values.as_chunks::<WIDTH>().0;
                        page.places(rows, |place| {
                            values.push(match place {
                                Some(place) => read(*stored.get(place).ok_or_else(too_short)?),
                                None => nulls.null(values.len()),
                            });
                            Ok(())
                        })?;
                    }
                    Encoding::RLE_DICTIONARY => {
                        let mut indices = Indices::new(page.values)?;
                        page.places(rows, |place| {
                            values.push(match place {
                                Some(place) => {
                                    let index = indices.get(place)?;
                                    *dictionary.get(index as usize).ok_or_else(too_short)?
                                }
                                None => nulls.null(values.len()),
                            });
                            Ok(())
                        })?;
                    }
                    _ => return Ok(false),
                }
                Ok(true)
            },
        )?;
        let array = || -> ArrayRef { Arc::new(PrimitiveArray::<T>::new(values.into(), nulls.finish())) };
        Ok(complete.map(|_| array()))
    }

    fn text(&self, bytes: Vec<(u64, Bytes)>) -> Result<Option<ArrayRef>, ParquetError> {
        let mut places: Vec<u32> = Vec::with_capacity(self.rows.len());
        let mut nulls = Nulls::new(self.rows.len());
        let complete = self.each_page(
            bytes,
            |page| {
                let mut texts = StringViewBuilder::new();
                let mut rest = page;
                while let Some((length, after)) = rest.split_first_chunk::<4>() {
                    let text = after.get(..u32::from_le_bytes(*length) as usize).ok_or_else(too_short)?;
                    texts.append_value(std::str::from_utf8(text).map_err(|_| damaged("text is no UTF-8"))?);
                    rest = &after[text.len()..];
                }
                Ok(Some(texts.finish()))
            },
            |texts, page, rows| {
                if page.encoding != Encoding::RLE_DICTIONARY {
                    return Ok(false);
                }
                let mut indices = Indices::new(page.values)?;
                page.places(rows, |place| {
                    places.push(match place {
                        Some(place) => {
                            let index = indices.get(place)?;
                            if index as usize >= texts.as_ref().map_or(0, StringViewArray::len) {
                                return Err(too_short());
                            }
                            index
                        }
                        None => nulls.null(places.len()),
                    });
                    Ok(())
                })?;
                Ok(true)
            },
        )?;
        let Some(Some(dictionary)) = complete else { return Ok(None) };
        Ok(Some(take(&dictionary, &UInt32Array::new(places.into(), nulls.finish()), None)?))
    }

    /// Reads the dictionary, which it gives back, and calls with it and each page that holds some of the rows. None where a call said false, or
    /// a page is of an older kind.
    fn each_page<D: Default>(
        &self,
        bytes: Vec<(u64, Bytes)>,
        dictionary: impl Fn(&[u8]) -> Result<D, ParquetError>,
        mut page: impl FnMut(&D, DataPage<'_>, Rows<'_>) -> Result<bool, ParquetError>,
    ) -> Result<Option<D>, ParquetError> {
        let group_rows = self.footer.metadata().row_group(self.group).num_rows() as usize;
        let (chunk, locations) = (self.chunk(), self.locations());
        let has_dictionary =
            locations.first().is_some_and(|first| first.offset as u64 > chunk.byte_range().0);
        let stretches = Arc::new(Stretches(bytes));
        let mut reader = SerializedPageReader::new(stretches, chunk, group_rows, Some(locations.to_vec()))?;
        let mut known = D::default();
        if has_dictionary {
            match reader.get_next_page()? {
                Some(Page::DictionaryPage { buf, .. }) => known = dictionary(&buf)?,
                _ => return Ok(None),
            }
        }
        for (location, rows) in locations.iter().zip(self.of_page.iter()) {
            if rows.is_empty() {
                reader.skip_next_page()?;
                continue;
            }
            let Some(Page::DataPageV2 {
                buf,
                num_values,
                encoding,
                num_nulls,
                def_levels_byte_len,
                rep_levels_byte_len: 0,
                ..
            }) = reader.get_next_page()?
            else {
                return Ok(None);
            };
            let levels = buf.get(..def_levels_byte_len as usize).ok_or_else(too_short)?;
            let values = &buf[levels.len()..];
            let valid = (num_nulls > 0).then(|| Valid::new(levels, num_values as usize)).transpose()?;
            let rows = Rows { rows: &self.rows[rows.clone()], first: location.first_row_index as u32 };
            if !page(&known, DataPage { encoding, values, valid }, rows)? {
                return Ok(None);
            }
        }
        Ok(Some(known))
    }
}

fn locations(footer: &ArrowReaderMetadata, group: usize, column: usize) -> Option<&[PageLocation]> {
    let index = footer.metadata().offset_index()?;
    Some(index.get(group)?.get(column)?.page_locations())
}

fn too_short() -> ParquetError {
    damaged("a page ends before its last value")
}

fn damaged(why: &str) -> ParquetError {
    ParquetError::General(format!("it is damaged: {why}"))
}

/// The rows of one page that are asked for.
struct Rows<'a> {
    rows: &'a [u32],
    /// The page's first row.
    first: u32,
}

struct DataPage<'a> {
    encoding: Encoding,
    values: &'a [u8],
    /// Which rows have a value; none where all have.
    valid: Option<Valid>,
}

impl DataPage<'_> {
    /// Calls with the place of each row's value among those that are stored; with none for a null.
    fn places(
        &self,
        Rows { rows, first }: Rows<'_>,
        mut each: impl FnMut(Option<usize>) -> Result<(), ParquetError>,
    ) -> Result<(), ParquetError> {
        match &self.valid {
            None => {
                for row in rows {
                    each(Some((row - first) as usize))?;
                }
            }
            Some(valid) => {
                let (mut word, mut before) = (0, 0);
                for row in rows {
                    let row = (row - first) as usize;
                    while word < row / 64 {
                        before += valid.0.get(word).ok_or_else(too_short)?.count_ones() as usize;
                        word += 1;
                    }
                    let bits = valid.0.get(word).ok_or_else(too_short)?;
                    let bit = 1u64 << (row % 64);
                    let place = before + (bits & (bit - 1)).count_ones() as usize;
                    each((bits & bit != 0).then_some(place))?;
                }
            }
        }
        Ok(())
    }
}

/// A bit a row: whether it has a value.
struct Valid(Vec<u64>);

impl Valid {
    /// From definition levels of one bit.
    fn new(levels: &[u8], rows: usize) -> Result<Self, ParquetError> {
        let mut words = vec![0u64; rows.div_ceil(64)];
        let mut runs = Runs { bytes: levels, width: 1, next: 0 };
        while runs.next < rows {
            let from = runs.next;
            let run = runs.run()?;
            let until = runs.next.min(rows);
            match run {
                Run::Repeated(0) => {}
                Run::Repeated(_) => {
                    for row in from..until {
                        words[row / 64] |= 1 << (row % 64);
                    }
                }
                Run::Packed(bytes) => {
                    // Runs of packed values are a multiple of eight long, but may begin anywhere.
                    for row in from..until {
                        let place = row - from;
                        let bit = bytes.get(place / 8).ok_or_else(too_short)? >> (place % 8) & 1;
                        words[row / 64] |= u64::from(bit) << (row % 64);
                    }
                }
            }
        }
        Ok(Self(words))
    }
}

/// The rows that are null, as they come.
struct Nulls {
    rows: usize,
    valid: Option<Vec<bool>>,
}

impl Nulls {
    fn new(rows: usize) -> Self {
        Self { rows, valid: None }
    }

    /// Notes that a row is null; what is stored for it.
    fn null<T: Default>(&mut self, row: usize) -> T {
        let valid = self.valid.get_or_insert_with(|| vec![true; self.rows]);
        if let Some(valid) = valid.get_mut(row) {
            *valid = false;
        }
        T::default()
    }

    fn finish(self) -> Option<NullBuffer> {
        self.valid.map(NullBuffer::from)
    }
}

enum Run<'a> {
    Repeated(u32),
    Packed(&'a [u8]),
}

/// Runs of repeated or bit-packed numbers.
struct Runs<'a> {
    bytes: &'a [u8],
    width: usize,
    /// The number of the first value after the last run.
    next: usize,
}

impl<'a> Runs<'a> {
    fn run(&mut self) -> Result<Run<'a>, ParquetError> {
        let mut header = 0u64;
        for shift in (0..35).step_by(7) {
            let (byte, rest) = self.bytes.split_first().ok_or_else(too_short)?;
            self.bytes = rest;
            header |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let count = (header >> 1) as usize;
        if header & 1 == 1 {
            self.next += count * 8;
            // The last run may be cut short.
            let (packed, rest) = self.bytes.split_at(self.bytes.len().min(count * self.width));
            self.bytes = rest;
            Ok(Run::Packed(packed))
        } else {
            self.next += count;
            let (value, rest) = self.bytes.split_at_checked(self.width.div_ceil(8)).ok_or_else(too_short)?;
            self.bytes = rest;
            let mut wide = [0; 4];
            wide.get_mut(..value.len()).ok_or_else(too_short)?.copy_from_slice(value);
            // An empty run would be met again and again.
            if count == 0 {
                Err(damaged("a page has a run of nothing"))
            } else {
                Ok(Run::Repeated(u32::from_le_bytes(wide)))
            }
        }
    }
}

/// Indices into a dictionary, asked for in ascending order of their places.
struct Indices<'a> {
    runs: Runs<'a>,
    run: Run<'a>,
    /// The place of the run's first index.
    first: usize,
    mask: u64,
}

impl<'a> Indices<'a> {
    fn new(page: &'a [u8]) -> Result<Self, ParquetError> {
        let (width, bytes) = page.split_first().ok_or_else(too_short)?;
        if *width > 32 {
            return Err(damaged("indices have more than 32 bits"));
        }
        let width = usize::from(*width);
        let runs = Runs { bytes, width, next: 0 };
        Ok(Self { runs, run: Run::Repeated(0), first: 0, mask: (1 << width) - 1 })
    }

    fn get(&mut self, place: usize) -> Result<u32, ParquetError> {
        while place >= self.runs.next {
            self.first = self.runs.next;
            self.run = self.runs.run()?;
            if self.runs.next == self.first {
                return Err(damaged("a page has a run of nothing"));
            }
        }
        match &self.run {
            Run::Repeated(index) => Ok(*index),
            Run::Packed(bytes) => {
                let bit = (place - self.first) * self.runs.width;
                let wide = match bytes.get(bit / 8..bit / 8 + 8).and_then(|wide| wide.first_chunk::<8>()) {
                    Some(wide) => u64::from_le_bytes(*wide),
                    None => {
                        let rest = bytes.get(bit / 8..).ok_or_else(too_short)?;
                        let mut wide = [0; 8];
                        wide[..rest.len()].copy_from_slice(rest);
                        u64::from_le_bytes(wide)
                    }
                };
                Ok((wide >> (bit % 8) & self.mask) as u32)
            }
        }
    }
}

/// Parts of a file, ascending by where they begin.
struct Stretches(Vec<(u64, Bytes)>);

impl Length for Stretches {
    fn len(&self) -> u64 {
        self.0.last().map_or(0, |(start, bytes)| start + bytes.len() as u64)
    }
}

impl ChunkReader for Stretches {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let (place, bytes) = self.part(start)?;
        Ok(bytes.slice((start - place) as usize..).reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let (place, bytes) = self.part(start)?;
        let from = (start - place) as usize;
        if from + length > bytes.len() {
            return Err(too_short());
        }
        Ok(bytes.slice(from..from + length))
    }
}

impl Stretches {
    fn part(&self, start: u64) -> Result<&(u64, Bytes), ParquetError> {
        let after = self.0.partition_point(|(place, _)| *place <= start);
        let part = after.checked_sub(1).and_then(|index| self.0.get(index));
        part.filter(|(place, bytes)| start - place <= bytes.len() as u64).ok_or_else(too_short)
    }
}

#[cfg(test)]
mod tests;
