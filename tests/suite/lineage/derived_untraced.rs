//! A derived view that cannot be seen through: named before it is applied, listed once it has rows, and refused where that is the policy.

use catalog::ingest::Claim;
use serving::{Kind, OpaqueReads, Query, RefreshRequest};

use super::super::fixture;
use super::super::stores::{author, claimed, count, files, ingest, memory, rows};
use super::super::tables::table;

const AIRPORT: &str =
    "kind = \"entity\"\nname = \"airport\"\n[[keys]]\nname = \"origin\"\ntype = \"string\"\n";

/// Each of the derived view's features has two edges from each of its source's: more than are traced.
const READ: usize = 250;
const MADE: usize = 210;

fn view(name: &str, derived: &str, features: usize, kind: &str) -> String {
    let each = |number| format!("[[features]]\nname = \"{kind}{number}\"\ntype = \"float64\"\n");
    let features: String = (0..features).map(each).collect();
    format!(
        "kind = \"feature_view\"\nname = \"{name}\"\nentity = \"airport\"\n[time]\nvalid_at = \"valid_at\"\n\
         known_at = {{ column = \"known_at\" }}\n{derived}{features}"
    )
}

fn named(count: usize, kind: &str, with: &str) -> String {
    (0..count).map(|number| format!("{with}{kind}{number}")).collect::<Vec<_>>().join(", ")
}

/// The greatest of all where it is above nought, under many names.
fn query() -> String {
    let greatest = format!("greatest({})", named(READ, "f", ""));
    format!(
        "SELECT origin, valid_at, known_at, {} FROM (SELECT origin, valid_at, known_at, \
         CASE WHEN {greatest} > 0 THEN {greatest} END AS x FROM history('wide'))",
        named(MADE, "g", "x AS ")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_traced_is_named_listed_and_may_be_refused() {
    let serving = memory(&fixture::clock()).await;
    let wide = view("wide", "", READ, "f");
    serving.apply(files(&[("airport.toml", AIRPORT), ("wide.toml", &wide)]), &author()).await.unwrap();
    let derived = format!("[derived]\nsql = \"\"\"{}\"\"\"\n", query());
    let all = files(&[
        ("airport.toml", AIRPORT),
        ("wide.toml", &wide),
        ("made.toml", &view("made", &derived, MADE, "g")),
    ]);

    let strict = serving.clone().with_opaque_reads(OpaqueReads::Refuse);
    let refused = strict.apply(all.clone(), &author()).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Forbidden, "{refused}");
    assert!(refused.to_string().contains("the query of derived feature view `made`"), "{refused}");

    let plan = serving.plan(all.clone()).await.unwrap();
    let planned = plan.changes.iter().find(|planned| planned.name.as_str() == "made").unwrap();
    let told = planned.to_string();
    assert!(told.contains("what its columns come from cannot be traced: "), "{told}");
    assert!(told.contains("more than 100000 edges"), "{told}");
    let applied = serving.apply(all.clone(), &author()).await.unwrap();
    assert!(applied.plan.changes.iter().any(|planned| planned.untraced.is_some()));
    // What is there already is in nobody's way, and refreshing it is.
    strict.plan(all).await.unwrap();

    let untraced = "SELECT count(*) FROM lineament.untraced WHERE subject_kind = 'batch'";
    assert_eq!(count(&serving, untraced).await, 0);
    let columns = named(READ, "f", "").replace(", ", " float64 | ");
    let values = vec!["1"; READ].join(" | ");
    let text = format!(
        "origin string | valid_at timestamp | known_at timestamp | {columns} float64\n\
         JFK | 2024-01-01T00:00:00Z | 2024-01-01T00:30:00Z | {values}\n"
    );
    ingest(&serving, claimed(rows("wide", vec![table(&text)]), Claim::BackFill)).await.unwrap();
    let refused = strict.refresh(&RefreshRequest::default(), &author()).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Forbidden, "{refused}");
    serving.refresh(&RefreshRequest::default(), &author()).await.unwrap();
    let named = "SELECT count(*) FROM lineament.untraced JOIN lineament.batches ON subject = batch \
                 WHERE feature_view = 'made' AND reason LIKE 'the query of made@1 could not be traced%' AND statement LIKE 'SELECT origin%'";
    assert_eq!(count(&serving, named).await, 1);
    assert_eq!(count(&serving, untraced).await, 1);
    // And the scoreboard says of which versions the lineage is not complete.
    let incomplete = "SELECT count(*) FROM lineament.quality WHERE NOT lineage_complete AND untraced = 1 AND feature_view = 'made'";
    assert_eq!(count(&serving, incomplete).await, 1);
    assert_eq!(count(&serving, "SELECT count(*) FROM lineament.quality WHERE lineage_complete").await, 1);
    // As of before it was made.
    let before = Query::sql("SELECT subject FROM at_sequence('lineament.untraced', 2)");
    let found = serving.retrieve(before, &author()).await.unwrap().collect().await.unwrap();
    assert_eq!(found.iter().map(|batch| batch.num_rows()).sum::<usize>(), 0);
}
