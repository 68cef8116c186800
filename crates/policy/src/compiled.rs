//! Policies that are ready to decide.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use cedar_policy::{Authorizer, Decision as Verdict};
use feature::definition::{DefinitionError, DefinitionErrors};
use feature::policy::{Action, Asker, Decision, Mask, Policies, Resource, RowFilter};

use crate::entities::{Asked, Types};
use crate::slices::Slices;
use crate::source::Written;

/// A set of policies, with what its annotations say.
pub struct Compiled {
    slices: Slices,
    shown: BTreeMap<String, (Option<Mask>, Option<String>)>,
    /// Permits under which breaking changes need an approval.
    approved: BTreeSet<String>,
    types: Types,
    authorizer: Authorizer,
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Compiled({} policies)", self.shown.len())
    }
}

impl Compiled {
    pub(crate) fn new(written: BTreeMap<String, Written>) -> Result<Self, DefinitionErrors> {
        let wrong = |message: String| {
            DefinitionErrors::new(vec![DefinitionError {
                file: "policies".to_owned(),
                line: 1,
                column: Some(1),
                message,
            }])
        };
        let types = Types::new(written.values().map(|written| &written.policy)).map_err(wrong)?;
        let mut shown = BTreeMap::new();
        let mut approved = BTreeSet::new();
        let mut policies = Vec::new();
        for (id, Written { policy, mask, rows, approval }) in written {
            policies.push(policy);
            if approval {
                approved.insert(id.clone());
            }
            shown.insert(id, (mask, rows));
        }
        let slices = Slices::new(policies).map_err(|error| wrong(error.to_string()))?;
        Ok(Self { slices, shown, approved, types, authorizer: Authorizer::new() })
    }
}

impl Policies for Compiled {
    /// What forbids wins over what permits, and without a permit nothing is allowed. Of the permits that apply all masks and filters
    /// count: the strongest mask, and the rows that pass every filter.
    fn decide(&self, asker: &Asker, action: Action, resource: Resource<'_>) -> Decision {
        let failed = |error: String| Decision { errors: vec![error], ..Decision::default() };
        let Asked { request, entities, principals, action } =
            match self.types.request(asker, action, resource) {
                Ok(asked) => asked,
                Err(error) => return failed(error),
            };
        let policies = match self.slices.of(&principals, &action) {
            Ok(policies) => policies,
            Err(error) => return failed(error.to_string()),
        };
        let response = self.authorizer.is_authorized(&request, &policies, &entities);
        // Cedar passes over a policy that it cannot evaluate; one that forbids or masks must not be passed over.
        let errors: Vec<String> = response.diagnostics().errors().map(ToString::to_string).collect();
        let mut policies: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
        policies.sort();
        if !errors.is_empty() || response.decision() == Verdict::Deny {
            return Decision { errors, policies, ..Decision::default() };
        }
        let mut decision = Decision { allowed: true, ..Decision::default() };
        for id in &policies {
            let Some((mask, rows)) = self.shown.get(id) else { continue };
            decision.needs_approval |= self.approved.contains(id);
            decision.mask = match (decision.mask, *mask) {
                (Some(one), Some(other)) => Some(one.stronger(other)),
                (one, other) => one.or(other),
            };
            if let Some(sql) = rows
                && !decision.rows.iter().any(|known| known.sql == *sql)
            {
                decision.rows.push(RowFilter { sql: sql.clone(), policy: id.clone() });
            }
        }
        decision.rows.sort();
        decision.policies = policies;
        decision
    }

    fn ids(&self) -> Vec<String> {
        self.shown.keys().cloned().collect()
    }

    fn row_filters(&self) -> Vec<RowFilter> {
        let filters = self.shown.iter();
        let filters = filters.filter_map(|(id, (_, rows))| Some((id.clone(), rows.clone()?)));
        filters.map(|(policy, sql)| RowFilter { sql, policy }).collect()
    }
}
