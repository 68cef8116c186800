//! What must hold of a definition beyond the shape of its parts: the same checks for TOML and for the log's JSON.

use std::collections::BTreeMap;

use super::literal::{Constant, accepted};
use super::parse::table::{did_you_mean, listed};
use super::{Entity, Feature, FeatureService, FeatureView, KnownAt, RepeatedHour, Sampling};
use crate::datatype::FeatureType;
use crate::name::nearest;
use crate::reference::Reference;
use crate::time::Span;

/// Something wrong with a part of a definition.
#[derive(Debug, PartialEq)]
pub(super) struct Problem {
    /// The part, as in `features.2.range`.
    pub path: String,
    pub message: String,
    /// The part with which this one collides.
    pub first: Option<String>,
}

fn problem(path: impl Into<String>, message: impl Into<String>) -> Problem {
    Problem { path: path.into(), message: message.into(), first: None }
}

/// Whether values of the type have an order that a range can use.
pub(super) fn is_ordered(data_type: FeatureType) -> bool {
    !matches!(data_type, FeatureType::Bool | FeatureType::String | FeatureType::Binary)
}

pub(super) fn entity(entity: &Entity) -> Vec<Problem> {
    let mut problems = Vec::new();
    if entity.keys.is_empty() {
        problems.push(problem(
            "keys",
            "an entity needs at least one key; write a [[keys]] table with name and type",
        ));
    }
    for (number, key) in entity.keys.iter().enumerate() {
        if key.data_type.is_float() {
            problems.push(problem(
                format!("keys.{number}.type"),
                format!(
                    "key `{}`: `type` is {}, but a key is never a float, for equality of floats is chance; write int64, decimal(p,s) or string",
                    key.name, key.data_type
                ),
            ));
        }
    }
    let names = entity.keys.iter().map(|key| key.name.as_str());
    repeats(names, |number| format!("keys.{number}.name"), "key", &mut problems);
    problems
}

pub(super) fn service(service: &FeatureService) -> Vec<Problem> {
    let mut problems = Vec::new();
    sampled(service.sampling.as_ref(), &mut problems);
    if service.sampling.is_some_and(|sampling| sampling.streams.is_some()) {
        problems.push(problem(
            "sampling.streams",
            "[sampling]: rows stream into feature views and not into services; declare `streams` in the view",
        ));
    }
    if service.features.is_empty() {
        problems.push(problem(
            "features",
            "`features` is empty; name at least one, such as features = [\"weather.temp\"]",
        ));
    }
    for (number, reference) in service.features.iter().enumerate() {
        let covers = |other: &Reference| {
            other == reference
                || (other.feature.is_none()
                    && (&other.project, &other.view, other.version)
                        == (&reference.project, &reference.view, reference.version))
        };
        let first = service.features.iter().enumerate().find(|(other, named)| {
            *other != number && covers(named) && (*other < number || **named != *reference)
        });
        if let Some((_, other)) = first {
            let why = if other == reference {
                "named twice".to_owned()
            } else {
                format!("part of `{other}` already")
            };
            problems.push(problem(
                format!("features.{number}"),
                format!("`features` holds \"{reference}\", which is {why}; remove one"),
            ));
        }
    }
    problems
}

pub(super) fn view(view: &FeatureView) -> Vec<Problem> {
    let mut problems = Vec::new();
    if view.ttl == Some(Span::ZERO) {
        problems.push(problem(
            "ttl",
            "`ttl` is \"0s\", so that nothing older than the very instant would be found; leave it out to look back for ever, or write for example ttl = \"1d\"",
        ));
    }
    if let Some(share) = view.reject_above
        && !(0.0..=1.0).contains(&share)
    {
        let meant = if share > 1.0 && share <= 100.0 {
            format!("for {share} percent write {}", share / 100.0)
        } else {
            "write for example 0.01".to_owned()
        };
        problems.push(problem(
            "reject_above",
            format!("`reject_above` is {share}, but a share of rows is from 0 to 1; {meant}"),
        ));
    }
    if let Some((path, message)) = view.retention.as_ref().and_then(|retention| retention.problem(view)) {
        problems.push(problem(path, message));
    }
    time(view, &mut problems);
    derived(view, &mut problems);
    if view.features.is_empty() {
        problems.push(problem(
            "features",
            "a feature view needs at least one feature; write a [[features]] table with name and type",
        ));
    }
    let names = view.features.iter().map(|feature| feature.name.as_str());
    repeats(names, |number| format!("features.{number}.name"), "feature", &mut problems);
    repeats(
        view.checks.iter().map(|check| check.name.as_str()),
        |number| format!("checks.{number}.name"),
        "check",
        &mut problems,
    );
    repeats(
        view.keys.iter().map(|source| source.key.as_str()),
        |number| format!("keys.{number}"),
        "key",
        &mut problems,
    );
    let keys: Vec<&str> = view.keys.iter().map(|source| source.key.as_str()).collect();
    clashes(view, &keys, &mut problems);
    if let Some(occurrence) = &view.occurrence
        && occurrence.data_type.is_float()
    {
        problems.push(problem(
            "occurrence.type",
            format!("[occurrence]: `type` is {}, but it tells rows apart and so is no float; write int64 or string", occurrence.data_type),
        ));
    }
    sampled(view.sampling.as_ref(), &mut problems);
    if let Some(quality) = &view.quality {
        for name in quality.features.keys() {
            let names = view.features.iter().map(|feature| feature.name.as_str());
            if names.clone().all(|known| known != name.as_str()) {
                let meant = did_you_mean(nearest(name.as_str(), names.clone()));
                problems.push(problem(
                    format!("quality.features.{name}"),
                    format!(
                        "[quality.features.{name}]: the view has no feature `{name}`{meant}; it has {}",
                        listed(names)
                    ),
                ));
            }
        }
    }
    for (number, feature) in view.features.iter().enumerate() {
        for (key, message) in self::feature(feature) {
            let message = format!("feature `{}`: {message}", feature.name);
            problems.push(problem(format!("features.{number}.{key}"), message));
        }
    }
    problems
}

/// Shares that are none.
fn sampled(sampling: Option<&Sampling>, problems: &mut Vec<Problem>) {
    let Some(sampling) = sampling else { return };
    for (key, share) in [("reads", sampling.reads), ("streams", sampling.streams)] {
        if let Some(share) = share.filter(|share| !(0.0..=1.0).contains(share)) {
            problems.push(problem(
                format!("sampling.{key}"),
                format!(
                    "[sampling]: `{key}` is {share}, but a share of entities is from 0 to 1; for one in a hundred write {key} = 0.01"
                ),
            ));
        }
    }
}

/// Features and occurrence named like one of the keys, or like one another.
pub(super) fn clashes(view: &FeatureView, keys: &[&str], problems: &mut Vec<Problem>) {
    let occurrence = view.occurrence.as_ref().map(|occurrence| occurrence.name.as_str());
    for (number, feature) in view.features.iter().enumerate() {
        let name = feature.name.as_str();
        let taken = if keys.contains(&name) {
            "a key of the view"
        } else if occurrence == Some(name) {
            "the view's occurrence column"
        } else {
            continue;
        };
        problems.push(problem(
            format!("features.{number}.name"),
            format!(
                "feature `{name}` has the name of {taken}, and a table has one column of a name; remove it, or rename it and keep column = \"{}\"",
                feature.column
            ),
        ));
    }
    if let Some(name) = occurrence.filter(|name| keys.contains(name)) {
        problems.push(problem(
            "occurrence.name",
            format!("[occurrence]: `name` is \"{name}\", which is a key of the view already; write another name, and the source's in column"),
        ));
    }
}

/// What a derived view knows it has from its parents, so that its query must say when.
fn derived(view: &FeatureView, problems: &mut Vec<Problem>) {
    if view.derived.is_none() {
        return;
    }
    if view.source.is_some() {
        problems.push(problem(
            "derived",
            "the view has both [source] and [derived]; its rows come from files or from a query: remove one",
        ));
    }
    if matches!(view.time.known_at, KnownAt::Delay(_) | KnownAt::Assumed) {
        problems.push(problem(
            "derived",
            "[derived]: the values of a derived view are known when those are that it is made of; select that time in the query, such as greatest(a.known_at, b.known_at) AS known_at from history('…'), and write known_at = { column = \"known_at\" }, or write known_at = \"arrival\" for the time of each refresh",
        ));
    }
}

fn time(view: &FeatureView, problems: &mut Vec<Problem>) {
    let Some(zone) = &view.time.zone else {
        if view.time.repeated_hour != RepeatedHour::Refuse {
            problems.push(problem(
                "time.repeated_hour",
                "[time]: `repeated_hour` says what a naive time means in a zone, and none is declared; write zone = \"America/New_York\" or the like, or leave repeated_hour out",
            ));
        }
        return;
    };
    if zone.parse::<chrono_tz::Tz>().is_err() {
        problems.push(problem(
            "time.zone",
            format!(
                "[time]: `zone` is \"{zone}\", which is not a zone of the IANA database{}; write region and city, such as \"Europe/Berlin\", or \"UTC\"",
                did_you_mean(nearest_zone(zone))
            ),
        ));
    }
}

/// The zone that is nearest by its whole name or by its city.
fn nearest_zone(text: &str) -> Option<&'static str> {
    let folded = text.trim().to_lowercase().replace(' ', "_");
    let zones: Vec<(String, &str)> =
        chrono_tz::TZ_VARIANTS.iter().map(|zone| (zone.name().to_lowercase(), zone.name())).collect();
    let city = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
    let by_city = zones.iter().find(|(name, zone)| zone.contains('/') && city(name) == city(&folded));
    if let Some((_, zone)) = by_city.filter(|_| !zones.iter().any(|(name, _)| *name == folded)) {
        return Some(zone);
    }
    let near = nearest(&folded, zones.iter().map(|(name, _)| name.as_str()))?;
    zones.iter().find(|(name, _)| name == near).map(|(_, zone)| *zone)
}

/// What is wrong with one feature, by the key that is to blame.
pub(super) fn feature(feature: &Feature) -> Vec<(&'static str, String)> {
    let mut problems = Vec::new();
    let data_type = feature.data_type;
    if feature.nan && !data_type.is_float() {
        problems.push(("nan", no_nan(data_type)));
    }
    let range = range(feature, &mut problems);
    let set = set(feature, &range, &mut problems);
    let default = match feature.default_constant() {
        Ok(default) => default,
        Err(why) => {
            problems.push(("default", format!("`default`: {why}")));
            None
        }
    };
    if let (Some(default), Some(literal)) = (default, &feature.default) {
        if outside(&default, &range) {
            problems.push((
                "default",
                format!("`default` is {literal}, outside the accepted range {}; write a value within it, or widen the range", bracketed(feature)),
            ));
        }
        if let Some(set) = set
            && !set.contains(&default)
        {
            let choices: Vec<String> = feature.one_of.iter().flatten().map(ToString::to_string).collect();
            let written = literal.to_string();
            let near =
                nearest(&written, choices.iter().map(String::as_str)).map(|near| near.trim_matches('"'));
            problems.push((
                "default",
                format!(
                    "`default` is {literal}, which is not in one_of{}; the accepted values are {}",
                    did_you_mean(near),
                    listed(&choices)
                ),
            ));
        }
    }
    problems
}

pub(super) fn no_nan(data_type: FeatureType) -> String {
    format!("`nan` says nothing about {data_type}: only float32 and float64 have NaN; leave it out")
}

/// `range`: as it was written.
pub(super) fn no_range(data_type: FeatureType, range: &str) -> String {
    match data_type {
        FeatureType::String => format!(
            "`range` is {range}, but the order of texts is no rule; list the accepted values instead: one_of = {range}"
        ),
        other => format!("`range` is {range}, but {other} has no least and greatest value; leave it out"),
    }
}

type Bounds = (Option<Constant>, Option<Constant>);

fn outside(value: &Constant, (least, greatest): &Bounds) -> bool {
    least.as_ref().is_some_and(|least| value < least)
        || greatest.as_ref().is_some_and(|greatest| value > greatest)
}

/// The range as in TOML.
pub(super) fn bracketed(feature: &Feature) -> String {
    let end = |end: Option<&super::Literal>| end.map_or_else(|| "\"\"".to_owned(), ToString::to_string);
    match &feature.range {
        Some(range) => format!("[{}, {}]", end(range.least.as_ref()), end(range.greatest.as_ref())),
        None => "[\"\", \"\"]".to_owned(),
    }
}

fn range(feature: &Feature, problems: &mut Vec<(&'static str, String)>) -> Bounds {
    let Some(range) = &feature.range else { return (None, None) };
    if !is_ordered(feature.data_type) {
        problems.push(("range", no_range(feature.data_type, &bracketed(feature))));
        return (None, None);
    }
    if range.least.is_none() && range.greatest.is_none() {
        problems.push((
            "range",
            "`range` is open at both ends; leave it out, or write an end, such as range = [0, \"\"]"
                .to_owned(),
        ));
    }
    match feature.bounds() {
        Ok((Some(least), Some(greatest))) if least > greatest => {
            let turned = match (&range.least, &range.greatest) {
                (Some(least), Some(greatest)) => format!("[{greatest}, {least}]"),
                _ => String::new(),
            };
            problems.push((
                "range",
                format!(
                    "`range` is {}, but the least value comes first; write range = {turned}",
                    bracketed(feature)
                ),
            ));
            (None, None)
        }
        Ok(bounds) => bounds,
        Err(why) => {
            problems.push(("range", format!("`range`: {why}")));
            (None, None)
        }
    }
}

fn set(
    feature: &Feature,
    range: &Bounds,
    problems: &mut Vec<(&'static str, String)>,
) -> Option<Vec<Constant>> {
    let constants = match feature.accepted() {
        Ok(constants) => constants?,
        Err(why) => {
            problems.push(("one_of", format!("`one_of`: {why}")));
            return None;
        }
    };
    if constants.is_empty() {
        let message = if feature.data_type == FeatureType::Binary {
            format!("`one_of` does not go with {}; leave it out", accepted(feature.data_type))
        } else {
            "`one_of` is empty, so that nothing would be accepted; list the accepted values, or leave it out"
                .to_owned()
        };
        problems.push(("one_of", message));
        return None;
    }
    for (number, (constant, literal)) in constants.iter().zip(feature.one_of.iter().flatten()).enumerate() {
        if constants.iter().take(number).any(|earlier| earlier == constant) {
            problems.push(("one_of", format!("`one_of` holds {literal} twice; remove one")));
        }
        if outside(constant, range) {
            problems.push((
                "one_of",
                format!("`one_of` holds {literal}, outside the accepted range {}; remove it, or widen or leave out the range", bracketed(feature)),
            ));
        }
    }
    Some(constants)
}

/// Names that come twice.
fn repeats<'n>(
    names: impl Iterator<Item = &'n str>,
    path: impl Fn(usize) -> String,
    what: &str,
    problems: &mut Vec<Problem>,
) {
    let mut seen = BTreeMap::new();
    for (number, name) in names.enumerate() {
        if let Some(first) = seen.get(name) {
            problems.push(Problem {
                path: path(number),
                message: format!(
                    "{what} `{name}` is defined twice; remove one, or give it another name such as `{name}_2`"
                ),
                first: Some(path(*first)),
            });
        } else {
            seen.insert(name, number);
        }
    }
}
