//! Finds a view's columns in a source, and gathers everything that is wrong on the way.

use arrow::datatypes::{Field, Schema};

use super::RETRACTED;
use super::columns::{Column, Role};
use super::convert::Conversion;
use super::rules::{FeatureRules, Rules};
use super::schema::{SchemaError, refused, repeated};
use super::times::Zone;
use crate::datatype::FeatureType;
use crate::definition::{Entity, Feature, FeatureView};
use crate::name::nearest;

/// Looks up the view's columns in the source, and gathers what is wrong.
pub(super) struct Finder<'a> {
    view: &'a FeatureView,
    source: &'a Schema,
    zone: Option<Zone>,
    pub errors: Vec<SchemaError>,
    /// Of accepted rows, so far.
    pub fields: Vec<Field>,
}

impl<'a> Finder<'a> {
    pub(super) fn new(view: &'a FeatureView, source: &'a Schema) -> Self {
        let mut finder = Self { view, source, zone: None, errors: repeated(source), fields: Vec::new() };
        finder.zone = finder.zone();
        finder
    }

    pub(super) fn has(&self, column: &str) -> bool {
        self.source.index_of(column).is_ok()
    }

    fn zone(&mut self) -> Option<Zone> {
        let name = self.view.time.zone.as_ref()?;
        match name.parse() {
            Ok(tz) => Some(Zone { tz, repeated: self.view.time.repeated_hour }),
            Err(_) => {
                let message =
                    format!("`{}` declares the zone `{name}`, which is not an IANA zone", self.view.name);
                self.errors.push(SchemaError::Definition(message));
                None
            }
        }
    }

    /// The columns that a row is found by: the entity's keys in its order, then the occurrence.
    pub(super) fn keys(&mut self, entity: &Entity) -> Vec<Column> {
        let view = self.view;
        let mut columns = Vec::new();
        if view.entity != entity.name || view.project != entity.project {
            let message =
                format!("`{}` describes the entity `{}`, not `{}`", view.name, view.entity, entity.name);
            self.errors.push(SchemaError::Definition(message));
        }
        for key in &entity.keys {
            let Some(source) = view.keys.iter().find(|source| source.key == key.name) else {
                let message =
                    format!("`{}` does not say where the key `{}` is read from", view.name, key.name);
                self.errors.push(SchemaError::Definition(message));
                continue;
            };
            let wanted = format!("the key `{}` of `{}`", key.name, entity.name);
            let role = (Role::Key, key.data_type);
            columns.extend(self.column(
                key.name.as_str(),
                &source.column,
                role,
                &wanted,
                entity.name.as_str(),
            ));
        }
        if let Some(occurrence) = &view.occurrence {
            let wanted = format!("the occurrence `{}`", occurrence.name);
            let role = (Role::Occurrence, occurrence.data_type);
            let name = occurrence.name.as_str();
            columns.extend(self.column(name, &occurrence.column, role, &wanted, view.name.as_str()));
        }
        columns
    }

    pub(super) fn feature(&mut self, feature: &Feature) -> Option<(Column, FeatureRules)> {
        let name = feature.name.as_str();
        let full = format!("{}.{name}", self.view.name);
        let owner = if feature.column == name { self.view.name.to_string() } else { full.clone() };
        let role = (Role::Feature, feature.data_type);
        let column = self.column(name, &feature.column, role, &format!("the feature `{full}`"), &owner);
        match Rules::new(feature) {
            Ok(rules) => {
                let mut column = column?;
                column.describe(feature);
                Some((column, FeatureRules { nullable: feature.nullable, rules }))
            }
            Err(error) => {
                self.errors.push(SchemaError::Definition(format!("in the rules of `{full}`: {error}")));
                None
            }
        }
    }

    pub(super) fn retracted(&mut self) -> Option<Column> {
        let view = self.view.name.as_str();
        if self.view.occurrence.is_some() {
            self.errors.push(SchemaError::RetractedOccurrence { view: view.to_owned() });
            return None;
        }
        self.column(
            RETRACTED,
            RETRACTED,
            (Role::Retracted, FeatureType::Bool),
            "the mark of retractions",
            view,
        )
    }

    pub(super) fn column(
        &mut self,
        name: &str,
        source_name: &str,
        (role, data_type): (Role, FeatureType),
        wanted: &str,
        owner: &str,
    ) -> Option<Column> {
        let output = self.fields.len();
        self.fields.push(Field::new(name, data_type.arrow(), role == Role::Feature));
        let Ok(source) = self.source.index_of(source_name) else {
            let columns = self.source.fields().iter().map(|field| field.name().as_str());
            let same = columns.clone().find(|column| column.eq_ignore_ascii_case(source_name));
            self.errors.push(SchemaError::Missing {
                column: source_name.to_owned(),
                wanted: wanted.to_owned(),
                nearest: same.or_else(|| nearest(source_name, columns)).map(str::to_owned),
                setting: match role {
                    Role::Key => format!("{name} = … under [keys]"),
                    Role::Occurrence => "column = … under [occurrence]".to_owned(),
                    Role::ValidAt => "valid_at = … under [time]".to_owned(),
                    Role::KnownAt => "known_at = { column = … } under [time]".to_owned(),
                    Role::Feature | Role::Retracted => format!("column = … for `{name}`"),
                },
            });
            return None;
        };
        let source_type = self.source.field(source).data_type().clone();
        match Conversion::new(&source_type, data_type, self.zone) {
            Ok(conversion) => Some(Column {
                role,
                output,
                source,
                source_name: source_name.into(),
                data_type,
                conversion,
                owner: owner.to_owned(),
                full_name: format!(
                    "{}.{name}",
                    if role == Role::Key { owner } else { self.view.name.as_str() }
                ),
                unit: String::new(),
                least: String::new(),
                greatest: String::new(),
                accepted: String::new(),
            }),
            Err(refusal) => {
                self.errors.push(refused(
                    refusal,
                    source_name,
                    &source_type,
                    wanted.to_owned(),
                    data_type,
                    self.view.name.as_str(),
                ));
                None
            }
        }
    }
}
