//! Arrow arrays from type texts and JSON values, in any of the forms in which Arrow can hold them.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray,
    FixedSizeListArray, Int16Array, Int32Array, LargeListArray, LargeListViewArray, ListArray, ListViewArray,
    MapArray, NullArray, PrimitiveArray, RunArray, StringArray, StructArray,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::*;
use serde_json::{Value, json};

/// How values lie in Arrow. None of it may show in a digest.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Offsets of 32 bits, of 64 bits, views.
    pub text: u8,
    /// Offsets of 32 bits, of 64 bits, views of both.
    pub lists: u8,
    /// Plain, dictionary, runs.
    pub encoding: u8,
    /// Other values than zeros and empty ones lie where nulls are, and around the values; nulls of a
    /// dictionary stand in its values, not its keys; NaNs have other bits.
    pub garbage: bool,
    /// Narrower or wider types for decimals and dates.
    pub widths: bool,
}

impl Style {
    pub const PLAIN: Self = Self { text: 0, lists: 0, encoding: 0, garbage: false, widths: false };
}

fn field(name: &str, data_type: DataType) -> FieldRef {
    Arc::new(Field::new(name, data_type, true))
}

/// The Arrow type of a type text.
pub fn data_type(text: &str, style: Style) -> DataType {
    let (parsed, rest) = parse(text, style);
    assert_eq!(rest, "", "{text}");
    parsed
}

fn parse(text: &str, style: Style) -> (DataType, &str) {
    let end = text.find([',', '>', '<']).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let parts: Vec<&str> = word.split(':').collect();
    let unit = |text: &str| match text {
        "s" => TimeUnit::Second,
        "ms" => TimeUnit::Millisecond,
        "us" => TimeUnit::Microsecond,
        "ns" => TimeUnit::Nanosecond,
        _ => panic!("{text}"),
    };
    let plain = match parts[..] {
        ["null"] => return (DataType::Null, rest),
        ["bool"] => DataType::Boolean,
        ["i8"] => DataType::Int8,
        ["i16"] => DataType::Int16,
        ["i32"] => DataType::Int32,
        ["i64"] => DataType::Int64,
        ["u8"] => DataType::UInt8,
        ["u16"] => DataType::UInt16,
        ["u32"] => DataType::UInt32,
        ["u64"] => DataType::UInt64,
        ["f16"] => DataType::Float16,
        ["f32"] => DataType::Float32,
        ["f64"] => DataType::Float64,
        ["date"] if style.widths => DataType::Date64,
        ["date"] => DataType::Date32,
        ["time", "s"] => DataType::Time32(TimeUnit::Second),
        ["time", "ms"] => DataType::Time32(TimeUnit::Millisecond),
        ["time", letters] => DataType::Time64(unit(letters)),
        ["ts", letters, "utc"] => {
            let zone = if style.garbage { "+00:00" } else { "UTC" };
            DataType::Timestamp(unit(letters), Some(zone.into()))
        }
        ["ts", letters, "local"] => DataType::Timestamp(unit(letters), None),
        ["dur", letters] => DataType::Duration(unit(letters)),
        ["fbin", size] => DataType::FixedSizeBinary(size.parse().unwrap()),
        ["dec", precision, scale] => {
            let (precision, scale) = (precision.parse().unwrap(), scale.parse().unwrap());
            match precision {
                39.. => DataType::Decimal256(precision, scale),
                _ if style.widths => DataType::Decimal256(precision, scale),
                _ if !style.garbage => DataType::Decimal128(precision, scale),
                19.. => DataType::Decimal128(precision, scale),
                10.. => DataType::Decimal64(precision, scale),
                _ => DataType::Decimal32(precision, scale),
            }
        }
        ["utf8"] => match style.text {
            0 => DataType::Utf8,
            1 => DataType::LargeUtf8,
            _ => DataType::Utf8View,
        },
        ["bin"] => match style.text {
            0 => DataType::Binary,
            1 => DataType::LargeBinary,
            _ => DataType::BinaryView,
        },
        _ => return parse_nested(&parts, rest, style),
    };
    (encoded(plain, style), rest)
}

fn parse_nested<'a>(parts: &[&str], rest: &'a str, style: Style) -> (DataType, &'a str) {
    let mut rest = rest.strip_prefix('<').unwrap();
    let nested = match parts {
        ["list"] => {
            let (item, after) = parse(rest, style);
            rest = after;
            let item = field("item", item);
            match style.lists {
                0 => DataType::List(item),
                1 => DataType::LargeList(item),
                2 => DataType::ListView(item),
                _ => DataType::LargeListView(item),
            }
        }
        ["flist", size] => {
            let (item, after) = parse(rest, style);
            rest = after;
            DataType::FixedSizeList(field("item", item), size.parse().unwrap())
        }
        ["map"] => {
            let (key, after) = parse(rest, style);
            let (value, after) = parse(after.strip_prefix(',').unwrap(), style);
            rest = after;
            let key = Arc::new(Field::new("keys", key, false));
            let entries = DataType::Struct(vec![key, field("values", value)].into());
            DataType::Map(Arc::new(Field::new("entries", entries, false)), false)
        }
        ["struct"] => {
            let mut fields = Vec::new();
            while !rest.starts_with('>') {
                rest = rest.strip_prefix(',').unwrap_or(rest);
                let (length, after) = rest.split_once(':').unwrap();
                let (name, after) = after.split_at(length.parse().unwrap());
                let (child, after) = parse(after.strip_prefix(':').unwrap(), style);
                rest = after;
                fields.push(field(name, child));
            }
            DataType::Struct(fields.into())
        }
        _ => panic!("{parts:?}"),
    };
    (nested, rest.strip_prefix('>').unwrap())
}

fn encoded(plain: DataType, style: Style) -> DataType {
    match style.encoding {
        0 => plain,
        1 => DataType::Dictionary(Box::new(DataType::Int16), Box::new(plain)),
        _ => {
            let ends = Arc::new(Field::new("run_ends", DataType::Int32, false));
            DataType::RunEndEncoded(ends, field("values", plain))
        }
    }
}

/// Any value of the type that is not null.
fn garbage(data_type: &DataType) -> Value {
    match data_type {
        DataType::Null => Value::Null,
        DataType::Boolean => json!(true),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => json!("garbage longer than a view"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            json!("0102030405060708090a0b0c0d0e")
        }
        DataType::FixedSizeBinary(size) => json!("ab".repeat(*size as usize)),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => json!([garbage(item.data_type()), Value::Null]),
        DataType::FixedSizeList(item, size) => json!(vec![garbage(item.data_type()); *size as usize]),
        DataType::Struct(fields) => fields.iter().map(|field| garbage(field.data_type())).collect(),
        DataType::Map(entries, _) => json!([garbage(entries.data_type())]),
        DataType::Dictionary(_, value) => garbage(value),
        DataType::RunEndEncoded(_, value) => garbage(value.data_type()),
        _ => json!(77),
    }
}

fn null() -> Value {
    Value::Null
}

/// An array of the type with the values.
pub fn array(data_type: &DataType, values: &[Value], style: Style) -> ArrayRef {
    if style.garbage && !matches!(data_type, DataType::Null) {
        // Rows around those that count: the array gets an offset.
        let mut more = vec![garbage(data_type), null(), garbage(data_type)];
        more.extend_from_slice(values);
        more.push(garbage(data_type));
        return build(data_type, &more, style).slice(3, values.len());
    }
    build(data_type, values, style)
}

fn build(data_type: &DataType, values: &[Value], style: Style) -> ArrayRef {
    let validity: Vec<bool> = values.iter().map(|value| !value.is_null()).collect();
    let any_null = validity.contains(&false);
    let nulls = any_null.then(|| NullBuffer::from(validity));
    // What lies under nulls.
    let filled: Vec<Value> = match style.garbage {
        true => values.iter().map(|v| if v.is_null() { garbage(data_type) } else { v.clone() }).collect(),
        false => values.to_vec(),
    };
    match data_type {
        DataType::Null => Arc::new(NullArray::new(values.len())),
        DataType::Boolean => {
            let bits: BooleanBuffer = filled.iter().map(|value| value.as_bool() == Some(true)).collect();
            Arc::new(BooleanArray::new(bits, nulls))
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let texts = filled.iter().map(|value| value.as_str().unwrap_or(""));
            let plain = StringArray::from_iter_values(texts);
            with_nulls(&cast(&(Arc::new(plain) as ArrayRef), data_type).unwrap(), nulls)
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            let plain =
                BinaryArray::from_iter_values(filled.iter().map(|value| hex(value.as_str().unwrap_or(""))));
            with_nulls(&cast(&(Arc::new(plain) as ArrayRef), data_type).unwrap(), nulls)
        }
        DataType::FixedSizeBinary(size) => {
            let zeros = "00".repeat(*size as usize);
            let bytes: Vec<u8> =
                filled.iter().flat_map(|value| hex(value.as_str().unwrap_or(&zeros))).collect();
            Arc::new(FixedSizeBinaryArray::new(*size, bytes.into(), nulls))
        }
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => list(data_type, item, &filled, nulls, style),
        DataType::FixedSizeList(item, size) => {
            let children: Vec<Value> = filled
                .iter()
                .flat_map(|value| value.as_array().cloned().unwrap_or(vec![null(); *size as usize]))
                .collect();
            let children = array(item.data_type(), &children, style);
            let length = values.len();
            Arc::new(
                FixedSizeListArray::try_new_with_length(item.clone(), *size, children, nulls, length)
                    .unwrap(),
            )
        }
        DataType::Struct(fields) => {
            let mut columns = Vec::new();
            for (i, field) in fields.iter().enumerate() {
                let children: Vec<Value> =
                    filled.iter().map(|value| value.get(i).cloned().unwrap_or(null())).collect();
                columns.push(array(field.data_type(), &children, style));
            }
            let length = values.len();
            Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls, length).unwrap())
        }
        DataType::Map(entries, _) => {
            let rows: Vec<Vec<Value>> =
                filled.iter().map(|value| value.as_array().cloned().unwrap_or_default()).collect();
            let offsets = OffsetBuffer::from_lengths(rows.iter().map(Vec::len));
            let DataType::Struct(fields) = entries.data_type() else { panic!() };
            let flat = rows.concat();
            let columns = (0..2)
                .map(|i| {
                    let children: Vec<Value> = flat.iter().map(|entry| entry[i].clone()).collect();
                    array(fields[i].data_type(), &children, style)
                })
                .collect();
            let children = StructArray::try_new(fields.clone(), columns, None).unwrap();
            Arc::new(MapArray::try_new(entries.clone(), offsets, children, nulls, false).unwrap())
        }
        DataType::Dictionary(_, value) => {
            let mut distinct: Vec<Value> = vec![garbage(value)];
            let mut keys = Vec::new();
            for value in values {
                if value.is_null() && !style.garbage {
                    keys.push(None);
                    continue;
                }
                // Compared as text, for -0.0 == 0.0.
                let text = value.to_string();
                let found = distinct.iter().map(Value::to_string).position(|other| other == text);
                keys.push(Some(found.unwrap_or(distinct.len()) as i16));
                if found.is_none() {
                    distinct.push(value.clone());
                }
            }
            let distinct = build(value, &distinct, style);
            Arc::new(DictionaryArray::<Int16Type>::try_new(Int16Array::from(keys), distinct).unwrap())
        }
        DataType::RunEndEncoded(_, value) => {
            let mut ends: Vec<i32> = Vec::new();
            let mut runs: Vec<Value> = Vec::new();
            for (row, value) in values.iter().enumerate() {
                if runs.last().map(Value::to_string) == Some(value.to_string()) {
                    ends.pop();
                } else {
                    runs.push(value.clone());
                }
                ends.push(row as i32 + 1);
            }
            let runs = build(value.data_type(), &runs, style);
            Arc::new(RunArray::<Int32Type>::try_new(&Int32Array::from(ends), &runs).unwrap())
        }
        _ => primitive(data_type, &filled, nulls, style),
    }
}

fn with_nulls(array: &ArrayRef, nulls: Option<NullBuffer>) -> ArrayRef {
    let data = array.to_data().into_builder().nulls(nulls).build().unwrap();
    arrow::array::make_array(data)
}

fn list(
    data_type: &DataType,
    item: &FieldRef,
    filled: &[Value],
    nulls: Option<NullBuffer>,
    style: Style,
) -> ArrayRef {
    let rows: Vec<Vec<Value>> =
        filled.iter().map(|value| value.as_array().cloned().unwrap_or_default()).collect();
    if matches!(data_type, DataType::List(_) | DataType::LargeList(_)) {
        let children = array(item.data_type(), &rows.concat(), style);
        let lengths = rows.iter().map(Vec::len);
        return match data_type {
            DataType::List(_) => {
                let offsets = OffsetBuffer::from_lengths(lengths);
                Arc::new(ListArray::try_new(item.clone(), offsets, children, nulls).unwrap())
            }
            _ => {
                let offsets = OffsetBuffer::from_lengths(lengths);
                Arc::new(LargeListArray::try_new(item.clone(), offsets, children, nulls).unwrap())
            }
        };
    }
    // Views: the children of the last row first, if the order is to be told from that of the offsets.
    let mut flat = Vec::new();
    let mut offsets = vec![0; rows.len()];
    let order: Vec<usize> =
        if style.garbage { (0..rows.len()).rev().collect() } else { (0..rows.len()).collect() };
    for row in order {
        offsets[row] = flat.len() as i64;
        flat.extend_from_slice(&rows[row]);
    }
    let children = array(item.data_type(), &flat, style);
    let sizes: Vec<i64> = rows.iter().map(|row| row.len() as i64).collect();
    if let DataType::LargeListView(_) = data_type {
        let list = LargeListViewArray::try_new(item.clone(), offsets.into(), sizes.into(), children, nulls);
        return Arc::new(list.unwrap());
    }
    let offsets: Vec<i32> = offsets.iter().map(|offset| *offset as i32).collect();
    let sizes: Vec<i32> = sizes.iter().map(|size| *size as i32).collect();
    Arc::new(ListViewArray::try_new(item.clone(), offsets.into(), sizes.into(), children, nulls).unwrap())
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn primitive(data_type: &DataType, filled: &[Value], nulls: Option<NullBuffer>, style: Style) -> ArrayRef {
    fn of<T: ArrowPrimitiveType>(
        data_type: &DataType,
        filled: &[Value],
        nulls: Option<NullBuffer>,
        read: impl Fn(i256) -> T::Native,
    ) -> ArrayRef {
        let values: Vec<T::Native> = filled
            .iter()
            .map(|value| match value {
                Value::Null => T::Native::default(),
                Value::String(text) => read(text.parse().unwrap()),
                number => read(number.to_string().parse().unwrap()),
            })
            .collect();
        let array = PrimitiveArray::<T>::new(values.into(), nulls).with_data_type(data_type.clone());
        Arc::new(array)
    }
    let float = |value: &Value| match value {
        Value::Null => 0.0,
        Value::String(text) => text.parse::<f64>().unwrap(),
        number => number.as_f64().unwrap(),
    };
    macro_rules! integers {
        ($($pattern:pat => $type:ty, $native:ty;)*) => {
            match data_type {
                $($pattern => of::<$type>(data_type, filled, nulls, |value| value.to_i128().unwrap() as $native),)*
                DataType::Date64 => {
                    of::<Date64Type>(data_type, filled, nulls, |value| value.to_i128().unwrap() as i64 * 86_400_000)
                }
                DataType::Decimal256(_, _) => of::<Decimal256Type>(data_type, filled, nulls, |value| value),
                DataType::Float64 => {
                    let nan = f64::from_bits(if style.garbage { 0xfff0_0000_0000_0001 } else { 0x7ff8_0000_0000_0000 });
                    let values = filled.iter().map(float).map(|value| if value.is_nan() { nan } else { value });
                    Arc::new(PrimitiveArray::<Float64Type>::new(values.collect(), nulls))
                }
                DataType::Float32 => {
                    let nan = f32::from_bits(if style.garbage { 0xff80_0001 } else { 0x7fc0_0000 });
                    let values = filled.iter().map(|value| float(value) as f32);
                    let values = values.map(|value| if value.is_nan() { nan } else { value });
                    Arc::new(PrimitiveArray::<Float32Type>::new(values.collect(), nulls))
                }
                DataType::Float16 => {
                    type Half = <Float16Type as ArrowPrimitiveType>::Native;
                    let nan = Half::from_bits(if style.garbage { 0xfc01 } else { 0x7e00 });
                    let values = filled.iter().map(|value| Half::from_f64(float(value)));
                    let values = values.map(|value| if value.is_nan() { nan } else { value });
                    Arc::new(PrimitiveArray::<Float16Type>::new(values.collect(), nulls))
                }
                other => panic!("{other}"),
            }
        };
    }
    integers! {
        DataType::Int8 => Int8Type, i8;
        DataType::Int16 => Int16Type, i16;
        DataType::Int32 => Int32Type, i32;
        DataType::Int64 => Int64Type, i64;
        DataType::UInt8 => UInt8Type, u8;
        DataType::UInt16 => UInt16Type, u16;
        DataType::UInt32 => UInt32Type, u32;
        DataType::UInt64 => UInt64Type, u64;
        DataType::Date32 => Date32Type, i32;
        DataType::Time32(TimeUnit::Second) => Time32SecondType, i32;
        DataType::Time32(_) => Time32MillisecondType, i32;
        DataType::Time64(TimeUnit::Microsecond) => Time64MicrosecondType, i64;
        DataType::Time64(_) => Time64NanosecondType, i64;
        DataType::Timestamp(TimeUnit::Second, _) => TimestampSecondType, i64;
        DataType::Timestamp(TimeUnit::Millisecond, _) => TimestampMillisecondType, i64;
        DataType::Timestamp(TimeUnit::Microsecond, _) => TimestampMicrosecondType, i64;
        DataType::Timestamp(TimeUnit::Nanosecond, _) => TimestampNanosecondType, i64;
        DataType::Duration(TimeUnit::Second) => DurationSecondType, i64;
        DataType::Duration(TimeUnit::Millisecond) => DurationMillisecondType, i64;
        DataType::Duration(TimeUnit::Microsecond) => DurationMicrosecondType, i64;
        DataType::Duration(TimeUnit::Nanosecond) => DurationNanosecondType, i64;
        DataType::Decimal32(_, _) => Decimal32Type, i32;
        DataType::Decimal64(_, _) => Decimal64Type, i64;
        DataType::Decimal128(_, _) => Decimal128Type, i128;
    }
}
