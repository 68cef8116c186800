//! What is kept from an asker is not found, and changes nothing in what is found.

use serving::{Found, SearchRequest, Serving};
use storage::environment::TestClock;

use super::{govern, with_role};
use crate::suite::stores::{self, author, files};

const ENTITY: &str =
    "kind = \"entity\"\nname = \"airport\"\n[[keys]]\nname = \"origin\"\ntype = \"string\"\n";
const TIME: &str = "[time]\nvalid_at = \"hour\"\nknown_at = \"arrival\"\n";

fn view(name: &str, features: &[(&str, &str)]) -> String {
    let mut text = format!(
        "kind = \"feature_view\"\nname = \"{name}\"\nentity = \"airport\"\ntags = [\"hourly\"]\n{TIME}"
    );
    for (feature, description) in features {
        text.push_str(&format!(
            "[[features]]\nname = \"{feature}\"\ntype = \"float64\"\ndescription = \"{description}\"\n"
        ));
    }
    text
}

/// With what is hidden from a guest, or without it.
async fn store(with_hidden: bool) -> Serving {
    let clock = TestClock::new(stores::instant("2024-01-01T00:00:00Z"));
    let serving = stores::memory(&clock).await;
    let mut pay = vec![("hours", "hours worked in a week")];
    if with_hidden {
        pay.push(("salary", "salary in a month, the exact word"));
    }
    let pay = view("pay", &pay);
    let weather = view("weather", &[("temp", "air temperature"), ("wind_speed", "speed of the wind")]);
    let fraud = view("fraud", &[("temp", "temporary cards"), ("wind_speed_exactly", "a trap")]);
    let service = "kind = \"feature_service\"\nname = \"secret\"\nfeatures = [\"fraud.temp\"]\n";
    // Of a feature that is hidden, in a view that is not.
    let payroll = "kind = \"feature_service\"\nname = \"payroll\"\nfeatures = [\"pay.salary\"]\n";
    let mut all = vec![("airport.toml", ENTITY), ("pay.toml", &pay), ("weather.toml", &weather)];
    if with_hidden {
        all.extend([("fraud.toml", fraud.as_str()), ("secret.toml", service), ("payroll.toml", payroll)]);
    }
    serving.apply(files(&all), &author()).await.unwrap();
    serving
}

async fn found(serving: &Serving, words: &str, role: &str) -> Vec<Found> {
    let request = SearchRequest { words: words.to_owned(), ..SearchRequest::default() };
    serving.search(&request, &with_role(role)).await.unwrap().found
}

#[tokio::test]
async fn search_is_as_if_what_is_hidden_were_not_there() {
    let whole = store(true).await;
    let policies = "
        permit(principal in Role::\"guest\", action == Action::\"read\", resource);
        forbid(principal in Role::\"guest\", action, resource in View::\"default.fraud\");
        forbid(principal in Role::\"guest\", action, resource == Feature::\"default.pay.salary\");
        permit(principal in Role::\"boss\", action, resource);";
    govern(&whole, policies).await;
    let without = store(false).await;
    let queries = [
        "temp",
        "temperature",
        "temporary",
        "salary",
        "exact word",
        "salary week",
        "hours salary",
        "wind speed",
        "wind speed exactly",
        "trap",
        "secret",
        "fraud",
        "hourly",
        "tag:hourly temp",
        "use:secret",
        "payroll",
        "use:payroll",
        "hours payroll",
        "pay",
        "airport",
        "wnid sped",
        "salry",
    ];
    for words in queries {
        assert_eq!(found(&whole, words, "guest").await, found(&without, words, "guest").await, "{words}");
    }
    // And to those who may, it is there.
    for (words, first) in
        [("salary", "pay.salary"), ("wind speed exactly", "fraud.wind_speed_exactly"), ("secret", "secret")]
    {
        assert_eq!(found(&whole, words, "boss").await[0].thing.name, first);
    }
    assert!(found(&whole, "secret", "guest").await.is_empty());
    let pay = |found: Vec<Found>| found.into_iter().find(|one| one.thing.name == "pay").unwrap();
    assert_eq!(pay(found(&whole, "name:pay", "guest").await).uses, [] as [&str; 0]);
    assert_eq!(pay(found(&whole, "use:payroll", "boss").await).uses, ["payroll"]);
}

#[tokio::test]
async fn what_is_new_is_found_at_once() {
    let serving = store(false).await;
    assert!(found(&serving, "humidity", "guest").await.is_empty());
    let air = view("air", &[("humid", "relative humidity")]);
    serving.apply(files(&[("airport.toml", ENTITY), ("air.toml", &air)]), &author()).await.unwrap();
    assert_eq!(found(&serving, "humidity", "guest").await[0].thing.name, "air.humid");
    // Other words for it are no new version, and found as well.
    let air = view("air", &[("humid", "water in the air")]);
    serving.apply(files(&[("airport.toml", ENTITY), ("air.toml", &air)]), &author()).await.unwrap();
    assert_eq!(found(&serving, "water", "guest").await[0].thing.name, "air.humid");
    assert!(found(&serving, "description:humidity", "guest").await.is_empty());
}
