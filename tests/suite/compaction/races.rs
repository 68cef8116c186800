//! Several merge at once, or while rows come.

use catalog::Catalog;
use catalog::compaction::{self, Eagerness};
use catalog::ingest::Claim;
use serving::{CompactRequest, Serving};
use storage::partition::Layout;

use super::files::{everything, weather};
use crate::suite::stores::{author, claimed, count, ingest, rows};
use crate::suite::tables::table;

async fn another(serving: &Serving) -> Serving {
    Serving::new(Catalog::open(serving.catalog().store().clone()).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_merge_the_same_one_wins_and_the_other_notices() {
    for _ in 0..10 {
        let one = weather(6).await;
        let other = another(&one).await;
        let (request, author) = (everything(), author());
        let (first, second) = tokio::join!(one.compact(&request, &author), other.compact(&request, &author));
        let merges: Vec<_> = first.unwrap().into_iter().chain(second.unwrap()).collect();
        let won = merges.iter().filter(|merge| merge.sequence.is_some()).count();
        assert_eq!(won, 1, "{merges:?}");
        assert_eq!(count(&other, "SELECT count(*) FROM history('weather')").await, 12);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_on_an_old_state_is_decided_again() {
    let one = weather(6).await;
    let other = another(&one).await;
    let state = one.catalog().refresh().await.unwrap();
    let version = state.view("default", "weather", None, state.head.sequence).unwrap().clone();
    let layout = Layout::default();
    let of = |serving: &Serving| {
        let (catalog, state, version) = (serving.catalog().clone(), state.clone(), version.clone());
        async move { compaction::candidates(&catalog, &state, &version, Eagerness::All, &layout).await.unwrap() }
    };
    let (mine, theirs) = (of(&one).await.remove(0), of(&other).await.remove(0));
    let lost = compaction::merge(one.catalog(), &author(), &state, &mine, &layout).await.unwrap();
    assert!(lost.sequence.is_some());
    // The same again, by who has not read the log since.
    let merge = compaction::merge(other.catalog(), &author(), &state, &theirs, &layout).await.unwrap();
    assert_eq!(merge.sequence, None);
    assert_eq!(other.catalog().state().compactions().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_may_come_meanwhile() {
    let one = weather(8).await;
    let other = another(&one).await;
    let (request, author) = (CompactRequest::levels(), author());
    let writes = async {
        for hour in 12..20 {
            let text = format!(
                "origin string | time_hour timestamp  | temp float64 | visib float64 | sky string
                 LGA           | 2013-01-01T{hour}:00:00Z | 1.5          | 10            | clear"
            );
            ingest(&other, claimed(rows("weather", vec![table(&text)]), Claim::BackFill)).await.unwrap();
        }
    };
    let (done, ()) = tokio::join!(one.compact(&request, &author), writes);
    assert!(done.unwrap().iter().all(|merge| merge.sequence.is_some()));
    for serving in [&one, &other, &another(&one).await] {
        assert_eq!(count(serving, "SELECT count(*) FROM history('weather')").await, 24);
    }
}
