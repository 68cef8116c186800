//! What can be found: features, views and services in force, with the words that people have for them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::RangeInclusive;

use catalog::State;
use catalog::state::ViewVersion;
use engine::Snapshot;
use feature::definition::About;
use feature::{Name, Sequence, VersionId};
use lineage::Graph;
use lineage::graph::{Node, Relation};
use serde::{Deserialize, Serialize};

use super::index::{Building, Field, Index};

/// A kind of what is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FoundKind {
    Feature,
    FeatureView,
    FeatureService,
}

impl FoundKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Feature => "feature",
            Self::FeatureView => "feature_view",
            Self::FeatureService => "feature_service",
        }
    }
}

/// A feature, a view or a service, as it is told of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Thing {
    pub kind: FoundKind,
    /// `weather.temp`, `weather`, `delay`; with its project where that is not `default`.
    pub name: String,
    /// Of the view in force, or of the service.
    pub version: u32,
    pub unit: Option<String>,
    /// Of a feature, its view's where it has none of its own.
    pub owner: Option<String>,
    /// Of a feature, its view's too.
    pub tags: Vec<String>,
    pub description: Option<String>,
}

/// Something that can be found.
#[derive(Debug)]
pub struct Document {
    pub thing: Thing,
    /// What has it: models, deployments, services and named training sets, in the order of these kinds and of their names.
    uses: Vec<Use>,
    needs: Needs,
}

/// Something that has a thing.
#[derive(Debug)]
struct Use {
    name: String,
    /// The features that it has of it, by their positions in their versions; none where that is no matter of features.
    by: Vec<(VersionId, usize)>,
}

impl Use {
    /// Whether the asker may see a feature that it has: what has hidden ones alone may be hidden itself.
    fn is_visible(&self, snapshot: &Snapshot) -> bool {
        let mut by = self.by.iter();
        self.by.is_empty() || by.any(|(version, place)| may_read(snapshot, *version, Some(*place)))
    }
}

/// What one must be allowed to read so that a thing is found.
#[derive(Debug)]
enum Needs {
    View(VersionId),
    /// By its position in the version.
    Feature(VersionId, usize),
    /// Any one of these: a service of which all is hidden is hidden.
    Any(Vec<(VersionId, usize)>),
}

impl Document {
    /// Whether the asker of a snapshot may see it.
    pub fn is_visible(&self, snapshot: &Snapshot) -> bool {
        match &self.needs {
            Needs::View(version) => may_read(snapshot, *version, None),
            Needs::Feature(version, place) => may_read(snapshot, *version, Some(*place)),
            Needs::Any(features) => {
                features.iter().any(|(version, place)| may_read(snapshot, *version, Some(*place)))
            }
        }
    }

    /// Whether the asker may see the use at a place.
    pub fn shows(&self, snapshot: &Snapshot, place: usize) -> bool {
        self.uses.get(place).is_some_and(|used| used.is_visible(snapshot))
    }

    /// The uses that the asker may see.
    pub fn uses<'a>(&'a self, snapshot: &'a Snapshot) -> impl Iterator<Item = &'a str> {
        let visible = self.uses.iter().filter(move |used| used.is_visible(snapshot));
        visible.map(|used| used.name.as_str())
    }
}

fn may_read(snapshot: &Snapshot, version: VersionId, feature: Option<usize>) -> bool {
    let Some(version) = snapshot.state.view_version(version) else { return false };
    match snapshot.guard(version) {
        Ok(None) => true,
        Ok(Some(guard)) => feature.is_none_or(|place| guard.denial(place).is_none()),
        Err(_) => false,
    }
}

/// All that can be found at a sequence, by name, and the index of its words.
pub fn all(state: &State, graph: &Graph, at: Sequence) -> (Vec<Document>, Index) {
    let uses = Uses::new(graph);
    let mut documents: Vec<(Document, Vec<String>)> = Vec::new();
    for version in state.views_in_force(at) {
        let view = &version.definition;
        let mut around = vec![view.entity.to_string(), qualified(&view.project, "")];
        documents.push((
            Document {
                thing: Thing {
                    kind: FoundKind::FeatureView,
                    name: qualified(&view.project, view.name.as_str()),
                    version: version.number,
                    unit: None,
                    owner: view.about.owner.clone(),
                    tags: view.about.tags.clone(),
                    description: view.about.description.clone(),
                },
                uses: uses.of(graph, version, 0..=view.features.len()),
                needs: Needs::View(version.version),
            },
            around.clone(),
        ));
        around.push(view.name.to_string());
        for (place, feature) in view.features.iter().enumerate() {
            let About { description, owner, tags } = &feature.about;
            let mut tags = tags.clone();
            tags.extend(view.about.tags.iter().cloned());
            let document = Document {
                thing: Thing {
                    kind: FoundKind::Feature,
                    name: format!("{}.{}", qualified(&view.project, view.name.as_str()), feature.name),
                    version: version.number,
                    unit: feature.unit.clone(),
                    owner: owner.clone().or_else(|| view.about.owner.clone()),
                    tags,
                    description: description.clone(),
                },
                uses: uses.of(graph, version, place..=place),
                needs: Needs::Feature(version.version, place),
            };
            documents.push((document, around.clone()));
        }
    }
    for service in state.services() {
        let definition = &service.definition;
        let project = &definition.project;
        let newest = state.service(project, &definition.name, at);
        if newest.is_none_or(|newest| newest.version != service.version) {
            continue;
        }
        let mut needs = Vec::new();
        for reference in &definition.features {
            let (of, view) = (reference.project.as_str(), reference.view.as_str());
            let view = state.view(of, view, reference.version, at);
            let Some(view) = view else { continue };
            let features = view.definition.features.iter().enumerate();
            let listed = features.filter(|(_, feature)| {
                reference.feature.as_ref().is_none_or(|wanted| *wanted == feature.name)
            });
            needs.extend(listed.map(|(place, _)| (view.version, place)));
        }
        let document = Document {
            thing: Thing {
                kind: FoundKind::FeatureService,
                name: qualified(project, definition.name.as_str()),
                version: service.number,
                unit: None,
                owner: definition.about.owner.clone(),
                tags: definition.about.tags.clone(),
                description: definition.about.description.clone(),
            },
            uses: deployed_with(state, definition.name.as_str(), at),
            needs: Needs::Any(needs),
        };
        documents.push((document, vec![qualified(project, "")]));
    }
    documents.sort_by(|(one, _), (other, _)| one.thing.name.cmp(&other.thing.name));
    let mut building = Building::default();
    for (document, around) in &documents {
        building.document(texts(document, around));
    }
    (documents.into_iter().map(|(document, _)| document).collect(), building.finish())
}

/// The texts of a document by field.
fn texts<'a>(document: &'a Document, around: &'a [String]) -> Vec<(Field, &'a str)> {
    // The last part alone: what it stands under is another field.
    let name = document.thing.name.rsplit('.').next().unwrap_or_default();
    let mut texts = vec![(Field::Name, name)];
    texts.extend(document.thing.tags.iter().map(|tag| (Field::Tag, tag.as_str())));
    texts.extend(document.thing.unit.iter().map(|unit| (Field::Unit, unit.as_str())));
    texts.extend(document.thing.owner.iter().map(|owner| (Field::Owner, owner.as_str())));
    texts.extend(document.uses.iter().map(|used| (Field::Use, used.name.as_str())));
    texts.extend(around.iter().map(|text| (Field::View, text.as_str())));
    texts.extend(document.thing.description.iter().map(|text| (Field::Description, text.as_str())));
    texts
}

/// `fraud.cards`; the name alone in the project `default`.
fn qualified(project: &Name, name: &str) -> String {
    match (*project == Name::default_project(), name) {
        (true, name) => name.to_owned(),
        (false, "") => project.to_string(),
        (false, name) => format!("{project}.{name}"),
    }
}

/// Deployments that say that they read a service, as they are at a sequence.
fn deployed_with(state: &State, service: &str, at: Sequence) -> Vec<Use> {
    let mut names: Vec<String> = state
        .registry()
        .deployments()
        .filter_map(|(_, changes)| {
            let last = changes.iter().take_while(|noted| noted.by.sequence <= at).last()?;
            let reads =
                last.record.service.as_deref() == Some(service) && last.record.model_version.is_some();
            reads.then(|| format!("{} in {}", last.record.name, last.record.environment))
        })
        .collect();
    names.sort();
    names.into_iter().map(|name| Use { name, by: Vec::new() }).collect()
}

/// What training sets lead to.
struct Uses {
    /// By the place of a training set: places of itself, of models made of it and of deployments that serve those now.
    of_sets: HashMap<u32, Vec<u32>>,
}

impl Uses {
    fn new(graph: &Graph) -> Self {
        let sets = (0..graph.nodes().len()).filter_map(|place| u32::try_from(place).ok());
        let sets = sets.filter(|place| matches!(graph.node(*place), Node::TrainingSet(_)));
        Self { of_sets: sets.map(|set| (set, led_to(graph, set))).collect() }
    }

    /// Of some features of a version together.
    fn of(&self, graph: &Graph, version: &ViewVersion, features: RangeInclusive<usize>) -> Vec<Use> {
        let mut found: HashMap<u32, Vec<(VersionId, usize)>> = HashMap::new();
        for (place, feature) in version.definition.features.iter().enumerate() {
            if features.contains(&place) {
                let node = Node::Feature(version.version, feature.name.to_string());
                for used in self.of_feature(graph, &node) {
                    found.entry(used).or_default().push((version.version, place));
                }
            }
        }
        named(graph, found)
    }

    fn of_feature(&self, graph: &Graph, node: &Node) -> HashSet<u32> {
        let mut places = HashSet::new();
        let Some(place) = graph.place(node) else { return places };
        for edge in graph.leaving(place) {
            match edge.relation {
                Relation::Lists => {
                    places.insert(edge.to);
                }
                Relation::Supplies => places.extend(self.of_sets.get(&edge.to).into_iter().flatten()),
                _ => {}
            }
        }
        places
    }
}

fn led_to(graph: &Graph, set: u32) -> Vec<u32> {
    let mut places = vec![set];
    let to = |from: u32, wanted: Relation| {
        let edges = graph.leaving(from).iter();
        edges.filter(move |edge| edge.relation == wanted).map(|edge| edge.to)
    };
    for run in to(set, Relation::Used) {
        for model_version in to(run, Relation::Produced) {
            places.push(model_version);
            let serving = to(model_version, Relation::Serves);
            places.extend(serving.filter(|deployment| graph.is_in_force(model_version, *deployment)));
        }
    }
    places
}

/// Names of nodes, once each, with the features that lead to them; a training set without one is left out.
fn named(graph: &Graph, found: HashMap<u32, Vec<(VersionId, usize)>>) -> Vec<Use> {
    let rank = |place: u32| match graph.node(place) {
        Node::ModelVersion(_) => 0,
        Node::Deployment(_) => 1,
        Node::Service(_) => 2,
        _ => 3,
    };
    let mut names: BTreeMap<(u8, String), Vec<(VersionId, usize)>> = BTreeMap::new();
    for (place, by) in found {
        let label = graph.label(place).into_owned();
        if label != graph.node(place).to_string() {
            names.entry((rank(place), label)).or_default().extend(by);
        }
    }
    names.into_iter().map(|((_, name), by)| Use { name, by }).collect()
}
