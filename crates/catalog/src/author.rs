//! Who asks, with what program, and for which run: what every entry says of its writer.

use std::collections::BTreeMap;

use feature::policy::{Asker, Purpose};

use crate::records::{How, Role};

/// The writer of an entry. Run and experiment are given by whoever knows them; lineage does without.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Author {
    /// The login: of the local user, or of the caller that the server authenticated.
    pub principal: String,
    /// Name and version of the program, as `lineament 0.1.0`.
    pub program: String,
    pub run: Option<String>,
    pub experiment: Option<String>,
    /// How the run is known.
    pub how: How,
    /// What the run uses training sets for, where the request for one does not say.
    pub role: Role,
    /// Steps that made the rows before they came here, in order, as the writer states them.
    pub steps: Vec<String>,
    /// What the principal is, as far as policies ask: roles and other claims of its token.
    pub roles: Vec<String>,
    pub claims: BTreeMap<String, Vec<String>>,
    /// What it is done for, as far as policies ask.
    pub purpose: Purpose,
}

impl Author {
    /// As policies see it.
    pub fn asker(&self) -> Asker {
        Asker {
            principal: self.principal.clone(),
            roles: self.roles.clone(),
            claims: self.claims.clone(),
            purpose: self.purpose,
        }
    }
}
