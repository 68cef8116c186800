//! The policies that can apply to who asks. The scopes of the others name somebody else or another action, and Cedar would evaluate each of
//! them to find that out.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use cedar_policy::{ActionConstraint, EntityUid, Policy, PolicySet, PolicySetError, PrincipalConstraint};

/// Slices that are kept; beyond that they are made anew.
const KEPT: usize = 1_024;

/// Policies by what their scopes name.
pub struct Slices {
    policies: Vec<(Scope, Policy)>,
    /// By the places of their policies.
    made: Mutex<HashMap<Vec<u32>, Arc<PolicySet>>>,
}

/// Whom and what a policy can apply to; none where its scope does not say.
struct Scope {
    principal: Option<EntityUid>,
    actions: Option<Vec<EntityUid>>,
}

impl Scope {
    fn of(policy: &Policy) -> Self {
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::In(named)
            | PrincipalConstraint::Eq(named)
            | PrincipalConstraint::IsIn(_, named) => Some(named),
            PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
        };
        let actions = match policy.action_constraint() {
            ActionConstraint::Eq(named) => Some(vec![named]),
            ActionConstraint::In(named) => Some(named),
            ActionConstraint::Any => None,
        };
        Self { principal, actions }
    }

    fn has(&self, principals: &HashSet<EntityUid>, action: &EntityUid) -> bool {
        self.principal.as_ref().is_none_or(|named| principals.contains(named))
            && self.actions.as_ref().is_none_or(|named| named.contains(action))
    }
}

impl Slices {
    /// # Errors
    /// Two policies of one name.
    pub fn new(policies: Vec<Policy>) -> Result<Self, Box<PolicySetError>> {
        PolicySet::from_policies(policies.iter().cloned())?;
        let policies = policies.into_iter().map(|policy| (Scope::of(&policy), policy)).collect();
        Ok(Self { policies, made: Mutex::default() })
    }

    /// The policies that can apply where one of these asks: a principal, and all that it is in. Neither they nor actions are in
    /// anything else.
    ///
    /// # Errors
    /// None that is known: the policies make a set together.
    pub fn of(
        &self,
        principals: &HashSet<EntityUid>,
        action: &EntityUid,
    ) -> Result<Arc<PolicySet>, Box<PolicySetError>> {
        let numbered = (0u32..).zip(&self.policies);
        let within = numbered.filter(|(_, (scope, _))| scope.has(principals, action));
        let places: Vec<u32> = within.map(|(place, _)| place).collect();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slice) = made.get(&places) {
            return Ok(slice.clone());
        }
        let policies = places.iter().filter_map(|place| self.policies.get(*place as usize));
        let slice = Arc::new(PolicySet::from_policies(policies.map(|(_, policy)| policy.clone()))?);
        if made.len() >= KEPT {
            made.clear();
        }
        made.insert(places, slice.clone());
        Ok(slice)
    }
}
