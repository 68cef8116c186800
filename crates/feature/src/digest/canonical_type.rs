//! The type texts of `lmt1`: one text for all Arrow types that hold the same values.

use arrow::datatypes::{DataType, TimeUnit};

/// The type text of `lmt1`, in which encodings, offset widths and zone names do not show; `None` for the types
/// that `lmt1` refuses (intervals and unions, also within others).
pub fn type_text(data_type: &DataType) -> Option<String> {
    let text = match data_type {
        DataType::Null => "null",
        DataType::Boolean => "bool",
        DataType::Int8 => "i8",
        DataType::Int16 => "i16",
        DataType::Int32 => "i32",
        DataType::Int64 => "i64",
        DataType::UInt8 => "u8",
        DataType::UInt16 => "u16",
        DataType::UInt32 => "u32",
        DataType::UInt64 => "u64",
        DataType::Float16 => "f16",
        DataType::Float32 => "f32",
        DataType::Float64 => "f64",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "utf8",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "bin",
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => return Some(format!("dec:{precision}:{scale}")),
        DataType::Time32(unit) | DataType::Time64(unit) => return Some(format!("time:{}", letters(*unit))),
        DataType::Timestamp(unit, Some(_)) => return Some(format!("ts:{}:utc", letters(*unit))),
        DataType::Timestamp(unit, None) => return Some(format!("ts:{}:local", letters(*unit))),
        DataType::Duration(unit) => return Some(format!("dur:{}", letters(*unit))),
        DataType::FixedSizeBinary(size) => return Some(format!("fbin:{size}")),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => return Some(format!("list<{}>", type_text(item.data_type())?)),
        DataType::FixedSizeList(item, size) => {
            return Some(format!("flist:{size}<{}>", type_text(item.data_type())?));
        }
        DataType::Struct(fields) => {
            let mut parts = Vec::with_capacity(fields.len());
            for field in fields {
                let (name, text) = (field.name(), type_text(field.data_type())?);
                parts.push(format!("{}:{name}:{text}", name.len()));
            }
            return Some(format!("struct<{}>", parts.join(",")));
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(fields) = entries.data_type() else { return None };
            let [key, value] = &fields[..] else { return None };
            return Some(format!("map<{},{}>", type_text(key.data_type())?, type_text(value.data_type())?));
        }
        DataType::Dictionary(_, value) => return type_text(value),
        DataType::RunEndEncoded(_, value) => return type_text(value.data_type()),
        DataType::Interval(_) | DataType::Union(_, _) => return None,
    };
    Some(text.to_owned())
}

fn letters(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{Field, IntervalUnit, UnionFields, UnionMode};

    use super::*;

    fn field(name: &str, data_type: DataType) -> Arc<Field> {
        Arc::new(Field::new(name, data_type, true))
    }

    #[test]
    fn types_that_hold_the_same_values_have_one_text() {
        let utf8 = field("item", DataType::LargeUtf8);
        let keyed = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8View));
        let runs =
            DataType::RunEndEncoded(field("run_ends", DataType::Int32), field("values", DataType::Date64));
        let entries = DataType::Struct(vec![field("k", DataType::Utf8), field("v", DataType::Int8)].into());
        for (data_type, text) in [
            (keyed.clone(), "utf8"),
            (runs, "date"),
            (DataType::Decimal32(7, -2), "dec:7:-2"),
            (DataType::Time32(TimeUnit::Second), "time:s"),
            (DataType::Time64(TimeUnit::Nanosecond), "time:ns"),
            (DataType::Timestamp(TimeUnit::Millisecond, Some("Europe/Berlin".into())), "ts:ms:utc"),
            (DataType::Timestamp(TimeUnit::Microsecond, None), "ts:us:local"),
            (DataType::Duration(TimeUnit::Microsecond), "dur:us"),
            (DataType::LargeListView(utf8.clone()), "list<utf8>"),
            (DataType::FixedSizeList(utf8, 3), "flist:3<utf8>"),
            (DataType::Map(field("entries", entries), true), "map<utf8,i8>"),
            (
                DataType::Struct(vec![field("é,1:b", DataType::Int8), field("", keyed)].into()),
                "struct<6:é,1:b:i8,0::utf8>",
            ),
            (DataType::Struct(Vec::<Field>::new().into()), "struct<>"),
        ] {
            assert_eq!(type_text(&data_type).as_deref(), Some(text));
        }
        let interval = DataType::Interval(IntervalUnit::DayTime);
        assert_eq!(type_text(&interval), None);
        assert_eq!(type_text(&DataType::List(field("item", interval))), None);
        assert_eq!(type_text(&DataType::Union(UnionFields::empty(), UnionMode::Dense)), None);
    }
}
