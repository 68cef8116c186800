//! Manifests read back as written, for ever, and nothing else is taken for one.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, ListArray, ListBuilder, RecordBatch, StringArray, StructArray,
    UInt32Builder,
};
use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use feature::digest::{ContentDigest, Digest, HashAlgorithm, hash};
use feature::{BatchId, FileId};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use uuid::Uuid;

use super::*;
use crate::Error;

const OBJECT: &str = "manifests/0191e0a4-0000-7000-8000-000000000000.parquet";

/// What the golden manifest holds.
fn files() -> Vec<DataFile> {
    let algorithm = HashAlgorithm::Blake3;
    let view = "0191e0a4-1111-7000-8000-000000000001";
    let uuid = |number: u128| Uuid::from_u128(0x0191_e0a4_2222_7000_8000_0000_0000_0000 + number);
    let content = |text: &str| ContentDigest::new(algorithm, *hash(algorithm, text.as_bytes()).bytes());
    let statistics = |column: &str, nulls, nans, least: Option<&[u8]>, greatest: Option<&[u8]>| {
        let (least, greatest) = (least.map(<[u8]>::to_vec), greatest.map(<[u8]>::to_vec));
        ColumnStatistics { column: column.to_owned(), nulls, nans, least, greatest }
    };
    let time = |micros: i64| micros.to_le_bytes();
    let first = DataFile {
        id: FileId::from(uuid(1)),
        path: format!("data/{view}/v2/2013/1-of-4/{}.parquet", uuid(1)),
        version: 2,
        from: 1_356_998_400_000_000,
        until: 1_388_534_400_000_000,
        bucket: 1,
        buckets: 4,
        rows: 3,
        bytes: 65_537,
        key_hashes: None,
        statistics: vec![
            statistics("origin", 0, 0, Some(b"EWR"), Some(b"JFK")),
            statistics(
                "valid_at",
                0,
                0,
                Some(&time(1_357_020_000_000_000)),
                Some(&time(1_357_027_200_000_000)),
            ),
            statistics("temp", 1, 1, Some(&39.02f64.to_le_bytes()), Some(&39.02f64.to_le_bytes())),
            statistics("note", 3, 0, None, None),
        ],
        pieces: vec![Piece {
            batch: BatchId::from(uuid(7)),
            from: 1_356_998_400_000_000,
            until: 1_388_534_400_000_000,
            bucket: 1,
            buckets: 4,
            rows: 3,
            digest: content("first"),
        }],
        digest: hash(algorithm, b"the file"),
        block_bytes: LARGE_BLOCK_BYTES,
        blocks: vec![hash(algorithm, b"one block"), hash(algorithm, b"another")],
    };
    let mut compacted = first.clone();
    compacted.id = FileId::from(uuid(2));
    compacted.path = format!("data/{view}/v2/all/0-of-1/{}.parquet", uuid(2));
    (compacted.from, compacted.until) = (i64::MIN, i64::MAX);
    (compacted.bucket, compacted.buckets) = (0, 1);
    compacted.rows = 5;
    compacted.pieces.push(Piece {
        batch: BatchId::from(uuid(8)),
        from: i64::MIN,
        until: i64::MAX,
        bucket: 0,
        buckets: 1,
        rows: 2,
        digest: content("second"),
    });
    let empty = DataFile {
        id: FileId::from(uuid(3)),
        path: format!("data/{view}/v2/all/0-of-1/{}.parquet", uuid(3)),
        rows: 0,
        bytes: 0,
        statistics: Vec::new(),
        pieces: Vec::new(),
        blocks: Vec::new(),
        ..compacted.clone()
    };
    vec![first, compacted, empty]
}

/// The same files, one of them of smaller blocks.
fn files_of_format_2() -> Vec<DataFile> {
    let mut files = files();
    files[0].block_bytes = 32 * 1024;
    files[0].blocks.push(hash(HashAlgorithm::Blake3, b"a third"));
    files
}

/// One that tells its keys, one that has none, and one that does not tell.
fn files_that_tell_keys() -> Vec<DataFile> {
    let mut files = files_of_format_2();
    files[0].key_hashes = Some(vec![0, 7, u32::MAX]);
    files[2].key_hashes = Some(Vec::new());
    files
}

/// `LINEAMENT_BLESS=1` writes a golden manifest that is missing; none is ever overwritten.
#[test]
fn golden_manifests_read_as_what_was_written() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/golden");
    for (name, expected) in [
        ("manifest-v1.parquet", files()),
        ("manifest-v2.parquet", files_of_format_2()),
        ("manifest-v2-key-hashes.parquet", files_that_tell_keys()),
    ] {
        let path = format!("{golden}/{name}");
        if std::env::var_os("LINEAMENT_BLESS").is_some() && !std::fs::exists(&path).unwrap() {
            std::fs::write(&path, encode(&expected).unwrap()).unwrap();
        }
        let bytes = Bytes::from(std::fs::read(path).unwrap());
        assert_eq!(decode(OBJECT, &bytes).unwrap(), expected, "{name}");
    }
}

#[test]
fn manifests_read_back_as_written_and_do_not_vary() {
    for files in [files(), files_that_tell_keys(), Vec::new()] {
        let bytes = encode(&files).unwrap();
        assert_eq!(encode(&files).unwrap(), bytes);
        assert_eq!(decode(OBJECT, &bytes).unwrap(), files);
    }
    let range = files()[0].valid_at_range();
    assert_eq!(range, Some((1_357_020_000_000_000, 1_357_027_200_000_000)));
    assert_eq!(files()[2].valid_at_range(), None);
}

#[test]
fn a_file_may_hold_what_its_manifest_does_not_rule_out() {
    let files = files_that_tell_keys();
    let held = |file: usize| [0, 1, 7, u32::MAX].map(|hash| files[file].may_hold(&[hash]));
    assert_eq!(held(0), [true, false, true, true]);
    assert_eq!(held(1), [true; 4]);
    assert_eq!(held(2), [false; 4]);
    assert!(files[0].may_hold(&[1, 2, 3, 4, 7]) && files[1].may_hold(&[]));
    assert!(!files[0].may_hold(&[1, 2, 3, 4, 5]) && !files[0].may_hold(&[]));
}

fn rows(bytes: &Bytes) -> RecordBatch {
    ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap().build().unwrap().next().unwrap().unwrap()
}

fn parquet(rows: &RecordBatch, format: Option<&str>) -> Bytes {
    let pairs = format.map(|format| vec![KeyValue::new(FORMAT_KEY.to_owned(), format.to_owned())]);
    let properties = WriterProperties::builder().set_key_value_metadata(pairs).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties)).unwrap();
    writer.write(rows).unwrap();
    writer.into_inner().unwrap().into()
}

/// The rows with a column in place of one of the same name, or beside all.
fn with(rows: &RecordBatch, name: &str, column: ArrayRef) -> RecordBatch {
    let field = Arc::new(Field::new(name, column.data_type().clone(), true));
    let mut fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
    let mut columns = rows.columns().to_vec();
    match rows.schema().index_of(name) {
        Ok(position) => (fields[position], columns[position]) = (field, column),
        Err(_) => {
            fields.insert(0, field);
            columns.insert(0, column);
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

#[test]
fn columns_that_were_added_later_are_passed_over() {
    let rows = rows(&encode(&files()).unwrap());
    let added = with(&rows, "added", Arc::new(StringArray::from(vec![Some("x"), None, Some("y")])));
    // Also within the structs of a list.
    let list = added.column_by_name("pieces").unwrap().as_list::<i32>().clone();
    let (field, offsets, values, nulls) = list.into_parts();
    let (fields, mut children, _) = values.as_struct().clone().into_parts();
    children.insert(0, Arc::new(Int64Array::from_value(5, values.len())));
    let mut wider = vec![Arc::new(Field::new("added", DataType::Int64, true))];
    wider.extend(fields.iter().cloned());
    let values = StructArray::try_new(wider.into(), children, None).unwrap();
    let field = Arc::new(field.as_ref().clone().with_data_type(values.data_type().clone()));
    let list = ListArray::try_new(field, offsets, Arc::new(values), nulls).unwrap();
    let added = with(&added, "pieces", Arc::new(list));
    assert_eq!(decode(OBJECT, &parquet(&added, Some("2"))).unwrap(), files());
}

fn corrupt(bytes: &Bytes) -> String {
    match decode(OBJECT, bytes).unwrap_err() {
        Error::Corrupt { object, why, .. } => {
            assert_eq!(object, OBJECT);
            why
        }
        other => panic!("{other}"),
    }
}

#[test]
fn foreign_and_damaged_files_are_told() {
    let bytes = encode(&files()).unwrap();
    let rows = rows(&bytes);
    assert!(corrupt(&Bytes::new()).contains("not a readable Parquet file"));
    assert!(corrupt(&Bytes::from_static(b"{\"a\": 1}")).contains("not a readable Parquet file"));
    assert!(corrupt(&bytes.slice(..bytes.len() - 1)).contains("not a readable Parquet file"));
    assert!(corrupt(&parquet(&rows, None)).contains("no manifest"));
    assert!(corrupt(&parquet(&rows, Some("one"))).contains("no manifest"));
    let error = decode(OBJECT, &parquet(&rows, Some("3"))).unwrap_err();
    assert!(matches!(&error, Error::Newer { object, .. } if object == OBJECT), "{error}");

    let texts = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; 3])) };
    let nulls = {
        let mut lists = ListBuilder::new(UInt32Builder::new());
        (0..3).for_each(|_| lists.append_value([None]));
        Arc::new(lists.finish())
    };
    let without_blocks = rows.project(&(0..rows.num_columns() - 1).collect::<Vec<_>>()).unwrap();
    let position = rows.schema().index_of("block_bytes").unwrap();
    let others: Vec<usize> = (0..rows.num_columns()).filter(|column| *column != position).collect();
    let without_block_bytes = rows.project(&others).unwrap();
    for (rows, part) in [
        (without_blocks, "the column `blocks` is missing"),
        (without_block_bytes, "the column `block_bytes` is missing"),
        (with(&rows, "rows", texts("3")), "the column `rows` has the type Utf8"),
        (with(&rows, "key_hashes", texts("3")), "the column `key_hashes` has the type Utf8"),
        (with(&rows, "key_hashes", nulls), "the column `key_hashes` has elements of the type UInt32 or null"),
        (with(&rows, "digest", texts("md5:00")), "`md5`"),
        (
            with(&rows, "path", Arc::new(StringArray::from(vec![Some("a"), None, None]))),
            "the column `path` has nulls",
        ),
        (with(&rows, "path", texts("data/other.parquet")), "is not its path"),
        (with(&rows, "id", texts("0191e0a4-2222-7000-8000-000000000001")), "the column `id` has the type"),
    ] {
        let why = corrupt(&parquet(&rows, Some("2")));
        assert!(why.contains(part), "{why}");
    }
}

#[test]
fn every_damage_of_a_byte_is_an_error_or_another_manifest_but_no_panic() {
    let bytes = encode(&files()).unwrap();
    let mut told = 0;
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= flip;
            if let Err(error) = decode(OBJECT, &damaged.into()) {
                assert!(error.to_string().contains(OBJECT), "{error}");
                told += 1;
            }
        }
    }
    // Values that another manifest could have are for the digest in the log to find.
    assert!(told > bytes.len());
}

#[test]
fn contradictions_are_neither_written_nor_read() {
    type Change = fn(&mut DataFile);
    let changes: [(Change, &str); 19] = [
        (|file| file.path = format!("../{}", file.path), "is not its path"),
        (|file| file.path = format!("/{}", file.path), "is not its path"),
        (|file| file.path = file.path.replace(".parquet", ".csv"), "is not its path"),
        (|file| file.until = file.from, "partition"),
        (|file| file.buckets = 3, "the bucket 1 of 3"),
        (|file| file.bucket = 4, "the bucket 4 of 4"),
        (|file| file.rows = 4, "its pieces have 3"),
        (|file| file.pieces[0].rows = u64::MAX, "its pieces have"),
        (|file| file.pieces[0].buckets = 0, "its piece of batch"),
        (|file| file.bytes = 65_536, "are 1 blocks, not 2"),
        (|file| file.block_bytes = 65_000, "no power of two"),
        (|file| file.key_hashes = Some(vec![7, 0]), "do not ascend"),
        (|file| file.key_hashes = Some(vec![7, 7]), "do not ascend"),
        (|file| file.key_hashes = Some(vec![1, 2, 3, 4]), "its 3 rows have 4 keys"),
        (|file| file.key_hashes = Some(Vec::new()), "its 3 rows have 0 keys"),
        (|file| file.statistics[0].least = None, "contradict"),
        (|file| file.statistics[2].nans = u64::MAX, "contradict"),
        (|file| file.statistics[1].column = "origin".into(), "twice"),
        (
            |file| file.blocks[1] = Digest::new(HashAlgorithm::Sha256, *file.blocks[1].bytes()),
            "another algorithm",
        ),
    ];
    for (change, part) in changes {
        let mut changed = files();
        change(&mut changed[0]);
        let error = encode(&changed).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains(&changed[0].id.to_string()), "{error}");
    }
    // The same checks when a manifest is read.
    let rows = rows(&encode(&files()).unwrap());
    let buckets = Arc::new(arrow::array::UInt32Array::from(vec![3, 1, 1]));
    assert!(corrupt(&parquet(&with(&rows, "buckets", buckets), Some("2"))).contains("the bucket 1 of 3"));
}
