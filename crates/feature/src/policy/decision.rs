//! What was decided, and by which policies.

use super::Mask;

/// Which rows may be seen: a condition in SQL over the keys of the entity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowFilter {
    pub sql: String,
    /// The policy that says so.
    pub policy: String,
}

/// An answer. A denial has neither mask nor filters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    pub allowed: bool,
    /// How values are shown: the strongest mask of the policies that allow it.
    pub mask: Option<Mask>,
    /// All of them hold of a row that is seen. In the order of their texts, each once.
    pub rows: Vec<RowFilter>,
    /// The policies that decided: those that forbid, else those that permit; none where nothing permits.
    pub policies: Vec<String>,
    /// What could not be decided, and was denied therefore.
    pub errors: Vec<String>,
}

impl Decision {
    /// Where no policies are in force.
    pub fn unrestricted() -> Self {
        Self { allowed: true, ..Self::default() }
    }

    /// What denied it, for the one who asked.
    pub fn denied_by(&self) -> String {
        match (self.errors.first(), self.policies.as_slice()) {
            (Some(error), _) => format!("a policy could not be decided ({error})"),
            (None, []) => "no policy permits it".to_owned(),
            (None, [one]) => format!("the policy `{one}` forbids it"),
            (None, several) => format!("the policies `{}` forbid it", several.join("`, `")),
        }
    }
}
