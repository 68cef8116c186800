//! Who may see and do what: policies of the store, compiled once, and what they decide of views.
//!
//! What is decided of a view is kept as long as the policies stand, for each asker and purpose: a query that asks again finds it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_recursion::async_recursion;
use catalog::state::{AppliedPolicies, ViewVersion};
use catalog::{Author, Catalog, State, policies};
use datafusion::common::DataFusionError;
use engine::access::{Denied, Guard, Guards};
use engine::column_lineage::ROWS;
use engine::{Session, Snapshot};
use feature::definition::FeatureView;
use feature::policy::{
    Action, Asker, Decision, Mask, MaskKey, Policies, PolicyLanguage, Resource, RowFilter,
};
use feature::{Name, Sequence, VersionId};
use lineage::manifest::{Manifest, PolicyManifest, ViewPolicy};

use crate::error::{Error, Kind, Result};
use crate::retrieve::Serving;

/// What is kept of decisions at most. Askers come and go.
const KEPT: usize = 16_384;

/// How policies are written, and what of them was compiled and decided.
#[derive(Debug, Default)]
pub(crate) struct Governance {
    language: Option<Arc<dyn PolicyLanguage>>,
    /// The newest that were compiled, by their number.
    compiled: Mutex<Option<(u32, InForce)>>,
    guards: Mutex<HashMap<(u32, Asker, VersionId), Decided>>,
}

/// What was decided of a version, as it was described then: its tags may change, and it stays the same version.
#[derive(Clone, Debug)]
struct Decided {
    described: Arc<FeatureView>,
    guard: Result<Option<Arc<Guard>>, Denied>,
}

/// Policies that are ready to decide.
#[derive(Clone, Debug)]
pub(crate) struct InForce {
    pub policies: Arc<dyn Policies>,
    key: MaskKey,
}

impl Governance {
    pub fn new(language: Arc<dyn PolicyLanguage>) -> Self {
        Self { language: Some(language), ..Self::default() }
    }

    pub fn language(&self) -> Result<&Arc<dyn PolicyLanguage>> {
        self.language.as_ref().ok_or_else(|| {
            Error::new(
                Kind::Forbidden,
                "this store is governed by policies, and this program was built without them; nothing is shown: use `lineament`",
            )
        })
    }

    fn known(&self, number: u32) -> Option<InForce> {
        let compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        compiled.as_ref().filter(|(known, _)| *known == number).map(|(_, in_force)| in_force.clone())
    }

    /// Policies, compiled unless they are at hand.
    #[async_recursion]
    pub async fn in_force(&self, catalog: &Catalog, applied: &AppliedPolicies) -> Result<InForce> {
        let number = applied.record.number;
        if let Some(known) = self.known(number) {
            return Ok(known);
        }
        let compiled = self.language()?.compile(&applied.record.files).map_err(|why| {
            Error::new(Kind::Forbidden, format!("nothing is shown: policies@{number} cannot be read: {why}"))
        })?;
        let in_force = InForce { policies: compiled, key: policies::mask_key(catalog, applied).await? };
        let mut known = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of earlier times are asked for seldom.
        if known.as_ref().is_none_or(|(kept, _)| *kept < number) {
            *known = Some((number, in_force.clone()));
        }
        Ok(in_force)
    }
}

/// What one asker may see, by the policies in force.
pub(crate) struct Access {
    pub asker: Asker,
    pub applied: AppliedPolicies,
    in_force: InForce,
    governance: Arc<Governance>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Access({}, policies@{})", self.asker.principal, self.applied.record.number)
    }
}

impl Access {
    /// What is decided of an action on a view.
    pub fn decide(&self, action: Action, resource: Resource<'_>) -> Decision {
        self.in_force.policies.decide(&self.asker, action, resource)
    }

    /// # Errors
    /// `Forbidden` names the action, the view and what forbids it.
    pub fn require(&self, action: Action, resource: Resource<'_>) -> Result<()> {
        let decision = self.decide(action, resource);
        if decision.allowed {
            return Ok(());
        }
        Err(Error::denial(
            resource.to_string(),
            format!(
                "`{}` may not {action} `{resource}`: {}; ask whoever governs the store",
                self.asker.principal,
                decision.denied_by()
            ),
        ))
    }

    fn guard(&self, version: &ViewVersion) -> Result<Option<Arc<Guard>>, Denied> {
        let view = &version.definition;
        let of_view = self.decide(Action::Read, Resource::View(view));
        if !of_view.allowed {
            return Err(Denied::version(
                version,
                format!(
                    "`{}` may not be read by `{}`: {}; ask whoever governs the store",
                    version.label(),
                    self.asker.principal,
                    of_view.denied_by()
                ),
            ));
        }
        let mut rows = of_view.rows;
        let (mut denied, mut masks) = (BTreeMap::new(), BTreeMap::new());
        for (place, feature) in view.features.iter().enumerate() {
            let decision = self.decide(Action::Read, Resource::Feature(view, feature));
            if !decision.allowed {
                denied.insert(place, decision.denied_by());
            }
            masks.extend(decision.mask.map(|mask| (place, mask)));
            rows.extend(decision.rows);
        }
        rows.sort();
        rows.dedup_by(|one, other| one.sql == other.sql);
        let guard = Guard::new(version, denied, masks, Some(self.in_force.key), &rows);
        let guard = guard.map_err(|error| {
            Denied::of(&error).cloned().unwrap_or_else(|| Denied::version(version, error.strip_backtrace()))
        })?;
        Ok((!guard.is_open()).then(|| Arc::new(guard)))
    }
}

impl Guards for Access {
    fn of(&self, version: &ViewVersion) -> datafusion::common::Result<Option<Arc<Guard>>> {
        let key = (self.applied.record.number, self.asker.clone(), version.version);
        let kept = || self.governance.guards.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept().get(&key).filter(|known| known.described == version.definition) {
            return known.guard.clone().map_err(Into::into);
        }
        let decided = self.guard(version);
        let mut kept = kept();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(key, Decided { described: version.definition.clone(), guard: decided.clone() });
        decided.map_err(Into::into)
    }

    fn is_asker(&self, principal: &str) -> bool {
        self.asker.principal == principal
    }
}

/// What a recorded set was shown of its views.
#[derive(Debug)]
struct AsRecorded {
    views: Vec<ViewPolicy>,
    key: Option<MaskKey>,
}

impl Guards for AsRecorded {
    fn of(&self, version: &ViewVersion) -> datafusion::common::Result<Option<Arc<Guard>>> {
        let Some(view) = self.views.iter().find(|view| view.version == version.version) else {
            return Ok(None);
        };
        let mut masks = BTreeMap::new();
        for (name, mask) in &view.masks {
            let place = version.definition.features.iter().position(|known| known.name.as_str() == name);
            let mask = mask.parse::<Mask>().map_err(|error| Denied::version(version, error.to_string()))?;
            masks.extend(place.map(|place| (place, mask)));
        }
        let guard = Guard::new(version, BTreeMap::new(), masks, self.key, &filters_of(view))?;
        Ok(Some(Arc::new(guard)))
    }

    /// No system view is asked of what was recorded.
    fn is_asker(&self, _: &str) -> bool {
        false
    }
}

fn filters_of(view: &ViewPolicy) -> Vec<RowFilter> {
    let filters = view.rows.iter();
    filters.map(|(policy, sql)| RowFilter { sql: sql.clone(), policy: policy.clone() }).collect()
}

impl Serving {
    /// The same store with a language for its policies. Without one a store that has policies shows nothing.
    pub fn with_policies(self, language: Arc<dyn PolicyLanguage>) -> Self {
        let governance = Arc::new(Governance::new(language));
        Self { engine: self.engine.with_access(governance.clone()), governance, ..self }
    }

    /// What an author may do as the store is now; none where nothing is governed.
    pub(crate) async fn access(&self, state: &State, author: &Author) -> Result<Option<Arc<Access>>> {
        let Some(applied) = state.policies().in_force(state.head.sequence) else { return Ok(None) };
        let in_force = self.governance.in_force(self.catalog(), applied).await?;
        let (asker, applied, governance) = (author.asker(), applied.clone(), self.governance.clone());
        Ok(Some(Arc::new(Access { asker, applied, in_force, governance })))
    }

    /// The policies that were in force at a sequence, ready to decide; none where nothing was governed.
    pub(crate) async fn policies_at(
        &self,
        state: &State,
        at: Sequence,
    ) -> Result<Option<(AppliedPolicies, Arc<dyn Policies>)>> {
        let Some(applied) = state.policies().in_force(at) else { return Ok(None) };
        let in_force = self.governance.in_force(self.catalog(), applied).await?;
        Ok(Some((applied.clone(), in_force.policies)))
    }

    /// A snapshot that shows what an author may see. The policies are those of now, however old the snapshot.
    pub(crate) async fn snapshot_for(&self, at: Option<Sequence>, author: &Author) -> Result<Snapshot> {
        let snapshot = self.engine.snapshot(at).await?;
        let guards = self.access(&snapshot.state, author).await?;
        Ok(Snapshot { guards: guards.map(|access| access as Arc<dyn Guards>), ..snapshot })
    }

    /// # Errors
    /// `Forbidden` where an author may not do this to a view.
    pub(crate) async fn require(
        &self,
        state: &State,
        author: &Author,
        action: Action,
        view: &FeatureView,
    ) -> Result<()> {
        match self.access(state, author).await? {
            Some(access) => access.require(action, Resource::View(view)),
            None => Ok(()),
        }
    }

    /// # Errors
    /// `Forbidden` where an author may not change the policies.
    pub(crate) async fn require_govern(&self, state: &State, author: &Author) -> Result<()> {
        match self.access(state, author).await? {
            Some(access) => access.require(Action::Govern, Resource::Project(&Name::default_project())),
            None => Ok(()),
        }
    }

    /// # Errors
    /// `Forbidden` where something of a version is kept from an author: what is made of it would lack that.
    pub(crate) async fn require_whole(
        &self,
        state: &State,
        author: &Author,
        version: &ViewVersion,
        what: &str,
    ) -> Result<()> {
        let Some(access) = self.access(state, author).await? else { return Ok(()) };
        match access.of(version)? {
            None => Ok(()),
            Some(_) => Err(Error::denial(
                format!("{}.*", version.label()),
                format!(
                    "{what} needs all of `{}`, and policies@{} keep some of it from `{}`; have it done by somebody who may read it whole",
                    version.label(),
                    access.applied.record.number,
                    access.asker.principal
                ),
            )),
        }
    }

    /// What leaves the store whole, the statements of reads among it, is for who may read all that there is.
    ///
    /// # Errors
    /// `Forbidden` names the first version of which something is kept from an author.
    #[async_recursion]
    pub async fn require_everything(&self, author: &Author, what: &str) -> Result<()> {
        let state = self.catalog().refresh().await?;
        self.on_record(author, Action::Read, None, || what.to_owned(), async {
            for version in state.views() {
                self.require_whole(&state, author, version, what).await?;
            }
            Ok(())
        })
        .await
    }

    /// What a session kept from its asker, for the manifest of a training set; none where nothing is governed.
    pub(crate) fn policy_of<'a>(
        &self,
        session: &Session,
        author: &Author,
        versions: impl Iterator<Item = &'a ViewVersion>,
    ) -> Result<Option<PolicyManifest>> {
        let snapshot = session.snapshot();
        let Some(applied) = snapshot.state.policies().in_force(snapshot.state.head.sequence) else {
            return Ok(None);
        };
        let mut views = Vec::new();
        for version in versions {
            let Some(guard) = snapshot.guard(version)? else { continue };
            let rows = guard.rows().map(|rows| rows.filters()).unwrap_or_default();
            let name =
                |place: &usize| version.definition.features.get(*place).map(|known| known.name.to_string());
            views.push(ViewPolicy {
                version: version.version,
                rows: rows.iter().map(|filter| (filter.policy.clone(), filter.sql.clone())).collect(),
                masks: guard
                    .masks()
                    .iter()
                    .filter_map(|(place, mask)| Some((name(place)?, mask.to_string())))
                    .collect(),
            });
        }
        Ok(Some(PolicyManifest {
            number: applied.record.number,
            digest: applied.record.digest,
            principal: author.principal.clone(),
            roles: author.roles.clone(),
            purpose: author.purpose,
            views,
        }))
    }

    /// What was kept from whoever recorded a set, to be kept again; none where nothing was.
    pub(crate) async fn guards_as_recorded(
        &self,
        state: &State,
        manifest: &Manifest,
    ) -> Result<Option<Arc<dyn Guards>>> {
        let Some(policy) = manifest.policy.as_ref().filter(|policy| !policy.views.is_empty()) else {
            return Ok(None);
        };
        // The secret is the same as long as the store lives.
        let key = match state.policies().last(state.head.sequence) {
            Some(applied) => Some(policies::mask_key(self.catalog(), applied).await?),
            None => None,
        };
        Ok(Some(Arc::new(AsRecorded { views: policy.views.clone(), key })))
    }

    /// # Errors
    /// `Forbidden` where an author may see less than a recorded set shows: masked, it would be another set.
    pub(crate) async fn require_as_recorded(&self, manifest: &Manifest, author: &Author) -> Result<()> {
        let state = self.catalog().refresh().await?;
        let Some(access) = self.access(&state, author).await? else { return Ok(()) };
        let nothing = Vec::new();
        let recorded = manifest.policy.as_ref().map_or(&nothing, |policy| &policy.views);
        let looked_up = manifest.references.iter().map(|one| (one.version, one.feature.as_str()));
        // A spine that a query gave shows what that read, at least that there are rows.
        let sources = manifest.spine.query.iter().flat_map(|query| &query.sources);
        let of_spine = sources.flat_map(|source| {
            let columns = source.columns.iter().map(String::as_str).chain([ROWS]);
            columns.map(move |column| (source.version, column))
        });
        for (of, column) in looked_up.chain(of_spine) {
            let Some(version) = state.view_version(of) else { continue };
            let Some(guard) = access.of(version)? else { continue };
            guard.allow(version, [column]).map_err(DataFusionError::from)?;
            let shown = recorded.iter().find(|view| view.version == of);
            if let Some(less) = less_of(&guard, version, column, shown) {
                let asked = format!("{}.{column}", version.label());
                let why = format!(
                    "the training set {} shows more of `{asked}` than `{}` may see ({less}), and with less it would be another set; ask whoever governs the store",
                    manifest.id, access.asker.principal
                );
                return Err(Error::denial(asked, why));
            }
        }
        Ok(())
    }
}

/// What a set shows of a feature that is kept from somebody.
fn less_of(
    guard: &Guard,
    version: &ViewVersion,
    feature: &str,
    shown: Option<&ViewPolicy>,
) -> Option<String> {
    for filter in guard.rows().map(|rows| rows.filters()).unwrap_or_default() {
        let held = shown.is_some_and(|view| view.rows.iter().any(|(_, sql)| *sql == filter.sql));
        if !held {
            return Some(format!("rows where `{}` alone, by `{}`", filter.sql, filter.policy));
        }
    }
    let place = version.definition.features.iter().position(|known| known.name.as_str() == feature)?;
    let mask = guard.mask(place)?;
    let then = shown.and_then(|view| view.masks.get(feature)).and_then(|mask| mask.parse::<Mask>().ok());
    let covered = match (mask, then) {
        (_, Some(Mask::Null)) => true,
        (Mask::Round(now), Some(Mask::Round(then))) => then >= now,
        (Mask::Hash, Some(Mask::Hash)) => true,
        _ => false,
    };
    (!covered).then(|| format!("masked: {mask}"))
}
