//! What was decided, and by which policies.

use super::{Action, Asker, Mask, Policies, Resource};
use crate::definition::{Feature, FeatureView};

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
    /// Whether a breaking change that is allowed waits for the approval of somebody else.
    pub needs_approval: bool,
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

    /// A feature is read where its view may be read and it may be; the filters of both hold.
    pub fn of_feature(
        policies: &dyn Policies,
        asker: &Asker,
        action: Action,
        view: &FeatureView,
        feature: &Feature,
    ) -> Self {
        let of_view = policies.decide(asker, action, Resource::View(view));
        if action != Action::Read || !of_view.allowed {
            return of_view;
        }
        let mut decision = policies.decide(asker, action, Resource::Feature(view, feature));
        if decision.allowed {
            for filter in of_view.rows {
                if !decision.rows.iter().any(|known| known.sql == filter.sql) {
                    decision.rows.push(filter);
                }
            }
            decision.rows.sort();
            decision.mask = decision.mask.map(|mask| mask.of_type(&feature.data_type.arrow()));
        }
        decision
    }

    /// In the words of cases: `allow`, `deny`, `mask null`, `rows origin = 'JFK'`, or the last two joined by `; `.
    pub fn told(&self) -> String {
        if !self.allowed {
            return "deny".to_owned();
        }
        let mask = self.mask.map(|mask| format!("mask {mask}"));
        let rows = match self.rows.as_slice() {
            [] => None,
            [one] => Some(format!("rows {}", one.sql)),
            several => {
                let all: Vec<String> = several.iter().map(|filter| format!("({})", filter.sql)).collect();
                Some(format!("rows {}", all.join(" AND ")))
            }
        };
        let told: Vec<String> = mask.into_iter().chain(rows).collect();
        if told.is_empty() { "allow".to_owned() } else { told.join("; ") }
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
