//! What is written reads back as exactly the rows, sorted, each in its partition and bucket, and truly described.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::*;
use arrow::compute::{concat_batches, take};
use arrow::datatypes::*;
use bytes::Bytes;
use feature::digest::{ContentDigest, HashAlgorithm, digest_batches, hash};
use feature::key::statistic::statistic_bytes;
use feature::key::{bucket_of_rows, key_hashes};
use feature::{BatchId, FileId, ViewId};
use object_store::memory::InMemory;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression as Codec, Encoding, LogicalType, Type};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::manifest::{self, KEYS_TOLD};

/// One row, as a test knows it. Its place in the batch is a feature, `arrival`.
#[derive(Clone, Debug)]
struct Row {
    origin: &'static str,
    gate: i64,
    valid_at: i64,
    known_at: i64,
    retracted: bool,
    temp: Option<f64>,
    note: Option<&'static str>,
}

const HOUR: i64 = 3_600_000_000;
/// 2012-12-30T00:00:00Z: the times go over the end of a year.
const START: i64 = 1_356_825_600_000_000;

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (
        prop::sample::select(vec!["", "EWR", "JFK", "LGA", "é", "a key that is longer than the others"]),
        -2i64..3,
        0i64..400,
        0i64..3,
        prop::bool::weighted(0.1),
        prop_oneof![
            Just(None),
            Just(Some(f64::NAN)),
            Just(Some(0.0)),
            Just(Some(-0.0)),
            (-50.0..50.0).prop_map(Some)
        ],
        prop::sample::select(vec![None, Some(""), Some("fog"), Some("éclair")]),
    );
    let row = row.prop_map(|(origin, gate, hours, delay, retracted, temp, note)| {
        let valid_at = START + hours * 6 * HOUR;
        Row { origin, gate, valid_at, known_at: valid_at + delay * HOUR, retracted, temp, note }
    });
    prop::collection::vec(row, 0..120)
}

/// Which optional columns there are, and how text lies in memory.
#[derive(Clone, Copy, Debug)]
struct Shape {
    known_at: bool,
    retracted: bool,
    occurrence: bool,
    dictionary: bool,
}

fn shapes() -> impl Strategy<Value = Shape> {
    (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(known_at, retracted, occurrence, dictionary)| Shape { known_at, retracted, occurrence, dictionary },
    )
}

fn times(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC"))
}

/// The batch, its columns in another order than the files'.
fn batch(rows: &[Row], shape: Shape) -> RecordBatch {
    let mut columns: Vec<(&str, ArrayRef)> = Vec::new();
    columns.push(("arrival", Arc::new(Int64Array::from_iter_values(0..rows.len() as i64))));
    if shape.retracted {
        let retracted: Vec<bool> = rows.iter().map(|row| row.retracted).collect();
        columns.push(("_retracted", Arc::new(BooleanArray::from(retracted))));
    }
    columns.push(("valid_at", times(rows.iter().map(|row| row.valid_at))));
    columns.push(("temp", Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.temp)))));
    columns.push(("gate", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.gate)))));
    if shape.known_at {
        columns.push(("known_at", times(rows.iter().map(|row| row.known_at))));
    }
    if shape.dictionary {
        let origin: DictionaryArray<Int32Type> = rows.iter().map(|row| row.origin).collect();
        columns.push(("origin", Arc::new(origin)));
    } else {
        columns.push(("origin", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.origin)))));
    }
    columns.push(("note", Arc::new(StringViewArray::from_iter(rows.iter().map(|row| row.note)))));
    if shape.occurrence {
        let occurrence = rows.iter().enumerate().map(|(place, _)| (place % 3 > 0).then_some(place as i32));
        columns.push(("leg", Arc::new(Int32Array::from_iter(occurrence))));
    }
    let price = rows.iter().map(|row| row.temp.filter(|temp| temp.is_finite()).map(|temp| temp as i128));
    let price = Decimal128Array::from_iter(price).with_precision_and_scale(20, 2).unwrap();
    columns.push(("price", Arc::new(price)));
    let day = rows.iter().map(|row| Some((row.valid_at / (24 * HOUR)) as i32));
    columns.push(("day", Arc::new(Date32Array::from_iter(day))));
    columns
        .push(("wet", Arc::new(BooleanArray::from_iter(rows.iter().map(|row| row.note.map(str::is_empty))))));
    columns.push(("small", Arc::new(UInt8Array::from_iter_values(rows.iter().map(|row| row.gate as u8)))));
    let binary: BinaryArray = rows.iter().map(|row| row.note.map(str::as_bytes)).collect();
    columns.push(("raw", Arc::new(binary)));
    columns.push((
        "single",
        Arc::new(Float32Array::from_iter(rows.iter().map(|row| row.temp.map(|t| t as f32)))),
    ));
    RecordBatch::try_from_iter(columns).unwrap()
}

fn columns(shape: Shape) -> Columns {
    Columns {
        keys: vec!["origin".into(), "gate".into()],
        occurrence: shape.occurrence.then(|| "leg".into()),
        has_known_at: shape.known_at,
        has_retracted: shape.retracted,
    }
}

fn target(hash: HashAlgorithm) -> Target {
    let uuid = |last: u128| Uuid::from_u128(0x0191_e0a4_3333_7000_8000_0000_0000_0000 + last);
    Target { view: ViewId::from(uuid(1)), version: 7, batch: BatchId::from(uuid(2)), hash }
}

fn write_all(
    rows: RecordBatch,
    columns: &Columns,
    layout: &Layout,
    hash: HashAlgorithm,
) -> Result<Vec<(DataFile, Bytes)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let mut number = 0;
        let mut mint = || {
            number += 1;
            FileId::from(Uuid::from_u128(0x0191_e0a4_4444_7000_8000_0000_0000_0000 + number))
        };
        let files = write(&objects, &target(hash), rows, columns, layout, &mut mint).await?;
        let mut written = Vec::new();
        for file in files {
            let bytes = objects.get(&Path::from(file.path.as_str())).await.unwrap().bytes().await.unwrap();
            written.push((file, bytes));
        }
        let listed = objects.list(None).try_collect::<Vec<_>>().await.unwrap();
        assert_eq!(listed.len(), written.len());
        Ok(written)
    })
}

fn read(bytes: &Bytes) -> (RecordBatch, Arc<ParquetMetaData>) {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes.clone(), options).unwrap();
    let (schema, metadata) = (reader.schema().clone(), reader.metadata().clone());
    let batches: Vec<_> = reader.build().unwrap().collect::<std::result::Result<_, _>>().unwrap();
    (concat_batches(&schema, &batches).unwrap(), metadata)
}

fn expected_columns(rows: &[Row], shape: Shape) -> Vec<&'static str> {
    let mut names = vec!["origin", "gate"];
    names.extend(shape.occurrence.then_some("leg"));
    names.push("valid_at");
    names.extend(shape.known_at.then_some("known_at"));
    names.extend(["arrival", "temp", "note", "price", "day", "wet", "small", "raw", "single"]);
    names.extend((shape.retracted && rows.iter().any(|row| row.retracted)).then_some("_retracted"));
    names
}

/// The statistics as the format defines them, value by value.
fn check_statistics(file: &DataFile, stored: &RecordBatch) {
    assert_eq!(file.statistics.len(), stored.num_columns());
    for (field, array) in stored.schema().fields().iter().zip(stored.columns()) {
        let found = file.column(field.name()).unwrap();
        assert_eq!(found.nulls, array.null_count() as u64);
        let float = |row: usize| match array.data_type() {
            DataType::Float64 => Some(array.as_primitive::<Float64Type>().value(row)),
            DataType::Float32 => Some(f64::from(array.as_primitive::<Float32Type>().value(row))),
            _ => None,
        };
        let valid = (0..array.len()).filter(|row| array.is_valid(*row));
        let (nan, valued): (Vec<usize>, Vec<usize>) =
            valid.partition(|row| float(*row).is_some_and(f64::is_nan));
        assert_eq!(found.nans, nan.len() as u64);
        let order = |one: &usize, other: &usize| match (float(*one), float(*other)) {
            (Some(one), Some(other)) => one.partial_cmp(&other).unwrap(),
            _ => arrow::array::make_comparator(array, array, Default::default()).unwrap()(*one, *other),
        };
        let bound = |row: Option<&usize>| row.and_then(|row| statistic_bytes(array, *row).unwrap());
        let unsigned = |bytes: Option<Vec<u8>>| {
            // Zeros of either sign bound alike.
            bytes.map(|bytes| match (array.data_type(), &bytes[..]) {
                (DataType::Float64, [0, 0, 0, 0, 0, 0, 0, 0x80]) => vec![0; 8],
                (DataType::Float32, [0, 0, 0, 0x80]) => vec![0; 4],
                _ => bytes,
            })
        };
        let least = bound(valued.iter().min_by(|one, other| order(one, other)));
        let greatest = bound(valued.iter().max_by(|one, other| order(one, other)));
        assert_eq!(unsigned(found.least.clone()), unsigned(least), "{}", field.name());
        assert_eq!(unsigned(found.greatest.clone()), unsigned(greatest), "{}", field.name());
    }
}

/// The partition's folder and bounds, from the calendar and not from the code under test: the times of these tests
/// lie in 2012-12, 2013-01, 2013-02, 2013-03 and 2013-04.
fn check_partition(file: &DataFile) {
    let day = 24 * HOUR;
    let year = START + 2 * day;
    let month = |number: usize| year + [-31, 0, 31, 59, 90, 120][number] * day;
    let folder = file.path.split('/').nth(3).unwrap();
    let (from, until) = match folder {
        "all" => (i64::MIN, i64::MAX),
        "2012" => (year - 366 * day, year),
        "2013" => (year, year + 365 * day),
        "2012-12" => (month(0), month(1)),
        "2013-01" => (month(1), month(2)),
        "2013-02" => (month(2), month(3)),
        "2013-03" => (month(3), month(4)),
        "2013-04" => (month(4), month(5)),
        // Days: `2012-12-30` is the first of all.
        named => {
            let begin = month(match &named[..7] {
                "2012-12" => 0,
                text => text[5..].parse().unwrap(),
            });
            let from = begin + (named[8..].parse::<i64>().unwrap() - 1) * day;
            (from, from + day)
        }
    };
    assert_eq!((file.from, file.until), (from, until), "{folder}");
}

fn check(rows: &[Row], shape: Shape, layout: &Layout, algorithm: HashAlgorithm) -> Vec<DataFile> {
    let input = batch(rows, shape);
    let written = write_all(input.clone(), &columns(shape), layout, algorithm).unwrap();
    let mut seen = vec![false; rows.len()];
    let mut file_of: HashMap<(&str, i64, i64), FileId> = HashMap::new();
    for (file, bytes) in &written {
        // Bytes and digests.
        assert_eq!(file.bytes, bytes.len() as u64);
        assert_eq!(file.digest, hash(algorithm, bytes));
        let blocks: Vec<_> =
            bytes.chunks(file.block_bytes as usize).map(|block| hash(algorithm, block)).collect();
        assert_eq!(file.blocks, blocks);
        let (stored, _) = read(bytes);
        let content = digest_batches(algorithm, stored.schema_ref(), [&stored]).unwrap();
        assert_eq!(file.rows, stored.num_rows() as u64);
        assert!(file.rows > 0);
        assert_eq!(file.pieces.len(), 1);
        let piece = &file.pieces[0];
        assert_eq!(
            (piece.batch, piece.rows, piece.digest),
            (target(algorithm).batch, file.rows, content.digest)
        );
        assert_eq!((piece.from, piece.until), (file.from, file.until));
        assert_eq!((piece.bucket, piece.buckets), (file.bucket, file.buckets));

        // The columns, and every value of every row.
        let names: Vec<_> = stored.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, expected_columns(rows, shape));
        let arrival = stored.column_by_name("arrival").unwrap().as_primitive::<Int64Type>();
        for (field, column) in stored.schema().fields().iter().zip(stored.columns()) {
            let given = take(input.column_by_name(field.name()).unwrap(), arrival, None).unwrap();
            let given = arrow::compute::cast(&given, column.data_type()).unwrap();
            // By `lmt1`, for NaN is not equal to itself.
            let digest = |column: &ArrayRef| {
                let batch = RecordBatch::try_from_iter([("x", column.clone())]).unwrap();
                digest_batches(algorithm, batch.schema_ref(), [&batch]).unwrap().digest
            };
            assert_eq!(digest(column), digest(&given), "{}", field.name());
        }
        check_statistics(file, &stored);

        // Order, partition, bucket.
        let places: Vec<usize> = arrival.values().iter().map(|place| *place as usize).collect();
        let sort_key = |place: usize| {
            let row = &rows[place];
            let known_at = if shape.known_at { row.known_at } else { 0 };
            (row.origin.as_bytes(), row.gate, row.valid_at, known_at, place)
        };
        assert!(places.is_sorted_by_key(|place| sort_key(*place)));
        let keys = [stored.column(0).clone(), stored.column(1).clone()];
        assert!(bucket_of_rows(&keys, file.buckets).unwrap().iter().all(|bucket| *bucket == file.bucket));
        let hashes = key_hashes(&keys).unwrap();
        assert_eq!(file.key_hashes, (hashes.len() <= KEYS_TOLD).then_some(hashes));
        check_partition(file);
        let expected = format!(
            "data/{}/v7/{}/{}-of-{}/{}.parquet",
            target(algorithm).view,
            file.path.split('/').nth(3).unwrap(),
            file.bucket,
            file.buckets,
            file.id
        );
        assert_eq!(file.path, expected);
        for place in places {
            assert!(!std::mem::replace(&mut seen[place], true), "row {place} was written twice");
            let row = &rows[place];
            assert!(file.from <= row.valid_at && row.valid_at < file.until);
            let home = *file_of.entry((row.origin, row.gate, row.valid_at)).or_insert(file.id);
            assert_eq!(home, file.id, "rows of one key and valid_at lie in two files");
        }
    }
    assert!(seen.iter().all(|seen| *seen), "a row was lost");

    // The manifest.
    let files: Vec<DataFile> = written.iter().map(|(file, _)| file.clone()).collect();
    assert!(files.is_sorted_by_key(|file| (file.from, file.bucket, file.id)));
    let encoded = manifest::encode(&files).unwrap();
    assert_eq!(manifest::decode("manifests/x.parquet", &encoded).unwrap(), files);
    let pieces: Vec<u8> = files.iter().flat_map(|file| *file.pieces[0].digest.bytes()).collect();
    assert_eq!(batch_digest(algorithm, &files), hash(algorithm, &pieces));

    // The same batch gives the same bytes.
    let again = write_all(input, &columns(shape), layout, algorithm).unwrap();
    assert_eq!(again, written);
    files
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn files_hold_exactly_the_rows_sorted_and_truly_described(
        rows in rows(),
        shape in shapes(),
        target_rows in 1usize..60,
        page_rows in 1usize..20,
        compression in prop::sample::select(vec![Compression::None, Compression::Lz4, Compression::Zstd]),
        sha: bool,
    ) {
        let algorithm = if sha { HashAlgorithm::Sha256 } else { HashAlgorithm::Blake3 };
        let layout = Layout { target_rows, page_rows, compression, ..Layout::default() };
        check(&rows, shape, &layout, algorithm);
    }
}

const FULL: Shape = Shape { known_at: true, retracted: true, occurrence: true, dictionary: false };

/// Rows in an order that is not sorted, with repeats.
fn many(rows: usize) -> Vec<Row> {
    (0..rows)
        .map(|i| {
            let valid_at = START + (i as i64 * 7919 % 480) * 6 * HOUR;
            Row {
                origin: ["EWR", "JFK", "LGA"][i % 3],
                gate: (i as i64 * 31) % 40,
                valid_at,
                known_at: valid_at + HOUR,
                retracted: i % 100 == 0,
                temp: (i % 5 > 0).then_some(i as f64 / 8.0),
                note: Some("fog"),
            }
        })
        .collect()
}

#[test]
fn every_granularity_and_several_buckets_are_reached() {
    let rows = many(4000);
    let mut folders: BTreeMap<usize, usize> = BTreeMap::new();
    let mut buckets = BTreeMap::new();
    for target_rows in [10, 200, 1500, 6000] {
        let layout = Layout { target_rows, ..Layout::default() };
        for file in check(&rows, FULL, &layout, HashAlgorithm::Blake3) {
            *folders.entry(file.path.split('/').nth(3).unwrap().len()).or_default() += 1;
            *buckets.entry(file.buckets).or_insert(0) += 1;
        }
    }
    // `all`, `2013`, `2013-05`, `2013-05-17`.
    assert_eq!(folders.keys().copied().collect::<Vec<_>>(), [3, 4, 7, 10], "{folders:?}");
    assert!(buckets.len() >= 3, "{buckets:?}");
}

#[test]
fn a_wide_batch_gets_files_of_fewer_rows() {
    let rows = many(1000);
    let small = Layout { target_bytes: 10_000, ..Layout::default() };
    assert!(check(&rows, FULL, &small, HashAlgorithm::Blake3).len() > 3);
    assert_eq!(check(&rows, FULL, &Layout::default(), HashAlgorithm::Blake3).len(), 1);
}

#[test]
fn the_parquet_files_are_as_the_format_says() {
    let rows = many(5000);
    let layout = Layout::default();
    let written = write_all(batch(&rows, FULL), &columns(FULL), &layout, HashAlgorithm::Blake3).unwrap();
    assert_eq!(written.len(), 1);
    let (_, metadata) = read(&written[0].1);
    assert!(metadata.file_metadata().created_by().unwrap().starts_with("lineament"));
    // What Parquet says of the columns is all that is said.
    assert_eq!(metadata.file_metadata().key_value_metadata(), None);
    let group = metadata.row_group(0);
    let sorting: Vec<i32> = group.sorting_columns().unwrap().iter().map(|column| column.column_idx).collect();
    let named = |name: &str| group.columns().iter().position(|column| column.column_path().string() == name);
    let sorted = ["origin", "gate", "valid_at", "known_at"].map(|name| named(name).unwrap() as i32);
    assert_eq!(sorting, sorted);
    assert!(group.sorting_columns().unwrap().iter().all(|column| !column.descending));
    let offsets = &metadata.offset_index().unwrap()[0];
    assert!(metadata.column_index().is_some());
    for name in ["valid_at", "known_at"] {
        let column = group.column(named(name).unwrap());
        assert_eq!(column.column_type(), Type::INT64);
        let description = column.column_descr();
        assert!(matches!(
            description.logical_type_ref(),
            Some(LogicalType::Timestamp(timestamp)) if timestamp.is_adjusted_to_u_t_c
        ));
        assert_eq!(description.max_def_level(), 0, "times are required");
        assert!(column.encodings().any(|encoding| encoding == Encoding::DELTA_BINARY_PACKED));
        assert_eq!(column.dictionary_page_offset(), None);
        assert_eq!(column.compression(), Codec::UNCOMPRESSED);
    }
    let retracted = group.column(named("_retracted").unwrap());
    assert_eq!(retracted.column_descr().max_def_level(), 0);
    assert!(group.column(named("origin").unwrap()).dictionary_page_offset().is_some());
    assert!(group.column(named("temp").unwrap()).dictionary_page_offset().is_some(), "its values are few");
    for (column, index) in group.columns().iter().zip(offsets) {
        let firsts: Vec<i64> = index.page_locations().iter().map(|page| page.first_row_index).collect();
        assert_eq!(firsts, [0, 2048, 4096], "{}", column.column_path());
    }
}

#[test]
fn what_a_manifest_says_wrongly_of_a_file_is_named() {
    let algorithm = HashAlgorithm::Blake3;
    let written = write_all(batch(&many(40), FULL), &columns(FULL), &Layout::default(), algorithm).unwrap();
    let (file, bytes) = &written[0];
    let keys = ["origin".to_owned(), "gate".to_owned()];
    let found = |file: &DataFile| disagreements(file, Some(&keys), bytes);
    assert_eq!((found(file), file.key_hashes.as_ref().unwrap().len()), (Vec::new(), 40));
    let untold = DataFile { key_hashes: None, ..file.clone() };
    assert_eq!(found(&untold), Vec::<String>::new());
    type Lie = fn(&mut DataFile);
    let lies: [(Lie, &str); 8] = [
        (|file| file.bytes += 1, "bytes, and its manifest says"),
        (|file| file.blocks.swap(0, 1), "gives block 0, 1"),
        (|file| file.rows += 1, "it has 40 rows, and its manifest says 41"),
        (|file| file.until = file.from + 1, "outside of the time"),
        (|file| file.buckets = 2, "are of another bucket than 0"),
        (|file| file.key_hashes.as_mut().unwrap()[0] = 0, "other keys than its manifest says"),
        (|file| file.statistics[0].nulls = 1, "`origin` has other statistics"),
        (
            |file| file.pieces[0].digest = ContentDigest::new(HashAlgorithm::Blake3, [7; 32]),
            "its content digest is",
        ),
    ];
    for (lie, part) in lies {
        // Of several blocks, so that they can be swapped.
        let blocks = bytes.chunks(1 << 10).map(|block| hash(algorithm, block)).collect();
        let mut file = DataFile { block_bytes: 1 << 10, blocks, ..file.clone() };
        lie(&mut file);
        let found = found(&file);
        assert!(found.iter().any(|why| why.contains(part)), "{part}: {found:?}");
    }
}

#[test]
fn an_empty_batch_has_no_files() {
    let written =
        write_all(batch(&[], FULL), &columns(FULL), &Layout::default(), HashAlgorithm::Sha256).unwrap();
    assert!(written.is_empty());
    assert_eq!(batch_digest(HashAlgorithm::Sha256, &[]), hash(HashAlgorithm::Sha256, b""));
}

#[test]
fn a_long_value_leaves_its_column_without_bounds() {
    let text: ArrayRef = Arc::new(StringArray::from(vec!["a".to_owned(), "b".repeat(1025)]));
    let id: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let batch =
        RecordBatch::try_from_iter([("id", id), ("valid_at", times([1, 2].into_iter())), ("text", text)])
            .unwrap();
    let columns =
        Columns { keys: vec!["id".into()], occurrence: None, has_known_at: false, has_retracted: false };
    let written = write_all(batch, &columns, &Layout::default(), HashAlgorithm::Blake3).unwrap();
    let column = written[0].0.column("text").unwrap();
    assert_eq!((&column.least, &column.greatest, column.nulls), (&None, &None, 0));
    assert_eq!(written[0].0.valid_at_range(), Some((1, 2)));
}

#[test]
fn what_breaks_the_format_is_refused_with_the_reason() {
    let good = || -> Vec<(&'static str, ArrayRef)> {
        vec![
            ("origin", Arc::new(StringArray::from(vec!["JFK", "EWR"]))),
            ("valid_at", times([1, 2].into_iter())),
            ("known_at", times([3, 4].into_iter())),
            ("_retracted", Arc::new(BooleanArray::from(vec![true, false]))),
            ("temp", Arc::new(Float64Array::from(vec![1.0, 2.0]))),
        ]
    };
    let columns = |key: &str| Columns {
        keys: vec![key.to_owned()],
        occurrence: None,
        has_known_at: true,
        has_retracted: true,
    };
    let refused = |rows: Vec<(&'static str, ArrayRef)>, columns: Columns| {
        let rows = RecordBatch::try_from_iter(rows).unwrap();
        let error = write_all(rows, &columns, &Layout::default(), HashAlgorithm::Blake3).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
        error.to_string()
    };
    let with = |name: &'static str, column: ArrayRef| {
        let mut rows = good();
        rows.retain(|(other, _)| *other != name);
        rows.push((name, column));
        rows
    };
    assert!(
        write_all(
            RecordBatch::try_from_iter(good()).unwrap(),
            &columns("origin"),
            &Layout::default(),
            HashAlgorithm::Blake3
        )
        .is_ok()
    );

    let null_key: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
    let null_time: ArrayRef =
        Arc::new(TimestampMicrosecondArray::from(vec![None, Some(1)]).with_timezone("UTC"));
    let naive: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1, 2]));
    let nanos: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![1, 2]).with_timezone("UTC"));
    let list: ArrayRef =
        Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1)]), None]));
    for (rows, key, part) in [
        (good(), "orign", "no column `orign` (there is `origin`)"),
        (good(), "temp", "part 1 of the key has the type Float64"),
        (with("origin", null_key), "origin", "`origin` is null in row 1"),
        (with("known_at", null_time.clone()), "origin", "`known_at` is null in row 0"),
        (with("valid_at", null_time), "origin", "`valid_at` is null in row 0"),
        (with("valid_at", naive), "origin", "not a timestamp in microseconds"),
        (with("known_at", nanos), "origin", "not a timestamp in microseconds"),
        (with("valid_at", times([0, i64::MAX].into_iter())), "origin", "the end of time"),
        (
            with("_retracted", Arc::new(BooleanArray::from(vec![None, Some(true)]))),
            "origin",
            "`_retracted` is null",
        ),
        (with("_retracted", Arc::new(Int64Array::from(vec![0, 1]))), "origin", "not boolean"),
        (with("temp", list), "origin", "its column `temp` cannot be stored"),
    ] {
        let message = refused(rows, columns(key));
        assert!(message.contains(part), "{message}");
        assert!(message.starts_with("batch 0191e0a4-"), "{message}");
    }
    let undeclared = Columns { has_retracted: false, ..columns("origin") };
    assert!(refused(good(), undeclared).contains("declared to have none"));
    let no_key = Columns { keys: Vec::new(), ..columns("origin") };
    assert!(refused(good(), no_key).contains("at least one key"));
    let mut twice = good();
    twice.push(("temp", Arc::new(Int64Array::from(vec![1, 2]))));
    assert!(refused(twice, columns("origin")).contains("two of its columns are named `temp`"));
}

#[test]
fn the_storage_failing_is_told_as_such() {
    let directory = tempfile::tempdir().unwrap();
    let local = object_store::local::LocalFileSystem::new_with_prefix(directory.path()).unwrap();
    let objects: Arc<dyn ObjectStore> = Arc::new(local);
    // A file where the folder of the data should be.
    std::fs::write(directory.path().join("data"), b"").unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let rows = batch(&many(100), FULL);
    let mut mint = || FileId::from(Uuid::from_u128(1));
    let target = target(HashAlgorithm::Blake3);
    let (columns, layout) = (columns(FULL), Layout::default());
    let written = runtime.block_on(write(&objects, &target, rows, &columns, &layout, &mut mint));
    assert!(matches!(written, Err(Error::Unavailable(_))), "{written:?}");
}
