//! Verdicts on made-up batches, and the measures at points where they are known.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};

use super::*;
use crate::definition::{FeatureView, Thresholds};

const VIEW: &str = r#"
kind = "feature_view"
name = "v"
entity = "e"
[time]
valid_at = "t"
known_at = "assumed"
[[features]]
name = "x"
type = "float64"
[[features]]
name = "s"
type = "string"
[quality]
"#;

fn view(more: &str) -> FeatureView {
    match crate::definition::parse("v.toml", &format!("{VIEW}{more}")).unwrap() {
        crate::Definition::FeatureView(view) => view,
        other => panic!("{other:?}"),
    }
}

fn profile(
    x: impl IntoIterator<Item = Option<f64>>,
    s: impl IntoIterator<Item = &'static str>,
) -> BatchProfile {
    let x: ArrayRef = Arc::new(Float64Array::from_iter(x));
    let s: ArrayRef = Arc::new(StringArray::from_iter_values(s));
    let mut profile = BatchProfile::of(&view("").features);
    profile.add(&RecordBatch::try_from_iter(vec![("x", x), ("s", s)]).unwrap()).unwrap();
    profile
}

/// A hundred values from `at` to `at` + 10, in a cycle that `seed` begins, and as many texts.
fn day(seed: u32, at: f64) -> BatchProfile {
    let x = (0..100).map(|row| Some(at + f64::from((row * 37 + seed * 11) % 100) / 10.0));
    profile(x, (0..100).map(|row| if row % 4 == 0 { "rain" } else { "sun" }))
}

fn days() -> Vec<BatchProfile> {
    (0..20).map(|seed| day(seed, 50.0)).collect()
}

fn judged(batch: &BatchProfile, baseline: &[BatchProfile], more: &str) -> Judged {
    judge(&view(more).quality.unwrap(), Judging::Batch, batch, baseline, Timestamp(0)).unwrap()
}

fn found(judged: &Judged) -> Vec<(Option<&str>, &'static str, Verdict)> {
    let found = judged.findings.iter();
    found.map(|found| (found.feature.as_deref(), found.measure.name(), found.verdict)).collect()
}

#[test]
fn a_batch_like_the_others_passes() {
    let verdict = judged(&day(77, 50.0), &days(), "");
    assert_eq!((verdict.verdict, found(&verdict)), (Verdict::Pass, vec![]));
    assert_eq!((verdict.baseline_batches, verdict.baseline_rows), (20, 2_000));
    assert!(verdict.checks >= 10, "{}", verdict.checks);
    assert_eq!(verdict.drift, Some(0.0));
}

#[test]
fn each_kind_of_damage_is_found() {
    let clean = || day(3, 50.0);
    let values = |of: fn(f64) -> Option<f64>| {
        let x = (0..100).map(|row| of(50.0 + f64::from((row * 37) % 100) / 10.0));
        profile(x, (0..100).map(|row| if row % 4 == 0 { "rain" } else { "sun" }))
    };
    let celsius = judged(&values(|x| Some((x - 32.0) / 1.8)), &days(), "");
    assert_eq!(celsius.verdict, Verdict::Fail);
    assert!(found(&celsius).contains(&(Some("x"), "psi", Verdict::Warn)), "{:?}", found(&celsius));
    assert!(found(&celsius).contains(&(Some("x"), "wasserstein", Verdict::Fail)), "{:?}", found(&celsius));

    let nulls = judged(&values(|x| (x < 55.0).then_some(x)), &days(), "");
    assert!(found(&nulls).contains(&(Some("x"), "null_rate", Verdict::Fail)), "{:?}", found(&nulls));

    let stuck = judged(&values(|_| Some(55.0)), &days(), "");
    assert!(found(&stuck).contains(&(Some("x"), "spread", Verdict::Fail)), "{:?}", found(&stuck));

    let far = judged(&values(|x| Some(if x < 50.4 { 99.0 } else { x })), &days(), "");
    assert!(found(&far).contains(&(Some("x"), "out_of_range", Verdict::Warn)), "{:?}", found(&far));

    let x = || (0..100).map(|row| Some(50.0 + f64::from(row) / 10.0));
    let category =
        judged(&profile(x(), (0..100).map(|row| if row < 30 { "hail" } else { "sun" })), &days(), "");
    assert!(found(&category).contains(&(Some("s"), "new_values", Verdict::Fail)), "{:?}", found(&category));
    let shares =
        judged(&profile(x(), (0..100).map(|row| if row < 70 { "rain" } else { "sun" })), &days(), "");
    assert!(found(&shares).contains(&(Some("s"), "chi_square", Verdict::Warn)), "{:?}", found(&shares));

    let few = profile(x().take(40), (0..40).map(|row| if row % 4 == 0 { "rain" } else { "sun" }));
    assert!(found(&judged(&few, &days(), "")).contains(&(None, "volume", Verdict::Warn)));

    let mut columns = clean();
    columns.source.insert("temp_c".to_owned(), "Float64".to_owned());
    let mut before = days();
    before.iter_mut().for_each(|day| drop(day.source.insert("temp".to_owned(), "Float64".to_owned())));
    let schema = judged(&columns, &before, "");
    assert_eq!(found(&schema), vec![(None, "schema", Verdict::Warn)]);
    assert_eq!(schema.findings[0].value, 2.0);
}

#[test]
fn what_is_usual_for_the_baseline_is_no_finding() {
    // Days that differ much among themselves: one more that does is none to speak of.
    let days: Vec<BatchProfile> = (0..20).map(|seed| day(seed, f64::from(seed) * 10.0)).collect();
    assert_eq!(found(&judged(&day(3, 45.0), &days, "")), vec![]);
    let far = judged(&day(3, 1000.0), &days, "");
    assert!(found(&far).contains(&(Some("x"), "wasserstein", Verdict::Fail)), "{:?}", found(&far));
}

#[test]
fn declared_thresholds_hold_before_defaults() {
    let cold = day(3, 20.0);
    let off = "[quality.features.x]\npsi = {}\nwasserstein = {}\nout_of_range = {}\n";
    assert_eq!(found(&judged(&cold, &days(), off)), vec![]);
    let warns = "[quality.checks]\npsi = { warn = 0.1 }\nwasserstein = {}\nout_of_range = {}\n";
    assert_eq!(found(&judged(&cold, &days(), warns)), vec![(Some("x"), "psi", Verdict::Warn)]);
    let stale = "[quality.checks]\nfreshness = { warn = 3, fail = 24 }\n";
    let mut late = day(3, 50.0);
    late.valid_at = Some((Timestamp(0), Timestamp(-5 * 3_600_000_000)));
    assert_eq!(found(&judged(&late, &days(), stale)), vec![(None, "freshness", Verdict::Warn)]);
    let quality = view(off).quality.unwrap();
    // Too few batches do not tell what is usual, and nothing fails by default.
    assert_eq!(
        quality.thresholds(Some("s"), Measure::Volume, 19),
        Thresholds { warn: Some(2.0), fail: None }
    );
    assert_eq!(quality.thresholds(Some("x"), Measure::Psi, 20), Thresholds::default());
    assert_eq!(
        quality.thresholds(Some("s"), Measure::Volume, 20),
        Thresholds { warn: Some(2.0), fail: Some(5.0) }
    );
}

#[test]
fn without_a_baseline_nothing_is_compared() {
    let alone = judged(&day(1, 50.0), &[], "");
    assert_eq!((alone.verdict, alone.baseline_batches, alone.checks), (Verdict::Pass, 0, 0));
    let few = profile([Some(1.0); 5], ["a"; 5]);
    let little = judged(&few, &days(), "");
    assert_eq!(found(&little), vec![(None, "volume", Verdict::Fail)]);
}

#[test]
fn measures_at_known_points() {
    let groups = |pairs: &[(u64, u64)]| Distribution {
        groups: pairs.iter().map(|(baseline, batch)| Group { baseline: *baseline, batch: *batch }).collect(),
    };
    let same = groups(&[(10, 5), (30, 15)]);
    assert_eq!((same.psi(), same.jensen_shannon(), same.chi_square().0), (0.0, 0.0, 0.0));
    let apart = groups(&[(10, 0), (0, 10)]);
    assert_eq!(apart.jensen_shannon(), 1.0);
    assert!((apart.psi() - 2.0 * 0.9999 * 10_000f64.ln()).abs() < 1e-9, "{}", apart.psi());
    // 0.6 and 0.4 against a half each: (0.1² / 0.5) · 2 · 100
    let (statistic, freedom, rows) = groups(&[(50, 60), (50, 40)]).chi_square();
    assert!((statistic - 4.0).abs() < 1e-12, "{statistic}");
    assert_eq!((freedom, rows), (1, 100));
    // Published values: 3.841 is the 95 % point of one degree of freedom, 18.307 of ten.
    for (statistic, freedom, p) in [(3.841_458_820_694_124, 1, 0.05), (18.307_038_053_275_146, 10, 0.05)] {
        assert!((chi_square_p(statistic, freedom) - p).abs() < 1e-10);
    }
    assert!(chi_square_p(200.0, 100) < 1e-7 && chi_square_p(100.0, 100) > 0.4);
    assert_eq!((chi_square_p(0.0, 3), chi_square_p(5.0, 0)), (1.0, 1.0));
}

/// A profile of as many texts.
fn texts(of: impl Fn(u32) -> String) -> BatchProfile {
    let s: ArrayRef = Arc::new(StringArray::from_iter_values((0..4_000).map(of)));
    let mut profile = BatchProfile::of(&view("").features);
    profile.add(&RecordBatch::try_from_iter(vec![("s", s)]).unwrap()).unwrap();
    profile
}

#[test]
fn of_more_values_than_are_kept_ranges_are_compared() {
    let of_text = |batch: &BatchProfile, baseline: &[BatchProfile]| {
        let verdict = judged(batch, baseline, "");
        let found = verdict.findings.iter().filter(|one| one.feature.as_deref() == Some("s"));
        found.map(|one| (one.measure, one.verdict)).collect::<Vec<_>>()
    };
    // A thousand kinds, and a day on which nine of ten are missing.
    let usual = || texts(|row| format!("city {}", row % 1_000));
    let baseline: Vec<BatchProfile> = (0..20).map(|_| usual()).collect();
    assert_eq!(of_text(&usual(), &baseline), []);
    let few = texts(|row| format!("city {}", row * 10 % 1_000));
    let found = of_text(&few, &baseline);
    assert!(found.contains(&(Measure::ChiSquare, Verdict::Warn)), "{found:?}");
    assert!(found.contains(&(Measure::Psi, Verdict::Warn)), "{found:?}");
    let groups = Distribution::of(&baseline[0].features[1], &texts(|row| row.to_string()).features[1]);
    let groups = groups.unwrap().groups;
    assert_eq!(groups.iter().map(|group| group.baseline).sum::<u64>(), 4_000);
    assert_eq!(groups.iter().map(|group| group.batch).sum::<u64>(), 4_000);
    // Texts that all differ are no drift: they are new each day.
    let notes = |day: u32| texts(move |row| format!("note {day} {row}"));
    let baseline: Vec<BatchProfile> = (0..20).map(notes).collect();
    assert_eq!(of_text(&notes(20), &baseline), []);
    // In the place of kinds they are.
    assert!(of_text(&notes(0), &days()).contains(&(Measure::NewValues, Verdict::Fail)));
}

#[test]
fn of_streams_mended_rows_and_samples_only_what_is_no_chance_is_measured() {
    // A tenth of the rows that a batch has; all of them moved.
    let x = (0..40).map(|row| Some(500.0 + f64::from(row) / 10.0));
    let few = profile(x, (0..40).map(|row| if row % 4 == 0 { "rain" } else { "sun" }));
    let mut baseline = days();
    baseline.iter_mut().for_each(|day| drop(day.source.insert("x".to_owned(), "Float64".to_owned())));
    let found_of = |of: Judging| {
        let judged = judge(&view("").quality.unwrap(), of, &few, &baseline, Timestamp(0)).unwrap();
        let of_batch: Vec<_> =
            judged.findings.iter().filter(|one| one.feature.is_none()).map(|one| one.measure).collect();
        assert_eq!(judged.verdict, Verdict::Fail);
        assert!(judged.findings.iter().any(|one| one.measure == Measure::Wasserstein), "{of:?}");
        of_batch
    };
    assert_eq!(found_of(Judging::Batch), [Measure::Volume]);
    assert_eq!(found_of(Judging::StreamBatch), []);
    assert_eq!(found_of(Judging::Mended), []);
    assert_eq!(found_of(Judging::Sample), []);
}

#[test]
fn a_verdict_reads_back_from_the_log() {
    let verdict = judged(&day(3, 20.0), &days(), "");
    assert_eq!(verdict.verdict, Verdict::Fail);
    let text = serde_json::to_string(&verdict).unwrap();
    assert_eq!(serde_json::from_str::<Judged>(&text).unwrap(), verdict);
}
