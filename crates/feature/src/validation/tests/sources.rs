//! Sources as a whole: what is refused at once, and what is taken without a word.

use arrow::array::*;
use arrow::compute::cast;
use arrow::datatypes::*;

use super::*;

fn refused(view: &FeatureView, fields: Vec<Field>) -> String {
    Validator::new(&airport(), view, &Schema::new(fields)).unwrap_err().to_string()
}

fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let mut view = weather(vec![
        plain("temp", "float64"),
        plain("visib", "float64"),
        plain("label", "string"),
        plain("seen", "timestamp"),
        plain("day", "date"),
    ]);
    view.time.known_at = KnownAt::Column("published".to_owned());
    let item = Arc::new(field("item", DataType::Float64));
    let fields = vec![
        field("orgin", DataType::Utf8),
        field("time_hour", DataType::Timestamp(TimeUnit::Second, None)),
        field("published", DataType::Int64),
        field("temp", DataType::List(item)),
        field("visib", DataType::Time32(TimeUnit::Second)),
        field("label", DataType::Float64),
        field("seen", DataType::Timestamp(TimeUnit::Nanosecond, None)),
        field("day", DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))),
        field("extra", DataType::Utf8),
        field("extra", DataType::Utf8),
    ];
    assert_eq!(
        refused(&view, fields),
        "the source does not fit `weather`\
         \n  the source has 2 columns named `extra`; rename all but one\
         \n  the source has no column `origin`, from which the key `origin` of `airport` is read (did you mean `orgin`?); rename it in the source, or write origin = \"orgin\" under [keys] in the definition\
         \n  column `time_hour`, from which `valid_at` is read, holds times without a zone; declare zone in the [time] table of `weather`, as in zone = \"America/New_York\" or zone = \"UTC\"\
         \n  column `published` is int64, which can never be `known_at` of type timestamp; a number does not say its unit or where it starts to count; make it a timestamp in the source (pandas: to_datetime(…, unit=\"s\", utc=True))\
         \n  column `temp` is list, which can never be the feature `weather.temp` of type float64; a feature is one value; give each part a column of its own in the source\
         \n  column `visib` is time of day, which can never be the feature `weather.visib` of type float64; declare the type that the source has, or change it in the source\
         \n  column `label` is float64, which can never be the feature `weather.label` of type string; such values have many spellings as text; declare its own type, or make it text in the source\
         \n  column `seen`, from which the feature `weather.seen` is read, holds times without a zone; declare zone in the [time] table of `weather`, as in zone = \"America/New_York\" or zone = \"UTC\"\
         \n  column `day` is timestamp, which can never be the feature `weather.day` of type date; an instant is on different days in different zones; make it a date in the source, or declare a timestamp\
         \n  the source's columns are orgin, time_hour, published, temp, visib, label, seen, day, extra, extra"
    );
}

#[test]
fn missing_columns_name_the_nearest() {
    let fields = || {
        vec![
            field("origin", DataType::Utf8),
            field("TIME_HOUR", DataType::Date32),
            field("x", DataType::Utf8),
        ]
    };
    assert_eq!(
        refused(&weather(vec![plain("temp", "float64")]), fields()),
        "the source does not fit `weather`\
         \n  the source has no column `time_hour`, from which `valid_at` is read (did you mean `TIME_HOUR`?); rename it in the source, or write valid_at = \"TIME_HOUR\" under [time] in the definition\
         \n  the source has no column `temp`, from which the feature `weather.temp` is read; rename it in the source, or write column = \"…\" for `temp` in the definition\
         \n  the source's columns are origin, TIME_HOUR, x"
    );
}

#[test]
fn retractions_need_a_view_without_occurrences() {
    let mut view = weather(vec![]);
    view.occurrence = occurrence("flight");
    let fields = vec![
        field("origin", DataType::Utf8),
        field("time_hour", DataType::Date32),
        field("flight", DataType::Int64),
        field("_retracted", DataType::Boolean),
    ];
    let message = refused(&view, fields);
    assert!(
        message.contains("`weather` has an occurrence column, and such views cannot be retracted"),
        "{message}"
    );
}

#[test]
fn definitions_that_do_not_fit_together_are_errors_too() {
    let fields = || vec![field("origin", DataType::Utf8), field("time_hour", DataType::Date32)];
    let view = in_zone(weather(vec![]), "Mars/Olympus", RepeatedHour::Refuse);
    assert!(refused(&view, fields()).contains("zone `Mars/Olympus`, which is not an IANA zone"));
    let mut view = weather(vec![]);
    view.entity = name("plane");
    view.keys.clear();
    let message = refused(&view, fields());
    assert!(message.contains("`weather` describes the entity `plane`, not `airport`"), "{message}");
    assert!(message.contains("`weather` does not say where the key `origin` is read from"), "{message}");
    let view = weather(vec![ranged("temp", "int8", Some(Literal::Int(1000)), None)]);
    let mut with_temp = fields();
    with_temp.push(field("temp", DataType::Int8));
    assert!(refused(&view, with_temp).contains("in the rules of `weather.temp`: 1000 is not int8"));
}

/// The same values in every Arrow type that can hold them come out the same.
#[test]
fn every_encoding_of_a_value_is_that_value() {
    let dictionary = |values: DataType| DataType::Dictionary(Box::new(DataType::Int16), Box::new(values));
    let run_ends = |values: DataType| {
        DataType::RunEndEncoded(
            Arc::new(Field::new("run_ends", DataType::Int32, false)),
            Arc::new(field("values", values)),
        )
    };
    let text = texts(&[Some("7"), None, Some("7"), Some("9")]);
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None, Some(7), Some(9)]));
    let mut sources: Vec<ArrayRef> = Vec::new();
    for data_type in [
        DataType::Utf8,
        DataType::LargeUtf8,
        DataType::Utf8View,
        dictionary(DataType::Utf8),
        run_ends(DataType::Utf8),
    ] {
        sources.push(cast(&text, &data_type).unwrap());
    }
    for data_type in [
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::UInt8,
        DataType::UInt16,
        DataType::UInt32,
        DataType::UInt64,
        DataType::Float16,
        DataType::Float32,
        DataType::Float64,
        DataType::Decimal128(10, 3),
        DataType::Decimal32(9, 2),
        DataType::Decimal64(10, 0),
        dictionary(DataType::Int32),
    ] {
        sources.push(cast(&numbers, &data_type).unwrap());
    }
    for source in sources {
        let from = source.data_type().clone();
        let rows = observed(vec![("v", source)]);
        for to in [
            "int8",
            "int16",
            "int32",
            "int64",
            "uint8",
            "uint16",
            "uint32",
            "uint64",
            "float32",
            "float64",
            "decimal(4,1)",
        ] {
            let validated = validated(&weather(vec![plain("v", to)]), &rows);
            assert_eq!(found(&validated), [], "{from} to {to}");
            let expected = cast(&numbers, &data_type(to).arrow()).unwrap();
            assert_eq!(validated.rows().column(3), &expected, "{from} to {to}");
        }
    }
    for from in
        [DataType::Utf8, DataType::Binary, DataType::LargeBinary, DataType::BinaryView, DataType::Int64]
    {
        let source =
            if from == DataType::Int64 { cast(&numbers, &from) } else { cast(&text, &from) }.unwrap();
        let rows = observed(vec![("v", source)]);
        let converted = validated(&weather(vec![plain("v", "string")]), &rows);
        assert_eq!(converted.rows().column(3), &text, "{from}");
    }
}

/// `possible` says which pairs there are: every pair that it allows is converted without an error, every other is refused.
#[test]
fn every_pair_of_types_is_refused_or_converted() {
    let mut kinds = vec![
        DataType::Null,
        DataType::Boolean,
        DataType::Float16,
        DataType::Float32,
        DataType::Float64,
        DataType::Utf8,
        DataType::LargeUtf8,
        DataType::Utf8View,
        DataType::Binary,
        DataType::BinaryView,
        DataType::FixedSizeBinary(4),
        DataType::Date32,
        DataType::Date64,
        DataType::Time64(TimeUnit::Microsecond),
        DataType::Duration(TimeUnit::Second),
        DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Decimal128(38, -3),
        DataType::Decimal128(38, 38),
        DataType::Decimal256(70, 2),
        DataType::Int8,
        DataType::Int64,
        DataType::UInt64,
        DataType::Struct(vec![field("x", DataType::Int8)].into()),
    ];
    for unit in [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond] {
        kinds.push(DataType::Timestamp(unit, None));
        kinds.push(DataType::Timestamp(unit, Some("America/New_York".into())));
    }
    let mut converted = 0;
    for from in &kinds {
        let mut data = new_null_array(from, 3);
        if from.is_primitive() {
            // Zeros rather than nulls, where that is simple.
            let width = from.primitive_width().unwrap();
            let buffer = arrow::buffer::Buffer::from(vec![0u8; width * 3]);
            data = make_array(ArrayData::try_new(from.clone(), 3, None, 0, vec![buffer], vec![]).unwrap());
        }
        let rows = observed(vec![("v", data)]);
        for to in [
            "bool",
            "int8",
            "int16",
            "int32",
            "int64",
            "uint8",
            "uint16",
            "uint32",
            "uint64",
            "float32",
            "float64",
            "string",
            "binary",
            "date",
            "timestamp",
            "decimal(10,2)",
        ] {
            let view = in_zone(weather(vec![plain("v", to)]), "America/New_York", RepeatedHour::Refuse);
            match Validator::new(&airport(), &view, &rows.schema()) {
                Ok(validator) => {
                    let validated = validator.validate(&rows, 0).unwrap();
                    assert_eq!(validated.rows().column(3).data_type(), &data_type(to).arrow());
                    converted += 1;
                }
                Err(errors) => assert!(
                    matches!(errors.errors[..], [SchemaError::Type { .. }]),
                    "{from} to {to}: {errors}"
                ),
            }
        }
    }
    // Null 16, bool 9, floats 3 × 11, texts 3 × 16, bytes 3 × 2, dates 2 × 2, decimals 2 × 11, integers 3 × 13,
    // clock readings 4 × 2, instants 4 × 1.
    assert_eq!(converted, 189);
}

#[test]
fn columns_that_nothing_is_read_from() {
    let rows = observed(vec![
        ("temp", floats(&[Some(1.0)])),
        ("dewp", floats(&[None])),
        ("known_at", floats(&[None])),
    ]);
    let validator =
        Validator::new(&airport(), &weather(vec![plain("temp", "float64")]), &rows.schema()).unwrap();
    assert_eq!(validator.unused_columns(), ["dewp", "known_at"]);
    let names: Vec<String> =
        validator.output_schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["origin", "valid_at", "known_at", "temp"]);
    let nullable: Vec<bool> =
        validator.output_schema().fields().iter().map(|field| field.is_nullable()).collect();
    assert_eq!(nullable, [false, false, false, true]);
}
