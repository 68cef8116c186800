//! Spines of random types, and what the reference is to think of each row.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Decimal128Array, FixedSizeBinaryArray, Float64Array, Int32Array, Int64Array, ListArray,
    NullArray, RecordBatch, StringArray, StringViewArray, StructArray, TimestampMillisecondArray,
    UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Schema, TimeUnit};

use super::scenario::{KEYS, KeyKind, Spine, SpineRow};
use super::world::{BEGINNING, World, key_name, key_type, key_value, time_type};
use crate::suite::values::{Value, column, cut, nanoseconds};

/// A spine as it is given, and as it is meant.
pub struct Rows {
    pub batches: Vec<RecordBatch>,
    pub whole: RecordBatch,
    /// The time column, and whether a request must name it.
    pub at: String,
    pub name_at: bool,
    /// By row: the parts of every kind of key, none where null.
    keys: Vec<Vec<Option<Value>>>,
    /// By row, floored to the microsecond.
    pub times: Vec<Option<i64>>,
}

impl Rows {
    /// The key of one view in one row, none where a part is null.
    pub fn key(&self, row: usize, kinds: &[KeyKind]) -> Option<Vec<Value>> {
        kinds.iter().map(|kind| self.keys[row][place(*kind)].clone()).collect()
    }
}

fn place(kind: KeyKind) -> usize {
    KEYS.iter().position(|known| *known == kind).unwrap()
}

/// A value that is the key of no entity.
fn nobody() -> Value {
    Value::text("nobody has this key")
}

/// The spine's rows as they are meant, repeated ones in full.
fn meant(spine: &Spine) -> Vec<SpineRow> {
    let mut rows: Vec<SpineRow> = Vec::with_capacity(spine.rows.len());
    for row in &spine.rows {
        let before = rows.last().filter(|_| row.again).cloned();
        rows.push(before.unwrap_or_else(|| row.clone()));
    }
    rows
}

/// The spine with the key columns of these kinds.
pub fn build(world: &World, spine: &Spine, kinds: &[KeyKind]) -> Rows {
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    let mut add = |name: &str, column: ArrayRef| {
        fields.push(Field::new(name, column.data_type().clone(), true));
        columns.push(column);
    };
    let meant = meant(spine);
    let count = meant.len();
    add("row_no", Arc::new(Int64Array::from_iter_values(0..count as i64)));

    let mut keys = vec![vec![None; KEYS.len()]; count];
    for kind in kinds {
        let place = place(*kind);
        let codes: Vec<u8> = meant.iter().map(|row| row.keys[place]).collect();
        for (row, code) in codes.iter().enumerate() {
            keys[row][place] = match code {
                0..3 => Some(key_value(*kind, *code)),
                3 if *kind == KeyKind::Bool => Some(Value::Bool(true)),
                3 => Some(nobody()),
                _ => None,
            };
        }
        add(key_name(*kind), key_column(*kind, spine.widths[place], &codes));
    }

    let (at, named) = [("at", false), ("event_timestamp", false), ("moment", false), ("asked", true)]
        [usize::from(spine.at_name)];
    let carried = extras(spine.extras, count);
    let other_times = kinds.iter().any(|kind| matches!(kind, KeyKind::Date | KeyKind::Instant))
        || carried.iter().any(|(name, _)| *name == "naive");
    let (time_column, times) = times(world, &meant, spine.at_type);
    add(at, time_column);
    if named {
        add("at", Arc::new(StringArray::from(vec!["not a time"; count])));
    }
    for (name, column) in carried {
        add(name, column);
    }
    let whole = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    Rows {
        batches: cut(&whole, &spine.cuts),
        whole,
        at: at.to_owned(),
        name_at: named || at != "at" && other_times,
        keys,
        times,
    }
}

/// A key column in one of the types that a view's key may be asked for with; code 3 is a value that no entity has, if
/// need be one that the view's type cannot hold.
fn key_column(kind: KeyKind, width: u8, codes: &[u8]) -> ArrayRef {
    let values = |nobody: Value| -> Vec<Option<Value>> {
        let value = |code: &u8| match code {
            0..3 => Some(key_value(kind, *code)),
            3 => Some(nobody.clone()),
            _ => None,
        };
        codes.iter().map(value).collect()
    };
    let own = key_type(kind).1;
    match (kind, width) {
        (KeyKind::Text, width) => {
            let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
            let types = [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View, dictionary];
            column(&values(Value::text("nobody")), &types[usize::from(width)])
        }
        (KeyKind::Uint64, 0 | 1) => column(&values(Value::Int(5)), &DataType::UInt64),
        (KeyKind::Uint64, _) => {
            let dictionary = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::UInt64));
            cast(&column(&values(Value::Int(5)), &DataType::UInt64), &dictionary).unwrap()
        }
        // Wider, with a number that the key's type cannot hold.
        (KeyKind::Int8, 1) => column(&values(Value::Int(256 + 7)), &DataType::Int64),
        (KeyKind::Int16, 1) => column(&values(Value::Int(65_536)), &DataType::Int64),
        (KeyKind::Int32, 1) => column(&values(Value::Int((1 << 32) + 7)), &DataType::Int64),
        (KeyKind::Uint8, 1) => column(&values(Value::Int(256)), &DataType::UInt64),
        (KeyKind::Uint8 | KeyKind::Uint16 | KeyKind::Uint32, 2) => {
            column(&values(Value::Int(-1)), &DataType::Int64)
        }
        (KeyKind::Uint16 | KeyKind::Uint32, 1) => {
            column(&values(Value::Int((1 << 32) + 7)), &DataType::UInt64)
        }
        (KeyKind::Int64, 1) => column(&values(Value::Int(5)), &DataType::Int16),
        (KeyKind::Int8 | KeyKind::Int16 | KeyKind::Int32 | KeyKind::Int64, 2) => {
            let dictionary = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Int64));
            column(&values(Value::Int(5)), &dictionary)
        }
        (kind, _) if own.is_integer() && kind != KeyKind::Uint64 => column(&values(Value::Int(5)), &own),
        (KeyKind::Bool, _) => column(&values(Value::Bool(true)), &DataType::Boolean),
        (KeyKind::Date, 0 | 1) => column(&values(Value::Date(77)), &DataType::Date32),
        (KeyKind::Date, _) => {
            cast(&column(&values(Value::Date(77)), &DataType::Date32), &DataType::Date64).unwrap()
        }
        (KeyKind::Instant, 0 | 1) => column(&values(Value::Instant(77)), &time_type()),
        // A nanosecond beside an instant that is a key.
        (KeyKind::Instant, _) => {
            let times = codes.iter().map(|code| match code {
                0..3 => match key_value(kind, *code) {
                    Value::Instant(micros) => Some((micros, 0)),
                    _ => None,
                },
                3 => Some((BEGINNING, 1)),
                _ => None,
            });
            nanoseconds(&times.collect::<Vec<_>>())
        }
        (KeyKind::Money, 0) => column(&values(Value::Decimal(999, 2)), &DataType::Decimal128(6, 2)),
        (KeyKind::Money, 1) => column(&values(Value::Decimal(999_999_999, 2)), &DataType::Decimal128(20, 2)),
        // A tenth of a cent beside an amount that is a key.
        (KeyKind::Money, _) => {
            let finer = |value: Option<Value>| match value {
                Some(Value::Decimal(cents, 2)) => Some(Value::Decimal(cents * 10, 3)),
                other => other,
            };
            let values: Vec<_> = values(Value::Decimal(1231, 3)).into_iter().map(finer).collect();
            column(&values, &DataType::Decimal128(12, 3))
        }
        (KeyKind::Bytes, width) => {
            let types = [DataType::Binary, DataType::LargeBinary, DataType::BinaryView, DataType::Binary];
            column(&values(Value::Bytes(vec![9])), &types[usize::from(width)])
        }
        (kind, width) => unreachable!("{kind:?} in form {width}"),
    }
}

/// The time column, and each time in whole microseconds.
fn times(world: &World, rows: &[SpineRow], at_type: u8) -> (ArrayRef, Vec<Option<i64>>) {
    let exact: Vec<Option<(i64, u16)>> = rows
        .iter()
        .map(|row| row.at.map(|(units, jitter, nanos)| (world.time(units, jitter), nanos)))
        .collect();
    let floored = |to: i64| -> Vec<Option<i64>> {
        exact.iter().map(|time| time.map(|(micros, _)| micros.div_euclid(to) * to)).collect()
    };
    let of_type = |times: Vec<Option<i64>>, data_type: DataType| {
        let values: Vec<Option<Value>> = times.iter().map(|time| time.map(Value::Instant)).collect();
        (column(&values, &data_type), times)
    };
    let zone = |name: &str| Some(Arc::from(name));
    match at_type {
        0..=2 => of_type(floored(1), time_type()),
        3 => (nanoseconds(&exact), floored(1)),
        4 => of_type(floored(1_000), DataType::Timestamp(TimeUnit::Millisecond, zone("UTC"))),
        5 => of_type(floored(1_000_000), DataType::Timestamp(TimeUnit::Second, zone("+02:00"))),
        6 => of_type(floored(1), DataType::Timestamp(TimeUnit::Microsecond, zone("America/New_York"))),
        days => {
            let (instants, times) = of_type(floored(86_400_000_000), time_type());
            let days = if days == 7 { DataType::Date32 } else { DataType::Date64 };
            (cast(&instants, &days).unwrap(), times)
        }
    }
}

/// Columns that are only carried along, of many types and with nulls.
fn extras(bits: u16, rows: usize) -> Vec<(&'static str, ArrayRef)> {
    let label = || Int32Array::from_iter((0..rows).map(|row| (row % 3 != 0).then_some(row as i32 * 7)));
    let text =
        || StringArray::from_iter((0..rows).map(|row| (row % 4 != 1).then(|| format!("carried {row}"))));
    let double = |row: usize| if row % 5 == 1 { f64::NAN } else { row as f64 / 3.0 };
    let fixed = |row: usize| (row % 3 != 1).then(|| vec![row as u8; 4]);
    let pair = || -> ArrayRef {
        let fields = vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Utf8, true)];
        Arc::new(StructArray::new(Fields::from(fields), vec![Arc::new(label()), Arc::new(text())], None))
    };
    let lists = || {
        let lists = (0..rows).map(|row| (row % 5 != 2).then(|| vec![Some(row as i32), None]));
        ListArray::from_iter_primitive::<Int32Type, _, _>(lists)
    };
    let dictionary = || {
        let kind = DataType::Dictionary(Box::new(DataType::Int16), Box::new(DataType::Utf8));
        cast(&text(), &kind).unwrap()
    };
    let all: [(&str, &dyn Fn() -> ArrayRef); 12] = [
        ("label", &|| Arc::new(label())),
        ("note", &|| Arc::new(text())),
        ("list", &|| Arc::new(lists())),
        ("dictionary", &|| dictionary()),
        ("pair", &|| pair()),
        ("double", &|| {
            Arc::new(Float64Array::from_iter((0..rows).map(|row| (row % 4 != 2).then(|| double(row)))))
        }),
        ("view", &|| {
            Arc::new(StringViewArray::from_iter(
                (0..rows).map(|row| (row % 2 == 0).then_some("a text too long to lie in its view")),
            ))
        }),
        ("amount", &|| {
            Arc::new(Decimal128Array::from_iter(
                (0..rows).map(|row| (row % 3 != 2).then_some(row as i128 - 5)),
            ))
        }),
        ("fixed", &|| {
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size((0..rows).map(fixed), 4).unwrap())
        }),
        ("naive", &|| {
            Arc::new(TimestampMillisecondArray::from_iter(
                (0..rows).map(|row| (row % 3 != 0).then_some(row as i64)),
            ))
        }),
        ("large", &|| {
            Arc::new(UInt64Array::from_iter(
                (0..rows).map(|row| (row % 6 != 0).then_some(u64::MAX - row as u64)),
            ))
        }),
        ("nothing", &|| Arc::new(NullArray::new(rows))),
    ];
    let wanted = all.iter().enumerate().filter(|(bit, _)| bits & (1 << bit) != 0);
    wanted.map(|(_, (name, make))| (*name, make())).collect()
}
