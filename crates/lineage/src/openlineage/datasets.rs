//! Feature views as datasets, and the events of their definitions.

use std::collections::BTreeMap;

use catalog::records::ViewVersionDefined;
use catalog::state::ViewVersion;
use feature::definition::{About, KnownAt};
use feature::{Sequence, VersionId};
use serde_json::{Map, Value, json};

use super::Telling;
use super::event::Dataset;
use super::facet::{Facet, Facets, known};
use super::naming::{Named, view_name};

/// Whose tags they are.
const SOURCE: &str = "LINEAMENT";

impl Telling<'_> {
    pub(super) fn view_defined(&mut self, body: &ViewVersionDefined) {
        let Some(version) = self.state.view_version(body.version) else { return };
        let change = if version.number == 1 { "CREATE" } else { "ALTER" };
        let mut dataset = self.view(version, self.by.sequence);
        dataset.facets = dataset.facets.with(Facet::LIFECYCLE, json!({ "lifecycleStateChange": change }));
        self.dataset_event(self.by.committed_at, &dataset);
    }

    /// Other words for the same version: the facets that hold words, anew.
    pub(super) fn view_described(&mut self, version: VersionId) {
        let Some(version) = self.state.view_version(version) else { return };
        let dataset = self.view(version, self.by.sequence);
        self.dataset_event(self.by.committed_at, &dataset);
    }

    pub(super) fn view_named(&self, version: &ViewVersion) -> Named {
        self.namespace.named(view_name(version))
    }

    /// A view as it is at a sequence.
    pub(super) fn view(&self, version: &ViewVersion, at: Sequence) -> Dataset {
        let about = &version.definition.about;
        let facets = Facets::default()
            .with(Facet::SCHEMA, json!({ "fields": fields(version) }))
            .with(Facet::VERSION, json!({ "datasetVersion": self.view_version_at(version, at) }))
            .with(Facet::DATASET_TYPE, json!({ "datasetType": "TABLE", "subType": "FEATURE_VIEW" }))
            .with(Facet::STORAGE, json!({ "storageLayer": "lineament", "fileFormat": "parquet" }))
            .with_some(Facet::DOCUMENTATION, documentation(about))
            .with_some(Facet::DATASET_OWNERSHIP, owners(about))
            .with_some(Facet::TAGS, tags(version));
        Dataset::new(self.view_named(version), facets)
    }

    /// What was read at a sequence: each view once, whichever versions of it were read.
    pub(super) fn views_read<'a>(
        &self,
        versions: impl Iterator<Item = &'a ViewVersion>,
        at: Sequence,
    ) -> Vec<Dataset> {
        let mut by_name: BTreeMap<String, Vec<&ViewVersion>> = BTreeMap::new();
        for version in versions {
            by_name.entry(self.view_named(version).name).or_default().push(version);
        }
        let mut inputs = Vec::new();
        for read in by_name.into_values() {
            let newest = read.iter().max_by_key(|version| version.number);
            let Some(newest) = newest else { continue };
            let mut input = self.view(newest, at);
            let labels: Vec<String> = read.iter().map(|version| self.view_version_at(version, at)).collect();
            input.facets = input.facets.with(Facet::VERSION, json!({ "datasetVersion": labels.join(" ") }));
            inputs.push(input);
        }
        inputs
    }

    /// `weather@3#17`: the version, and the sequence at which what it holds last changed.
    pub(super) fn view_version_at(&self, version: &ViewVersion, at: Sequence) -> String {
        let changed = self.state.line_changed(version.line, at).max(Some(version.by.sequence));
        format!("{}#{}", version.label(), changed.unwrap_or(version.by.sequence))
    }
}

/// The columns of the table that the view is.
fn fields(version: &ViewVersion) -> Vec<Value> {
    let view = &version.definition;
    let field = |name: &str, data_type: String, description: Option<&String>| {
        known(json!({ "name": name, "type": data_type, "description": description }))
    };
    let mut fields: Vec<Value> =
        version.keys().iter().map(|key| field(key.name.as_str(), key.data_type.to_string(), None)).collect();
    if let Some(occurrence) = &view.occurrence {
        fields.push(field(occurrence.name.as_str(), occurrence.data_type.to_string(), None));
    }
    let instant = feature::FeatureType::Timestamp.to_string();
    fields.push(field("valid_at", instant.clone(), None));
    fields.push(field("known_at", instant, None));
    for feature in &view.features {
        let description = feature.about.description.as_ref();
        fields.push(field(feature.name.as_str(), feature.data_type.to_string(), description));
    }
    for (position, field) in fields.iter_mut().enumerate() {
        field["ordinal_position"] = (position + 1).into();
    }
    fields
}

fn documentation(about: &About) -> Option<Value> {
    let description = about.description.as_ref()?;
    Some(json!({ "description": description, "contentType": "text/plain" }))
}

/// The body of `ownership`, of datasets and of jobs.
pub(super) fn owners(about: &About) -> Option<Value> {
    let owner = about.owner.as_ref()?;
    Some(json!({ "owners": [{ "name": owner, "type": "OWNER" }] }))
}

/// Tags of the view and of its features; and what is part of a type here and has no other place there: units,
/// and how known_at comes about.
fn tags(version: &ViewVersion) -> Option<Value> {
    let view = &version.definition;
    let tag = |key: &str, value: &str, field: Option<&str>| {
        let mut tag = Map::new();
        tag.insert("key".to_owned(), key.into());
        tag.insert("value".to_owned(), value.into());
        tag.insert("source".to_owned(), SOURCE.into());
        if let Some(field) = field {
            tag.insert("field".to_owned(), field.into());
        }
        Value::Object(tag)
    };
    let mut tags: Vec<Value> = view.about.tags.iter().map(|text| tag(text, "true", None)).collect();
    tags.push(tag("entity", view.entity.as_str(), None));
    let rule = match &view.time.known_at {
        KnownAt::Column(_) => "column",
        KnownAt::Delay(_) => "delay",
        KnownAt::Arrival => "arrival",
        KnownAt::Assumed => "assumed",
    };
    tags.push(tag("known_at", rule, Some("known_at")));
    for feature in &view.features {
        let name = Some(feature.name.as_str());
        tags.extend(feature.about.tags.iter().map(|text| tag(text, "true", name)));
        tags.extend(feature.unit.iter().map(|unit| tag("unit", unit, name)));
    }
    Some(json!({ "tags": tags }))
}
