//! Namespaces and names. Versions are never part of a name, or a consumer gets a node a version.

use std::fmt;

use catalog::external::{External, OWN};
use catalog::state::ViewVersion;
use feature::{Name, StoreId};
use serde_json::{Value, json};

/// Where a store's datasets and jobs are named: `lineament://<authority>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no authority; write letters, digits, `.`, `-`, `_` and at most one `:` before a port, as features.example.org:8815"
)]
pub struct AuthorityError(String);

impl Namespace {
    /// The store's own id: the same under every address.
    pub fn of_store(store: StoreId) -> Self {
        Self(format!("lineament://{store}"))
    }

    /// A name that people chose for the store.
    ///
    /// # Errors
    /// A text that cannot stand in an address.
    pub fn of_authority(authority: &str) -> Result<Self, AuthorityError> {
        let wrong = || AuthorityError(authority.to_owned());
        let (host, port) =
            authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
        let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if host.is_empty() || !host.chars().all(is_fine) {
            return Err(wrong());
        }
        if port.is_some_and(|port| port.parse::<u16>().is_err()) {
            return Err(wrong());
        }
        Ok(Self(format!("lineament://{}", authority.to_ascii_lowercase())))
    }

    /// Where a thing of another system is named: its server, else its system; what is known here alone, here.
    pub(super) fn of_external(&self, external: &External) -> Self {
        match (external.system.as_str(), external.authority.as_str()) {
            (OWN, _) => self.clone(),
            (system, "") => Self(system.to_owned()),
            (_, authority) => Self(authority.to_owned()),
        }
    }

    pub(super) fn named(&self, name: impl Into<String>) -> Named {
        Named { namespace: self.0.clone(), name: name.into() }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A dataset or a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub namespace: String,
    pub name: String,
}

impl Named {
    pub fn json(&self) -> Value {
        json!({ "namespace": self.namespace, "name": self.name })
    }
}

/// `weather`, or `fraud.weather` in a project that is not the default.
pub(super) fn view_name(version: &ViewVersion) -> String {
    let view = &version.definition;
    if view.project == Name::default_project() {
        view.name.to_string()
    } else {
        format!("{}.{}", view.project, view.name)
    }
}

/// A UUID as OpenLineage wants it: MLflow writes its run ids, which are UUIDs, without dashes.
pub(super) fn with_dashes(id: &str) -> Option<String> {
    let plain = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| {
        let id = id.to_ascii_lowercase();
        format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..])
    })
}
