//! MLflow's REST API, as far as a pass reads it. Nothing is written there.

use std::time::Duration;

use catalog::external::normalised;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client as Http, RequestBuilder, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use serving::{Error, Kind, Result};

use crate::outgoing;

const API: &str = "api/2.0/mlflow";
/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Things of one page, and runs: each comes with all its parameters, metrics and tags.
const PAGE: u32 = 1_000;
const RUNS_PAGE: u32 = 200;
/// The longest answer that is read.
const ANSWER_BYTES: usize = 256 << 20;
/// Experiments whose runs are asked for at a time.
const EXPERIMENTS_AT_A_TIME: usize = 100;
/// Characters of an answer that go into a message.
const SHOWN: usize = 300;

/// One MLflow server.
pub struct Client {
    http: Http,
    base: Url,
    authority: String,
}

impl Client {
    /// `token` goes along as a bearer token; user and password may stand in the address.
    ///
    /// # Errors
    /// `Invalid` for an address that is none, and for a token that no header can hold.
    pub fn new(address: &str, token: Option<&str>) -> Result<Self> {
        let invalid = |why: String| Error::new(Kind::Invalid, why);
        let authority = normalised(address);
        let mut base = Url::parse(address.trim())
            .map_err(|error| invalid(format!("`{authority}` is no address of an MLflow server: {error}")))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(invalid(format!(
                "an MLflow server is asked at http:// or https://, not at {}://; name the server of that store",
                base.scheme()
            )));
        }
        base.set_query(None);
        base.set_fragment(None);
        // What is joined to it stands below its path.
        base.set_path(&format!("{}/", base.path().trim_end_matches('/')));
        let http = outgoing::client("the token", token, TIMEOUT)?;
        Ok(Self { http, base, authority })
    }

    /// The address as it is compared, without credentials.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// All experiments, deleted ones too.
    pub async fn experiments(&self) -> Result<Vec<Experiment>> {
        let mut found: Vec<Experiment> = Vec::new();
        let mut pages = Pages::default();
        loop {
            let body = json!({ "view_type": "ALL", "max_results": PAGE, "page_token": pages.token() });
            let page: ExperimentsPage = self.post("experiments/search", &body).await?;
            found.extend(page.experiments);
            if !pages.turn(&self.authority, page.next_page_token)? {
                return Ok(found);
            }
        }
    }

    /// All runs of these experiments, deleted ones too, one page after the other.
    ///
    /// # Errors
    /// Where the server does not answer, or not as MLflow does.
    pub async fn each_run(&self, experiments: &[&str], mut take: impl FnMut(Run)) -> Result<()> {
        for some in experiments.chunks(EXPERIMENTS_AT_A_TIME) {
            let mut pages = Pages::default();
            loop {
                let body = json!({
                    "experiment_ids": some,
                    "run_view_type": "ALL",
                    "max_results": RUNS_PAGE,
                    "page_token": pages.token(),
                });
                let page: RunsPage = self.post("runs/search", &body).await?;
                page.runs.into_iter().for_each(&mut take);
                if !pages.turn(&self.authority, page.next_page_token)? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// One run; none where the server has it no more.
    pub async fn run(&self, id: &str) -> Result<Option<Run>> {
        let found: Option<OneRun> = self.get("runs/get", &[("run_id", id)]).await?;
        Ok(found.map(|found| found.run))
    }

    pub async fn models(&self) -> Result<Vec<Model>> {
        let mut found = Vec::new();
        let mut pages = Pages::default();
        loop {
            let page: ModelsPage = self.page("registered-models/search", &pages).await?;
            found.extend(page.registered_models);
            if !pages.turn(&self.authority, page.next_page_token)? {
                return Ok(found);
            }
        }
    }

    pub async fn model_versions(&self) -> Result<Vec<ModelVersion>> {
        let mut found = Vec::new();
        let mut pages = Pages::default();
        loop {
            let page: ModelVersionsPage = self.page("model-versions/search", &pages).await?;
            found.extend(page.model_versions);
            if !pages.turn(&self.authority, page.next_page_token)? {
                return Ok(found);
            }
        }
    }

    /// The run that a logged model is of; none where it has none or is gone.
    pub async fn run_of_logged_model(&self, id: &str) -> Result<Option<String>> {
        let found: Option<OneLoggedModel> = self.get(&format!("logged-models/{id}"), &[]).await?;
        Ok(found.and_then(|found| found.model.info.source_run_id).filter(|run| !run.is_empty()))
    }

    async fn page<T: DeserializeOwned + Default>(&self, path: &str, pages: &Pages) -> Result<T> {
        let most = PAGE.to_string();
        let mut query = vec![("max_results", most.as_str())];
        query.extend(pages.token().map(|token| ("page_token", token)));
        Ok(self.get(path, &query).await?.unwrap_or_default())
    }

    fn url(&self, path: &str) -> Result<Url> {
        let wrong =
            |error| Error::new(Kind::Internal, format!("an address of MLflow's cannot be made: {error}"));
        self.base.join(&format!("{API}/{path}")).map_err(wrong)
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        let request = self.http.post(self.url(path)?).header(CONTENT_TYPE, "application/json");
        let found = self.answer(path, request.body(body.to_string())).await?;
        found.ok_or_else(|| self.failed(path, "it answered that this does not exist"))
    }

    /// None for what does not exist.
    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<Option<T>> {
        let mut url = self.url(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.answer(path, self.http.get(url)).await
    }

    async fn answer<T: DeserializeOwned>(&self, path: &str, request: RequestBuilder) -> Result<Option<T>> {
        let unreachable = |error: reqwest::Error| self.failed(path, &outgoing::causes(&error.without_url()));
        let mut answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let mut bytes = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(unreachable)? {
            if bytes.len() + part.len() > ANSWER_BYTES {
                return Err(self.failed(path, &format!("its answer has more than {ANSWER_BYTES} bytes")));
            }
            bytes.extend_from_slice(&part);
        }
        if status.is_success() {
            let parsed = serde_json::from_slice(&bytes);
            return parsed.map(Some).map_err(|error| {
                self.failed(path, &format!("its answer is not that of an MLflow server: {error}"))
            });
        }
        let refusal: Refusal = serde_json::from_slice(&bytes).unwrap_or_default();
        if status == StatusCode::NOT_FOUND && refusal.error_code == "RESOURCE_DOES_NOT_EXIST" {
            return Ok(None);
        }
        let said: String = refusal.message.chars().take(SHOWN).collect();
        Err(self.failed(path, format!("it answered {status} {} {said}", refusal.error_code).trim_end()))
    }

    fn failed(&self, path: &str, why: &str) -> Error {
        Error::new(Kind::Unavailable, format!("MLflow at {}, {path}: {why}", self.authority))
    }
}

/// Where a listing stands.
#[derive(Default)]
struct Pages(Option<String>);

impl Pages {
    fn token(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Goes to the next page, if there is one. One that comes again would never end.
    fn turn(&mut self, authority: &str, next: Option<String>) -> Result<bool> {
        let next = next.filter(|token| !token.is_empty());
        if next.is_some() && next == self.0 {
            let why = format!("MLflow at {authority} gives the same page of a list over and over");
            return Err(Error::new(Kind::Unavailable, why));
        }
        self.0 = next;
        Ok(self.0.is_some())
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    error_code: String,
    message: String,
}

#[derive(Deserialize)]
struct ExperimentsPage {
    #[serde(default)]
    experiments: Vec<Experiment>,
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
pub struct Experiment {
    pub experiment_id: String,
    pub name: Option<String>,
    pub lifecycle_stage: Option<String>,
    #[serde(default)]
    pub tags: Vec<Tag>,
}

/// A tag or a parameter.
#[derive(Deserialize)]
pub struct Tag {
    pub key: String,
    #[serde(default)]
    pub value: String,
}

#[derive(Deserialize)]
struct RunsPage {
    #[serde(default)]
    runs: Vec<Run>,
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
struct OneRun {
    run: Run,
}

#[derive(Deserialize)]
pub struct Run {
    pub info: RunInfo,
    #[serde(default)]
    pub data: RunData,
    #[serde(default)]
    pub inputs: RunInputs,
}

#[derive(Deserialize)]
pub struct RunInfo {
    pub run_id: String,
    #[serde(default)]
    pub experiment_id: String,
    pub run_name: Option<String>,
    pub user_id: Option<String>,
    pub status: Option<String>,
    #[serde(default, deserialize_with = "millis")]
    pub start_time: Option<i64>,
    #[serde(default, deserialize_with = "millis")]
    pub end_time: Option<i64>,
    pub lifecycle_stage: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct RunData {
    pub metrics: Vec<Metric>,
    pub params: Vec<Tag>,
    pub tags: Vec<Tag>,
}

#[derive(Deserialize)]
pub struct Metric {
    pub key: String,
    #[serde(deserialize_with = "float")]
    pub value: f64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct RunInputs {
    pub dataset_inputs: Vec<DatasetInput>,
}

#[derive(Deserialize)]
pub struct DatasetInput {
    pub dataset: Dataset,
    #[serde(default)]
    pub tags: Vec<Tag>,
}

#[derive(Deserialize)]
pub struct Dataset {
    #[serde(default)]
    pub digest: String,
    #[serde(default)]
    pub source_type: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ModelsPage {
    registered_models: Vec<Model>,
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
pub struct Model {
    pub name: String,
    #[serde(default)]
    pub aliases: Vec<Alias>,
}

#[derive(Deserialize)]
pub struct Alias {
    pub alias: String,
    #[serde(deserialize_with = "text")]
    pub version: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ModelVersionsPage {
    model_versions: Vec<ModelVersion>,
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
pub struct ModelVersion {
    pub name: String,
    #[serde(deserialize_with = "text")]
    pub version: String,
    #[serde(default, deserialize_with = "millis")]
    pub creation_timestamp: Option<i64>,
    pub run_id: Option<String>,
    pub source: Option<String>,
    pub status: Option<String>,
    pub model_id: Option<String>,
    #[serde(default)]
    pub tags: Vec<Tag>,
}

#[derive(Deserialize)]
struct OneLoggedModel {
    model: LoggedModel,
}

#[derive(Deserialize)]
struct LoggedModel {
    info: LoggedModelInfo,
}

#[derive(Deserialize)]
struct LoggedModelInfo {
    source_run_id: Option<String>,
}

/// Milliseconds, which some servers write as text. A zero says that there is no such time.
fn millis<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    let value = match Option::<Value>::deserialize(from)? {
        None => return Ok(None),
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_i64(),
    };
    let value = value.ok_or_else(|| serde::de::Error::custom("a time is no whole number of milliseconds"))?;
    Ok(Some(value).filter(|millis| *millis != 0))
}

/// A number; what JSON has no number for is text.
fn float<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let value = Value::deserialize(from)?;
    let number = value.as_f64().or_else(|| value.as_str()?.parse().ok());
    number.ok_or_else(|| serde::de::Error::custom(format!("the metric {value} is no number")))
}

/// A number of a version, which some servers write as a number.
fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    match Value::deserialize(from)? {
        Value::String(text) => Ok(text),
        value => Ok(value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_that_can_be_asked() {
        let client = Client::new("HTTP://ann:secret@Tracking:5000/mlflow/?x=1", None).unwrap();
        assert_eq!(client.authority(), "http://tracking:5000/mlflow/?x=1");
        assert_eq!(client.url("runs/get").unwrap().path(), "/mlflow/api/2.0/mlflow/runs/get");
        for (address, why) in
            [("sqlite:///runs.db", "not at sqlite://"), ("tracking", "no address"), ("http://", "no address")]
        {
            let error = Client::new(address, None).err().unwrap().to_string();
            assert!(error.contains(why), "{address}: {error}");
        }
        let error = Client::new("http://tracking", Some("line\nbreak")).err().unwrap().to_string();
        assert!(error.contains("no header can hold"), "{error}");
    }

    #[test]
    fn what_servers_write_in_two_ways_is_read_in_both() {
        let info: RunInfo =
            serde_json::from_str(r#"{"run_id": "a", "start_time": "1700000000000", "end_time": 0}"#).unwrap();
        assert_eq!((info.start_time, info.end_time), (Some(1_700_000_000_000), None));
        let metrics: Vec<Metric> =
            serde_json::from_str(r#"[{"key": "a", "value": 1}, {"key": "b", "value": "NaN"}]"#).unwrap();
        assert_eq!(metrics[0].value, 1.0);
        assert!(metrics[1].value.is_nan());
        assert!(serde_json::from_str::<Metric>(r#"{"key": "a", "value": "low"}"#).is_err());
        let alias: Alias = serde_json::from_str(r#"{"alias": "champion", "version": 3}"#).unwrap();
        assert_eq!(alias.version, "3");
    }

    #[test]
    fn a_list_that_never_ends_is_noticed() {
        let mut pages = Pages::default();
        assert!(pages.turn("there", Some("1".to_owned())).unwrap());
        assert!(pages.turn("there", Some("2".to_owned())).unwrap());
        assert!(!pages.turn("there", Some(String::new())).unwrap());
        assert!(pages.turn("there", Some("1".to_owned())).unwrap());
        assert!(pages.turn("there", Some("1".to_owned())).is_err());
    }
}
