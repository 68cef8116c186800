//! Who may say that something goes: whom the policies in force permit it; without any, its owner, or everybody where none is declared.

use catalog::Author;
use catalog::records::{Deprecable, DeprecatedKind};
use catalog::state::{Deprecation, State};
use feature::policy::{Action, Asker, Policies, Purpose, Resource};
use lineage::dangling::Standing;
use lineage::graph::Node;
use lineage::{Dangling, Graph};

use super::{Uses, service_of, views_of};
use crate::error::{Error, Result};
use crate::retrieve::Serving;

impl Serving {
    /// Whether an author may deprecate a thing, or take that back; where nothing is governed, why it is not theirs.
    ///
    /// # Errors
    /// `Forbidden` where policies do not permit it.
    pub(super) async fn right_of(
        &self,
        state: &State,
        of: Deprecable,
        author: &Author,
    ) -> Result<Result<(), String>> {
        let policies = self.policies_at(state, state.head.sequence).await?;
        let policies = policies.as_ref().map(|(_, policies)| policies.as_ref());
        let right = right(state, policies, &author.asker(), of);
        match (right, policies) {
            (Err(why), Some(_)) => Err(Error::denial(
                state.label_of(of).unwrap_or_else(|| of.id.to_string()),
                format!(
                    "`{}` may not deprecate this: {why}; ask whoever governs the store",
                    author.principal
                ),
            )),
            (right, _) => Ok(right),
        }
    }

    /// Things that somebody uses and that were deprecated by somebody who had no right to, and withdrawals that wait for a model in
    /// force.
    pub(crate) async fn doubtful_deprecations(
        &self,
        state: &State,
        graph: &Graph,
        standing: &Standing,
    ) -> Result<Vec<Dangling>> {
        let head = state.head.sequence;
        let now = self.catalog().store().clock().now();
        let mut found = Vec::new();
        for one in state.deprecations().all().iter().filter(|one| one.stage(head).is_some()) {
            let of = one.record.of;
            let nodes = nodes_of(state, of);
            let blocks = nodes.iter().filter_map(|node| standing.on(graph, node)).min();
            let mut tell = |problem: String, since| {
                let id = state.label_of(of).unwrap_or_else(|| of.id.to_string());
                let kind = match of.kind {
                    DeprecatedKind::Version => "view_version",
                    DeprecatedKind::FeatureView => "feature_view",
                    DeprecatedKind::FeatureService => "service",
                };
                found.push(Dangling { kind, id, problem, since: Some(since), blocks, unlinked: false });
            };
            if blocks.is_some()
                && let Err(why) = self.right_then(state, one).await?
            {
                let (who, at) = (&one.by.principal, one.by.sequence);
                tell(
                    format!("it is in use, and {who} deprecated it at sequence {at} without right: {why}"),
                    one.by.committed_at,
                );
            }
            let overdue = one.next(head).filter(|(_, due)| *due <= now);
            let live = Uses::of(state, graph, of).deployments(graph);
            if let Some((step, due)) = overdue.filter(|_| !live.is_empty()) {
                tell(
                    format!("it was to be {} on {due}, and {} stands on it", step.name(), live.join(", ")),
                    due,
                );
            }
        }
        Ok(found)
    }

    /// Whether who deprecated a thing had the right to, by the policies of then.
    async fn right_then(&self, state: &State, one: &Deprecation) -> Result<Result<(), String>> {
        let asker = Asker {
            principal: one.by.principal.clone(),
            roles: one.record.roles.clone(),
            claims: one.record.claims.clone(),
            purpose: Purpose::default(),
        };
        let policies = self.policies_at(state, one.by.sequence).await?;
        let policies = policies.as_ref().map(|(_, policies)| policies.as_ref());
        Ok(right(state, policies, &asker, one.record.of))
    }
}

/// # Errors
/// Why somebody has no right to deprecate a thing.
fn right(
    state: &State,
    policies: Option<&dyn Policies>,
    asker: &Asker,
    of: Deprecable,
) -> Result<(), String> {
    let views = views_of(state, of);
    if let Some(policies) = policies {
        for view in views {
            let resource = Resource::View(&view.definition);
            let decision = policies.decide(asker, Action::Deprecate, resource);
            if !decision.allowed {
                return Err(format!("`{resource}`: {}", decision.denied_by()));
            }
        }
        return Ok(());
    }
    let owner = match of.kind {
        DeprecatedKind::FeatureService => {
            service_of(state, of).and_then(|service| service.definition.about.owner.clone())
        }
        _ => views.first().and_then(|view| view.definition.about.owner.clone()),
    };
    let Some(owner) = owner else { return Ok(()) };
    let groups = asker.claims.get("groups").into_iter().flatten();
    let is_theirs = asker.principal == owner || asker.roles.iter().chain(groups).any(|role| *role == owner);
    if is_theirs { Ok(()) } else { Err(format!("its owner is `{owner}`, and no policies were in force")) }
}

/// The nodes of a graph that a thing is.
fn nodes_of(state: &State, of: Deprecable) -> Vec<Node> {
    match of.kind {
        DeprecatedKind::FeatureService => vec![Node::Service(of.id.into())],
        _ => {
            let versions = state.versions_under(of).into_iter();
            versions.map(|version| Node::ViewVersion(version.version)).collect()
        }
    }
}
