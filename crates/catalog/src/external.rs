//! Foreign ids: how a thing of another system is named here, whoever names it.

use std::fmt;

use crate::error::{Error, Result};
use crate::records::Kind;

/// The system of what is known here alone.
pub const OWN: &str = "lineament";

/// Systems that need no `other:` before them.
const SYSTEMS: [&str; 6] = [OWN, "mlflow", "wandb", "sagemaker", "vertex", "airflow"];

/// The key that finds a thing again: unique for ever within its system and server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct External {
    pub kind: Kind,
    pub system: String,
    pub authority: String,
    pub id: String,
}

impl External {
    /// # Errors
    /// An unknown system, or no id.
    pub fn new(kind: Kind, system: &str, authority: &str, id: &str) -> Result<Self> {
        let known = SYSTEMS.contains(&system)
            || system.strip_prefix("other:").is_some_and(|name| !name.trim().is_empty());
        if !known {
            return Err(Error::Invalid(format!(
                "the system `{system}` is not known; it is one of {}, or other:<name>",
                SYSTEMS.join(", ")
            )));
        }
        if id.trim().is_empty() {
            return Err(Error::Invalid(format!("the id of a {} in `{system}` is empty", name_of(kind))));
        }
        Ok(Self { kind, system: system.to_owned(), authority: normalised(authority), id: id.to_owned() })
    }

    /// What has a name here and nowhere else.
    pub fn own(kind: Kind, name: &str) -> Result<Self> {
        Self::new(kind, OWN, "", name)
    }
}

impl fmt::Display for External {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.system.as_str(), self.authority.as_str()) {
            (OWN, "") => f.write_str(&self.id),
            (system, "") => write!(f, "{system}:{}", self.id),
            (system, authority) => write!(f, "{system}:{} at {authority}", self.id),
        }
    }
}

pub fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Experiment => "experiment",
        Kind::Run => "run",
        Kind::Model => "model",
        Kind::ModelVersion => "model version",
    }
}

/// A run as a caller names it, with its experiment where that is said with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunName {
    pub run: External,
    pub experiment: Option<External>,
}

impl RunName {
    /// Reads `mlflow;<server>;<experiment>;<run>`, `wandb:<entity>/<project>/<run>`, or a name of one's own.
    ///
    /// # Errors
    /// Parts that are missing, an unknown system.
    pub fn parse(text: &str) -> Result<Self> {
        if text.contains(';') {
            let parts: Vec<&str> = text.split(';').map(str::trim).collect();
            let [system, authority, experiment, run] = parts.as_slice() else {
                return Err(Error::Invalid(format!(
                    "the run `{text}` has {} parts; write system;server;experiment;run, as mlflow;http://tracking:5000;0;4f1c…, or a name without `;`",
                    parts.len()
                )));
            };
            let experiment = match *experiment {
                "" => None,
                id => Some(External::new(Kind::Experiment, system, authority, id)?),
            };
            return Ok(Self { run: External::new(Kind::Run, system, authority, run)?, experiment });
        }
        Ok(Self { run: named(Kind::Run, text)?, experiment: None })
    }
}

/// Reads an experiment: `system;server;experiment`, `system:experiment`, or a name of one's own.
pub fn experiment(text: &str) -> Result<External> {
    match text.split(';').map(str::trim).collect::<Vec<_>>().as_slice() {
        [system, authority, id] => External::new(Kind::Experiment, system, authority, id),
        [_] => named(Kind::Experiment, text),
        parts => Err(Error::Invalid(format!(
            "the experiment `{text}` has {} parts; write system;server;experiment, or a name without `;`",
            parts.len()
        ))),
    }
}

fn named(kind: Kind, text: &str) -> Result<External> {
    match text.split_once(':') {
        Some((system, id)) if SYSTEMS.contains(&system) => External::new(kind, system, "", id.trim()),
        _ => External::own(kind, text.trim()),
    }
}

/// The address of a server, as it is compared: scheme and host in lower case, without credentials, a default port or a
/// slash at the end.
pub fn normalised(address: &str) -> String {
    let address = address.trim();
    let Some((scheme, rest)) = address.split_once("://") else {
        return address.trim_end_matches('/').to_owned();
    };
    let scheme = scheme.to_ascii_lowercase();
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host).to_ascii_lowercase();
    let default = match scheme.as_str() {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    let host = if default.is_empty() { host.as_str() } else { host.strip_suffix(default).unwrap_or(&host) };
    format!("{scheme}://{host}{}", path.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_has_one_address() {
        for address in [
            "http://tracking:5000",
            "HTTP://Tracking:5000/",
            "http://ann:secret@tracking:5000//",
            " http://tracking:5000 ",
        ] {
            assert_eq!(normalised(address), "http://tracking:5000", "{address}");
        }
        assert_eq!(normalised("https://ml.example.org:443/mlflow/"), "https://ml.example.org/mlflow");
        assert_eq!(normalised("http://ml.example.org:80"), "http://ml.example.org");
        assert_eq!(normalised("sqlite:///Data/runs.db"), "sqlite:///Data/runs.db");
        assert_eq!(normalised("databricks"), "databricks");
    }

    #[test]
    fn runs_are_named_in_three_ways() {
        let run = RunName::parse("mlflow;http://Tracking:5000/;3;ab12").unwrap();
        assert_eq!(run.run.to_string(), "mlflow:ab12 at http://tracking:5000");
        assert_eq!(run.experiment.unwrap().id, "3");
        let run = RunName::parse("mlflow;http://tracking:5000;;ab12").unwrap();
        assert_eq!(run.experiment, None);
        let run = RunName::parse("wandb:team/project/r1").unwrap().run;
        assert_eq!((run.system.as_str(), run.id.as_str()), ("wandb", "team/project/r1"));
        let run = RunName::parse("nightly: 7").unwrap().run;
        assert_eq!((run.system.as_str(), run.id.as_str()), (OWN, "nightly: 7"));
        assert_eq!(experiment("mlflow;http://tracking:5000;3").unwrap().id, "3");
        assert_eq!(experiment("churn").unwrap().system, OWN);
    }

    #[test]
    fn what_cannot_be_found_again_is_refused() {
        for (text, why) in [
            ("mlflow;x;y", "has 3 parts"),
            ("mlflow;x;y;", "is empty"),
            ("  ", "is empty"),
            ("kubeflow;x;y;z", "other:<name>"),
            ("other:;x;y;z", "other:<name>"),
        ] {
            let error = RunName::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(RunName::parse("other:kubeflow;x;y;z").is_ok());
    }
}
