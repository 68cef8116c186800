//! OpenLineage over HTTP: each event is a POST of its own, and is taken when the consumer answers 2xx.

use std::path::Path;
use std::time::Duration;

use lineage::openlineage::Event;
use reqwest::{Client, Url};
use serving::emission::{Emission, EmissionOptions, FileSink, Refusal, Sink};
use serving::{Error, Kind, Result, Serving};

use crate::outgoing;

/// Where consumers listen, where an address has no path.
const ENDPOINT: &str = "/api/v1/lineage";
/// How long a consumer may take for one event.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Characters of an answer that go into a message.
const SHOWN: usize = 300;
/// How long a consumer is left alone that refused an event for good.
const HOLD: Duration = Duration::from_secs(60);
/// How long the last events may take when the server stops.
const LAST: Duration = Duration::from_secs(5);

/// The sink that an address or a path names. `key` goes to HTTP consumers as a bearer token.
///
/// # Errors
/// An address that is none, a file that cannot be written, a key that no header can hold.
pub fn sink(to: &str, key: Option<&str>) -> Result<Box<dyn Sink>> {
    if to.starts_with("http://") || to.starts_with("https://") {
        return Ok(Box::new(HttpSink::new(to, key)?));
    }
    if let Some((scheme, _)) = to.split_once("://") {
        return Err(Error::new(
            Kind::Invalid,
            format!("events go to a file or to http:// or https://, not to {scheme}://"),
        ));
    }
    Ok(Box::new(FileSink::open(Path::new(to))?))
}

/// A consumer at an address.
struct HttpSink {
    client: Client,
    url: Url,
    /// The address without user and password.
    place: String,
}

impl HttpSink {
    fn new(to: &str, key: Option<&str>) -> Result<Self> {
        let invalid = |why: String| Error::new(Kind::Invalid, why);
        let mut url = Url::parse(to).map_err(|error| invalid(format!("`{to}` is no address: {error}")))?;
        if matches!(url.path(), "" | "/") {
            url.set_path(ENDPOINT);
        }
        let mut shown = url.clone();
        // Neither fails for an address that has a host, and every http address has one.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        shown.set_query(None);
        let client = outgoing::client("the API key", key, TIMEOUT)?;
        Ok(Self { client, url, place: shown.to_string() })
    }
}

#[tonic::async_trait]
impl Sink for HttpSink {
    fn place(&self) -> &str {
        &self.place
    }

    async fn send(&mut self, event: &Event) -> Result<(), Refusal> {
        let request = self.client.post(self.url.clone());
        let Some(answer) = outgoing::post(request, event.json.clone()).await? else { return Ok(()) };
        let (status, after) = (answer.status(), outgoing::retry_after(&answer));
        let location = answer.headers().get("location").and_then(|location| location.to_str().ok());
        let redirected = location.map(|location| format!(", name {location} instead")).unwrap_or_default();
        let said: String = answer.text().await.unwrap_or_default().trim().chars().take(SHOWN).collect();
        let said = if said.is_empty() { said } else { format!(": {said}") };
        let why = format!("it answered {status}{redirected}{said}");
        if outgoing::passes(status) {
            return Err(Refusal::NotNow { why, after });
        }
        Err(Refusal::Never { why })
    }

    async fn settle(&mut self) -> Result<(), Refusal> {
        Ok(())
    }
}

/// Sends a store's events while the server runs; the log says what is wrong and how far the consumer is
/// behind.
pub struct Emitter {
    emission: Emission,
}

impl Emitter {
    /// # Errors
    /// Those of [`sink`] and [`Emission::open`].
    pub async fn open(
        serving: &Serving,
        to: &str,
        key: Option<&str>,
        options: EmissionOptions,
    ) -> Result<Self> {
        let emission = Emission::open(serving, sink(to, key)?, options).await?.on_trouble(|trouble, lag| {
            tracing::warn!(lag = lag.entries, next = lag.next.0, head = lag.head.0, "openlineage: {trouble}");
        });
        Ok(Self { emission })
    }

    /// Follows the log until `stop` is done. A consumer that refuses an event for good is asked again each
    /// minute: nothing is left out, and the server goes on.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        tracing::info!(
            to = self.emission.place(),
            next = self.emission.lag().next.0,
            "openlineage: following the log"
        );
        let mut stop = std::pin::pin!(stop);
        loop {
            match self.emission.follow(&mut stop).await {
                Ok(()) => {
                    // What the last calls wrote goes out as well, if the consumer takes it at once; else
                    // after the next start.
                    let last = self.emission.drain(Some(Duration::ZERO));
                    if let Err(error) =
                        tokio::time::timeout(LAST, last).await.map_or(Ok(()), |sent| sent.map(drop))
                    {
                        tracing::warn!("openlineage: {error}");
                    }
                    return;
                }
                Err(error) => {
                    let lag = self.emission.lag();
                    tracing::error!(
                        lag = lag.entries,
                        next = lag.next.0,
                        head = lag.head.0,
                        "openlineage: {error}"
                    );
                }
            }
            tokio::select! {
                () = tokio::time::sleep(HOLD) => {}
                () = &mut stop => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_secrets() {
        let sink = HttpSink::new("http://ann:secret@consumer.example.org:5000?token=1", Some("key")).unwrap();
        assert_eq!(sink.place(), "http://consumer.example.org:5000/api/v1/lineage");
        assert_eq!(sink.url.query(), Some("token=1"));
        let sink = HttpSink::new("https://consumer.example.org/events/in", None).unwrap();
        assert_eq!(sink.place(), "https://consumer.example.org/events/in");
    }

    #[test]
    fn other_places_are_refused() {
        for (to, why) in [
            ("kafka://broker/topic", "not to kafka://"),
            ("http://", "is no address"),
            ("http://a b/", "is no address"),
        ] {
            let error = sink(to, None).err().unwrap().to_string();
            assert!(error.contains(why), "{to}: {error}");
        }
        let error = sink("http://consumer:5000", Some("line\nbreak")).err().unwrap().to_string();
        assert!(error.contains("no header can hold"), "{error}");
    }
}
