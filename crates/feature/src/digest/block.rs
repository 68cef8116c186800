//! The values of one block of one column, brought into the canonical form that is hashed.
//!
//! A block is filled from arrays of any encoding and in any pieces. What is written for it is the `body` of the
//! format: u32 null count, the validity bitmap if there is a null, then the payload of the type; nested types
//! hold blocks of their children.

use arrow::array::{Array, ArrayRef, AsArray, BooleanBufferBuilder, OffsetSizeTrait, UInt64Array};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::compute::take;
use arrow::datatypes::{
    ArrowNativeType, DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type,
    Decimal256Type, DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType,
    DurationSecondType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    RunEndIndexType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType,
    TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, ToByteSlice, UInt8Type, UInt16Type, UInt32Type, UInt64Type, i256,
};

use super::hasher::Hasher;

#[cfg(target_endian = "big")]
compile_error!("digests take Arrow's buffers as they lie in memory, which must be little-endian");

const MILLIS_OF_DAY: i64 = 86_400_000;

pub(super) struct Block {
    rows: u64,
    nulls: u64,
    /// Present from the first null on.
    validity: Option<BooleanBufferBuilder>,
    payload: Payload,
}

enum Payload {
    Nothing,
    Bits(BooleanBufferBuilder),
    /// Values of this many bytes each.
    Fixed(usize, Vec<u8>),
    /// Text or bytes: the length of every row, then all bytes.
    Bytes(Vec<u32>, Vec<u8>),
    List(Vec<u32>, Box<Block>),
    /// This many children a row.
    FixedList(usize, Box<Block>),
    Struct(Vec<Block>),
    /// Entries of every row, keys, values.
    Map(Vec<u32>, Box<Block>, Box<Block>),
}

impl Block {
    /// An empty block for columns of the type; `None` where `lmt1` refuses the type.
    pub fn new(data_type: &DataType) -> Option<Self> {
        let child = |field: &arrow::datatypes::FieldRef| Self::new(field.data_type());
        let payload = match data_type {
            DataType::Null => Payload::Nothing,
            DataType::Boolean => Payload::Bits(BooleanBufferBuilder::new(0)),
            DataType::Int8 | DataType::UInt8 => Payload::Fixed(1, Vec::new()),
            DataType::Int16 | DataType::UInt16 | DataType::Float16 => Payload::Fixed(2, Vec::new()),
            DataType::Int32 | DataType::UInt32 | DataType::Float32 | DataType::Date32 | DataType::Date64 => {
                Payload::Fixed(4, Vec::new())
            }
            DataType::Int64
            | DataType::UInt64
            | DataType::Float64
            | DataType::Time32(_)
            | DataType::Time64(_)
            | DataType::Timestamp(_, _)
            | DataType::Duration(_) => Payload::Fixed(8, Vec::new()),
            DataType::Decimal32(precision, _)
            | DataType::Decimal64(precision, _)
            | DataType::Decimal128(precision, _)
            | DataType::Decimal256(precision, _) => {
                Payload::Fixed(if *precision <= 38 { 16 } else { 32 }, Vec::new())
            }
            DataType::FixedSizeBinary(size) => Payload::Fixed(usize::try_from(*size).ok()?, Vec::new()),
            DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView => Payload::Bytes(Vec::new(), Vec::new()),
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::ListView(item)
            | DataType::LargeListView(item) => Payload::List(Vec::new(), Box::new(child(item)?)),
            DataType::FixedSizeList(item, size) => {
                Payload::FixedList(usize::try_from(*size).ok()?, Box::new(child(item)?))
            }
            DataType::Struct(fields) => Payload::Struct(fields.iter().map(child).collect::<Option<_>>()?),
            DataType::Map(entries, _) => {
                let DataType::Struct(fields) = entries.data_type() else { return None };
                let [key, value] = &fields[..] else { return None };
                Payload::Map(Vec::new(), Box::new(child(key)?), Box::new(child(value)?))
            }
            DataType::Dictionary(_, value) => return Self::new(value),
            DataType::RunEndEncoded(_, value) => return child(value),
            DataType::Interval(_) | DataType::Union(_, _) => return None,
        };
        Some(Self { rows: 0, nulls: 0, validity: None, payload })
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Empties the block, keeping its memory for the next.
    pub fn clear(&mut self) {
        self.rows = 0;
        self.nulls = 0;
        self.validity = None;
        match &mut self.payload {
            Payload::Nothing => {}
            Payload::Bits(bits) => bits.truncate(0),
            Payload::Fixed(_, bytes) => bytes.clear(),
            Payload::Bytes(lengths, bytes) => {
                lengths.clear();
                bytes.clear();
            }
            Payload::List(lengths, values) => {
                lengths.clear();
                values.clear();
            }
            Payload::FixedList(_, values) => values.clear(),
            Payload::Struct(children) => children.iter_mut().for_each(Self::clear),
            Payload::Map(lengths, keys, values) => {
                lengths.clear();
                keys.clear();
                values.clear();
            }
        }
    }

    /// Adds all rows of the array, whose type must have the same type text as the block's. Rows that are null in
    /// `parent` are null here too.
    pub fn append(&mut self, array: &ArrayRef, parent: Option<&NullBuffer>) -> Result<(), String> {
        match array.data_type() {
            DataType::Dictionary(_, _) => return self.append_dictionary(array, parent),
            DataType::RunEndEncoded(_, _) => return self.append(&without_runs(array)?, parent),
            _ => {}
        }
        let nulls = NullBuffer::union(parent, array.logical_nulls().as_ref());
        let nulls = nulls.as_ref().filter(|nulls| nulls.null_count() > 0);
        self.append_validity(array.len(), nulls)?;
        match &mut self.payload {
            Payload::Nothing => {}
            Payload::Bits(bits) => {
                let values = array.as_boolean_opt().ok_or_else(|| unexpected(array))?.values();
                match nulls {
                    None => bits.append_buffer(values),
                    Some(nulls) => bits.append_buffer(&(values & nulls.inner())),
                }
            }
            Payload::Fixed(width, bytes) => append_fixed(*width, bytes, array, nulls)?,
            Payload::Bytes(lengths, bytes) => append_bytes(lengths, bytes, array, nulls)?,
            Payload::List(lengths, values) => append_list(lengths, values, array, nulls)?,
            Payload::FixedList(size, values) => {
                let list = array.as_fixed_size_list_opt().ok_or_else(|| unexpected(array))?;
                if *size > 0 {
                    array.len().checked_mul(*size).ok_or("the lists hold too many values")?;
                    let nulls = nulls.map(|nulls| nulls.expand(*size));
                    values.append(list.values(), nulls.as_ref())?;
                }
            }
            Payload::Struct(children) => {
                let columns = array.as_struct_opt().ok_or_else(|| unexpected(array))?.columns();
                for (child, column) in children.iter_mut().zip(columns) {
                    child.append(column, nulls)?;
                }
            }
            Payload::Map(lengths, keys, values) => {
                let map = array.as_map_opt().ok_or_else(|| unexpected(array))?;
                let offsets = map.offsets();
                let range = |row: usize| (offsets[row].as_usize(), offsets[row + 1].as_usize());
                let runs = ranges(lengths, array.len(), nulls, range)?;
                for (from, until) in runs {
                    keys.append(&map.keys().slice(from, until - from), None)?;
                    values.append(&map.values().slice(from, until - from), None)?;
                }
            }
        }
        Ok(())
    }

    fn append_dictionary(&mut self, array: &ArrayRef, parent: Option<&NullBuffer>) -> Result<(), String> {
        let dictionary = array.as_any_dictionary_opt().ok_or_else(|| unexpected(array))?;
        let values = dictionary.values();
        let Payload::Bytes(lengths, bytes) = &mut self.payload else {
            let plain = take(values.as_ref(), dictionary.keys(), None).map_err(|error| error.to_string())?;
            return self.append(&plain, parent);
        };
        let Some(value) = bytes_of(values) else {
            // A dictionary of dictionaries or of runs.
            let plain = take(values.as_ref(), dictionary.keys(), None).map_err(|error| error.to_string())?;
            return self.append(&plain, parent);
        };
        let nulls = NullBuffer::union(parent, array.logical_nulls().as_ref());
        let nulls = nulls.as_ref().filter(|nulls| nulls.null_count() > 0);
        let keys = if values.is_empty() { vec![0; array.len()] } else { dictionary.normalized_keys() };
        append_rows(lengths, bytes, array.len(), nulls, |row| value(keys[row]))?;
        self.append_validity(array.len(), nulls)
    }

    fn append_validity(&mut self, rows: usize, nulls: Option<&NullBuffer>) -> Result<(), String> {
        match (&mut self.validity, nulls) {
            (None, None) => {}
            (Some(validity), None) => validity.append_n(rows, true),
            (validity, Some(nulls)) => {
                let before = self.rows as usize;
                let validity = validity.get_or_insert_with(|| {
                    let mut bits = BooleanBufferBuilder::new(before + rows);
                    bits.append_n(before, true);
                    bits
                });
                validity.append_buffer(nulls.inner());
                self.nulls += nulls.null_count() as u64;
            }
        }
        self.rows += rows as u64;
        if self.rows > u64::from(u32::MAX) {
            return Err(format!("one block of it holds more than {} nested values", u32::MAX));
        }
        Ok(())
    }

    /// Hashes the block's body.
    pub fn write(&self, hasher: &mut Hasher) {
        // `append_validity` keeps the count within 32 bits.
        hasher.update(&(self.nulls as u32).to_le_bytes());
        if let Some(validity) = &self.validity {
            hasher.update(validity.as_slice());
        }
        match &self.payload {
            Payload::Nothing => {}
            Payload::Bits(bits) => hasher.update(bits.as_slice()),
            Payload::Fixed(_, bytes) => hasher.update(bytes),
            Payload::Bytes(lengths, bytes) => {
                hasher.update(lengths.to_byte_slice());
                hasher.update(bytes);
            }
            Payload::List(lengths, values) => {
                hasher.update(lengths.to_byte_slice());
                values.write(hasher);
            }
            Payload::FixedList(_, values) => values.write(hasher),
            Payload::Struct(children) => children.iter().for_each(|child| child.write(hasher)),
            Payload::Map(lengths, keys, values) => {
                hasher.update(lengths.to_byte_slice());
                keys.write(hasher);
                values.write(hasher);
            }
        }
    }

    /// The payload of an array where it is just the array's buffer: fixed width, no null, no NaN.
    pub fn direct<'a>(&self, array: &'a ArrayRef) -> Option<&'a [u8]> {
        let Payload::Fixed(width, _) = &self.payload else { return None };
        if array.null_count() > 0 || !not_a_number(array).is_empty() {
            return None;
        }
        stored(*width, array)
    }
}

/// A type that the block was not made for. The caller compares types first, so this says that an array is not
/// of the type that it names.
fn unexpected(array: &ArrayRef) -> String {
    format!("the array of type {} is not laid out as one", array.data_type())
}

/// The array without run-end encoding.
fn without_runs(array: &ArrayRef) -> Result<ArrayRef, String> {
    fn expand<R: RunEndIndexType>(array: &ArrayRef) -> Result<ArrayRef, String> {
        let runs = array.as_run_opt::<R>().ok_or_else(|| unexpected(array))?;
        let (first, last) = (runs.offset(), runs.offset() + runs.len());
        let mut row = first;
        let mut indices = Vec::with_capacity(runs.len());
        for (index, end) in runs.run_ends().values().iter().enumerate() {
            let end = end.as_usize().min(last);
            if end > row {
                indices.resize(indices.len() + (end - row), index as u64);
                row = end;
            }
        }
        take(runs.values().as_ref(), &UInt64Array::from(indices), None).map_err(|error| error.to_string())
    }
    match array.data_type() {
        DataType::RunEndEncoded(ends, _) => match ends.data_type() {
            DataType::Int16 => expand::<Int16Type>(array),
            DataType::Int32 => expand::<Int32Type>(array),
            _ => expand::<Int64Type>(array),
        },
        _ => Err(unexpected(array)),
    }
}

/// The value bytes of an array as they lie in memory, where that is their canonical form but for nulls and NaN.
fn stored(width: usize, array: &ArrayRef) -> Option<&[u8]> {
    macro_rules! bytes {
        ($type:ty) => {
            array.as_primitive_opt::<$type>()?.values().inner().as_slice()
        };
    }
    let bytes = match array.data_type() {
        DataType::Int8 => bytes!(Int8Type),
        DataType::Int16 => bytes!(Int16Type),
        DataType::Int32 => bytes!(Int32Type),
        DataType::Int64 => bytes!(Int64Type),
        DataType::UInt8 => bytes!(UInt8Type),
        DataType::UInt16 => bytes!(UInt16Type),
        DataType::UInt32 => bytes!(UInt32Type),
        DataType::UInt64 => bytes!(UInt64Type),
        DataType::Float16 => bytes!(Float16Type),
        DataType::Float32 => bytes!(Float32Type),
        DataType::Float64 => bytes!(Float64Type),
        DataType::Date32 => bytes!(Date32Type),
        DataType::Time64(TimeUnit::Nanosecond) => bytes!(Time64NanosecondType),
        DataType::Time64(_) => bytes!(Time64MicrosecondType),
        DataType::Timestamp(TimeUnit::Second, _) => bytes!(TimestampSecondType),
        DataType::Timestamp(TimeUnit::Millisecond, _) => bytes!(TimestampMillisecondType),
        DataType::Timestamp(TimeUnit::Microsecond, _) => bytes!(TimestampMicrosecondType),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => bytes!(TimestampNanosecondType),
        DataType::Duration(TimeUnit::Second) => bytes!(DurationSecondType),
        DataType::Duration(TimeUnit::Millisecond) => bytes!(DurationMillisecondType),
        DataType::Duration(TimeUnit::Microsecond) => bytes!(DurationMicrosecondType),
        DataType::Duration(TimeUnit::Nanosecond) => bytes!(DurationNanosecondType),
        DataType::Decimal128(_, _) => bytes!(Decimal128Type),
        DataType::Decimal256(_, _) => bytes!(Decimal256Type),
        DataType::FixedSizeBinary(_) => array.as_fixed_size_binary_opt()?.value_data(),
        _ => return None,
    };
    (Some(bytes.len()) == array.len().checked_mul(width)).then_some(bytes)
}

/// The positions of the NaNs in an array of floats.
fn not_a_number(array: &ArrayRef) -> Vec<usize> {
    fn find<T: ArrowNativeType>(values: &ScalarBuffer<T>, is_nan: impl Fn(T) -> bool) -> Vec<usize> {
        // Without a branch a value, so that the usual answer, none, comes at the speed of memory.
        if !values.iter().fold(false, |any, value| any | is_nan(*value)) {
            return Vec::new();
        }
        values.iter().enumerate().filter(|(_, value)| is_nan(**value)).map(|(row, _)| row).collect()
    }
    match array.data_type() {
        DataType::Float16 => {
            array.as_primitive_opt::<Float16Type>().map(|array| find(array.values(), |value| value.is_nan()))
        }
        DataType::Float32 => {
            array.as_primitive_opt::<Float32Type>().map(|array| find(array.values(), f32::is_nan))
        }
        DataType::Float64 => {
            array.as_primitive_opt::<Float64Type>().map(|array| find(array.values(), f64::is_nan))
        }
        _ => None,
    }
    .unwrap_or_default()
}

fn append_fixed(
    width: usize,
    bytes: &mut Vec<u8>,
    array: &ArrayRef,
    nulls: Option<&NullBuffer>,
) -> Result<(), String> {
    let start = bytes.len();
    match stored(width, array) {
        Some(stored) => {
            bytes.extend_from_slice(stored);
            let quiet: &[u8] = match width {
                2 => &[0x00, 0x7e],
                4 => &[0x00, 0x00, 0xc0, 0x7f],
                _ => &[0, 0, 0, 0, 0, 0, 0xf8, 0x7f],
            };
            for row in not_a_number(array) {
                bytes[start + row * width..][..width].copy_from_slice(quiet);
            }
        }
        None => convert_fixed(width, bytes, array, nulls)?,
    }
    if let Some(nulls) = nulls {
        for row in (!nulls.inner()).set_indices() {
            bytes[start + row * width..][..width].fill(0);
        }
    }
    Ok(())
}

/// Values of which the canonical form is wider or narrower than Arrow's. What is written for nulls is any value.
fn convert_fixed(
    width: usize,
    bytes: &mut Vec<u8>,
    array: &ArrayRef,
    nulls: Option<&NullBuffer>,
) -> Result<(), String> {
    let valid = |row: usize| nulls.is_none_or(|nulls| nulls.is_valid(row));
    macro_rules! values {
        ($type:ty) => {
            array.as_primitive_opt::<$type>().ok_or_else(|| unexpected(array))?.values()
        };
    }
    let mut decimal = |row: usize, value: i256| -> Result<(), String> {
        if width == 32 {
            bytes.extend_from_slice(&value.to_le_bytes());
            return Ok(());
        }
        match value.to_i128() {
            Some(value) => bytes.extend_from_slice(&value.to_le_bytes()),
            None if valid(row) => {
                return Err(format!(
                    "the decimal of {value} units has more digits than its type {}",
                    array.data_type()
                ));
            }
            None => bytes.extend_from_slice(&[0; 16]),
        }
        Ok(())
    };
    match array.data_type() {
        DataType::Date64 => {
            for (row, millis) in values!(Date64Type).iter().enumerate() {
                let days = if millis % MILLIS_OF_DAY == 0 {
                    i32::try_from(millis / MILLIS_OF_DAY).ok()
                } else {
                    None
                };
                match days {
                    Some(days) => bytes.extend_from_slice(&days.to_le_bytes()),
                    None if valid(row) => {
                        return Err(format!(
                            "the date of {millis} milliseconds is not a whole day; cast it to a timestamp"
                        ));
                    }
                    None => bytes.extend_from_slice(&[0; 4]),
                }
            }
        }
        DataType::Time32(TimeUnit::Second) => {
            for value in values!(Time32SecondType) {
                bytes.extend_from_slice(&i64::from(*value).to_le_bytes());
            }
        }
        DataType::Time32(_) => {
            for value in values!(Time32MillisecondType) {
                bytes.extend_from_slice(&i64::from(*value).to_le_bytes());
            }
        }
        DataType::Decimal32(_, _) => {
            for (row, value) in values!(Decimal32Type).iter().enumerate() {
                decimal(row, i256::from_i128(i128::from(*value)))?;
            }
        }
        DataType::Decimal64(_, _) => {
            for (row, value) in values!(Decimal64Type).iter().enumerate() {
                decimal(row, i256::from_i128(i128::from(*value)))?;
            }
        }
        DataType::Decimal128(_, _) => {
            for (row, value) in values!(Decimal128Type).iter().enumerate() {
                decimal(row, i256::from_i128(*value))?;
            }
        }
        DataType::Decimal256(_, _) => {
            for (row, value) in values!(Decimal256Type).iter().enumerate() {
                decimal(row, *value)?;
            }
        }
        _ => return Err(unexpected(array)),
    }
    Ok(())
}

/// How to get at the bytes of a row of a text or binary array; `None` for other types.
fn bytes_of<'a>(array: &'a ArrayRef) -> Option<Box<dyn Fn(usize) -> &'a [u8] + 'a>> {
    Some(match array.data_type() {
        DataType::Utf8 => {
            let array = array.as_string_opt::<i32>()?;
            Box::new(|row| array.value(row).as_bytes())
        }
        DataType::LargeUtf8 => {
            let array = array.as_string_opt::<i64>()?;
            Box::new(|row| array.value(row).as_bytes())
        }
        DataType::Utf8View => {
            let array = array.as_string_view_opt()?;
            Box::new(|row| array.value(row).as_bytes())
        }
        DataType::Binary => {
            let array = array.as_binary_opt::<i32>()?;
            Box::new(|row| array.value(row))
        }
        DataType::LargeBinary => {
            let array = array.as_binary_opt::<i64>()?;
            Box::new(|row| array.value(row))
        }
        DataType::BinaryView => {
            let array = array.as_binary_view_opt()?;
            Box::new(|row| array.value(row))
        }
        _ => return None,
    })
}

fn append_bytes(
    lengths: &mut Vec<u32>,
    bytes: &mut Vec<u8>,
    array: &ArrayRef,
    nulls: Option<&NullBuffer>,
) -> Result<(), String> {
    /// Without nulls the bytes of an array with offsets are one range of its buffer.
    fn whole<O: OffsetSizeTrait>(
        lengths: &mut Vec<u32>,
        bytes: &mut Vec<u8>,
        offsets: &[O],
        data: &[u8],
    ) -> Result<(), String> {
        let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else { return Ok(()) };
        lengths.reserve(offsets.len());
        for pair in offsets.windows(2) {
            lengths.push(length(pair[1].as_usize() - pair[0].as_usize())?);
        }
        bytes.extend_from_slice(&data[first.as_usize()..last.as_usize()]);
        Ok(())
    }
    if nulls.is_none() {
        if let Some(array) = array.as_string_opt::<i32>() {
            return whole(lengths, bytes, array.value_offsets(), array.value_data());
        }
        if let Some(array) = array.as_string_opt::<i64>() {
            return whole(lengths, bytes, array.value_offsets(), array.value_data());
        }
        if let Some(array) = array.as_binary_opt::<i32>() {
            return whole(lengths, bytes, array.value_offsets(), array.value_data());
        }
        if let Some(array) = array.as_binary_opt::<i64>() {
            return whole(lengths, bytes, array.value_offsets(), array.value_data());
        }
    }
    let value = bytes_of(array).ok_or_else(|| unexpected(array))?;
    append_rows(lengths, bytes, array.len(), nulls, value)
}

fn append_rows<'a>(
    lengths: &mut Vec<u32>,
    bytes: &mut Vec<u8>,
    rows: usize,
    nulls: Option<&NullBuffer>,
    value: impl Fn(usize) -> &'a [u8],
) -> Result<(), String> {
    lengths.reserve(rows);
    for row in 0..rows {
        if nulls.is_some_and(|nulls| nulls.is_null(row)) {
            lengths.push(0);
            continue;
        }
        let value = value(row);
        lengths.push(length(value.len())?);
        bytes.extend_from_slice(value);
    }
    Ok(())
}

fn length(length: usize) -> Result<u32, String> {
    u32::try_from(length).map_err(|_| format!("one value has a length of {length}; the most is {}", u32::MAX))
}

fn append_list(
    lengths: &mut Vec<u32>,
    values: &mut Block,
    array: &ArrayRef,
    nulls: Option<&NullBuffer>,
) -> Result<(), String> {
    fn offsets<O: OffsetSizeTrait>(offsets: &[O]) -> impl Fn(usize) -> (usize, usize) {
        |row| (offsets[row].as_usize(), offsets[row + 1].as_usize())
    }
    fn views<O: OffsetSizeTrait>(offsets: &[O], sizes: &[O]) -> impl Fn(usize) -> (usize, usize) {
        |row| (offsets[row].as_usize(), offsets[row].as_usize() + sizes[row].as_usize())
    }
    let rows = array.len();
    let (runs, children) = if let Some(list) = array.as_list_opt::<i32>() {
        (ranges(lengths, rows, nulls, offsets(list.offsets()))?, list.values())
    } else if let Some(list) = array.as_list_opt::<i64>() {
        (ranges(lengths, rows, nulls, offsets(list.offsets()))?, list.values())
    } else if let Some(list) = array.as_list_view_opt::<i32>() {
        (ranges(lengths, rows, nulls, views(list.offsets(), list.sizes()))?, list.values())
    } else if let Some(list) = array.as_list_view_opt::<i64>() {
        (ranges(lengths, rows, nulls, views(list.offsets(), list.sizes()))?, list.values())
    } else {
        return Err(unexpected(array));
    };
    for (from, until) in runs {
        values.append(&children.slice(from, until - from), None)?;
    }
    Ok(())
}

/// Notes the length of every row, and gives the children of the valid rows as few ranges: neighbours are joined.
fn ranges(
    lengths: &mut Vec<u32>,
    rows: usize,
    nulls: Option<&NullBuffer>,
    range: impl Fn(usize) -> (usize, usize),
) -> Result<Vec<(usize, usize)>, String> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for row in 0..rows {
        if nulls.is_some_and(|nulls| nulls.is_null(row)) {
            lengths.push(0);
            continue;
        }
        let (from, until) = range(row);
        lengths.push(length(until - from)?);
        match runs.last_mut() {
            _ if from == until => {}
            Some(last) if last.1 == from => last.1 = until,
            _ => runs.push((from, until)),
        }
    }
    Ok(runs)
}
