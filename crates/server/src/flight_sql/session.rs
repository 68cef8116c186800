//! Sessions: what a client says once for all its calls.
//!
//! A session is a cookie that holds its options, so that the server keeps nothing and a restart ends none. It says nothing that the headers
//! of a call could not say too, and a call's own headers come first.

use std::collections::{BTreeMap, HashMap};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use catalog::external::{self, RunName};
use catalog::records::Role;
use prost::Message;
use serde::{Deserialize, Serialize};
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::status;

/// The name of the cookie.
const COOKIE: &str = "lineament-session";
/// The longest value of an option; it goes into the log.
const VALUE_BYTES: usize = 512;
/// Temporary tables of a session.
const TABLES: usize = 16;
/// What the standard options can be here.
const CATALOG: (&str, &str) = ("catalog", "store");
const SCHEMA: (&str, &str) = ("schema", "default");

pub const SET: &str = "SetSessionOptions";
pub const GET: &str = "GetSessionOptions";
pub const CLOSE: &str = "CloseSession";

/// What a session says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Temporary tables: the digests of spines, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tables: BTreeMap<String, String>,
}

/// What a call makes of its session.
#[derive(Debug)]
pub enum Change {
    /// It goes on as it is.
    None,
    Set(Session),
    Closed,
}

impl Session {
    /// The session that the cookies of a call name; an empty one where they name none.
    ///
    /// # Errors
    /// A cookie that this server did not give out.
    pub fn of(headers: &MetadataMap) -> Result<Self, Status> {
        for header in headers.get_all("cookie") {
            let Ok(text) = header.to_str() else { continue };
            for pair in text.split(';') {
                let Some((name, value)) = pair.trim().split_once('=') else { continue };
                if name == COOKIE && !value.is_empty() {
                    return Self::read(value);
                }
            }
        }
        Ok(Self::default())
    }

    fn read(value: &str) -> Result<Self, Status> {
        let bytes = URL_SAFE_NO_PAD.decode(value).ok();
        let session: Option<Self> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        session.filter(Self::is_valid).ok_or_else(|| {
            status::invalid(format!(
                "the cookie `{COOKIE}` is not one that this server gives out; leave it out, and set the session's options anew"
            ))
        })
    }

    fn is_valid(&self) -> bool {
        let run = self.run.as_deref().is_none_or(|run| valid_run(run).is_ok());
        let experiment = self.experiment.as_deref().is_none_or(|name| valid_experiment(name).is_ok());
        run && experiment && self.tables.len() <= TABLES
    }

    /// Names a spine in this session.
    ///
    /// # Errors
    /// Too many names.
    pub fn with_table(mut self, name: String, digest: String) -> Result<Self, Status> {
        self.tables.insert(name, digest);
        if self.tables.len() > TABLES {
            return Err(status::invalid(format!(
                "a session has at most {TABLES} temporary tables; close it, or replace one of them"
            )));
        }
        Ok(self)
    }
}

impl Change {
    /// The header that tells the client.
    ///
    /// # Errors
    /// None in practice: a cookie is ASCII.
    pub fn tell(&self, headers: &mut MetadataMap) -> Result<(), Status> {
        let cookie = match self {
            Self::None => return Ok(()),
            Self::Closed => format!("{COOKIE}=; Max-Age=0"),
            Self::Set(session) => {
                let json = serde_json::to_vec(session)
                    .map_err(|error| status::internal("the session cannot be written", error))?;
                format!("{COOKIE}={}", URL_SAFE_NO_PAD.encode(json))
            }
        };
        let cookie = cookie.parse().map_err(|error| status::internal("the session cannot be told", error))?;
        headers.insert("set-cookie", cookie);
        Ok(())
    }
}

/// Sets options: those that are wrong are named, and the others hold.
pub fn set(session: &Session, body: &[u8]) -> Result<(Vec<u8>, Change), Status> {
    let wanted = SetOptions::decode(body).map_err(|error| unreadable(SET, &error))?;
    let mut next = session.clone();
    let mut errors = HashMap::new();
    for (name, value) in wanted.session_options {
        if let Err(why) = next.set(&name, value.value) {
            errors.insert(name, OptionError { value: why as i32 });
        }
    }
    Ok((SetOptionsResult { errors }.encode_to_vec(), Change::Set(next)))
}

/// All options that have a value.
pub fn get(session: &Session, body: &[u8]) -> Result<(Vec<u8>, Change), Status> {
    GetOptions::decode(body).map_err(|error| unreadable(GET, &error))?;
    let role = session.role.map(|role| role.as_str().to_owned());
    let texts = [
        (CATALOG.0, Some(CATALOG.1.to_owned())),
        (SCHEMA.0, Some(SCHEMA.1.to_owned())),
        ("run", session.run.clone()),
        ("experiment", session.experiment.clone()),
        ("role", role),
    ];
    let session_options = texts
        .into_iter()
        .filter_map(|(name, text)| Some((name.to_owned(), OptionValue { value: Some(Value::Text(text?)) })))
        .collect();
    Ok((SetOptions { session_options }.encode_to_vec(), Change::None))
}

/// Ends the session.
pub fn close(body: &[u8]) -> Result<(Vec<u8>, Change), Status> {
    GetOptions::decode(body).map_err(|error| unreadable(CLOSE, &error))?;
    Ok((CloseResult { status: Closing::Closed as i32 }.encode_to_vec(), Change::Closed))
}

impl Session {
    /// An option without a value, or with an empty text, is forgotten.
    fn set(&mut self, name: &str, value: Option<Value>) -> Result<(), Why> {
        let text = match value {
            None => None,
            Some(Value::Text(text)) if text.len() <= VALUE_BYTES => {
                Some(text).filter(|text| !text.is_empty())
            }
            Some(_) if matches!(name, "run" | "experiment" | "role" | "catalog" | "schema") => {
                return Err(Why::InvalidValue);
            }
            Some(_) => return Err(Why::InvalidName),
        };
        match (name, text) {
            ("run", run) => {
                run.as_deref().map(valid_run).transpose()?;
                self.run = run;
            }
            ("experiment", experiment) => {
                experiment.as_deref().map(valid_experiment).transpose()?;
                self.experiment = experiment;
            }
            ("role", role) => {
                let role = role.map(|role| serde_json::from_value(serde_json::Value::String(role)));
                self.role = role.transpose().map_err(|_| Why::InvalidValue)?;
            }
            // There is one of each, and tools set them as a matter of course.
            ("catalog", given) if given.as_deref().is_none_or(|given| given == CATALOG.1) => {}
            ("schema", given) if given.as_deref().is_none_or(|given| given == SCHEMA.1) => {}
            ("catalog" | "schema", _) => return Err(Why::InvalidValue),
            _ => return Err(Why::InvalidName),
        }
        Ok(())
    }
}

fn valid_run(run: &str) -> Result<(), Why> {
    RunName::parse(run).map(|_| ()).map_err(|_| Why::InvalidValue)
}

fn valid_experiment(experiment: &str) -> Result<(), Why> {
    external::experiment(experiment).map(|_| ()).map_err(|_| Why::InvalidValue)
}

fn unreadable(action: &str, error: &prost::DecodeError) -> Status {
    status::invalid(format!("the body of the action `{action}` is not the message that Flight says: {error}"))
}

// The messages, as Flight.proto has them; arrow-flight has none of them.

/// SetSessionOptionsRequest, and GetSessionOptionsResult, which has the same fields.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetOptions {
    #[prost(map = "string, message", tag = "1")]
    pub session_options: HashMap<String, OptionValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct OptionValue {
    #[prost(oneof = "Value", tags = "1, 2, 3, 4, 5")]
    pub value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Truth(bool),
    #[prost(sfixed64, tag = "3")]
    Integer(i64),
    #[prost(double, tag = "4")]
    Number(f64),
    #[prost(message, tag = "5")]
    Texts(Texts),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Texts {
    #[prost(string, repeated, tag = "1")]
    pub values: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SetOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    pub errors: HashMap<String, OptionError>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct OptionError {
    #[prost(enumeration = "Why", tag = "1")]
    pub value: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Why {
    Unspecified = 0,
    InvalidName = 1,
    InvalidValue = 2,
    Error = 3,
}

/// GetSessionOptionsRequest and CloseSessionRequest.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetOptions {}

#[derive(Clone, PartialEq, prost::Message)]
pub struct CloseResult {
    #[prost(enumeration = "Closing", tag = "1")]
    pub status: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Closing {
    Unspecified = 0,
    Closed = 1,
    Pending = 2,
    NotCloseable = 3,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> OptionValue {
        OptionValue { value: Some(Value::Text(value.to_owned())) }
    }

    fn cookies(cookie: &str) -> MetadataMap {
        let mut headers = MetadataMap::new();
        headers.insert("cookie", cookie.parse().unwrap());
        headers
    }

    #[test]
    fn options_travel_in_a_cookie() {
        let wanted = [
            ("run", text("churn-7")),
            ("role", text("train")),
            ("schema", text("default")),
            ("catalog", text("other")),
            ("colour", text("red")),
            ("experiment", OptionValue { value: Some(Value::Truth(true)) }),
        ];
        let session_options = wanted.map(|(name, value)| (name.to_owned(), value)).into();
        let body = SetOptions { session_options }.encode_to_vec();
        let (answer, change) = set(&Session::default(), &body).unwrap();
        let errors = SetOptionsResult::decode(&*answer).unwrap().errors;
        let mut wrong: Vec<(&str, i32)> =
            errors.iter().map(|(name, why)| (name.as_str(), why.value)).collect();
        wrong.sort_unstable();
        let expected =
            [("catalog", Why::InvalidValue), ("colour", Why::InvalidName), ("experiment", Why::InvalidValue)];
        assert_eq!(wrong, expected.map(|(name, why)| (name, why as i32)));

        let mut headers = MetadataMap::new();
        change.tell(&mut headers).unwrap();
        let told = headers.get("set-cookie").unwrap().to_str().unwrap().to_owned();
        let session = Session::of(&cookies(&format!("other=1; {told}; last=2"))).unwrap();
        assert_eq!((session.run.as_deref(), session.role), (Some("churn-7"), Some(Role::Train)));
        let (answer, _) = get(&session, &[]).unwrap();
        let options = SetOptions::decode(&*answer).unwrap().session_options;
        assert_eq!(options.get("run"), Some(&text("churn-7")));
        assert_eq!(options.len(), 4);
    }

    #[test]
    fn cookies_that_were_not_given_out_are_refused() {
        for value in ["x", "e30x", "bnVsbA", "eyJydW5zIjoiYSJ9", "%%"] {
            let error = Session::of(&cookies(&format!("{COOKIE}={value}"))).unwrap_err();
            assert!(error.message().contains("set the session's options anew"), "{value}: {error}");
        }
        assert_eq!(Session::of(&cookies("other=x")).unwrap(), Session::default());
        assert_eq!(Session::of(&cookies(&format!("{COOKIE}="))).unwrap(), Session::default());
        assert_eq!(Session::of(&MetadataMap::new()).unwrap(), Session::default());
    }
}
