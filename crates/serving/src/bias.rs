//! Whether the population of a training set is the one that is served.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit, TimestampMicrosecondType};
use async_recursion::async_recursion;
use catalog::Author;
use catalog::state::ViewVersion;
use engine::Session;
use engine::features::{Resolved, ResolvedView};
use engine::point_in_time::Cut;
use feature::definition::{Feature, Thresholds};
use feature::key::CanonicalKeys;
use feature::policy::Action;
use feature::profile::BatchProfile;
use feature::quality::bias::{self, Entities, Population};
use feature::quality::{Verdict, measure};
use feature::sampling::{rows_of, rows_of_share};
use feature::{Sequence, Timestamp, TrainingSetId};
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};

use crate::drift::Measured;
use crate::error::{Error, Kind, Result};
use crate::reads::{Read, ReadKind};
use crate::retrieve::Serving;

/// Moments at which the served population is looked at, where nothing else is said.
const MOMENTS: usize = 12;
/// The most that may be asked for: each reads the history up to it.
const MOST_MOMENTS: usize = 1_000;
/// Entities that are looked up at all moments together, at most.
const LOOKED_UP: usize = 4_000_000;
/// Values that are compared, at least.
const LEAST_ROWS: u64 = 30;

/// What is to be compared.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BiasRequest {
    pub training_set: TrainingSetId,
    /// The population of one moment; else that of several, which fall as the spine's times do.
    #[serde(default, with = "feature::time::rfc3339::option")]
    pub at: Option<Timestamp>,
    /// How many moments; 12 where it is left out, and 1,000 at most.
    #[serde(default)]
    pub moments: Option<usize>,
}

/// How far the population of a training set is from the one that is served.
#[derive(Clone, Debug, Serialize)]
pub struct BiasReport {
    pub training_set: TrainingSetId,
    pub rows: u64,
    /// The snapshot that both are of.
    pub sequence: Sequence,
    /// The worst of all measures.
    pub verdict: Verdict,
    pub views: Vec<ViewBias>,
    pub seconds: f64,
}

/// The same of one view that the set has features of.
#[derive(Clone, Debug, Serialize)]
pub struct ViewBias {
    pub version: String,
    /// The moments at which the served population was looked at.
    pub moments: Vec<Timestamp>,
    /// Different entities of the spine, of those that had features in force at the moments, and of both.
    pub spine_entities: u64,
    pub served_entities: u64,
    pub shared_entities: u64,
    /// Entities at moments: the rows of the served population.
    pub served_rows: u64,
    /// Of the entities, and then of each feature.
    pub measures: Vec<Measured>,
}

/// One side of the comparison.
struct Side {
    entities: Entities,
    profile: BatchProfile,
}

impl Side {
    /// Takes in another, so many times.
    fn add(&mut self, other: &Self, times: usize) -> Result<()> {
        for (key, count) in &other.entities {
            let count = count * times as u64;
            match self.entities.get_mut(key) {
                Some(known) => *known += count,
                None => drop(self.entities.insert(key.clone(), count)),
            }
        }
        for _ in 0..times {
            self.profile.merge(&other.profile).map_err(|error| internal(&error))?;
        }
        Ok(())
    }
}

impl Serving {
    /// Compares a training set's spine with the served population: each entity that had features in force, at moments that fall as the
    /// spine's times do. It is on record as a read, and nothing else is written.
    ///
    /// # Errors
    /// `NotFound` for a set that is not there; `Invalid` for no moments or too many, and for a spine without times; `Exhausted` for one that
    /// does not fit into the memory; those of a replay.
    #[async_recursion]
    pub async fn bias(&self, request: &BiasRequest, author: &Author) -> Result<BiasReport> {
        let words = || words_of(request);
        let answer = self.compared_with_served(request, author);
        self.on_record(author, Action::Read, Some(ReadKind::Bias), words, answer).await
    }

    async fn compared_with_served(&self, request: &BiasRequest, author: &Author) -> Result<BiasReport> {
        let started = Instant::now();
        let manifest = self.manifest(request.training_set).await?;
        self.require_as_recorded(&manifest, author).await?;
        if let Some(asked) = request.moments.filter(|asked| *asked > MOST_MOMENTS) {
            return Err(invalid(&format!(
                "{asked} moments are asked for, and each reads the history up to it; ask for {MOST_MOMENTS} at most"
            )));
        }
        let traced = Arc::new(self.trace(&manifest)?);
        // A full queue refuses a read rather than forget it.
        let place = self.reads.reserve(&traced)?;
        let now = self.catalog().store().clock().now();
        let mut read = Read::new(author, manifest.sequence, now, traced);
        read.asked(ReadKind::Bias, words_of(request));
        let (session, _) = self.as_recorded(&manifest, |_| false).await?;
        let held = self.memory().reserve("bias");
        let spine = self.whole_spine(&session, &manifest, &held).await?;
        let at = &manifest.spine.at;
        let moments = match (request.at, request.moments) {
            (Some(_), Some(_)) => {
                return Err(invalid("one moment is named, and several are asked for; leave one out"));
            }
            (Some(moment), None) => vec![moment],
            (None, Some(0)) => return Err(invalid("no moments are asked for; ask for one or more")),
            (None, asked) => moments(&spine.batches, at, asked.unwrap_or(MOMENTS))?,
        };
        if moments.is_empty() {
            return Err(invalid(&format!(
                "no row of the set has a time in `{at}`, so that there is no moment to compare it at"
            )));
        }
        let mut views = Vec::with_capacity(manifest.views.len());
        for view in &manifest.views {
            let (session, resolved) =
                self.as_recorded(&manifest, |reference| reference.version == view.version).await?;
            let rows = session.rows("spine", spine.schema.clone(), spine.batches.clone())?;
            let found = self.look_up(&session, rows, at, &resolved).await?;
            let Some(of) = resolved.views.first() else { continue };
            let asked = side(of.table.version(), &resolved, &found.batches)?;
            let (served, moments) = self.served(&session, &resolved, of, &moments).await?;
            views.push(compared(of.table.version(), &moments, &served, &asked));
        }
        read.rows = manifest.rows;
        read.micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.record_read(place, read).await?;
        let worst = views.iter().flat_map(|view| &view.measures).map(|one| one.verdict).max();
        Ok(BiasReport {
            training_set: manifest.id,
            rows: manifest.rows,
            sequence: manifest.sequence,
            verdict: worst.unwrap_or(Verdict::Pass),
            views,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Each entity with features in force at each of the moments, with the features that are asked for. A moment that is there more
    /// than once counts as often.
    async fn served(
        &self,
        session: &Session,
        resolved: &Resolved,
        of: &ResolvedView,
        moments: &[Timestamp],
    ) -> Result<(Side, Vec<Timestamp>)> {
        let version = of.table.version();
        let moments = weighed(moments);
        let mut whole = side(version, resolved, &[])?;
        let (mut looked_up, mut met) = (0usize, Vec::new());
        for level in spread(moments.len()) {
            // Whole levels alone, so that what is looked at is spread over all the moments.
            if !met.is_empty() && looked_up + looked_up / met.len() * level.len() > LOOKED_UP {
                break;
            }
            for place in level {
                let Some((moment, times)) = moments.get(place).copied() else { continue };
                let plan = session.plan(&in_force(version, of, resolved.cut, moment)).await?;
                let physical = session.prepare(&plan).await?;
                let keys: Vec<RecordBatch> = session.run(physical)?.try_collect().await?;
                let spine = keys.iter().map(|keys| at_moment(keys, moment));
                let spine =
                    spine.collect::<Result<Vec<RecordBatch>, _>>().map_err(|error| internal(&error))?;
                met.push(moment);
                let Some(first) = spine.first() else { continue };
                looked_up += spine.iter().map(RecordBatch::num_rows).sum::<usize>();
                let rows = session.rows("spine", first.schema(), spine)?;
                let found = self.look_up(session, rows, AT, resolved).await?;
                whole.add(&side(version, resolved, &found.batches)?, times)?;
            }
        }
        met.sort_unstable();
        Ok((whole, met))
    }
}

/// A comparison in the words of its record.
fn words_of(request: &BiasRequest) -> String {
    format!("bias: training set {}", request.training_set)
}

/// The time column of a served population.
const AT: &str = "__moment";

/// The entities of a view with an observation in force at a moment.
fn in_force(version: &ViewVersion, of: &ResolvedView, cut: Cut, moment: Timestamp) -> String {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let time = |time: Timestamp| format!("TIMESTAMP '{time}'");
    let keys: Vec<String> = version.keys().iter().map(|key| quoted(key.name.as_str())).collect();
    let keys = keys.join(", ");
    let mut limits = vec![format!("valid_at <= {}", time(moment))];
    let oldest = of.ttl.map(|ttl| Timestamp(moment.micros().saturating_sub(ttl.micros())));
    // Before the year 1700, which literals do not reach, there is nothing.
    if let Some(oldest) = oldest.filter(|oldest| oldest.micros() > -8_520_336_000_000_000) {
        limits.push(format!("valid_at >= {}", time(oldest)));
    }
    match cut {
        Cut::Row => limits.push(format!("known_at <= {}", time(moment))),
        Cut::Instant(instant) => limits.push(format!("known_at <= {}", time(instant))),
        Cut::None => {}
    }
    let limits = limits.join(" AND ");
    let label = version.label().replace('\'', "''");
    // What wins is the last of all: an entity whose last observation is a retraction is served with nothing, whatever was before.
    format!(
        "SELECT {keys} FROM (SELECT {keys}, last_value(retracted ORDER BY valid_at, known_at, sequence) AS gone \
         FROM history('{label}') WHERE {limits} GROUP BY {keys}) AS observed WHERE NOT gone"
    )
}

/// Each moment once, with how often it is there beside the others, in the least whole numbers: of one alone nothing is doubled.
fn weighed(moments: &[Timestamp]) -> Vec<(Timestamp, usize)> {
    fn divisor(one: usize, other: usize) -> usize {
        if other == 0 { one } else { divisor(other, one % other) }
    }
    let same = || moments.chunk_by(|one, next| one == next);
    let least = same().map(<[Timestamp]>::len).fold(0, divisor).max(1);
    same().filter_map(|same| Some((*same.first()?, same.len() / least))).collect()
}

/// Places in levels, each spread over all of them: the middle, then the middles of the halves, and so on.
fn spread(places: usize) -> Vec<Vec<usize>> {
    let middle = |part: &Range<usize>| part.start + part.len() / 2;
    let (mut levels, mut parts) = (Vec::new(), vec![Range { start: 0, end: places }]);
    loop {
        parts.retain(|part| part.start < part.end);
        if parts.is_empty() {
            return levels;
        }
        levels.push(parts.iter().map(middle).collect());
        let halves = |part: &Range<usize>| [part.start..middle(part), middle(part) + 1..part.end];
        parts = parts.iter().flat_map(halves).collect();
    }
}

fn at_moment(keys: &RecordBatch, moment: Timestamp) -> Result<RecordBatch, arrow::error::ArrowError> {
    let mut fields: Vec<Arc<Field>> = keys.schema().fields().iter().cloned().collect();
    let mut columns = keys.columns().to_vec();
    let times = TimestampMicrosecondArray::from_value(moment.micros(), keys.num_rows()).with_timezone("UTC");
    fields.push(Arc::new(Field::new(AT, times.data_type().clone(), false)));
    columns.push(Arc::new(times));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// Moments in the middle of as many equal parts of the spine's rows, in the order of their times; one that many rows have is there as
/// often as parts have it.
fn moments(batches: &[RecordBatch], at: &str, most: usize) -> Result<Vec<Timestamp>> {
    let mut times: Vec<i64> = Vec::new();
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    for batch in batches {
        let Some(column) = batch.column_by_name(at) else { continue };
        let column = cast(column, &utc).map_err(|error| internal(&error))?;
        times.extend(column.as_primitive::<TimestampMicrosecondType>().iter().flatten());
    }
    times.sort_unstable();
    let middle = |part: usize| times.get((2 * part + 1) * times.len() / (2 * most)).copied();
    Ok((0..most).filter_map(middle).map(Timestamp).collect())
}

/// The entities and values of rows that have the keys of a version, and its features under the names that were asked for.
fn side(version: &ViewVersion, resolved: &Resolved, batches: &[RecordBatch]) -> Result<Side> {
    let declared = |place: usize| version.definition.features.get(place);
    let asked =
        || resolved.features.iter().filter_map(|asked| Some((declared(asked.feature)?, &asked.output)));
    let features: Vec<Feature> = asked().map(|(feature, _)| feature.clone()).collect();
    let mut found = Side { entities: Entities::new(), profile: BatchProfile::of(&features) };
    let Some(first) = batches.first() else { return Ok(found) };
    // One after another: a column of many small batches costs more than one.
    let whole = concat_batches(&first.schema(), batches).map_err(|error| internal(&error))?;
    let keys = version.keys().iter().map(|key| {
        let column = whole.column_by_name(key.name.as_str());
        column.and_then(|column| cast(column, &key.data_type.arrow()).ok())
    });
    let Some(keys) = keys.collect::<Option<Vec<ArrayRef>>>() else { return Ok(found) };
    let rows = rows_of_share(&keys, 1.0).map_err(|error| internal(&error))?;
    let keys = keys.iter().map(|key| rows_of(key, &rows)).collect::<Result<Vec<_>, _>>();
    let canonical =
        CanonicalKeys::new(&keys.map_err(|error| internal(&error))?).map_err(|error| internal(&error))?;
    let mut bytes = Vec::new();
    for row in 0..canonical.rows() {
        bytes.clear();
        canonical.write(row, &mut bytes).map_err(|error| internal(&error))?;
        match found.entities.get_mut(&bytes) {
            Some(count) => *count += 1,
            None => drop(found.entities.insert(bytes.clone(), 1)),
        }
    }
    let columns = asked().filter_map(|(feature, output)| {
        let column = whole.column_by_name(output)?.clone();
        Some((Field::new(feature.name.as_str(), column.data_type().clone(), true), column))
    });
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = columns.unzip();
    let values =
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|error| internal(&error))?;
    found.profile.add(&values).map_err(|error| internal(&error))?;
    Ok(found)
}

fn compared(version: &ViewVersion, moments: &[Timestamp], served: &Side, spine: &Side) -> ViewBias {
    let population = Population::of(&served.entities, &spine.entities);
    let of_entities = [
        population.entity_share(),
        population.jensen_shannon(),
        population.unserved(),
        population.left_out(),
    ];
    let mut measures = Vec::new();
    for ((name, limits), value) in bias::OF_ENTITIES.into_iter().zip(of_entities) {
        measures.extend(value.map(|value| measured(None, name, value, limits)));
    }
    let rules = version.definition.quality.as_ref();
    let least = rules.and_then(|rules| rules.least_rows).unwrap_or(LEAST_ROWS);
    for feature in &spine.profile.features {
        let Some(baseline) = served.profile.feature(&feature.feature) else { continue };
        for of in bias::MEASURES {
            let limits = bias::thresholds(rules, &feature.feature, of);
            let value = measure(of, baseline, feature, least);
            measures.extend(value.map(|value| measured(Some(&feature.feature), of.name(), value, limits)));
        }
    }
    ViewBias {
        version: version.label(),
        moments: moments.to_vec(),
        spine_entities: population.in_spine(),
        served_entities: population.served(),
        shared_entities: population.shared(),
        served_rows: served.entities.values().sum(),
        measures,
    }
}

fn measured(feature: Option<&str>, measure: &'static str, value: f64, limits: Thresholds) -> Measured {
    let value = (value * 1e6).round() / 1e6;
    Measured {
        feature: feature.map(str::to_owned),
        measure,
        value,
        warn: limits.warn,
        fail: limits.fail,
        verdict: limits.verdict(value),
    }
}

fn invalid(why: &str) -> Error {
    Error::new(Kind::Invalid, why)
}

fn internal(error: &dyn std::fmt::Display) -> Error {
    Error::internal("comparing populations", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_is_spread_over_all_places() {
        assert_eq!(spread(0), Vec::<Vec<usize>>::new());
        assert_eq!(spread(1), [vec![0usize]]);
        assert_eq!(spread(7), [vec![3usize], vec![1, 5], vec![0, 2, 4, 6]]);
        let mut all: Vec<usize> = spread(12).concat();
        assert_eq!(all[..3], [6, 3, 9]);
        all.sort_unstable();
        assert_eq!(all, (0..12).collect::<Vec<_>>());
    }

    #[test]
    fn a_moment_that_many_rows_have_keeps_its_weight() {
        let times = [1, 1, 1, 1, 1, 1, 1, 1, 1, 50, 60, 70];
        let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
        let column: ArrayRef = Arc::new(times);
        let spine = RecordBatch::try_from_iter([("at", column)]).unwrap();
        let found = moments(&[spine], "at", 4).unwrap();
        assert_eq!(weighed(&found), [(Timestamp(1), 3), (Timestamp(60), 1)]);
        assert_eq!(weighed(&[Timestamp(1); 12]), [(Timestamp(1), 1)]);
    }
}
