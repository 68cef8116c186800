//! Properties: the form of the values never shows in the digest, and their every change does.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{BLOCK_ROWS, HashAlgorithm, TableDigest, TableDigestResult, digest_batches};
use super::arrays::{Style, array, data_type};

const LEAVES: [&str; 26] = [
    "null",
    "bool",
    "i8",
    "i16",
    "i32",
    "i64",
    "u8",
    "u16",
    "u32",
    "u64",
    "f16",
    "f32",
    "f64",
    "dec:9:2",
    "dec:18:0",
    "dec:38:5",
    "dec:60:-1",
    "date",
    "time:s",
    "time:us",
    "ts:us:utc",
    "ts:ns:local",
    "dur:ms",
    "fbin:3",
    "utf8",
    "bin",
];

fn types() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(&LEAVES[..]).prop_map(str::to_owned);
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|item| format!("list<{item}>")),
            (0..3, inner.clone()).prop_map(|(size, item)| format!("flist:{size}<{item}>")),
            prop::collection::vec(inner.clone(), 0..3).prop_map(|children| {
                let named =
                    children.iter().zip(["1:a:", "2:é:"]).map(|(child, name)| format!("{name}{child}"));
                format!("struct<{}>", named.collect::<Vec<_>>().join(","))
            }),
            (prop::sample::select(vec!["utf8", "i32", "date"]), inner)
                .prop_map(|(key, value)| format!("map<{key},{value}>")),
        ]
    })
}

fn styles() -> impl Strategy<Value = Style> {
    (0..3u8, 0..4u8, 0..3u8, any::<bool>(), any::<bool>())
        .prop_map(|(text, lists, encoding, garbage, widths)| Style { text, lists, encoding, garbage, widths })
}

/// A plain generator of numbers, so that values can follow a type that is itself random.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// The parts between commas at the outermost level of `<…>`, names of struct fields dropped.
fn children(text: &str) -> Vec<String> {
    let inside = &text[text.find('<').unwrap() + 1..text.len() - 1];
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for character in inside.chars() {
        match character {
            '<' => depth += 1,
            '>' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().unwrap().push(character);
    }
    parts.retain(|part| !part.is_empty());
    if text.starts_with("struct") {
        for part in &mut parts {
            let name = part.match_indices(':').nth(1).unwrap().0;
            part.drain(..=name);
        }
    }
    parts
}

fn value(text: &str, numbers: &mut Numbers, nullable: bool) -> Value {
    if text == "null" || (nullable && numbers.below(4) == 0) {
        return Value::Null;
    }
    match text.split([':', '<']).next().unwrap() {
        "bool" => json!(numbers.below(2) == 1),
        "utf8" => json!(["", "a", "é", "a longer text than a view holds"][numbers.below(4) as usize]),
        "bin" => json!(["", "00", "ff00"][numbers.below(3) as usize]),
        "fbin" => json!(["000000", "ff00aa"][numbers.below(2) as usize]),
        "f16" | "f32" | "f64" => match numbers.below(6) {
            0 => json!("nan"),
            1 => json!(-0.0),
            2 => json!(0.0),
            3 => json!("-inf"),
            _ => json!(numbers.below(100) as f64 / 4.0),
        },
        "u8" | "u16" | "u32" | "u64" => json!(numbers.below(200)),
        "i8" | "i16" | "i32" | "i64" | "dec" | "date" | "time" | "ts" | "dur" => {
            json!(numbers.below(200) as i64 - 100)
        }
        "list" => {
            let item = &children(text)[0];
            (0..numbers.below(4)).map(|_| value(item, numbers, true)).collect()
        }
        "flist" => {
            let size: usize = text[6..text.find('<').unwrap()].parse().unwrap();
            let item = &children(text)[0];
            (0..size).map(|_| value(item, numbers, true)).collect()
        }
        "struct" => children(text).iter().map(|child| value(child, numbers, true)).collect(),
        "map" => {
            let parts = children(text);
            (0..numbers.below(3))
                .map(|_| json!([value(&parts[0], numbers, false), value(&parts[1], numbers, true)]))
                .collect()
        }
        other => panic!("{other}"),
    }
}

fn column(text: &str, values: &[Value], style: Style) -> RecordBatch {
    let data_type = data_type(text, style);
    let schema = Schema::new(vec![Field::new("x", data_type.clone(), true)]);
    RecordBatch::try_new(Arc::new(schema), vec![array(&data_type, values, style)]).unwrap()
}

/// The digest of the rows taken in pieces: each cut is a number of rows.
fn digest(algorithm: HashAlgorithm, batch: &RecordBatch, cuts: &[usize]) -> TableDigestResult {
    let mut table = TableDigest::new(algorithm, batch.schema_ref()).unwrap();
    let mut from = 0;
    for cut in cuts {
        let rows = (*cut).min(batch.num_rows() - from);
        table.update(&batch.slice(from, rows)).unwrap();
        from += rows;
    }
    table.update(&batch.slice(from, batch.num_rows() - from)).unwrap();
    table.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_form_of_values_never_shows(
        text in types(),
        rows in 0usize..30,
        seed: u64,
        one in styles(),
        other in styles(),
        cuts in prop::collection::vec(0usize..12, 0..5),
    ) {
        let mut numbers = Numbers(seed);
        let values: Vec<Value> = (0..rows).map(|_| value(&text, &mut numbers, true)).collect();
        let plain = digest(HashAlgorithm::Blake3, &column(&text, &values, Style::PLAIN), &[]);
        for style in [one, other] {
            let found = digest(HashAlgorithm::Blake3, &column(&text, &values, style), &cuts);
            prop_assert_eq!(&found, &plain, "{} {:?} {:?}", text, style, values);
        }
        // Batches of one table may differ in form.
        let cut = rows / 3;
        let mut table = TableDigest::new(HashAlgorithm::Blake3, column(&text, &[], one).schema_ref()).unwrap();
        table.update(&column(&text, &values[..cut], other)).unwrap();
        table.update(&column(&text, &values[cut..], one)).unwrap();
        prop_assert_eq!(&table.finish(), &plain);
    }

    #[test]
    fn every_change_of_a_value_shows(
        text in types(),
        rows in 1usize..12,
        seed: u64,
        at: prop::sample::Index,
        style in styles(),
    ) {
        let mut numbers = Numbers(seed);
        let mut values: Vec<Value> = (0..rows).map(|_| value(&text, &mut numbers, true)).collect();
        let before = digest(HashAlgorithm::Blake3, &column(&text, &values, style), &[]);
        let at = at.index(rows);
        let other = value(&text, &mut numbers, true);
        // Compared as text, for -0.0 == 0.0.
        let (one, two) = (other.to_string(), values[at].to_string());
        prop_assume!(one != two);
        let old = std::mem::replace(&mut values[at], other);
        let after = digest(HashAlgorithm::Blake3, &column(&text, &values, style), &[]);
        prop_assert_ne!(before.digest, after.digest, "{} {} {:?}", text, old, values);
        // So does a row more.
        values.push(old);
        let longer = digest(HashAlgorithm::Blake3, &column(&text, &values, style), &[]);
        prop_assert_ne!(longer.digest, after.digest);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn batches_may_be_cut_anywhere_over_many_blocks(
        rows in BLOCK_ROWS - 2..3 * BLOCK_ROWS,
        every in 2usize..9,
        cuts in prop::collection::vec(1usize..2 * BLOCK_ROWS, 0..4),
        sha: bool,
    ) {
        let algorithm = if sha { HashAlgorithm::Sha256 } else { HashAlgorithm::Blake3 };
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows as i64).map(|i| i * i)));
        let sparse: ArrayRef = Arc::new(Int32Array::from_iter((0..rows).map(|i| (i % every > 0).then_some(i as i32))));
        let floats: ArrayRef = Arc::new(Float64Array::from_iter_values(
            (0..rows).map(|i| if i == BLOCK_ROWS + 1 { -f64::NAN } else { i as f64 / 3.0 }),
        ));
        let texts: ArrayRef = Arc::new(StringArray::from_iter((0..rows).map(|i| (i % every > 0).then(|| i.to_string()))));
        let batch = RecordBatch::try_from_iter_with_nullable(
            [("id", ids, false), ("sparse", sparse, true), ("float", floats, true), ("text", texts, true)],
        ).unwrap();
        let whole = digest(algorithm, &batch, &[]);
        prop_assert_eq!(whole.columns[0].leaves.len(), rows.div_ceil(BLOCK_ROWS));
        prop_assert_eq!(&digest(algorithm, &batch, &cuts), &whole);
        prop_assert_eq!(&digest(algorithm, &batch, &vec![8192; rows / 8192]), &whole);
    }
}

fn first_column(name: &str, values: ArrayRef) -> TableDigestResult {
    let batch = RecordBatch::try_from_iter([(name, values)]).unwrap();
    digest_batches(HashAlgorithm::Blake3, batch.schema_ref(), [&batch]).unwrap()
}

#[test]
fn names_types_and_order_show() {
    let ints: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
    let swapped: ArrayRef = Arc::new(Int32Array::from(vec![2, 1]));
    let wide: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let base = first_column("a", ints.clone()).digest;
    assert_ne!(first_column("b", ints.clone()).digest, base);
    assert_ne!(first_column("a", swapped.clone()).digest, base);
    assert_ne!(first_column("a", wide).digest, base);
    let two = |one: (&str, &ArrayRef), other: (&str, &ArrayRef)| {
        let batch = RecordBatch::try_from_iter([(one.0, one.1.clone()), (other.0, other.1.clone())]).unwrap();
        digest_batches(HashAlgorithm::Blake3, batch.schema_ref(), [&batch]).unwrap().digest
    };
    assert_ne!(two(("a", &ints), ("b", &swapped)), two(("b", &swapped), ("a", &ints)));
    assert_ne!(two(("a", &ints), ("b", &swapped)), two(("a", &swapped), ("b", &ints)));
}

#[test]
fn metadata_and_nullability_do_not_show() {
    let ints: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
    let field = Field::new("a", ints.data_type().clone(), false)
        .with_metadata([("ARROW:extension:name".to_owned(), "any".to_owned())].into());
    let schema = Schema::new(vec![field]).with_metadata([("k".to_owned(), "v".to_owned())].into());
    let batch = RecordBatch::try_new(Arc::new(schema), vec![ints.clone()]).unwrap();
    let found = digest_batches(HashAlgorithm::Blake3, batch.schema_ref(), [&batch]).unwrap();
    assert_eq!(found, first_column("a", ints));
}

#[test]
fn a_leaf_stands_for_the_rows_of_its_block() {
    let values: Vec<i64> = (0..3 * BLOCK_ROWS as i64).collect();
    let mut changed = values.clone();
    changed[BLOCK_ROWS + 5] += 1;
    let one = first_column("a", Arc::new(Int64Array::from(values)));
    let other = first_column("a", Arc::new(Int64Array::from(changed)));
    let differ: Vec<bool> =
        one.columns[0].leaves.iter().zip(&other.columns[0].leaves).map(|(one, other)| one != other).collect();
    assert_eq!(differ, [false, true, false]);
    assert_ne!(one.digest, other.digest);
}
