//! Random scenarios. Everything is a small number that is given its meaning where it is used, so that parts of a
//! scenario shrink without regard to each other.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::subsequence;

/// Keys that an entity may have, one spine column each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyKind {
    Text,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Bool,
    Date,
    Instant,
    Money,
    Bytes,
}

pub const KEYS: [KeyKind; 14] = [
    KeyKind::Text,
    KeyKind::Int8,
    KeyKind::Int16,
    KeyKind::Int32,
    KeyKind::Int64,
    KeyKind::Uint8,
    KeyKind::Uint16,
    KeyKind::Uint32,
    KeyKind::Uint64,
    KeyKind::Bool,
    KeyKind::Date,
    KeyKind::Instant,
    KeyKind::Money,
    KeyKind::Bytes,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureKind {
    Int,
    Small,
    Float,
    Text,
    Flag,
    Money,
    Instant,
    Day,
}

pub const FEATURES: usize = 4;

/// How known_at comes about; the numbers are units of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownRule {
    Column,
    Delay(u8),
    Arrival,
    Assumed,
}

#[derive(Clone, Debug)]
pub struct Version {
    /// Which of the view's possible features it has; bit by bit.
    pub features: u8,
    pub ttl: Option<u8>,
    pub defaults: [Option<u8>; FEATURES],
    /// Another rule than before: the version starts empty.
    pub rule: Option<KnownRule>,
}

#[derive(Clone, Debug)]
pub struct View {
    pub keys: Vec<KeyKind>,
    pub kinds: [FeatureKind; FEATURES],
    pub occurrence: bool,
    pub rule: KnownRule,
    pub version: Version,
    pub first: Batch,
}

#[derive(Clone, Debug)]
pub struct Row {
    pub key: [u8; 3],
    pub occurrence: u8,
    pub valid_at: u8,
    /// Microseconds beside the unit.
    pub jitter: i8,
    /// Units after `valid_at`.
    pub known: i8,
    pub retracted: bool,
    pub values: [Option<u8>; FEATURES],
}

#[derive(Clone, Debug)]
pub struct Batch {
    pub rows: Vec<Row>,
    /// Units by which the clock moves on before it arrives.
    pub later: u8,
    pub correction: bool,
    pub retractions: bool,
    pub layout: u8,
    /// Where the rows are cut into record batches.
    pub cuts: Vec<u8>,
    /// The layout in which all batches of the store are merged once it has come, if they are.
    pub compacted: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    AtRow,
    By(u8),
    Unlimited,
}

#[derive(Clone, Debug)]
pub struct Pick {
    pub view: u8,
    pub version: Option<u8>,
    pub feature: u8,
    /// All features of the view.
    pub star: bool,
}

#[derive(Clone, Debug)]
pub struct SpineRow {
    /// By the place of the kind in [`KEYS`].
    pub keys: [u8; KEYS.len()],
    /// Unit, microseconds and nanoseconds beside it.
    pub at: Option<(u8, i8, u16)>,
    /// The row before, once more.
    pub again: bool,
}

#[derive(Clone, Debug)]
pub struct Spine {
    pub rows: Vec<SpineRow>,
    pub cuts: Vec<u8>,
    pub at_name: u8,
    pub at_type: u8,
    /// How each key lies in memory.
    pub widths: [u8; KEYS.len()],
    /// Which columns are only carried along; bit by bit.
    pub extras: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// `Serving::historical`, recorded or not.
    Call { record: bool },
    /// `historical_features` in SQL.
    Function,
    /// `ASOF JOIN` with the first view picked; the number is its operator.
    Join(u8),
    /// The tables of the first view picked. They have no spine.
    Tables,
}

#[derive(Clone, Debug)]
pub struct Ask {
    pub how: How,
    pub picks: Vec<Pick>,
    pub full_names: bool,
    pub ttls: Vec<(u8, u8)>,
    pub knowledge: Knowledge,
    pub spine: Spine,
}

#[derive(Clone, Debug)]
pub enum Step {
    Ingest(u8, Batch),
    Define(u8, Version),
    /// One of the batches is withdrawn, or restored where it is.
    Move(u8),
    /// Rows of a view that are older than so many units do not count any more.
    Expire(u8, u8),
    Ask(Ask),
}

#[derive(Clone, Debug)]
pub struct Scenario {
    pub unit: u8,
    pub views: Vec<View>,
    pub steps: Vec<Step>,
}

/// How many units of time rows and spines spread over.
pub const UNITS: u8 = 24;

fn keys() -> impl Strategy<Value = Vec<KeyKind>> {
    subsequence(KEYS.to_vec(), 1..=3).prop_shuffle()
}

fn kind() -> impl Strategy<Value = FeatureKind> {
    prop_oneof![
        Just(FeatureKind::Int),
        Just(FeatureKind::Small),
        Just(FeatureKind::Float),
        Just(FeatureKind::Text),
        Just(FeatureKind::Flag),
        Just(FeatureKind::Money),
        Just(FeatureKind::Instant),
        Just(FeatureKind::Day),
    ]
}

fn rule() -> impl Strategy<Value = KnownRule> {
    prop_oneof![
        3 => Just(KnownRule::Column),
        2 => (0..4u8).prop_map(KnownRule::Delay),
        2 => Just(KnownRule::Arrival),
        2 => Just(KnownRule::Assumed),
    ]
}

pub fn version() -> impl Strategy<Value = Version> {
    let defaults = prop::array::uniform4(option::weighted(0.3, 0..3u8));
    (1..16u8, option::of(1..12u8), defaults, option::weighted(0.1, rule()))
        .prop_map(|(features, ttl, defaults, rule)| Version { features, ttl, defaults, rule })
}

fn jitter() -> impl Strategy<Value = i8> {
    prop_oneof![6 => Just(0i8), 1 => Just(1), 1 => Just(-1)]
}

/// Most rows are of few entities, so that these have a history.
fn known_key() -> impl Strategy<Value = u8> {
    prop_oneof![4 => Just(0u8), 2 => Just(1), 1 => Just(2)]
}

fn row() -> impl Strategy<Value = Row> {
    (
        prop::array::uniform3(known_key()),
        0..3u8,
        0..UNITS,
        jitter(),
        prop_oneof![2 => Just(0i8), 1 => -3..9i8],
        prop::bool::weighted(0.25),
        prop::array::uniform4(option::weighted(0.85, 0..4u8)),
    )
        .prop_map(|(key, occurrence, valid_at, jitter, known, retracted, values)| Row {
            key,
            occurrence,
            valid_at,
            jitter,
            known,
            retracted,
            values,
        })
}

/// Rows of a batch; some are of the same entity and time as the row before them.
fn rows(most: usize) -> impl Strategy<Value = Vec<Row>> {
    vec((row(), prop::bool::weighted(0.2)), 1..most).prop_map(|drawn| {
        let mut rows: Vec<Row> = Vec::with_capacity(drawn.len());
        for (row, same) in drawn {
            let before = rows.last().filter(|_| same).cloned();
            rows.push(match before {
                Some(Row { key, valid_at, jitter, .. }) => Row { key, valid_at, jitter, ..row },
                None => row,
            });
        }
        rows
    })
}

pub fn batch() -> impl Strategy<Value = Batch> {
    let rows = prop_oneof![3 => rows(12), 1 => rows(60)];
    let compacted = option::weighted(0.7, 0..8u8);
    (rows, 0..5u8, any::<bool>(), any::<bool>(), 0..8u8, vec(any::<u8>(), 0..3), compacted).prop_map(
        |(rows, later, correction, retractions, layout, cuts, compacted)| Batch {
            rows,
            later,
            correction,
            retractions,
            layout,
            cuts,
            compacted,
        },
    )
}

pub fn view() -> impl Strategy<Value = View> {
    (keys(), prop::array::uniform4(kind()), prop::bool::weighted(0.15), rule(), version(), batch()).prop_map(
        |(keys, kinds, occurrence, rule, version, first)| View {
            keys,
            kinds,
            occurrence,
            rule,
            version,
            first,
        },
    )
}

fn pick() -> impl Strategy<Value = Pick> {
    (any::<u8>(), option::weighted(0.4, any::<u8>()), any::<u8>(), prop::bool::weighted(0.3))
        .prop_map(|(view, version, feature, star)| Pick { view, version, feature, star })
}

pub fn spine() -> impl Strategy<Value = Spine> {
    // Most keys are known, some are not, a few are null.
    let key = prop_oneof![24 => known_key(), 1 => Just(3u8), 1 => Just(4)];
    let nanos = prop_oneof![3 => Just(0u16), 1 => 1..1000u16];
    let at = option::weighted(0.93, (0..UNITS + 8, jitter(), nanos));
    let row = (prop::array::uniform14(key), at, prop::bool::weighted(0.1))
        .prop_map(|(keys, at, again)| SpineRow { keys, at, again });
    (
        vec(row, 1..40),
        vec(any::<u8>(), 0..4),
        0..4u8,
        0..9u8,
        prop::array::uniform14(0..4u8),
        prop_oneof![Just(0u16), any::<u16>()],
    )
        .prop_map(|(rows, cuts, at_name, at_type, widths, extras)| Spine {
            rows,
            cuts,
            at_name,
            at_type,
            widths,
            extras,
        })
}

pub fn ask(how: BoxedStrategy<How>) -> impl Strategy<Value = Ask> {
    let knowledge = prop_oneof![
        4 => Just(Knowledge::AtRow),
        1 => (0..UNITS + 8).prop_map(Knowledge::By),
        1 => Just(Knowledge::Unlimited),
    ];
    (how, vec(pick(), 1..5), any::<bool>(), vec((any::<u8>(), 1..16u8), 0..2), knowledge, spine()).prop_map(
        |(how, picks, full_names, ttls, knowledge, spine)| Ask {
            how,
            picks,
            full_names,
            ttls,
            knowledge,
            spine,
        },
    )
}

/// Stores with one to three views, and what happens to each: mostly questions, of the kinds that are wanted.
pub fn scenario(how: impl Strategy<Value = How> + 'static) -> impl Strategy<Value = Scenario> {
    let step = prop_oneof![
        10 => ask(how.boxed()).prop_map(Step::Ask),
        3 => (any::<u8>(), batch()).prop_map(|(view, batch)| Step::Ingest(view, batch)),
        1 => (any::<u8>(), version()).prop_map(|(view, version)| Step::Define(view, version)),
        1 => any::<u8>().prop_map(Step::Move),
        1 => (any::<u8>(), 0..20u8).prop_map(|(view, units)| Step::Expire(view, units)),
    ];
    (0..4u8, vec(view(), 1..4), vec(step, 1..48)).prop_map(|(unit, views, steps)| Scenario {
        unit,
        views,
        steps,
    })
}
