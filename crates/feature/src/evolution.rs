//! What a new definition of a feature view changes, and whether its version keeps the batches of the one before.
//!
//! Versions of one *line* share their batches. Adding and removing features, ttl, defaults, accepted values, null rules,
//! checks and the source of features keep the line. Another entity or key, type, unit, event time, knowledge rule or
//! occurrence, and of a derived view another query, begins a new one, which is empty: rows taken under the old meaning say nothing under the new.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::definition::canonical::digest;
use crate::definition::{
    Entity, Feature, FeatureView, KnownAt, Literal, Occurrence, Range, RepeatedHour, TimeRule,
};
use crate::name::Name;

/// How a definition differs from the version in force.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Same,
    /// The version stays; only words for people, the place of the files or the rejection threshold differ.
    AboutOnly,
    /// A new version that keeps the batches.
    SameLine(Vec<Difference>),
    /// A new version that starts empty. The differences that cause it say so by `starts_line`.
    NewLine(Vec<Difference>),
}

/// What a change means to those who go on reading a view by its name, the mildest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// They get what they got before.
    #[default]
    Harmless,
    /// They get the same once the rows of before are taken in again under the new rule; until then there are none, or the old ones.
    NeedsBackFill,
    /// What they ask for is gone, or answers something else.
    Breaking,
}

impl Effect {
    pub fn name(self) -> &'static str {
        match self {
            Self::Harmless => "harmless",
            Self::NeedsBackFill => "needs_back_fill",
            Self::Breaking => "breaking",
        }
    }
}

/// In words for people.
impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Harmless => "harmless",
            Self::NeedsBackFill => "needs a back-fill",
            Self::Breaking => "breaking",
        })
    }
}

/// One thing that differs. `Display` gives a line for people: ``feature `temp`: range −60…130 → −60…140``.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The feature that differs; none where it is the view.
    pub feature: Option<Name>,
    pub part: Part,
    /// None where it was not declared before.
    pub before: Option<String>,
    /// None where it is no longer declared.
    pub after: Option<String>,
}

/// What differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Entity,
    Keys,
    KeySource,
    EventTime,
    Zone,
    RepeatedHour,
    Knowledge,
    Occurrence,
    Ttl,
    Added,
    Removed,
    Order,
    Type,
    Unit,
    Column,
    Range,
    OneOf,
    Nullable,
    Nan,
    Default,
    Check,
    SourceWhere,
    Derived,
    Files,
    Format,
    RejectAbove,
    Quality,
    Sampling,
    Retention,
    Description,
    Owner,
    Tags,
    Hypothesis,
}

impl Part {
    /// Whether a version in which this differs starts empty.
    #[must_use]
    pub fn starts_line(self) -> bool {
        matches!(
            self,
            Self::Entity
                | Self::Keys
                | Self::KeySource
                | Self::EventTime
                | Self::Zone
                | Self::RepeatedHour
                | Self::Knowledge
                | Self::Occurrence
                | Self::Derived
                | Self::Type
                | Self::Unit
        )
    }

    /// What this means to those who read the view by its name.
    #[must_use]
    pub fn effect(self) -> Effect {
        match self {
            // Other keys to ask with, columns that are gone, and other numbers for the same question.
            Self::Entity
            | Self::Keys
            | Self::Removed
            | Self::Type
            | Self::Unit
            | Self::Ttl
            | Self::Default => Effect::Breaking,
            // The rows that are there were taken under the old rule, or lack the feature.
            Self::KeySource
            | Self::EventTime
            | Self::Zone
            | Self::RepeatedHour
            | Self::Knowledge
            | Self::Occurrence
            | Self::Derived
            | Self::Added
            | Self::Column
            | Self::SourceWhere => Effect::NeedsBackFill,
            Self::Order
            | Self::Range
            | Self::OneOf
            | Self::Nullable
            | Self::Nan
            | Self::Check
            | Self::Files
            | Self::Format
            | Self::RejectAbove
            | Self::Quality
            | Self::Description
            | Self::Owner
            | Self::Tags
            | Self::Sampling
            // What it takes away is told before it goes, by `lineament retain --dry-run`.
            | Self::Retention
            | Self::Hypothesis => Effect::Harmless,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Entity => "entity",
            Self::Keys => "keys",
            Self::KeySource => "source of keys",
            Self::EventTime => "valid_at",
            Self::Zone => "zone",
            Self::RepeatedHour => "repeated_hour",
            Self::Knowledge => "known_at",
            Self::Occurrence => "occurrence",
            Self::Ttl => "ttl",
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Order => "order of features",
            Self::Type => "type",
            Self::Unit => "unit",
            Self::Column => "column",
            Self::Range => "range",
            Self::OneOf => "one_of",
            Self::Nullable => "nullable",
            Self::Nan => "nan",
            Self::Default => "default",
            Self::Check => "check",
            Self::SourceWhere => "source where",
            Self::Derived => "derived sql",
            Self::Files => "source files",
            Self::Format => "source format",
            Self::RejectAbove => "reject_above",
            Self::Quality => "quality",
            Self::Sampling => "sampling",
            Self::Retention => "retention",
            Self::Description => "description",
            Self::Owner => "owner",
            Self::Tags => "tags",
            Self::Hypothesis => "hypothesis",
        }
    }
}

impl Difference {
    /// Whether a version with this difference starts empty.
    #[must_use]
    pub fn starts_line(&self) -> bool {
        self.part.starts_line()
    }

    /// What differs, without sentences for people and what else is too long for a line.
    #[must_use]
    pub fn brief(&self) -> String {
        match (self.part, &self.feature) {
            (Part::Description | Part::Hypothesis | Part::Quality, None) => self.part.label().to_owned(),
            (Part::Description, Some(feature)) => format!("feature `{feature}`: description"),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(feature) = &self.feature {
            write!(f, "feature `{feature}`: ")?;
        }
        f.write_str(self.part.label())?;
        match (self.part, &self.before, &self.after) {
            (Part::Added, _, Some(what)) => write!(f, ", {what}"),
            (Part::Removed, Some(what), _) => write!(f, ", was {what}"),
            (_, before, after) => {
                let shown = |side: &Option<String>| side.clone().unwrap_or_else(|| "none".to_owned());
                write!(f, " {} → {}", shown(before), shown(after))
            }
        }
    }
}

/// Compares a definition with the version in force. The entities are those at the old and at the new version. Whether keys
/// are resolved makes no difference.
///
/// This sees two versions. A line has more: see `conflicts_with_line`.
#[must_use]
pub fn compare(old: &FeatureView, new: &FeatureView, old_entity: &Entity, new_entity: &Entity) -> Change {
    let differences = differences(old, new, old_entity, new_entity);
    if differences.iter().any(Difference::starts_line) {
        return Change::NewLine(differences);
    }
    if !differences.is_empty() || digest(old) != digest(new) {
        return Change::SameLine(differences);
    }
    if about_differences(old, new).is_empty() { Change::Same } else { Change::AboutOnly }
}

/// Features that come back in `new` with another type or unit than some earlier version of the line had. Its batches would
/// be read under the wrong type, so that such a version starts a line of its own, though `compare` with the last alone says
/// that it does not.
#[must_use]
pub fn conflicts_with_line<'v>(
    line: impl IntoIterator<Item = &'v FeatureView>,
    new: &FeatureView,
) -> Vec<Difference> {
    let mut found: Vec<Difference> = Vec::new();
    for earlier in line {
        for feature in &new.features {
            let Some(old) = earlier.features.iter().find(|old| old.name == feature.name) else { continue };
            let mut differences = Vec::new();
            of_feature(old, feature, &mut differences);
            for difference in differences {
                if difference.starts_line() && !found.contains(&difference) {
                    found.push(difference);
                }
            }
        }
    }
    found
}

/// Everything that makes another version, the causes of a new line first.
fn differences(
    old: &FeatureView,
    new: &FeatureView,
    old_entity: &Entity,
    new_entity: &Entity,
) -> Vec<Difference> {
    let mut found = Vec::new();
    of_entity(old, new, old_entity, new_entity, &mut found);
    of_time(&old.time, &new.time, &mut found);
    differ(
        None,
        Part::Occurrence,
        old.occurrence.as_ref().map(occurrence),
        new.occurrence.as_ref().map(occurrence),
        &mut found,
    );
    differ(
        None,
        Part::Ttl,
        old.ttl.map(|ttl| ttl.to_string()),
        new.ttl.map(|ttl| ttl.to_string()),
        &mut found,
    );
    of_features(old, new, &mut found);
    of_checks(old, new, &mut found);
    let filter = |view: &FeatureView| view.source.as_ref().and_then(|source| source.filter.clone());
    differ(None, Part::SourceWhere, filter(old), filter(new), &mut found);
    let query = |view: &FeatureView| view.derived.as_ref().map(|derived| derived.sql.clone());
    differ(None, Part::Derived, query(old), query(new), &mut found);
    found.sort_by_key(|difference| !difference.starts_line());
    found
}

fn of_entity(
    old: &FeatureView,
    new: &FeatureView,
    old_entity: &Entity,
    new_entity: &Entity,
    found: &mut Vec<Difference>,
) {
    let name = |view: &FeatureView| Some(format!("{}.{}", view.project, view.entity));
    if name(old) != name(new) {
        found.push(Difference {
            feature: None,
            part: Part::Entity,
            before: Some(old.entity.to_string()),
            after: Some(new.entity.to_string()),
        });
    }
    let keys = |entity: &Entity| {
        let keys: Vec<String> =
            entity.keys.iter().map(|key| format!("{} {}", key.name, key.data_type)).collect();
        Some(keys.join(", "))
    };
    differ(None, Part::Keys, keys(old_entity), keys(new_entity), found);
    if keys(old_entity) == keys(new_entity) {
        for key in &new_entity.keys {
            let column = |view: &FeatureView| {
                let source = view.keys.iter().find(|source| source.key == key.name);
                let column = source.map_or_else(|| key.name.to_string(), |source| source.column.clone());
                Some(format!("{} = {column}", key.name))
            };
            differ(None, Part::KeySource, column(old), column(new), found);
        }
    }
}

fn of_time(old: &TimeRule, new: &TimeRule, found: &mut Vec<Difference>) {
    differ(None, Part::EventTime, Some(old.valid_at.clone()), Some(new.valid_at.clone()), found);
    differ(None, Part::Zone, old.zone.clone(), new.zone.clone(), found);
    let repeated = |rule: &TimeRule| {
        Some(match rule.repeated_hour {
            RepeatedHour::Refuse => "refuse".to_owned(),
            RepeatedHour::Earlier => "earlier".to_owned(),
            RepeatedHour::Later => "later".to_owned(),
        })
    };
    differ(None, Part::RepeatedHour, repeated(old), repeated(new), found);
    let known = |rule: &TimeRule| {
        Some(match &rule.known_at {
            KnownAt::Column(column) => format!("column {column}"),
            KnownAt::Delay(delay) => format!("delay {delay}"),
            KnownAt::Arrival => "arrival".to_owned(),
            KnownAt::Assumed => "assumed".to_owned(),
        })
    };
    differ(None, Part::Knowledge, known(old), known(new), found);
}

fn of_features(old: &FeatureView, new: &FeatureView, found: &mut Vec<Difference>) {
    for feature in &new.features {
        match old.features.iter().find(|other| other.name == feature.name) {
            Some(other) => of_feature(other, feature, found),
            None => found.push(Difference {
                feature: Some(feature.name.clone()),
                part: Part::Added,
                before: None,
                after: Some(typed(feature)),
            }),
        }
    }
    for feature in &old.features {
        if !new.features.iter().any(|other| other.name == feature.name) {
            found.push(Difference {
                feature: Some(feature.name.clone()),
                part: Part::Removed,
                before: Some(typed(feature)),
                after: None,
            });
        }
    }
    // The order is that of the table's columns. It is compared over what both have.
    let order = |view: &FeatureView, other: &FeatureView| {
        let both = view.features.iter().filter(|one| other.features.iter().any(|two| two.name == one.name));
        Some(both.map(|feature| feature.name.to_string()).collect::<Vec<_>>().join(", "))
    };
    differ(None, Part::Order, order(old, new), order(new, old), found);
}

fn of_feature(old: &Feature, new: &Feature, found: &mut Vec<Difference>) {
    let name = Some(&new.name);
    differ(name, Part::Type, Some(old.data_type.to_string()), Some(new.data_type.to_string()), found);
    differ(name, Part::Unit, old.unit.clone(), new.unit.clone(), found);
    differ(name, Part::Column, Some(old.column.clone()), Some(new.column.clone()), found);
    differ(name, Part::Range, old.range.as_ref().map(range), new.range.as_ref().map(range), found);
    differ(name, Part::OneOf, old.one_of.as_deref().map(set), new.one_of.as_deref().map(set), found);
    differ(name, Part::Nullable, Some(old.nullable.to_string()), Some(new.nullable.to_string()), found);
    // A change of type brings another rule for NaN with it, and is said already.
    if old.data_type.is_float() == new.data_type.is_float() {
        differ(name, Part::Nan, Some(old.nan.to_string()), Some(new.nan.to_string()), found);
    }
    differ(name, Part::Default, old.default.as_ref().map(plain), new.default.as_ref().map(plain), found);
}

fn of_checks(old: &FeatureView, new: &FeatureView, found: &mut Vec<Difference>) {
    let shown = |view: &FeatureView, name: &Name| {
        let check = view.checks.iter().find(|check| check.name == *name)?;
        Some(format!("{}: {}", check.name, check.sql))
    };
    for check in &new.checks {
        differ(None, Part::Check, shown(old, &check.name), shown(new, &check.name), found);
    }
    for check in &old.checks {
        if shown(new, &check.name).is_none() {
            differ(None, Part::Check, shown(old, &check.name), None, found);
        }
    }
}

/// What differs without making another version, for people.
#[must_use]
pub fn about_differences(old: &FeatureView, new: &FeatureView) -> Vec<Difference> {
    let mut found = Vec::new();
    let files = |view: &FeatureView| view.source.as_ref().map(|source| source.files.clone());
    differ(None, Part::Files, files(old), files(new), &mut found);
    let format = |view: &FeatureView| {
        let format = view.source.as_ref().and_then(|source| source.format)?;
        Some(format!("{format:?}").to_lowercase())
    };
    differ(None, Part::Format, format(old), format(new), &mut found);
    let share = |view: &FeatureView| view.reject_above.map(|share| share.to_string());
    differ(None, Part::RejectAbove, share(old), share(new), &mut found);
    let quality = |view: &FeatureView| {
        view.quality.as_ref().map(|quality| {
            // Text and finite numbers, so that this cannot fail.
            serde_json::to_string(quality).unwrap_or_default()
        })
    };
    differ(None, Part::Quality, quality(old), quality(new), &mut found);
    let sampling = |view: &FeatureView| {
        let said = |what: &str, share: Option<f64>| share.map(|share| format!("{what} {share}"));
        let sampling = view.sampling.as_ref()?;
        let said: Vec<String> = [said("reads", sampling.reads), said("streams", sampling.streams)]
            .into_iter()
            .flatten()
            .collect();
        Some(said.join(", "))
    };
    differ(None, Part::Sampling, sampling(old), sampling(new), &mut found);
    let retention = |view: &FeatureView| {
        view.retention.as_ref().map(|retention| match retention.unused_sets {
            Some(sets) => format!("{}, unused sets {sets}", retention.keep),
            None => retention.keep.to_string(),
        })
    };
    differ(None, Part::Retention, retention(old), retention(new), &mut found);
    of_words(None, &old.about, &new.about, &mut found);
    let hypothesis = |view: &FeatureView| view.hypothesis.as_ref().map(|text| format!("\"{text}\""));
    differ(None, Part::Hypothesis, hypothesis(old), hypothesis(new), &mut found);
    for feature in &new.features {
        if let Some(other) = old.features.iter().find(|other| other.name == feature.name) {
            of_words(Some(&feature.name), &other.about, &feature.about, &mut found);
        }
    }
    found
}

fn of_words(
    feature: Option<&Name>,
    old: &crate::definition::About,
    new: &crate::definition::About,
    found: &mut Vec<Difference>,
) {
    let quoted = |text: &Option<String>| text.as_ref().map(|text| format!("\"{text}\""));
    differ(feature, Part::Description, quoted(&old.description), quoted(&new.description), found);
    differ(feature, Part::Owner, quoted(&old.owner), quoted(&new.owner), found);
    let tags = |tags: &[String]| (!tags.is_empty()).then(|| tags.join(", "));
    differ(feature, Part::Tags, tags(&old.tags), tags(&new.tags), found);
}

fn differ(
    feature: Option<&Name>,
    part: Part,
    before: Option<String>,
    after: Option<String>,
    found: &mut Vec<Difference>,
) {
    if before != after {
        found.push(Difference { feature: feature.cloned(), part, before, after });
    }
}

fn occurrence(occurrence: &Occurrence) -> String {
    format!("{} {} from {}", occurrence.name, occurrence.data_type, occurrence.column)
}

/// `float64, mph`
fn typed(feature: &Feature) -> String {
    match &feature.unit {
        Some(unit) => format!("{}, {unit}", feature.data_type),
        None => feature.data_type.to_string(),
    }
}

/// `−60…130`, with nothing at an open end.
fn range(range: &Range) -> String {
    let end = |end: &Option<Literal>| end.as_ref().map(plain).unwrap_or_default();
    format!("{}…{}", end(&range.least), end(&range.greatest))
}

fn set(literals: &[Literal]) -> String {
    literals.iter().map(plain).collect::<Vec<_>>().join(", ")
}

/// Without quotes, and with a minus sign that cannot be taken for a dash; a text of digits keeps its hyphens.
fn plain(literal: &Literal) -> String {
    match literal {
        Literal::Text(text) => text.clone(),
        number => number.to_string().replace('-', "−"),
    }
}

#[cfg(test)]
mod tests;
