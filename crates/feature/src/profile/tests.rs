//! Profiles: the same for the same rows, whatever the order and the pieces; and right.

use std::sync::Arc;

use arrow::array::{
    BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::take_record_batch;
use proptest::prelude::*;

use super::*;

fn features(declared: &[(&str, &str)]) -> Vec<Feature> {
    let mut text = "kind = \"feature_view\"\nname = \"v\"\nentity = \"e\"\n[time]\nvalid_at = \"t\"\nknown_at = \"assumed\"\n".to_owned();
    for (name, data_type) in declared {
        text.push_str(&format!("[[features]]\nname = \"{name}\"\ntype = \"{data_type}\"\n"));
    }
    match crate::definition::parse("v.toml", &text).unwrap() {
        crate::Definition::FeatureView(view) => view.features,
        other => panic!("{other:?}"),
    }
}

fn declared() -> Vec<Feature> {
    features(&[
        ("f", "float64"),
        ("i", "int64"),
        ("s", "string"),
        ("b", "bool"),
        ("d", "decimal(20,2)"),
        ("day", "date"),
        ("t", "timestamp"),
    ])
}

type Row = (Option<f64>, Option<i64>, Option<String>, Option<bool>, i64, bool);

fn batch(rows: &[Row]) -> RecordBatch {
    let times = |of: &dyn Fn(&Row) -> Option<i64>| {
        TimestampMicrosecondArray::from_iter(rows.iter().map(of)).with_timezone("UTC")
    };
    let decimals = Decimal128Array::from_iter(rows.iter().map(|row| row.1.map(i128::from)));
    RecordBatch::try_from_iter(vec![
        ("valid_at", Arc::new(times(&|row| Some(row.4))) as ArrayRef),
        ("f", Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.0)))),
        ("i", Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.1)))),
        ("s", Arc::new(StringArray::from_iter(rows.iter().map(|row| row.2.as_deref())))),
        ("b", Arc::new(BooleanArray::from_iter(rows.iter().map(|row| row.3)))),
        ("d", Arc::new(decimals.with_precision_and_scale(20, 2).unwrap())),
        ("day", Arc::new(Date32Array::from_iter(rows.iter().map(|row| row.1.map(|day| day as i32))))),
        ("t", Arc::new(times(&|row| row.1))),
        (RETRACTED, Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(row.5))))),
    ])
    .unwrap()
}

fn profile(rows: &RecordBatch) -> BatchProfile {
    let mut profile = BatchProfile::of(&declared());
    profile.add(rows).unwrap();
    profile
}

fn floats() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-1000i32..1000).prop_map(|tenths| f64::from(tenths) / 10.0),
        2 => any::<f64>(),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => Just(-0.0),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
    ]
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let text = prop_oneof!["[a-c]", "\\PC{0,80}"];
    let row = (
        proptest::option::weighted(0.9, floats()),
        proptest::option::weighted(0.9, any::<i64>()),
        proptest::option::weighted(0.9, text),
        proptest::option::weighted(0.9, any::<bool>()),
        -1_000_000_000_000i64..1_000_000_000_000,
        proptest::bool::weighted(0.1),
    );
    proptest::collection::vec(row, 1..700)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_order_and_any_pieces_give_the_same_bits(
        rows in rows(),
        seed in any::<u64>(),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
        join in any::<bool>(),
    ) {
        let whole = batch(&rows);
        let expected = profile(&whole).to_json();

        let mut order: Vec<u32> = (0..rows.len() as u32).collect();
        order.sort_by_key(|row| values::hash(&(seed ^ u64::from(*row)).to_le_bytes()));
        let shuffled = take_record_batch(&whole, &UInt32Array::from(order)).unwrap();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(rows.len())).collect();
        cuts.extend([0, rows.len()]);
        cuts.sort_unstable();
        let pieces: Vec<RecordBatch> =
            cuts.windows(2).map(|cut| shuffled.slice(cut[0], cut[1] - cut[0])).collect();

        // One after the other into one profile, and each by itself and then merged, from the front or from the back.
        let mut grown = BatchProfile::of(&declared());
        for piece in &pieces {
            grown.add(piece).unwrap();
        }
        prop_assert_eq!(String::from_utf8(grown.to_json()), String::from_utf8(expected.clone()));
        let mut merged = BatchProfile::of(&declared());
        let mut profiles: Vec<BatchProfile> = pieces.iter().map(profile).collect();
        if join {
            profiles.reverse();
        }
        for piece in &profiles {
            // What was stored is what merges.
            merged.merge(&BatchProfile::from_json(&piece.to_json()).unwrap()).unwrap();
        }
        prop_assert_eq!(String::from_utf8(merged.to_json()), String::from_utf8(expected));
        prop_assert_eq!(&merged, &profile(&whole));
    }

    #[test]
    fn what_is_counted_is_there(rows in rows()) {
        let profile = profile(&batch(&rows));
        let kept: Vec<&Row> = rows.iter().filter(|row| !row.5).collect();
        prop_assert_eq!(profile.rows, kept.len() as u64);
        let of = profile.feature("f").unwrap();
        prop_assert_eq!(of.nulls, kept.iter().filter(|row| row.0.is_none()).count() as u64);
        prop_assert_eq!(of.nans, kept.iter().filter(|row| row.0.is_some_and(f64::is_nan)).count() as u64);
        let numbers = of.numbers.as_ref().unwrap();
        let finite: Vec<f64> = kept.iter().filter_map(|row| row.0).filter(|value| value.is_finite()).collect();
        prop_assert_eq!(numbers.count(), finite.len() as u64);
        prop_assert_eq!(numbers.bins().iter().map(|bin| bin.count).sum::<u64>(), finite.len() as u64);
        for value in &finite {
            let within = |bin: &Bin| bin.least <= *value && *value <= bin.greatest;
            prop_assert!(numbers.bins().iter().any(within), "{} is in no bin", value);
        }
        let mut texts: Vec<&str> = kept.iter().filter_map(|row| row.2.as_deref()).collect();
        texts.sort_unstable();
        texts.dedup();
        let values = &profile.feature("s").unwrap().values;
        if texts.len() <= KEPT {
            prop_assert_eq!(values.distinct(), texts.len() as u64);
            let most = values.frequent();
            let total: u64 = most.iter().map(|value| value.count).sum();
            prop_assert_eq!(total, kept.iter().filter(|row| row.2.is_some()).count() as u64);
            prop_assert!(most.windows(2).all(|pair| pair[0].count >= pair[1].count));
        }
    }
}

fn numbers_of(values: &[f64]) -> Numbers {
    let mut numbers = Numbers::default();
    values.iter().for_each(|value| numbers.add(*value));
    numbers
}

#[test]
fn mean_and_spread_are_exact_where_floats_would_cancel() {
    // 1e16 + 1 is no float64; their deviations are.
    let numbers = numbers_of(&[1e16, 1e16 + 2.0, 1e16 + 4.0]);
    assert_eq!(numbers.mean(), Some(1e16 + 2.0));
    assert_eq!(numbers.spread(), Some(2.0));
    let numbers = numbers_of(&[1e300, 1.0, -1e300]);
    assert_eq!(numbers.mean(), Some(1.0 / 3.0));
    assert_eq!(numbers_of(&[0.1; 10]).mean(), Some(0.1));
    assert_eq!(numbers_of(&[0.1; 10]).spread(), Some(0.0));
    assert_eq!(numbers_of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).mean(), Some(5.0));
    let spread = numbers_of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).spread().unwrap();
    assert!((spread - (32.0f64 / 7.0).sqrt()).abs() < 1e-15, "{spread}");
    assert_eq!((numbers_of(&[]).mean(), numbers_of(&[3.0]).spread()), (None, None));
    let least = f64::from_bits(1);
    assert_eq!(numbers_of(&[least, least]).mean(), Some(least));
    assert_eq!(numbers_of(&[f64::MAX, f64::MAX]).mean(), Some(f64::MAX));
}

#[test]
fn quantiles_lie_in_their_bins() {
    let numbers = numbers_of(&(1..=1000).map(f64::from).collect::<Vec<_>>());
    for share in [0.01, 0.25, 0.5, 0.75, 0.99] {
        let quantile = numbers.quantile(share).unwrap();
        assert!((quantile / (share * 1000.0) - 1.0).abs() < 0.02, "{share}: {quantile}");
    }
    assert_eq!(numbers.quantile(0.0), Some(1.0));
    assert_eq!(numbers.quantile(1.0), Some(1000.0));
    assert_eq!(numbers_of(&[-3.0, -2.0]).quantile(0.0), Some(-3.0));
}

#[test]
fn of_many_values_some_are_kept_with_their_counts() {
    let rows: Vec<Row> =
        (0..30_000).map(|number: i64| (None, Some(number % 10_000), None, None, 0, false)).collect();
    let profile = profile(&batch(&rows));
    let values = &profile.feature("i").unwrap().values;
    assert!(!values.is_exact());
    assert!(values.distinct().abs_diff(10_000) < 700, "{}", values.distinct());
    assert_eq!(values.frequent().len(), KEPT);
    assert!(values.frequent().iter().all(|value| value.count == 3));
}

#[test]
fn profiles_of_other_types_do_not_merge_and_other_json_is_none() {
    let mut one = BatchProfile::of(&features(&[("x", "int64")]));
    let other = BatchProfile::of(&features(&[("x", "float64")]));
    let why = one.merge(&other).unwrap_err().to_string();
    assert_eq!(why, "the feature `x` is int64 in one profile and float64 in the other");
    let text = String::from_utf8(one.to_json()).unwrap();
    for (from, to) in [
        ("\"format\":1", "\"format\":2"),
        ("\"nulls\":0", "\"nulls\":5"),
        ("\"octaves\":[]", "\"octaves\":[{\"octave\":4095,\"sum\":\"0\",\"squares\":\"0\",\"bins\":[]}]"),
        ("\"octaves\":[]", "\"octaves\":[{\"octave\":1,\"sum\":\"0\",\"squares\":\"0\",\"bins\":[[128,1]]}]"),
        ("\"octaves\":[]", "\"octaves\":[{\"octave\":1,\"sum\":\"0\",\"squares\":\"é\",\"bins\":[]}]"),
        ("\"type\":\"int64\"", "\"type\":\"string\""),
        ("\"values\":[]", "\"values\":[{\"hash\":\"x\",\"value\":\"\",\"count\":1}]"),
    ] {
        assert!(text.contains(from), "{text}");
        assert!(BatchProfile::from_json(text.replace(from, to).as_bytes()).is_err(), "{to}");
    }
    assert!(BatchProfile::from_json(b"{").is_err());
}
