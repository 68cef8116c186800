//! Where alerts go: webhooks over HTTP with signed messages, and the log of the process.

use std::time::Duration;

use feature::definition::alerts::{Address, Alerts, Sink, SinkKind};
use feature::{Name, Timestamp};
use reqwest::{Client, StatusCode, Url};
use ring::hmac;
use serving::alerts::{Message, Receiver};
use serving::emission::Refusal;
use serving::{Error, Kind, Result};

use crate::outgoing;

/// `t=1372636800,v1=…`: when it was sent, in seconds since 1970, and HMAC-SHA256 of `{t}.{body}` in hexadecimal digits.
pub const SIGNATURE: &str = "lineament-signature";
/// The alert's id, the same at each attempt.
const ALERT: &str = "lineament-alert";
/// Which attempt it is; from 2 on the receiver may have it already.
const ATTEMPT: &str = "lineament-attempt";
/// The shortest key of signatures, in bytes.
const SHORTEST_SECRET: usize = 16;

/// A receiver for each sink, with keys and addresses from the environment, as `variable` gives it.
///
/// # Errors
/// `Invalid` names the sink and the variable that is missing or cannot be what it is for; never what it holds.
pub fn receivers(
    alerts: &Alerts,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Vec<(Name, Box<dyn Receiver>)>> {
    alerts
        .sinks
        .iter()
        .map(|sink| {
            let receiver: Box<dyn Receiver> = match &sink.to {
                SinkKind::Log => Box::new(ProcessLog),
                SinkKind::Webhook { address, secret_env, timeout } => {
                    let timeout = Duration::from_micros(u64::try_from(timeout.micros()).unwrap_or(0));
                    Box::new(Webhook::new(sink, address, secret_env, timeout, &variable)?)
                }
            };
            Ok((sink.name.clone(), receiver))
        })
        .collect()
}

/// The log of the process, at the level that is shown unless somebody says otherwise.
struct ProcessLog;

#[tonic::async_trait]
impl Receiver for ProcessLog {
    async fn receive(&self, message: &Message, _: u32, _: Timestamp) -> std::result::Result<(), Refusal> {
        tracing::warn!(alert = %message.alert, rule = message.rule, "ALERT {}", message.summary);
        Ok(())
    }

    fn takes(&self) -> Duration {
        Duration::ZERO
    }
}

struct Webhook {
    client: Client,
    url: Url,
    key: hmac::Key,
    timeout: Duration,
}

impl Webhook {
    fn new(
        sink: &Sink,
        address: &Address,
        secret_env: &str,
        timeout: Duration,
        variable: &impl Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let invalid = |why: String| Error::new(Kind::Invalid, format!("the sink `{}`: {why}", sink.name));
        let found = |name: &str| {
            let value = variable(name).filter(|value| !value.is_empty());
            value.ok_or_else(|| invalid(format!("the environment variable {name} is not set")))
        };
        let secret = found(secret_env)?;
        if secret.len() < SHORTEST_SECRET {
            return Err(invalid(format!(
                "the key in {secret_env} has fewer than {SHORTEST_SECRET} bytes; make one with `openssl rand -hex 32`"
            )));
        }
        let url = match address {
            Address::Written(text) => {
                Url::parse(text).map_err(|error| invalid(format!("`{text}` is no address: {error}")))?
            }
            Address::Environment(name) => Url::parse(&found(name)?)
                .map_err(|error| invalid(format!("what {name} holds is no address: {error}")))?,
        };
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid("its address does not begin with https:// or http://".to_owned()));
        }
        let client = outgoing::client("a webhook", None, timeout)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        Ok(Self { client, url, key, timeout })
    }
}

/// What stands in the header of a signature.
fn signature(key: &hmac::Key, at: Timestamp, body: &str) -> String {
    let seconds = at.micros().div_euclid(1_000_000);
    let signed = hmac::sign(key, format!("{seconds}.{body}").as_bytes());
    let digits: String = signed.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={seconds},v1={digits}")
}

#[tonic::async_trait]
impl Receiver for Webhook {
    async fn receive(
        &self,
        message: &Message,
        attempt: u32,
        at: Timestamp,
    ) -> std::result::Result<(), Refusal> {
        let request = self
            .client
            .post(self.url.clone())
            .header(ALERT, message.alert.to_string())
            .header(ATTEMPT, attempt)
            .header(SIGNATURE, signature(&self.key, at, &message.body));
        let Some(answer) = outgoing::post(request, message.body.clone()).await? else { return Ok(()) };
        let (status, after) = (answer.status(), outgoing::retry_after(&answer));
        // What it says beside is not repeated: it may hold what it was sent.
        let why = format!("it answered {status}");
        if outgoing::passes(status) || status == StatusCode::TOO_EARLY {
            return Err(Refusal::NotNow { why, after });
        }
        Err(Refusal::Never { why })
    }

    fn takes(&self) -> Duration {
        self.timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_others_compute() {
        // By Python: hmac.new(b"0123456789abcdef", b'1372636800.{"a":1}', "sha256").hexdigest()
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef");
        let at: Timestamp = "2013-07-01T00:00:00.9Z".parse().unwrap();
        assert_eq!(
            signature(&key, at, "{\"a\":1}"),
            "t=1372636800,v1=20b4f4c510e23413698f93bc1375c5f304e2381f13094a36c5080776da7e607b"
        );
    }

    fn refused(toml: &str, variable: impl Fn(&str) -> Option<String>) -> String {
        let text = format!(
            "[[sinks]]\nname = \"ops\"\ntype = \"webhook\"\nsecret_env = \"KEY\"\n{toml}\n[[rules]]\nname = \"r\"\non = \"refused\"\nsinks = [\"ops\"]\n"
        );
        let alerts =
            feature::definition::parse_alerts("alerts.toml", &text).unwrap_or_else(|why| panic!("{why}"));
        receivers(&alerts, variable).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_is_missing_in_the_environment_is_named_and_never_shown() {
        let key = |name: &str| (name == "KEY").then(|| "a key of enough bytes".to_owned());
        assert_eq!(refused("url = \"https://a.example\"", key), "");
        assert_eq!(
            refused("url = \"https://a.example\"", |_| None),
            "the sink `ops`: the environment variable KEY is not set"
        );
        let short = refused("url = \"https://a.example\"", |_| Some("s3cr3t".to_owned()));
        assert!(short.contains("fewer than 16 bytes") && !short.contains("s3cr3t"), "{short}");
        let nowhere = refused("url_env = \"URL\"", |name| match name {
            "URL" => Some("no address with s3cr3t".to_owned()),
            _ => key(name),
        });
        assert!(nowhere.contains("what URL holds is no address") && !nowhere.contains("s3cr3t"), "{nowhere}");
    }
}
