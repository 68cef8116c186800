//! Who would feel a change of definitions, and who has to agree to it.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_recursion::async_recursion;
use catalog::Author;
use catalog::approval;
use catalog::plan::{Action as Change, Applied, Consent, FeltBy, Plan, Planned};
use catalog::records::Subject;
use catalog::state::{Proposal, State, ViewVersion, Vote};
use engine::SqlConditions;
use feature::definition::{Definitions, FeatureView};
use feature::evolution::Effect;
use feature::policy::{Action, Asker, Purpose, Resource};
use feature::{Id, Name, Sequence};
use lineage::Graph;
use lineage::graph::{Node, Relation};
use serde::Serialize;

use crate::access::Access;
use crate::error::{Error, Kind, Result};
use crate::retrieve::Serving;

/// What somebody said of a proposed plan.
#[derive(Clone, Debug, Serialize)]
pub struct ApprovalReport {
    /// The digest, whole.
    pub plan: String,
    /// Approved, else declined.
    pub approved: bool,
    pub proposed_by: String,
    /// Why it was proposed.
    pub proposed_for: String,
    /// What it would change, in words.
    pub changes: Vec<String>,
    pub sequence: Sequence,
}

impl Serving {
    /// What definitions would change, who would feel it, and which derived views cannot be seen through.
    pub(crate) async fn planned(
        &self,
        state: &Arc<State>,
        definitions: &Definitions,
        author: &Author,
    ) -> Result<Plan> {
        let mut untraced = self.verify_derived(state, definitions, author).await?;
        let mut plan = catalog::plan::plan(state, definitions, &SqlConditions)?;
        for planned in plan.changes.iter_mut().filter(|planned| planned.subject == Subject::FeatureView) {
            planned.untraced = untraced.remove(&(planned.project.clone(), planned.name.clone()));
        }
        if plan.effect() > Effect::Harmless {
            let (state, graph) = self.graph(Some(state.head.sequence)).await?;
            for planned in &mut plan.changes {
                planned.felt_by = felt_by(&state, &graph, planned);
            }
        }
        Ok(plan)
    }

    /// Applies definitions as one entry of the log. Breaking changes need a reason, and where policies say so somebody else's approval of
    /// exactly this plan: without it they are proposed, and nothing is applied.
    ///
    /// # Errors
    /// `Forbidden` for who may not apply them; `Invalid` for what cannot be, for a breaking change without a reason, and for a plan that
    /// somebody declined.
    #[async_recursion]
    pub async fn apply_definitions(
        &self,
        definitions: &Definitions,
        reason: Option<&str>,
        author: &Author,
    ) -> Result<Applied> {
        let state = self.catalog().refresh().await?;
        let allowed = self.may_apply(&state, definitions, author);
        self.on_record(author, Action::Apply, None, || "apply definitions".to_owned(), allowed).await?;
        let plan = self.planned(&state, definitions, author).await?;
        let mut consent = Consent { reason: reason.map(str::to_owned), ..Consent::default() };
        if plan.effect() == Effect::Breaking {
            consent.guarded = self.guarded(&state, definitions, author).await?;
            consent.approvers = self.approvers(&state, &plan, &consent.guarded).await?;
        }
        let mut applied =
            catalog::plan::apply(self.catalog(), definitions, &SqlConditions, &consent, author).await?;
        // As it was felt before it was applied.
        for (done, planned) in applied.plan.changes.iter_mut().zip(plan.changes) {
            (done.felt_by, done.untraced) = (planned.felt_by, planned.untraced);
        }
        Ok(applied)
    }

    /// A view needs the right to what it would be and to what it is, or a policy about tags would end with the tag. An entity or a service
    /// that changes needs it of all views that it describes or lists, before and after; where there are none, the right to govern.
    ///
    /// # Errors
    /// `Forbidden` names the first view, or the project.
    async fn may_apply(&self, state: &State, definitions: &Definitions, author: &Author) -> Result<()> {
        let Some(access) = self.access(state, author).await? else { return Ok(()) };
        let head = state.head.sequence;
        let declared = || definitions.views.iter().map(|declared| &declared.definition);
        for view in declared() {
            access.require(Action::Apply, Resource::View(view))?;
            let in_force = state.view(view.project.as_str(), view.name.as_str(), None, head);
            // Where all are withdrawn, the newest still says what it was.
            let now = in_force.or_else(|| state.versions_of(&view.project, &view.name).last());
            if let Some(now) = now {
                access.require(Action::Apply, Resource::View(&now.definition))?;
            }
        }
        for entity in definitions.entities.iter().map(|declared| &declared.definition) {
            let now = state.entity(&entity.project, &entity.name, head);
            if now.is_some_and(|now| *now.definition == *entity) {
                continue;
            }
            let in_force = state.views_in_force(head).map(|version| &*version.definition);
            let describes =
                |view: &&FeatureView| (&view.project, &view.entity) == (&entity.project, &entity.name);
            let views: Vec<&FeatureView> = in_force.chain(declared()).filter(describes).collect();
            may_change(&access, &views)?;
        }
        for service in definitions.services.iter().map(|declared| &declared.definition) {
            let now = state.service(&service.project, &service.name, head).map(|now| &*now.definition);
            if now == Some(service) {
                continue;
            }
            let mut views: Vec<&FeatureView> = Vec::new();
            for reference in now.iter().flat_map(|now| &now.features).chain(&service.features) {
                let (project, name) = (&reference.project, &reference.view);
                let stored = state.view(project.as_str(), name.as_str(), reference.version, head);
                views.extend(stored.map(|version| &*version.definition));
                views.extend(declared().filter(|view| (&view.project, &view.name) == (project, name)));
            }
            may_change(&access, &views)?;
        }
        Ok(())
    }

    /// Views whose breaking changes wait for an approval, as the policies say of this author: of the view as it is and as it would be.
    async fn guarded(
        &self,
        state: &State,
        definitions: &Definitions,
        author: &Author,
    ) -> Result<BTreeSet<(Name, Name)>> {
        let Some(access) = self.access(state, author).await? else { return Ok(BTreeSet::new()) };
        let waits = |view: &FeatureView| access.decide(Action::Apply, Resource::View(view)).needs_approval;
        let guarded = definitions.views.iter().map(|declared| &declared.definition).filter(|view| {
            let now = state.view(view.project.as_str(), view.name.as_str(), None, state.head.sequence);
            waits(view) || now.is_some_and(|now| waits(&now.definition))
        });
        Ok(guarded.map(|view| (view.project.clone(), view.name.clone())).collect())
    }

    /// Those who approved a plan and may, by the policies of now.
    async fn approvers(
        &self,
        state: &State,
        plan: &Plan,
        guarded: &BTreeSet<(Name, Name)>,
    ) -> Result<BTreeSet<String>> {
        let mut approvers = BTreeSet::new();
        let Some(proposal) = state.changes().proposal(plan.digest) else { return Ok(approvers) };
        let Some((_, policies)) = self.policies_at(state, state.head.sequence).await? else {
            return Ok(approvers);
        };
        let views = breaking_views(state, plan, guarded);
        for (who, (vote, _)) in proposal.standing(state.head.sequence) {
            let Vote::Approved(said) = vote else { continue };
            let asker = Asker {
                principal: who.to_owned(),
                roles: said.roles.clone(),
                claims: said.claims.clone(),
                purpose: Purpose::default(),
            };
            let may = |view: &&ViewVersion| {
                policies.decide(&asker, Action::Approve, Resource::View(&view.definition)).allowed
            };
            if views.iter().all(may) {
                approvers.insert(who.to_owned());
            }
        }
        Ok(approvers)
    }

    /// Approves a proposed plan, by its digest or the first digits of it, or declines it.
    ///
    /// # Errors
    /// `NotFound` for a plan that was not proposed; `Forbidden` for who may not approve changes of its views, and for its own author;
    /// `Invalid` for no reason, a plan that was applied, and what the same person said already.
    #[async_recursion]
    pub async fn approve(
        &self,
        plan: &str,
        approve: bool,
        reason: &str,
        author: &Author,
    ) -> Result<ApprovalReport> {
        let state = self.catalog().refresh().await?;
        let proposal = approval::find(&state, plan)?;
        let (record, proposed_by) = (&proposal.record, proposal.by.principal.clone());
        let words = || format!("approve plan {}", record.plan);
        let allowed = self.may_vote(&state, proposal, approve, author);
        self.on_record(author, Action::Approve, None, words, allowed).await?;
        let told = |change: &catalog::records::PlannedChange| {
            let differences = change.differences.join("; ");
            let words = if differences.is_empty() { String::new() } else { format!(": {differences}") };
            format!("{} {}@{} ({}){words}", change.subject, change.name, change.number, change.effect)
        };
        let sequence = approval::vote(self.catalog(), record.plan, approve, reason, author).await?;
        Ok(ApprovalReport {
            plan: record.plan.to_string(),
            approved: approve,
            proposed_by,
            proposed_for: record.reason.clone(),
            changes: record.changes.iter().map(told).collect(),
            sequence,
        })
    }

    /// # Errors
    /// `Forbidden` for who may not approve changes of the views of a plan, and for who proposed it.
    async fn may_vote(
        &self,
        state: &State,
        proposal: &Proposal,
        approve: bool,
        author: &Author,
    ) -> Result<()> {
        let proposed_by = &proposal.by.principal;
        let breaking = || proposal.record.changes.iter().filter(|change| change.effect == Effect::Breaking);
        if approve && *proposed_by == author.principal {
            let asked: Vec<String> =
                breaking().map(|change| format!("{}.{}", change.project, change.name)).collect();
            return Err(Error::denial(
                asked.join(", "),
                format!("`{proposed_by}` proposed this plan; somebody else has to approve it"),
            ));
        }
        for change in breaking().filter(|change| change.subject == Subject::FeatureView) {
            let head = state.head.sequence;
            if let Some(view) = state.view(change.project.as_str(), change.name.as_str(), None, head) {
                self.require(state, author, Action::Approve, &view.definition).await?;
            }
        }
        Ok(())
    }
}

/// # Errors
/// `Forbidden` for who may not change what these views belong to.
fn may_change(access: &Access, views: &[&FeatureView]) -> Result<()> {
    if views.is_empty() {
        // It is nobody's yet.
        return access.require(Action::Govern, Resource::Project(&Name::default_project()));
    }
    views.iter().try_for_each(|view| access.require(Action::Apply, Resource::View(view)))
}

/// What is said where definitions wait for an approval.
pub fn waits_for_approval(applied: &Applied) -> Option<Error> {
    let proposed = applied.proposed?;
    let digest = applied.plan.digest;
    let short: String = digest.hex().chars().take(12).collect();
    Some(Error::new(
        Kind::Forbidden,
        format!(
            "nothing was applied: policies want somebody else to approve what breaks others; the plan {digest} is proposed since sequence \
             {proposed}: have it approved by `lineament approve {short} --reason \"why\"`, and apply the same again"
        ),
    ))
}

/// The versions in force of the views that a plan would break and that are guarded.
fn breaking_views<'s>(
    state: &'s State,
    plan: &Plan,
    guarded: &BTreeSet<(Name, Name)>,
) -> Vec<&'s ViewVersion> {
    let of_views = plan.breaking().filter(|planned| planned.subject == Subject::FeatureView);
    let of_views =
        of_views.filter(|planned| guarded.contains(&(planned.project.clone(), planned.name.clone())));
    let found = of_views.filter_map(|planned| {
        state.view(planned.project.as_str(), planned.name.as_str(), None, state.head.sequence)
    });
    found.collect()
}

/// Who would feel a change that is more than harmless: what stands on any version of the view, since whoever reads it without a number, or
/// makes a model anew, gets the next one.
fn felt_by(state: &State, graph: &Graph, planned: &Planned) -> FeltBy {
    let Change::NextVersion { effect, features, .. } = &planned.action else { return FeltBy::default() };
    if *effect == Effect::Harmless {
        return FeltBy::default();
    }
    let versions: Vec<&ViewVersion> = match planned.subject {
        Subject::FeatureView => state.versions_of(&planned.project, &planned.name).iter().collect(),
        Subject::Entity => state
            .views()
            .filter(|view| {
                (&view.definition.project, &view.definition.entity) == (&planned.project, &planned.name)
            })
            .collect(),
        Subject::FeatureService => return FeltBy::default(),
    };
    let nodes = versions.iter().flat_map(|version| match features {
        Some(features) => {
            features.iter().map(|name| Node::Feature(version.version, name.to_string())).collect()
        }
        None => vec![Node::ViewVersion(version.version)],
    });
    let starts: Vec<u32> = nodes.filter_map(|node| graph.place(&node)).collect();
    let (mut sets, mut models, mut deployments) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for reached in starts.iter().flat_map(|start| graph.impact(*start).reached) {
        sets.insert(reached.training_set);
        models.extend(reached.model_version);
        deployments.extend(reached.deployment);
    }
    let labels = |places: BTreeSet<u32>| {
        places.into_iter().map(|place| graph.label(place).into_owned()).collect::<BTreeSet<_>>()
    };
    FeltBy {
        derived_views: derived(state, graph, &starts).into_iter().collect(),
        training_sets: labels(sets).into_iter().collect(),
        model_versions: labels(models).into_iter().collect(),
        deployments: labels(deployments).into_iter().collect(),
    }
}

/// The derived views in force that are made of these, over however many others.
fn derived(state: &State, graph: &Graph, starts: &[u32]) -> BTreeSet<String> {
    let mut seen: BTreeSet<u32> = starts.iter().copied().collect();
    let mut open = starts.to_vec();
    let mut found: Vec<&ViewVersion> = Vec::new();
    while let Some(place) = open.pop() {
        for edge in graph.leaving(place).iter().filter(|edge| edge.relation == Relation::Derives) {
            if seen.insert(edge.to) {
                open.push(edge.to);
                found.extend(match graph.node(edge.to) {
                    Node::ViewVersion(version) | Node::Feature(version, _) => state.view_version(*version),
                    _ => None,
                });
            }
        }
    }
    let in_force = state.views_in_force(graph.sequence());
    let in_force: BTreeSet<_> = in_force.map(|version| version.version.uuid()).collect();
    let found = found.into_iter().filter(|version| in_force.contains(&version.version.uuid()));
    found.map(ViewVersion::label).collect()
}
