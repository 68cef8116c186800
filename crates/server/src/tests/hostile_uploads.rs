//! Messages that would stop the process if they were decoded unchecked.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, FixedSizeBinaryArray,
    FixedSizeListArray, Float64Array, Int32Array, Int64Array, LargeListArray, LargeStringArray, ListArray,
    NullArray, RecordBatch, RunArray, StringArray, StringViewArray, StructArray, TimestampMicrosecondArray,
    UnionArray,
};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{DataType, Field, Fields, Float64Type, Int32Type, Int64Type, UnionFields};
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow::ipc::{CompressionType, root_as_message};
use arrow_flight::FlightData;
use bytes::Bytes;
use serving::Memory;
use tonic::{Code, Status};

use super::fixture::{Running, batch, command, path, refused, weather, weather_from};
use crate::call::Rows;
use crate::upload::{Received, Upload};

/// A batch with a column of every type that can be sent.
fn everything(rows: usize) -> RecordBatch {
    let n = i32::try_from(rows).unwrap();
    let some = |row: i32| (row % 3 != 1).then_some(row);
    let texts =
        || (0..n).map(|row| some(row).map(|row| format!("a text that is longer than twelve signs {row}")));
    let structs = StructArray::from((
        vec![(
            Arc::new(Field::new("inner", DataType::Int32, true)),
            Arc::new(Int32Array::from_iter((0..n).map(some))) as ArrayRef,
        )],
        (0..n)
            .map(|row| row % 2 == 0)
            .collect::<Vec<_>>()
            .into_iter()
            .collect::<arrow::buffer::BooleanBuffer>()
            .into_inner(),
    ));
    let codes: DictionaryArray<Int32Type> =
        (0..n).map(|row| some(row).map(|row| ["x", "y"][row as usize % 2])).collect();
    let lists = || (0..n).map(|row| some(row).map(|row| vec![Some(i64::from(row)), None]));
    let fixed = FixedSizeListArray::from_iter_primitive::<Float64Type, _, _>(
        (0..n).map(|row| some(row).map(|row| vec![Some(f64::from(row)), None])),
        2,
    );
    batch(vec![
        ("int", Arc::new(Int32Array::from_iter((0..n).map(some)))),
        ("plain", Arc::new(Int64Array::from_iter_values((0..n).map(i64::from)))),
        ("float", Arc::new(Float64Array::from_iter((0..n).map(|row| some(row).map(f64::from))))),
        ("bool", Arc::new(BooleanArray::from_iter((0..n).map(|row| some(row).map(|row| row % 2 == 0))))),
        ("text", Arc::new(texts().collect::<StringArray>())),
        ("large", Arc::new(texts().collect::<LargeStringArray>())),
        ("view", Arc::new(texts().collect::<StringViewArray>())),
        ("bytes", Arc::new((0..n).map(|row| some(row).map(|_| b"bytes")).collect::<BinaryArray>())),
        (
            "fixed",
            Arc::new(
                FixedSizeBinaryArray::try_from_sparse_iter_with_size(
                    (0..n).map(|row| Some(row.to_le_bytes())),
                    4,
                )
                .unwrap(),
            ),
        ),
        ("date", Arc::new(Date32Array::from_iter((0..n).map(some)))),
        (
            "time",
            Arc::new(TimestampMicrosecondArray::from_iter_values((0..n).map(i64::from)).with_timezone("UTC")),
        ),
        ("decimal", Arc::new(Decimal128Array::from_iter_values((0..n).map(i128::from)))),
        ("code", Arc::new(codes)),
        ("list", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists()))),
        ("large_list", Arc::new(LargeListArray::from_iter_primitive::<Int64Type, _, _>(lists()))),
        ("fixed_list", Arc::new(fixed)),
        ("struct", Arc::new(structs)),
        ("null", Arc::new(NullArray::new(rows))),
    ])
}

/// The messages of a batch: schema, dictionaries, rows.
fn messages(batch: &RecordBatch, compression: Option<CompressionType>) -> Vec<FlightData> {
    let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
    let generator = IpcDataGenerator::default();
    let mut dictionaries = DictionaryTracker::new(false);
    let schema =
        generator.schema_to_bytes_with_dictionary_tracker(&batch.schema(), &mut dictionaries, &options);
    let mut context = IpcWriteContext::default();
    let (mut encoded, rows) = generator.encode(batch, &mut dictionaries, &options, &mut context).unwrap();
    encoded.insert(0, schema);
    encoded.push(rows);
    encoded.into_iter().map(FlightData::from).collect()
}

fn receive(mut messages: Vec<FlightData>) -> Result<Received, Status> {
    messages[0].flight_descriptor = Some(path("weather"));
    let stream = futures::stream::iter(messages.into_iter().map(Ok));
    futures::executor::block_on(async {
        Upload::begin(stream, None).await?.receive(&Rows::default(), &Memory::new(8 << 30)).await
    })
}

const CODECS: [Option<CompressionType>; 3] =
    [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)];

#[test]
fn every_type_that_can_be_sent_is_received() {
    for codec in CODECS {
        for rows in [0, 1, 9, 1_000] {
            let batch = everything(rows);
            let received = receive(messages(&batch, codec)).unwrap();
            assert_eq!(received.batches, [batch], "{codec:?}");
        }
    }
}

/// Where two 8-byte numbers that belong to a node (length, nulls) or a buffer (offset, length) stand in a header.
fn find(header: &[u8], first: i64, second: i64) -> usize {
    let mut pattern = first.to_le_bytes().to_vec();
    pattern.extend(second.to_le_bytes());
    header.windows(16).position(|window| window == pattern).unwrap()
}

fn patched(bytes: &Bytes, at: usize, with: &[u8]) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes.into()
}

#[test]
fn claims_of_compressed_buffers_are_checked_before_anything_is_reserved() {
    let numbers = batch(vec![("n", Arc::new(Int64Array::from_iter_values((0..4_096).map(|n| n % 7))))]);
    for codec in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        let sent = messages(&numbers, Some(codec));
        assert_eq!(receive(sent.clone()).unwrap().batches, std::slice::from_ref(&numbers));
        let rows = sent.last().unwrap();
        assert!(rows.data_body.len() < 1_000);
        let claim = (8 * 4_096i64).to_le_bytes();
        let at = rows.data_body.windows(8).position(|window| window == claim).unwrap();
        for (claim, part) in [
            (i64::MAX, "unfolds to"),
            (1 << 40, "unfolds to"),
            ((256 << 20) + 1, "unfolds to"),
            (17 << 20, "at most 16777216"),
            (-2, "negative"),
            (i64::MIN, "negative"),
            (0, ""),
            (8 * 4_096 - 1, ""),
            (8 * 4_096 + 1, ""),
        ] {
            let mut hostile = sent.clone();
            let last = hostile.last_mut().unwrap();
            last.data_body = patched(&last.data_body, at, &claim.to_le_bytes());
            refused(receive(hostile), Code::InvalidArgument, &[part]);
        }
        // Cut within the buffer's own length.
        let mut hostile = sent.clone();
        let last = hostile.last_mut().unwrap();
        last.data_body = last.data_body.slice(..at + 4);
        refused(receive(hostile), Code::InvalidArgument, &[]);
    }
}

#[test]
fn an_lz4_frame_that_unfolds_further_than_it_claims_is_refused_undecoded() {
    // 200 MiB of zeros in frames' blocks of 4 MiB, said to be 32 KiB.
    let numbers = batch(vec![("n", Arc::new(Int64Array::from(vec![0; 4_096])))]);
    let zeros = batch(vec![("n", Arc::new(Int64Array::from(vec![0; 16 << 20])))]);
    let great = messages(&zeros, Some(CompressionType::LZ4_FRAME));
    let honest = 8i64 * (16 << 20);
    let body = &great.last().unwrap().data_body;
    let at = body.windows(8).position(|window| window == honest.to_le_bytes()).unwrap();
    let frame = &body[at + 8..];
    assert!(catalog::ingest::arrow_messages::lz4_bound(frame).unwrap() >= honest as u64);

    // The blocks of that frame, five times over, behind one header.
    let first = 7 + usize::from(frame[4] & 0b1000 != 0) * 8;
    let mut end = first;
    loop {
        let header = u32::from_le_bytes(frame[end..end + 4].try_into().unwrap());
        if header == 0 {
            break;
        }
        end += 4 + (header & 0x7fff_ffff) as usize + usize::from(frame[4] & 0b1_0000 != 0) * 4;
    }
    let mut bomb = (8i64 * 4_096).to_le_bytes().to_vec();
    bomb.extend(&frame[..first]);
    for _ in 0..5 {
        bomb.extend(&frame[first..end]);
    }
    bomb.extend([0; 4]);
    let mut hostile = messages(&numbers, Some(CompressionType::LZ4_FRAME));
    let last = hostile.last_mut().unwrap();
    let small = root_as_message(&last.data_header).unwrap().header_as_record_batch().unwrap();
    let values = *small.buffers().unwrap().get(1);
    let place = find(&last.data_header, values.offset(), values.length());
    let mut place_of_bomb = 0i64.to_le_bytes().to_vec();
    place_of_bomb.extend((bomb.len() as i64).to_le_bytes());
    last.data_header = patched(&last.data_header, place, &place_of_bomb);
    last.data_body = bomb.into();
    refused(receive(hostile), Code::InvalidArgument, &["unfolds to"]);
}

#[test]
fn lengths_and_places_are_checked() {
    let numbers = batch(vec![("n", Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])))]);
    let sent = messages(&numbers, None);
    let header = &sent[1].data_header;
    let node = find(header, 3, 1);
    let rows = root_as_message(header).unwrap().header_as_record_batch().unwrap();
    let buffers: Vec<_> =
        rows.buffers().unwrap().iter().map(|buffer| (buffer.offset(), buffer.length())).collect();
    let validity = find(header, buffers[0].0, buffers[0].1);
    let values = find(header, buffers[1].0, buffers[1].1);
    for (at, value, part) in [
        (node, -1i64, "length of -1"),
        (node, i64::MAX, "batches have at most"),
        (node, (16 << 20) + 1, "batches have at most"),
        (node, 4, "4 values in a batch of 3 rows"),
        (node + 8, 4, "more nulls than values"),
        (node + 8, -1, "length of -1"),
        (node + 8, 2, "null_count"),
        (validity + 8, 0, "validity"),
        (validity, i64::MAX, "outside"),
        (validity + 8, i64::MAX, "outside"),
        (validity, -8, "outside"),
        (values, 1 << 40, "outside"),
        (values + 8, 1 << 40, "outside"),
        (values + 8, -1, "outside"),
        (values + 8, 8, ""),
        (validity + 8, sent[1].data_body.len() as i64, "overlap"),
    ] {
        let mut hostile = sent.clone();
        hostile[1].data_header = patched(header, at, &value.to_le_bytes());
        let answer = receive(hostile);
        assert!(answer.is_err(), "{value} at {at} ({part}) is taken: {answer:?}");
        refused(answer, Code::InvalidArgument, &[part]);
    }
    let mut hostile = sent.clone();
    hostile[1].data_body = Bytes::new();
    refused(receive(hostile), Code::InvalidArgument, &["outside"]);
}

#[test]
fn the_order_and_kind_of_messages_is_checked() {
    let sent = messages(&everything(5), None);
    let [schema, dictionary, rows] = sent.as_slice() else { panic!("three messages") };
    for (hostile, part) in [
        (vec![rows.clone()], "before their schema"),
        (vec![dictionary.clone()], "before the schema"),
        (vec![schema.clone(), schema.clone()], "second schema"),
        (vec![FlightData::new().with_data_header(vec![0u8; 64])], ""),
        (vec![FlightData::new().with_data_header(vec![0xff; 64])], "not Arrow"),
        (vec![FlightData::new().with_data_header(vec![1u8])], "not Arrow"),
        (vec![FlightData::new().with_data_body(vec![1u8; 64])], "not Arrow"),
        (vec![FlightData::new()], "no schema"),
    ] {
        refused(receive(hostile), Code::InvalidArgument, &[part]);
    }
    // Without its dictionary, a column that uses it is wrong; with another's, too.
    refused(receive(vec![schema.clone(), rows.clone()]), Code::InvalidArgument, &[]);
    // Metadata alone, and nothing, are skipped.
    let note = FlightData::new().with_app_metadata("note");
    let received = receive(vec![
        note.clone(),
        schema.clone(),
        note,
        dictionary.clone(),
        rows.clone(),
        FlightData::new(),
    ]);
    assert_eq!(received.unwrap().batches, [everything(5)]);
}

#[test]
fn types_that_uploads_have_no_use_for_are_refused_by_name() {
    let run = RunArray::try_new(&Int32Array::from(vec![2]), &StringArray::from(vec!["a"])).unwrap();
    let fields: UnionFields = [(0i8, Arc::new(Field::new("a", DataType::Int32, true)))].into_iter().collect();
    let union = UnionArray::try_new(
        fields,
        ScalarBuffer::from(vec![0i8, 0]),
        None,
        vec![Arc::new(Int32Array::from(vec![1, 2]))],
    )
    .unwrap();
    for (column, part) in [(Arc::new(run) as ArrayRef, "RunEndEncoded"), (Arc::new(union), "Union")] {
        let sent = messages(&batch(vec![("odd", column)]), None);
        refused(receive(sent), Code::InvalidArgument, &["`odd`", part]);
    }
    let mut deep = Field::new("leaf", DataType::Int32, true);
    for _ in 0..20 {
        deep = Field::new("nest", DataType::Struct(Fields::from(vec![deep])), true);
    }
    let wide: Vec<Field> = (0..10_001).map(|at| Field::new(format!("c{at}"), DataType::Int8, true)).collect();
    for (schema, part) in [
        (arrow::datatypes::Schema::new(vec![deep]), "deep"),
        (arrow::datatypes::Schema::new(wide), "10000 columns"),
        (
            arrow::datatypes::Schema::new(vec![Field::new("x", DataType::FixedSizeBinary(0), true)]),
            "FixedSizeBinary",
        ),
        (
            arrow::datatypes::Schema::new(vec![Field::new("x", DataType::FixedSizeBinary(-1), true)]),
            "FixedSizeBinary",
        ),
        (arrow::datatypes::Schema::new(vec![Field::new("x", DataType::Decimal128(200, 3), true)]), "Decimal"),
        (
            arrow::datatypes::Schema::new(vec![Field::new("x".repeat(17 << 20), DataType::Int8, true)]),
            "16777216 bytes",
        ),
    ] {
        let sent = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
            &schema,
            &mut DictionaryTracker::new(false),
            &IpcWriteOptions::default(),
        );
        refused(receive(vec![FlightData::from(sent)]), Code::InvalidArgument, &[part]);
    }
}

#[test]
fn rows_that_take_no_bytes_are_counted() {
    let nulls = messages(&batch(vec![("n", Arc::new(NullArray::new(16 << 20)))]), None);
    let mut many = nulls[..1].to_vec();
    many.extend(std::iter::repeat_n(nulls[1].clone(), 40));
    refused(receive(many), Code::InvalidArgument, &["more than 4 GiB"]);
    let beyond = messages(&batch(vec![("n", Arc::new(NullArray::new((16 << 20) + 1)))]), None);
    refused(receive(beyond), Code::InvalidArgument, &["at most"]);
}

/// Receives messages as the server does, and fails the test where that panics.
fn survive(messages: Vec<FlightData>, what: &dyn Fn() -> String) -> bool {
    match std::panic::catch_unwind(AssertUnwindSafe(|| receive(messages))) {
        Ok(Ok(_)) => true,
        Ok(Err(status)) => {
            assert_eq!(status.code(), Code::InvalidArgument, "{}: {status:?}", what());
            false
        }
        Err(_) => panic!("decoding panicked: {}", what()),
    }
}

#[test]
fn no_change_of_a_header_stops_the_process() {
    let mut admitted = 0;
    let mut refused = 0;
    for codec in CODECS {
        let sent = messages(&everything(9), codec);
        for message in 0..sent.len() {
            let header = sent[message].data_header.clone();
            for at in 0..header.len() {
                let byte = header[at];
                for with in [0, 1, 2, 7, 0x7f, 0x80, 0xff, byte ^ 1, byte ^ 0x10, byte.wrapping_add(8)] {
                    if with == byte {
                        continue;
                    }
                    let mut hostile = sent.clone();
                    hostile[message].data_header = patched(&header, at, &[with]);
                    let what =
                        || format!("{codec:?}, message {message}, byte {at} of its header set to {with}");
                    if survive(hostile, &what) { admitted += 1 } else { refused += 1 }
                }
            }
            for at in (0..header.len().saturating_sub(8)).step_by(4) {
                for with in [-1i64, 0, 1, 8, 9, 1 << 20, 1 << 32, 1 << 40, i64::MAX, i64::MIN, i64::MAX / 2] {
                    let mut hostile = sent.clone();
                    hostile[message].data_header = patched(&header, at, &with.to_le_bytes());
                    let what = || {
                        format!("{codec:?}, message {message}, 8 bytes at {at} of its header set to {with}")
                    };
                    if survive(hostile, &what) { admitted += 1 } else { refused += 1 }
                }
            }
        }
    }
    // Both happen, so that neither the check nor the changes are idle.
    assert!(admitted > 1_000 && refused > 10_000, "{admitted} {refused}");
}

#[test]
fn no_change_of_a_body_stops_the_process() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    for codec in CODECS {
        let sent = messages(&everything(9), codec);
        for case in 0..4_000 {
            let mut hostile = sent.clone();
            for _ in 0..=random(4) {
                let message = &mut hostile[1 + random(2)];
                let part = if random(4) == 0 { &mut message.data_header } else { &mut message.data_body };
                if part.is_empty() {
                    continue;
                }
                let at = random(part.len());
                if random(10) == 0 {
                    *part = part.slice(..at);
                } else {
                    *part = patched(part, at, &[u8::try_from(random(256)).unwrap()]);
                }
            }
            survive(hostile, &|| format!("{codec:?}, case {case}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_stays_up() {
    let mut server = Running::with_weather().await;
    let numbers = batch(vec![("n", Arc::new(Int64Array::from_iter_values((0..4_096).map(|n| n % 7))))]);
    for codec in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        let mut hostile = messages(&numbers, Some(codec));
        let last = hostile.last_mut().unwrap();
        let claim = (8 * 4_096i64).to_le_bytes();
        let at = last.data_body.windows(8).position(|window| window == claim).unwrap();
        last.data_body = patched(&last.data_body, at, &(1i64 << 46).to_le_bytes());
        for to in [path("weather"), command(r#"{"historical_features": {"features": ["weather.temp"]}}"#)] {
            hostile[0].flight_descriptor = Some(to);
            let put = server.put_messages(futures::stream::iter(hostile.clone())).await;
            refused(put, Code::InvalidArgument, &[]);
            let exchanged =
                server.client.do_exchange(futures::stream::iter(hostile.clone())).await.map(|_| ());
            refused(exchanged, Code::InvalidArgument, &[]);
        }
    }
    // A message that is greater than any may be.
    let mut huge = messages(&weather(1), None);
    huge[0].flight_descriptor = Some(path("weather"));
    huge.push(
        FlightData::new().with_data_header(huge[1].data_header.clone()).with_data_body(vec![0u8; 65 << 20]),
    );
    let put = server.put_messages(futures::stream::iter(huge)).await;
    assert!(put.is_err());
    // And one that is great and may be.
    let rows = 5_000_000;
    let many = batch(vec![
        ("origin", Arc::new(StringArray::from_iter_values((0..rows).map(|_| "EWR")))),
        ("n", Arc::new(Int64Array::from_iter_values(0..rows))),
    ]);
    let mut great = messages(&many.slice(0, 3_000_000), None);
    assert!(great[1].data_body.len() > 40 << 20);
    great[0].flight_descriptor = Some(path("weather"));
    let put = server.put_messages(futures::stream::iter(great)).await;
    refused(put, Code::InvalidArgument, &["at"]);
    assert_eq!(server.sql("SELECT * FROM weather").await.unwrap().num_rows(), 24);
    assert_eq!(server.put(path("weather"), vec![weather_from(12, 1)]).await.unwrap()["rows"], 2);
}
