//! The rule by examples that a reader would want, each with the answer that it must have.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Date64Array, Decimal128Array, Float64Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema};
use catalog::ingest::Claim;
use feature::Timestamp;
use serving::{HistoricalRequest, Kind, Query, Serving, TrainingSet};
use storage::environment::TestClock;

use crate::suite::stores::{author, claimed, count, files, folder, ingest, instant, memory, rows, spine};
use crate::suite::values::{Value, nanoseconds, read};

type Columns = Vec<(&'static str, ArrayRef)>;

/// A store with one view, `weather` of airports.
struct Example {
    serving: Serving,
    clock: TestClock,
}

const KNOWN: &str = "{ column = \"known\" }";
const TEMP: &str = "[[features]]\nname = \"temp\"\ntype = \"int64\"\n";

fn definitions(key: &str, ttl: &str, known_at: &str, features: &str) -> Vec<(String, String)> {
    let ttl = if ttl.is_empty() { String::new() } else { format!("ttl = \"{ttl}\"\n") };
    let airport =
        format!("kind = \"entity\"\nname = \"airport\"\n[[keys]]\nname = \"origin\"\ntype = \"{key}\"\n");
    let weather = format!(
        "kind = \"feature_view\"\nname = \"weather\"\nentity = \"airport\"\n{ttl}\
         [time]\nvalid_at = \"valid\"\nknown_at = {known_at}\n{features}"
    );
    files(&[("airport.toml", &airport), ("weather.toml", &weather)])
}

impl Example {
    async fn of(definitions: Vec<(String, String)>) -> Self {
        let clock = TestClock::new(time("00:00"));
        let example = Self { serving: memory(&clock).await, clock };
        example.apply(definitions).await;
        example
    }

    /// Airports by their code; rows say themselves when they were known.
    async fn new(ttl: &str) -> Self {
        Self::of(definitions("string", ttl, KNOWN, TEMP)).await
    }

    async fn apply(&self, definitions: Vec<(String, String)>) {
        self.serving.apply(definitions, &author()).await.unwrap();
    }

    async fn take(&self, columns: Columns) {
        self.take_as(columns, None).await;
    }

    async fn take_as(&self, columns: Columns, claim: Option<Claim>) {
        let batch = batch(columns);
        let offered = batch.num_rows() as u64;
        let mut request = rows("weather", vec![batch]);
        if let Some(claim) = claim {
            request = claimed(request, claim);
        }
        let report = ingest(&self.serving, request).await.unwrap();
        assert_eq!((report.rows, report.rejected), (offered, 0));
    }

    async fn ask(&self, columns: Columns) -> TrainingSet {
        self.ask_for(columns, HistoricalRequest::new(["weather.*"])).await
    }

    async fn ask_for(&self, columns: Columns, request: HistoricalRequest) -> TrainingSet {
        self.serving.historical(spine(vec![batch(columns)]), request, &author()).await.unwrap()
    }
}

fn batch(columns: Columns) -> RecordBatch {
    let fields: Vec<Field> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// A time of one day; seconds and their fractions may be left out.
fn time(text: &str) -> Timestamp {
    let seconds = if text.len() == 5 { ":00" } else { "" };
    instant(&format!("2013-05-01T{text}{seconds}Z"))
}

/// Times, none where the text is empty.
fn times<const N: usize>(texts: [&str; N]) -> ArrayRef {
    let micros = texts.iter().map(|text| (!text.is_empty()).then(|| time(text).micros()));
    Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

fn texts<const N: usize>(texts: [&str; N]) -> ArrayRef {
    Arc::new(StringArray::from_iter(texts.iter().map(|text| (!text.is_empty()).then_some(*text))))
}

fn numbers<const N: usize>(numbers: [i64; N]) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(numbers))
}

fn retractions<const N: usize>(marks: [bool; N]) -> ArrayRef {
    Arc::new(BooleanArray::from_iter(marks.map(Some)))
}

fn column(set: &TrainingSet, name: &str) -> Vec<Option<Value>> {
    let whole = concat_batches(&set.schema, &set.batches).unwrap();
    read(whole.column_by_name(name).unwrap())
}

fn ints(set: &TrainingSet, name: &str) -> Vec<Option<i128>> {
    let int = |value| match value {
        Some(Value::Int(value)) => Some(value),
        None => None,
        Some(other) => panic!("{name} holds {other}"),
    };
    column(set, name).into_iter().map(int).collect()
}

fn temps(set: &TrainingSet) -> Vec<Option<i128>> {
    ints(set, "temp")
}

/// Why cells of a feature are null, and how many took the default.
fn why(set: &TrainingSet, name: &str) -> (Vec<(String, u64)>, u64) {
    let feature = set.report.features.iter().find(|feature| feature.output == name).unwrap();
    (feature.nulls.clone().into_iter().collect(), feature.defaulted)
}

fn reasons(given: &[(&str, u64)]) -> Vec<(String, u64)> {
    given.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect()
}

#[tokio::test]
async fn the_example_of_the_documentation() {
    let example = Example::new("3h").await;
    example
        .take(vec![
            ("origin", texts(["JFK"; 5])),
            ("valid", times(["06:30", "08:00", "09:00", "09:30", "09:45"])),
            ("known", times(["06:32", "08:04", "10:40", "09:36", "11:15"])),
            ("temp", numbers([2, 4, 100, 6, 90])),
        ])
        .await;
    let asked = || vec![("origin", texts(["JFK"])), ("at", times(["10:00"]))];
    let set = example.ask(asked()).await;
    assert_eq!(temps(&set), [Some(6)]);

    // A join on event time alone tells of what nobody knew at ten.
    let mut request = HistoricalRequest::new(["weather.temp"]);
    request.ignore_known_at = true;
    assert_eq!(temps(&example.ask_for(asked(), request).await), [Some(90)]);

    // With hindsight of eleven, C was known; an observer of nine knew B.
    for (instant, known) in [("11:00", 6), ("11:15", 90), ("09:00", 4)] {
        let mut request = HistoricalRequest::new(["weather.temp"]);
        request.known_by = Some(time(instant));
        assert_eq!(temps(&example.ask_for(asked(), request).await), [Some(known)], "{instant}");
    }
}

/// Feast's dask engine drops spine rows whose entity has values, but none as early as the row: a training set loses its
/// cold starts in silence.
#[tokio::test]
async fn rows_before_the_first_observation_stay() {
    for ttl in ["", "1h"] {
        let example = Example::new(ttl).await;
        example
            .take(vec![
                ("origin", texts(["JFK", "LGA"])),
                ("valid", times(["09:00", "12:00"])),
                ("known", times(["09:00", "12:00"])),
                ("temp", numbers([1, 2])),
            ])
            .await;
        let set = example
            .ask(vec![
                ("origin", texts(["LGA", "JFK", "EWR", "JFK"])),
                ("at", times(["11:59", "09:30", "10:00", "08:00"])),
                ("label", numbers([10, 11, 12, 13])),
            ])
            .await;
        assert_eq!(ints(&set, "label"), [Some(10), Some(11), Some(12), Some(13)]);
        assert_eq!(temps(&set), [None, Some(1), None, None]);
        assert_eq!(why(&set, "temp"), (reasons(&[("later", 2), ("unknown_entity", 1)]), 0));
        assert_eq!(set.report.rows, 4);
    }
}

#[tokio::test]
async fn both_bounds_of_a_ttl_are_inclusive() {
    let example = Example::new("2h").await;
    example
        .take(vec![
            ("origin", texts(["JFK"])),
            ("valid", times(["09:00"])),
            ("known", times(["09:00"])),
            ("temp", numbers([1])),
        ])
        .await;
    let asked = ["08:59:59.999999", "09:00", "11:00", "11:00:00.000001"];
    let spine = || vec![("origin", texts(["JFK"; 4])), ("at", times(asked))];
    let set = example.ask(spine()).await;
    assert_eq!(temps(&set), [None, Some(1), Some(1), None]);
    assert_eq!(why(&set, "temp").0, reasons(&[("expired", 1), ("later", 1)]));

    // One for this retrieval alone takes its place, shorter or longer.
    for (ttl, expected) in [("1us", [None, Some(1), None, None]), ("1d", [None, Some(1), Some(1), Some(1)])] {
        let mut request = HistoricalRequest::new(["weather.temp"]);
        request.ttl.insert("weather".to_owned(), ttl.parse().unwrap());
        assert_eq!(temps(&example.ask_for(spine(), request).await), expected, "{ttl}");
    }
}

#[tokio::test]
async fn what_becomes_known_at_a_rows_time_is_known_to_it() {
    let example = Example::new("").await;
    example
        .take(vec![
            ("origin", texts(["JFK"])),
            ("valid", times(["09:00"])),
            ("known", times(["09:30"])),
            ("temp", numbers([1])),
        ])
        .await;
    let asked = ["09:29:59.999999", "09:30", "09:30:00.000001"];
    let set = example.ask(vec![("origin", texts(["JFK"; 3])), ("at", times(asked))]).await;
    assert_eq!(temps(&set), [None, Some(1), Some(1)]);
    assert_eq!(why(&set, "temp").0, reasons(&[("not_yet_known", 1)]));
}

#[tokio::test]
async fn a_correction_changes_only_what_comes_after_it() {
    let example = Example::new("").await;
    let row = |known, temp| {
        vec![
            ("origin", texts(["JFK"])),
            ("valid", times(["09:00"])),
            ("known", times([known])),
            ("temp", numbers([temp])),
        ]
    };
    example.take(row("09:10", 1)).await;
    example.take(row("12:00", 2)).await;
    let asked = ["09:10", "11:59:59.999999", "12:00", "18:00"];
    let spine = || vec![("origin", texts(["JFK"; 4])), ("at", times(asked))];
    assert_eq!(temps(&example.ask(spine()).await), [Some(1), Some(1), Some(2), Some(2)]);

    // A row that comes later and was known earlier corrects nothing that is known better.
    example.take(row("10:00", 3)).await;
    assert_eq!(temps(&example.ask(spine()).await), [Some(1), Some(3), Some(2), Some(2)]);
    assert_eq!(count(&example.serving, "SELECT count(*) FROM weather").await, 1);
    assert_eq!(count(&example.serving, "SELECT temp FROM weather").await, 2);
    assert_eq!(count(&example.serving, "SELECT count(*) FROM history('weather')").await, 3);
}

/// Where a view dates its rows by a delay, a correction is known from its commit on; a back-fill as the delay says.
#[tokio::test]
async fn a_claimed_correction_is_known_from_its_arrival() {
    let example = Example::of(definitions("string", "", "{ delay = \"30m\" }", TEMP)).await;
    let row = |temp| vec![("origin", texts(["JFK"])), ("valid", times(["09:00"])), ("temp", numbers([temp]))];
    let spine = || vec![("origin", texts(["JFK"; 3])), ("at", times(["09:29", "09:30", "15:00"]))];
    example.take(row(1)).await;
    assert_eq!(temps(&example.ask(spine()).await), [None, Some(1), Some(1)]);
    example.clock.set(time("14:00"));
    example.take_as(row(2), Some(Claim::Correction)).await;
    assert_eq!(temps(&example.ask(spine()).await), [None, Some(1), Some(2)]);
    example.take_as(row(3), Some(Claim::BackFill)).await;
    assert_eq!(temps(&example.ask(spine()).await), [None, Some(3), Some(2)]);
}

#[tokio::test]
async fn rows_known_by_their_arrival_are_known_from_the_commit_on() {
    let example = Example::of(definitions("string", "", "\"arrival\"", TEMP)).await;
    example.clock.set(time("12:00"));
    example.take(vec![("origin", texts(["JFK"])), ("valid", times(["09:00"])), ("temp", numbers([1]))]).await;
    let set =
        example.ask(vec![("origin", texts(["JFK"; 2])), ("at", times(["11:59:59.999999", "12:00"]))]).await;
    assert_eq!(temps(&set), [None, Some(1)]);
}

#[tokio::test]
async fn among_equals_the_last_received_wins() {
    let example = Example::new("").await;
    let same = |temps: [i64; 3]| {
        vec![
            ("origin", texts(["JFK"; 3])),
            ("valid", times(["09:00"; 3])),
            ("known", times(["09:00"; 3])),
            ("temp", numbers(temps)),
        ]
    };
    let asked = || vec![("origin", texts(["JFK"])), ("at", times(["09:00"]))];
    example.take(same([3, 1, 2])).await;
    assert_eq!(temps(&example.ask(asked()).await), [Some(2)]);
    example.take(same([9, 8, 0])).await;
    assert_eq!(temps(&example.ask(asked()).await), [Some(0)]);
}

#[tokio::test]
async fn a_retraction_holds_until_the_next_observation() {
    let features = format!("{TEMP}default = -1\n");
    let example = Example::of(definitions("string", "", KNOWN, &features)).await;
    example
        .take(vec![
            ("origin", texts(["JFK"; 3])),
            ("valid", times(["09:00", "10:00", "11:00"])),
            ("known", times(["09:00", "10:30", "11:00"])),
            ("temp", numbers([1, 7, 3])),
            ("_retracted", retractions([false, true, false])),
        ])
        .await;
    let asked = ["08:59", "09:00", "10:29", "10:30", "10:59", "11:00"];
    let set = example.ask(vec![("origin", texts(["JFK"; 6])), ("at", times(asked))]).await;
    // The default stands before the first observation, never for what was retracted.
    assert_eq!(temps(&set), [Some(-1), Some(1), Some(1), None, None, Some(3)]);
    assert_eq!(why(&set, "temp"), (reasons(&[("retracted", 2)]), 1));
    assert_eq!(count(&example.serving, "SELECT count(*) FROM weather").await, 2);
}

/// A feature that was added later: earlier batches do not have it, and that is no reason for its default.
#[tokio::test]
async fn a_default_stands_where_nothing_is_known_and_nowhere_else() {
    let example = Example::new("").await;
    let columns = |origins: [&'static str; 2], with_wind: bool| {
        let mut columns = vec![
            ("origin", texts(origins)),
            ("valid", times(["09:00"; 2])),
            ("known", times(["09:00"; 2])),
            ("temp", numbers([1, 2])),
        ];
        if with_wind {
            let wind: ArrayRef = Arc::new(Int64Array::from(vec![Some(5), None]));
            columns.push(("wind", wind));
        }
        columns
    };
    example.take(columns(["JFK", "LGA"], false)).await;
    let features = format!("{TEMP}[[features]]\nname = \"wind\"\ntype = \"int64\"\ndefault = 0\n");
    example.apply(definitions("string", "", KNOWN, &features)).await;
    example.take(columns(["EWR", "PHL"], true)).await;
    let origins = ["JFK", "EWR", "PHL", "BOS", ""];
    let set = example.ask(vec![("origin", texts(origins)), ("at", times(["10:00"; 5]))]).await;
    assert_eq!(ints(&set, "wind"), [None, Some(5), None, Some(0), Some(0)]);
    assert_eq!(why(&set, "wind"), (reasons(&[("not_in_batch", 1), ("null_at_source", 1)]), 2));
    assert_eq!(temps(&set), [Some(1), Some(1), Some(2), None, None]);

    // The version before has no wind, and sees the rows of both.
    let request = HistoricalRequest::new(["weather@1.*"]);
    let set = example.ask_for(vec![("origin", texts(["EWR"])), ("at", times(["10:00"]))], request).await;
    assert_eq!(temps(&set), [Some(1)]);
    assert!(set.schema.column_with_name("wind").is_none());
}

#[tokio::test]
async fn nulls_match_nothing_and_every_row_comes_back_in_its_place() {
    let example = Example::new("").await;
    example
        .take(vec![
            ("origin", texts(["JFK"])),
            ("valid", times(["09:00"])),
            ("known", times(["09:00"])),
            ("temp", numbers([1])),
        ])
        .await;
    let set = example
        .ask(vec![
            ("at", times(["12:00", "", "08:00", "12:00", ""])),
            ("label", numbers([5, 4, 3, 5, 1])),
            ("origin", texts(["JFK", "JFK", "JFK", "JFK", ""])),
        ])
        .await;
    assert_eq!(ints(&set, "label"), [Some(5), Some(4), Some(3), Some(5), Some(1)]);
    assert_eq!(temps(&set), [Some(1), None, None, Some(1), None]);
    assert_eq!(why(&set, "temp").0, reasons(&[("later", 1), ("null_key_or_time", 2)]));
}

/// A spine's time finer than a microsecond is floored: an earlier time knows less.
#[tokio::test]
async fn a_nanosecond_before_is_before() {
    let example = Example::new("").await;
    example
        .take(vec![
            ("origin", texts(["JFK"])),
            ("valid", times(["09:00"])),
            ("known", times(["09:30"])),
            ("temp", numbers([1])),
        ])
        .await;
    let known = time("09:30").micros();
    let at = nanoseconds(&[Some((known - 1, 999)), Some((known, 0)), Some((known, 1))]);
    let set = example.ask(vec![("origin", texts(["JFK"; 3])), ("at", at)]).await;
    assert_eq!(temps(&set), [None, Some(1), Some(1)]);
}

/// A view of these keys, each of which has its place, from 1 on, as its value.
async fn keyed(key: &str, stored: ArrayRef) -> Example {
    let example = Example::of(definitions(key, "", KNOWN, TEMP)).await;
    let count = stored.len();
    let day = || -> ArrayRef {
        let day = std::iter::repeat_n(time("09:00").micros(), count);
        Arc::new(TimestampMicrosecondArray::from_iter_values(day).with_timezone("UTC"))
    };
    let places: ArrayRef = Arc::new(Int64Array::from_iter_values(1..=count as i64));
    example.take(vec![("origin", stored), ("valid", day()), ("known", day()), ("temp", places)]).await;
    example
}

fn keyed_spine(asked: ArrayRef) -> RecordBatch {
    let at: ArrayRef = Arc::new(Date32Array::from_iter_values(std::iter::repeat_n(20_000, asked.len())));
    batch(vec![("origin", asked), ("at", at)])
}

async fn found_by(key: &str, stored: ArrayRef, asked: ArrayRef) -> serving::Result<TrainingSet> {
    let example = keyed(key, stored).await;
    let spine = spine(vec![keyed_spine(asked)]);
    example.serving.historical(spine, HistoricalRequest::new(["weather.temp"]), &author()).await
}

/// A key that no entity has is not null: it is of an unknown entity.
async fn check_keys<const N: usize>(
    key: &str,
    stored: ArrayRef,
    asked: ArrayRef,
    expected: [Option<i128>; N],
) {
    let set = found_by(key, stored, asked).await.unwrap();
    assert_eq!(temps(&set), expected, "{key}");
    let unknown = expected.iter().filter(|found| found.is_none()).count() as u64;
    assert_eq!(why(&set, "temp").0, reasons(&[("unknown_entity", unknown)]), "{key}");
}

fn decimals<const N: usize>(unscaled: [i128; N], precision: u8, scale: i8) -> ArrayRef {
    let decimals = Decimal128Array::from_iter_values(unscaled);
    Arc::new(decimals.with_precision_and_scale(precision, scale).unwrap())
}

#[tokio::test]
async fn a_decimal_key_with_more_digits_than_the_entitys_finds_nothing() {
    let stored = || decimals([100, 101], 6, 2);
    // 1.000, 1.004, 1.005, 1.010, 0.996
    let asked = decimals([1000, 1004, 1005, 1010, 996], 10, 3);
    check_keys("decimal(6,2)", stored(), asked, [Some(1), None, None, Some(2), None]).await;
    // More digits before the point than the key has, and a scale below it.
    check_keys("decimal(6,2)", stored(), decimals([100_000_000_100, 100], 20, 2), [None, Some(1)]).await;
    check_keys("decimal(6,2)", stored(), decimals([1, 10], 6, 0), [Some(1), None]).await;
}

#[tokio::test]
async fn an_instant_as_key_between_two_microseconds_finds_nothing() {
    let nine = time("09:00").micros();
    let stored = Arc::new(TimestampMicrosecondArray::from(vec![nine, -1, 0]).with_timezone("UTC"));
    let nanos = vec![nine * 1000, nine * 1000 + 1, nine * 1000 - 1, -1000, -999, -1, 0];
    let asked = Arc::new(TimestampNanosecondArray::from(nanos).with_timezone("UTC"));
    check_keys("timestamp", stored, asked, [Some(1), None, None, Some(2), None, None, Some(3)]).await;
}

/// A training set of such dates cannot be told by its digest, and is refused; SQL finds nothing.
#[tokio::test]
async fn a_time_of_day_as_key_is_no_date() {
    const DAY: i64 = 86_400_000;
    let stored = || -> ArrayRef { Arc::new(Date32Array::from(vec![15_826, -1])) };
    let days = Arc::new(Date64Array::from(vec![15_826 * DAY, -DAY, 0]));
    check_keys("date", stored(), days, [Some(1), Some(2), None]).await;

    let asked = || -> ArrayRef {
        Arc::new(Date64Array::from(vec![15_826 * DAY, 15_826 * DAY + 1, 15_827 * DAY - 1, -DAY, -1]))
    };
    let error = found_by("date", stored(), asked()).await.unwrap_err();
    assert!(error.to_string().contains("is not a whole day"), "{error}");
    assert_eq!(error.kind(), Kind::Invalid, "{error}");

    let example = keyed("date", stored()).await;
    let session = example.serving.session(&catalog::Author::default()).await.unwrap();
    let spine = keyed_spine(asked());
    session.register("spine", spine.schema(), vec![spine]).unwrap();
    let query = Query::sql(
        "SELECT temp FROM historical_features((SELECT * FROM session.spine), features => ['weather.temp'])",
    );
    let answer = example.serving.retrieve_in(&session, query, &author()).await.unwrap();
    let schema = answer.schema.clone();
    let found = concat_batches(&schema, &answer.collect().await.unwrap()).unwrap();
    let value = |place| Some(Value::Int(place));
    assert_eq!(read(found.column(0)), [value(1), None, None, value(2), None]);
}

#[tokio::test]
async fn a_number_out_of_the_keys_range_finds_nothing() {
    let asked = || numbers([7, 7 + 256, 7 - 256, -1]);
    check_keys("int8", numbers([7, -1]), asked(), [Some(1), None, None, Some(2)]).await;
    check_keys("uint8", numbers([7, 255]), asked(), [Some(1), None, None, None]).await;
    let large = Arc::new(UInt64Array::from(vec![u64::MAX, 1 << 63, 7]));
    check_keys("int64", numbers([-1, i64::MIN, 7]), large, [None, None, Some(3)]).await;
    check_keys("uint64", Arc::new(UInt64Array::from(vec![u64::MAX, 7])), numbers([-1, 7]), [None, Some(2)])
        .await;
}

/// pandas makes floats of integers with nulls. Such a key is refused with what to do, or finds its whole numbers; a
/// fraction is never rounded to somebody's key.
#[tokio::test]
async fn a_fraction_finds_no_integer_key() {
    let fractions =
        Arc::new(Float64Array::from(vec![7.5, 6.9999, 7.0000001, f64::NAN, f64::INFINITY, 1e300]));
    match found_by("int64", numbers([7, 8]), fractions).await {
        Ok(set) => assert_eq!(temps(&set), [None; 6]),
        Err(error) => {
            assert_eq!(error.kind(), Kind::Invalid);
            let text = error.to_string();
            assert!(text.contains("`origin` is Float64") && text.contains("cast it in the spine"), "{text}");
        }
    }
}

#[tokio::test]
async fn the_same_text_in_any_form_is_the_same_key() {
    let dictionary = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
    for form in [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View, dictionary] {
        let asked = arrow::compute::cast(&texts(["LGA", "JFK ", "jfk", "JFK"]), &form).unwrap();
        check_keys("string", texts(["JFK", "LGA"]), asked, [Some(2), None, None, Some(1)]).await;
    }
}

#[tokio::test]
async fn two_columns_of_one_name_are_an_error() {
    let example = Example::new("").await;
    example
        .take(vec![
            ("origin", texts(["JFK"])),
            ("valid", times(["09:00"])),
            ("known", times(["09:00"])),
            ("temp", numbers([1])),
        ])
        .await;
    let given = || {
        let columns = vec![("origin", texts(["JFK"])), ("at", times(["10:00"])), ("temp", numbers([40]))];
        spine(vec![batch(columns)])
    };
    let mut request = HistoricalRequest::new(["weather.temp"]);
    let error = example.serving.historical(given(), request.clone(), &author()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("full feature names"), "{error}");
    request.full_feature_names = true;
    let set = example.serving.historical(given(), request, &author()).await.unwrap();
    assert_eq!((ints(&set, "temp"), ints(&set, "weather__temp")), (vec![Some(40)], vec![Some(1)]));
}

/// What was recorded is made again as it was, whatever came after it.
#[tokio::test]
async fn a_training_set_is_made_again_at_its_sequence() {
    let example = Example::new("").await;
    let row = |temp| {
        vec![
            ("origin", texts(["JFK"])),
            ("valid", times(["09:00"])),
            ("known", times(["09:00"])),
            ("temp", numbers([temp])),
        ]
    };
    let asked = || vec![("origin", texts(["JFK"])), ("at", times(["10:00"]))];
    example.take(row(1)).await;
    let before = example.ask(asked()).await;
    example.take(row(2)).await;
    assert_eq!(temps(&example.ask(asked()).await), [Some(2)]);
    let (report, again) =
        example.serving.replay(before.report.training_set.unwrap(), &author()).await.unwrap();
    assert_eq!(report.rebuilt, before.report.digest);
    assert_eq!(temps(&again), [Some(1)]);
}

/// Files in a folder answer as those in memory do, and after the store was opened again.
#[tokio::test]
async fn a_folder_answers_as_memory_does() {
    let place = tempfile::tempdir().unwrap();
    let clock = TestClock::new(time("00:00"));
    let columns = || {
        vec![
            ("origin", texts(["JFK", "LGA", "JFK"])),
            ("valid", times(["09:00", "09:00", "10:00"])),
            ("known", times(["09:30", "09:00", "10:00"])),
            ("temp", numbers([1, 2, 3])),
        ]
    };
    let asked = || vec![("origin", texts(["JFK", "LGA", "JFK"])), ("at", times(["09:45", "09:00", "10:00"]))];
    let mut answers = Vec::new();
    let in_folder =
        Example { serving: folder(&place.path().join("store"), &clock).await, clock: clock.clone() };
    in_folder.apply(definitions("string", "", KNOWN, TEMP)).await;
    let in_memory = Example::new("").await;
    for example in [&in_folder, &in_memory] {
        example.take(columns()).await;
        answers.push(example.ask(asked()).await);
    }
    let again = Example { serving: folder(&place.path().join("store"), &clock).await, clock };
    answers.push(again.ask(asked()).await);
    for answer in &answers {
        assert_eq!(temps(answer), [Some(1), Some(2), Some(3)]);
        assert_eq!(answer.report.digest, answers[0].report.digest);
    }
}
