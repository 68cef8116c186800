//! Queries, and what a person says their columns come from: `queries.txt`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use engine::Session;
use engine::column_lineage::{Edge, Source, Traced};
use serving::Serving;

use super::store;

/// A query, and its lines in the order of the alphabet.
struct Case {
    query: String,
    expected: Vec<String>,
    /// `output = expression`; none where nothing is said of them.
    expressions: Vec<String>,
}

fn cases() -> Vec<Case> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/column_lineage/queries.txt");
    let text = std::fs::read_to_string(file).unwrap();
    let mut cases = Vec::new();
    for block in text.split("\n\n") {
        let lines = block.lines().filter(|line| !line.starts_with('#'));
        let block = lines.collect::<Vec<_>>().join("\n");
        let Some((query, expected)) = block.split_once("\n----") else {
            assert_eq!(block.trim(), "", "a query without its lines");
            continue;
        };
        let lines = expected.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned);
        let (expressions, mut expected): (Vec<String>, Vec<String>) =
            lines.partition(|line| line.contains(" = ") && !line.contains("<-"));
        expected.sort();
        cases.push(Case { query: query.trim().to_owned(), expected, expressions });
    }
    cases
}

/// A session with a table of its own beside the store.
async fn session(serving: &Serving) -> Session {
    let session = serving.session(&catalog::Author::default()).await.unwrap();
    let extra = RecordBatch::try_from_iter([
        ("k", Arc::new(StringArray::from(vec!["EWR"])) as arrow::array::ArrayRef),
        ("v", Arc::new(Int64Array::from(vec![1]))),
    ])
    .unwrap();
    session.register("extra", extra.schema(), vec![extra]).unwrap();
    session
}

/// As the lines of `queries.txt`. A source of another snapshot than the session's has its sequence behind it.
fn lines(traced: &Traced, session: u64) -> Vec<String> {
    if let Some(refusal) = &traced.refused {
        assert!(traced.outputs.is_empty() && traced.of_all.is_empty());
        return vec![format!("refused: {refusal}")];
    }
    let source = |source: &Source| match source {
        Source::FeatureView { sequence, .. } if sequence.0 != session => format!("{source}#{}", sequence.0),
        _ => source.to_string(),
    };
    let mut lines = Vec::new();
    let mut of = |output: &str, edges: &[Edge]| {
        let mut by_source: BTreeMap<String, BTreeSet<_>> = BTreeMap::new();
        for edge in edges {
            by_source.entry(source(&edge.source)).or_default().insert(edge.influence);
        }
        for (source, influences) in by_source {
            let kinds: Vec<&str> = influences.iter().map(|influence| influence.as_str()).collect();
            lines.push(format!("{output} <- {source} [{}]", kinds.join(", ")));
        }
    };
    for output in &traced.outputs {
        of(&output.name, &output.sources);
    }
    of("*", &traced.of_all);
    let constant = traced.outputs.iter().filter(|output| output.sources.is_empty());
    lines.extend(constant.map(|output| format!("{} <-", output.name)));
    lines.extend(traced.system.iter().map(|table| format!("system: {table}")));
    lines.sort();
    lines
}

#[tokio::test]
async fn sixty_queries_are_traced_as_a_person_traced_them() {
    let serving = store::with(|_, rows| rows).await;
    let cases = cases();
    assert!(cases.len() >= 60, "only {} queries", cases.len());
    let session = session(&serving).await;
    let mut wrong = String::new();
    for case in &cases {
        let plan = match session.plan(&case.query).await {
            Ok(plan) => plan,
            Err(error) => {
                writeln!(wrong, "{}\n  cannot be planned: {error}", case.query).unwrap();
                continue;
            }
        };
        let traced = match session.prepare_traced(&plan).await {
            Ok(prepared) => prepared.traced,
            Err(error) => {
                writeln!(wrong, "{}\n  cannot be prepared: {error}", case.query).unwrap();
                continue;
            }
        };
        let found = lines(&traced, session.snapshot().sequence.0);
        if found != case.expected {
            let (found, expected) = (found.join("\n    "), case.expected.join("\n    "));
            writeln!(wrong, "{}\n  expected\n    {expected}\n  found\n    {found}", case.query).unwrap();
        }
        for expression in &case.expressions {
            let found =
                traced.outputs.iter().map(|output| format!("{} = {}", output.name, output.expression));
            let found: Vec<String> = found.collect();
            if !found.contains(expression) {
                writeln!(wrong, "{}\n  expected {expression}\n  found {}", case.query, found.join("\n    "))
                    .unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
