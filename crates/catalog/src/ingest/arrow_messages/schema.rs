//! The schema of rows to come: checked as a message, because turning a bad one into a schema stops the process.

use arrow::ipc;

use super::Refused;
use super::limits::{COLUMNS, DEPTH, FIXED_SIZE, SCHEMA_BYTES};

/// Refuses schemas that cannot be held, and types that an upload has no use for.
pub fn verify(schema: ipc::Schema<'_>) -> Result<(), Refused> {
    if schema.endianness() != ipc::Endianness::Little {
        return refuse("the schema is big-endian; send little-endian data");
    }
    let Some(fields) = schema.fields() else { return refuse("the schema has no list of columns") };
    let mut seen = Seen::default();
    for pair in schema.custom_metadata().into_iter().flatten() {
        seen.metadata(pair)?;
    }
    for field in fields {
        seen.field(field, 0)?;
    }
    Ok(())
}

fn refuse<T>(why: impl Into<String>) -> Result<T, Refused> {
    Err(Refused(why.into()))
}

#[derive(Default)]
struct Seen {
    columns: usize,
    bytes: usize,
}

impl Seen {
    fn field(&mut self, field: ipc::Field<'_>, depth: usize) -> Result<(), Refused> {
        let name = field.name().unwrap_or_default();
        self.columns += 1;
        if self.columns > COLUMNS {
            return refuse(format!("the schema has more than {COLUMNS} columns, nested ones included"));
        }
        if depth > DEPTH {
            return refuse(format!("the schema nests columns more than {DEPTH} deep"));
        }
        self.text(name)?;
        for pair in field.custom_metadata().into_iter().flatten() {
            self.metadata(pair)?;
        }
        if let Some(dictionary) = field.dictionary() {
            let width = dictionary.indexType().map(|index| index.bitWidth());
            if !matches!(width, Some(8 | 16 | 32 | 64)) {
                return wrong(name, "a dictionary without a proper index type");
            }
        }
        self.of_type(field, name, depth)
    }

    fn of_type(&mut self, field: ipc::Field<'_>, name: &str, depth: usize) -> Result<(), Refused> {
        let children = field.children().map_or(0, |children| children.len());
        let proper = match field.type_type() {
            ipc::Type::Null
            | ipc::Type::Bool
            | ipc::Type::Binary
            | ipc::Type::LargeBinary
            | ipc::Type::BinaryView
            | ipc::Type::Utf8
            | ipc::Type::LargeUtf8
            | ipc::Type::Utf8View => true,
            ipc::Type::Int => {
                field.type_as_int().is_some_and(|int| matches!(int.bitWidth(), 8 | 16 | 32 | 64))
            }
            ipc::Type::FloatingPoint => field.type_as_floating_point().is_some_and(|float| {
                matches!(
                    float.precision(),
                    ipc::Precision::HALF | ipc::Precision::SINGLE | ipc::Precision::DOUBLE
                )
            }),
            ipc::Type::Date => field
                .type_as_date()
                .is_some_and(|date| matches!(date.unit(), ipc::DateUnit::DAY | ipc::DateUnit::MILLISECOND)),
            ipc::Type::Time => field.type_as_time().is_some_and(|time| {
                matches!(
                    (time.bitWidth(), time.unit()),
                    (32, ipc::TimeUnit::SECOND | ipc::TimeUnit::MILLISECOND)
                        | (64, ipc::TimeUnit::MICROSECOND | ipc::TimeUnit::NANOSECOND)
                )
            }),
            ipc::Type::Timestamp => {
                let Some(timestamp) = field.type_as_timestamp() else {
                    return wrong(name, "an unknown type");
                };
                self.text(timestamp.timezone().unwrap_or_default())?;
                is_unit(timestamp.unit())
            }
            ipc::Type::Duration => field.type_as_duration().is_some_and(|duration| is_unit(duration.unit())),
            ipc::Type::Interval => field.type_as_interval().is_some_and(|interval| {
                matches!(
                    interval.unit(),
                    ipc::IntervalUnit::YEAR_MONTH
                        | ipc::IntervalUnit::DAY_TIME
                        | ipc::IntervalUnit::MONTH_DAY_NANO
                )
            }),
            ipc::Type::Decimal => field.type_as_decimal().is_some_and(|decimal| {
                let digits = match decimal.bitWidth() {
                    32 => 9,
                    64 => 18,
                    128 => 38,
                    256 => 76,
                    _ => 0,
                };
                (1..=digits).contains(&decimal.precision()) && (-digits..=digits).contains(&decimal.scale())
            }),
            ipc::Type::FixedSizeBinary => field
                .type_as_fixed_size_binary()
                .is_some_and(|fixed| (1..=FIXED_SIZE).contains(&fixed.byteWidth())),
            ipc::Type::FixedSizeList => {
                children == 1
                    && field
                        .type_as_fixed_size_list()
                        .is_some_and(|list| (1..=FIXED_SIZE).contains(&list.listSize()))
            }
            ipc::Type::List | ipc::Type::LargeList => children == 1,
            ipc::Type::Struct_ => children > 0,
            other => return wrong(name, &format!("the type {}", other.variant_name().unwrap_or("unknown"))),
        };
        if !proper {
            let shown = field.type_type().variant_name().unwrap_or("unknown");
            return wrong(name, &format!("the type {shown} with parameters that it cannot have"));
        }
        for child in field.children().into_iter().flatten() {
            self.field(child, depth + 1)?;
        }
        Ok(())
    }

    fn metadata(&mut self, pair: ipc::KeyValue<'_>) -> Result<(), Refused> {
        self.text(pair.key().unwrap_or_default())?;
        self.text(pair.value().unwrap_or_default())
    }

    fn text(&mut self, text: &str) -> Result<(), Refused> {
        self.bytes += text.len();
        if self.bytes > SCHEMA_BYTES {
            return refuse(format!("the schema's names and metadata are longer than {SCHEMA_BYTES} bytes"));
        }
        Ok(())
    }
}

fn is_unit(unit: ipc::TimeUnit) -> bool {
    matches!(
        unit,
        ipc::TimeUnit::SECOND
            | ipc::TimeUnit::MILLISECOND
            | ipc::TimeUnit::MICROSECOND
            | ipc::TimeUnit::NANOSECOND
    )
}

fn wrong(name: &str, what: &str) -> Result<(), Refused> {
    let name: String = name.chars().take(80).collect();
    refuse(format!(
        "column `{name}` has {what}, which cannot be sent here; send numbers, texts, bytes, dates, times, lists, structs or dictionaries of them"
    ))
}
