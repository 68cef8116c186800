//! Policies as definitions: planned, applied, lifted and asked about.

use std::sync::Arc;

use async_recursion::async_recursion;
use catalog::policies::{self, PolicyChange};
use catalog::state::ViewVersion;
use catalog::{Author, State, descriptions};
use engine::SqlConditions;
use engine::access::check_filter;
use feature::definition::{Definitions, FeatureView};
use feature::policy::{Action, Asker, Decision, Policies, PolicyFile, Resource};
use feature::{Name, Sequence};

use crate::error::{Error, Kind, Result};
use crate::retrieve::Serving;

/// A decision, and by which version of the policies it was made.
#[derive(Clone, Debug)]
pub struct Ruling {
    /// `policies@3`; none where nothing was governed.
    pub policies: Option<u32>,
    pub sequence: Sequence,
    pub view: Decision,
    /// By feature, in their order.
    pub features: Vec<(Name, Decision)>,
}

impl Serving {
    /// What applying policies would do. They are compiled, and their filters held against the keys that there are, those of
    /// the definitions beside them included.
    ///
    /// # Errors
    /// `Invalid` names all that is wrong, with file, line and column.
    #[async_recursion]
    pub async fn plan_policies(&self, files: &[PolicyFile], beside: &Definitions) -> Result<PolicyChange> {
        let state = self.catalog().refresh().await?;
        let files = policies::in_order(files);
        self.compiled(&files, &with(&state, beside)?)?;
        Ok(policies::plan(&state, &files))
    }

    /// Applies policies as one entry of the log; they count for every call that begins after it.
    ///
    /// # Errors
    /// Those of [`Serving::plan_policies`]; `Forbidden` for who may not govern, by the policies that are in force; `Invalid` for
    /// policies that would let their author not change them again.
    #[async_recursion]
    pub async fn apply_policies(
        &self,
        files: &[PolicyFile],
        beside: &Definitions,
        author: &Author,
    ) -> Result<(PolicyChange, Option<Sequence>)> {
        let state = self.catalog().refresh().await?;
        let files = policies::in_order(files);
        let compiled = self.compiled(&files, &with(&state, beside)?)?;
        let change = policies::plan(&state, &files);
        if let PolicyChange::Keep { .. } = change {
            return Ok((change, None));
        }
        self.may_govern(&state, author, "apply policies").await?;
        let project = Name::default_project();
        let then = compiled.decide(&author.asker(), Action::Govern, Resource::Project(&project));
        if !then.allowed {
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "with these policies `{}` could not change them again: {}; add one that permits Action::\"govern\", as in permit(principal == User::\"{}\", action, resource);",
                    author.principal,
                    then.denied_by(),
                    author.principal
                ),
            ));
        }
        Ok(policies::apply(self.catalog(), &files, None, author).await?)
    }

    /// Takes all policies out of force, so that everybody may do everything again.
    ///
    /// # Errors
    /// `Forbidden` for who may not govern; `Invalid` where none are in force.
    #[async_recursion]
    pub async fn lift_policies(&self, reason: &str, author: &Author) -> Result<Sequence> {
        let state = self.catalog().refresh().await?;
        self.may_govern(&state, author, "lift policies").await?;
        let (_, sequence) = policies::apply(self.catalog(), &[], Some(reason), author).await?;
        sequence
            .ok_or_else(|| Error::new(Kind::Invalid, "no policies are in force; there is nothing to lift"))
    }

    async fn may_govern(&self, state: &State, author: &Author, words: &str) -> Result<()> {
        let allowed = self.require_govern(state, author);
        self.on_record(author, Action::Govern, None, || words.to_owned(), allowed).await
    }

    /// What somebody may read of a view, by the policies in force at a sequence (now, where none is given), and why.
    ///
    /// # Errors
    /// A view, or a sequence, that there is not.
    #[async_recursion]
    pub async fn ruling(
        &self,
        view: &str,
        asker: &Asker,
        action: Action,
        at: Option<Sequence>,
    ) -> Result<Ruling> {
        let snapshot = self.engine.snapshot(at).await?;
        let named = engine::split_name(view);
        let (project, name, number) =
            named.ok_or_else(|| Error::new(Kind::Invalid, format!("`{view}` is not a feature view")))?;
        let version = snapshot.version(&project, &name, number)?;
        let sequence = snapshot.sequence;
        let in_force = self.policies_at(&snapshot.state, sequence).await?;
        let decide = |resource: Resource<'_>| match &in_force {
            Some((_, policies)) => policies.decide(asker, action, resource),
            None => Decision::unrestricted(),
        };
        // As it was described then: policies decide by tags and owners.
        let view = descriptions::of_view(self.catalog(), &snapshot.state, &version, sequence).await?;
        let features = view.features.iter().filter(|_| action == Action::Read);
        Ok(Ruling {
            policies: in_force.as_ref().map(|(applied, _)| applied.record.number),
            sequence,
            view: decide(Resource::View(&view)),
            features: features
                .map(|feature| (feature.name.clone(), decide(Resource::Feature(&view, feature))))
                .collect(),
        })
    }

    /// The definitions of the views in force.
    #[async_recursion]
    pub async fn views(&self) -> Result<Vec<FeatureView>> {
        let state = self.catalog().refresh().await?;
        Ok(state.views_in_force(state.head.sequence).map(|version| (*version.definition).clone()).collect())
    }

    fn compiled(&self, files: &[PolicyFile], state: &State) -> Result<Arc<dyn Policies>> {
        let views: Vec<&ViewVersion> = state.views_in_force(state.head.sequence).collect();
        let invalid = |why: String| Error::new(Kind::Invalid, why);
        let compiled = self.governance.language()?.compile(files).map_err(invalid)?;
        if compiled.ids().is_empty() {
            return Err(invalid(
                "these files hold no policy, and nothing would be allowed to anybody; `lineament policy lift` takes policies out of force"
                    .to_owned(),
            ));
        }
        for filter in compiled.row_filters() {
            // It must fit some view; of others nothing is shown to whom it is for.
            let mut why = None;
            let fits = |version: &ViewVersion| match check_filter(version, &filter) {
                Ok(()) => true,
                Err(error) => {
                    why = why.take().or(Some(error));
                    false
                }
            };
            if !views.iter().copied().any(fits) {
                let why = why.unwrap_or_else(|| "no feature view is defined yet".to_owned());
                return Err(invalid(format!(
                    "the policy `{}`: @rows(\"{}\") fits the keys of no feature view: {why}",
                    filter.policy, filter.sql
                )));
            }
        }
        Ok(compiled)
    }
}

/// The state as it would be with these definitions.
fn with(state: &State, definitions: &Definitions) -> Result<State> {
    Ok(catalog::plan::provisional(state, definitions, &SqlConditions, &Author::default())?)
}
