//! The words of definition files: every table, its keys, what each means and how it is written.
//!
//! The parser's messages and the JSON Schema both come from here, so they cannot disagree.

mod alerts;

pub(super) use alerts::{ALERTS, RULE, SINK};

/// The keys that one kind of table may have.
pub(super) struct Vocabulary {
    /// How messages call the table.
    pub table: &'static str,
    /// Where a key of this table belongs, said to someone who put it elsewhere.
    pub place: &'static str,
    pub words: &'static [Word],
}

/// One key.
pub(super) struct Word {
    pub key: &'static str,
    pub required: bool,
    /// A value, as written in TOML.
    pub example: &'static str,
    /// Follows the key in "needs `key`, …" and stands in the JSON Schema.
    pub meaning: &'static str,
    pub shape: Shape,
}

/// What a value looks like.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    Kind(&'static str),
    Text,
    Texts,
    Name,
    Span,
    Share,
    Count,
    Limit,
    Instant,
    Bool,
    Type,
    Constant,
    Constants,
    Range,
    KnownAt,
    Choice(&'static [&'static str]),
    References,
    /// Entity key = source column.
    Columns,
    Table(&'static Vocabulary),
    Tables(&'static Vocabulary),
    /// A table by name, each with these keys.
    Named(&'static Vocabulary),
}

impl Vocabulary {
    pub fn word(&self, key: &str) -> Option<&'static Word> {
        self.words.iter().find(|word| word.key == key)
    }

    pub fn keys(&self) -> impl Iterator<Item = &'static str> + Clone {
        self.words.iter().map(|word| word.key)
    }

    /// This table and those inside it.
    pub fn family(&'static self) -> Vec<&'static Vocabulary> {
        let mut family = vec![self];
        for word in self.words {
            if let Shape::Table(inside) | Shape::Tables(inside) | Shape::Named(inside) = word.shape {
                family.extend(inside.family());
            }
        }
        family
    }
}

const fn required(key: &'static str, example: &'static str, meaning: &'static str, shape: Shape) -> Word {
    Word { key, required: true, example, meaning, shape }
}

const fn optional(key: &'static str, example: &'static str, meaning: &'static str, shape: Shape) -> Word {
    Word { key, required: false, example, meaning, shape }
}

const NAME: Word = required("name", "\"weather\"", "the name by which it is asked for", Shape::Name);
const PROJECT: Word =
    optional("project", "\"default\"", "the namespace; `default` where none is named", Shape::Name);
const DESCRIPTION: Word = optional(
    "description",
    "\"hourly weather at the airport\"",
    "words for people, not part of the version",
    Shape::Text,
);
const OWNER: Word =
    optional("owner", "\"weather-team\"", "who answers for it, not part of the version", Shape::Text);
const TAGS: Word =
    optional("tags", "[\"weather\"]", "words to find it by, not part of the version", Shape::Texts);

const TOP: &str = "at the top of the file, above the first [table]";

pub(super) static ENTITY: Vocabulary = Vocabulary {
    table: "an entity",
    place: TOP,
    words: &[
        required("kind", "\"entity\"", "what this file defines", Shape::Kind("entity")),
        NAME,
        PROJECT,
        DESCRIPTION,
        OWNER,
        TAGS,
        required(
            "keys",
            "a [[keys]] table with name and type for each",
            "the columns that tell one from another, in the order in which files are sorted",
            Shape::Tables(&ENTITY_KEY),
        ),
    ],
};

static ENTITY_KEY: Vocabulary = Vocabulary {
    table: "[[keys]]",
    place: "in a [[keys]] table",
    words: &[
        required("name", "\"user_id\"", "the key's column", Shape::Name),
        required("type", "\"int64\"", "the key's type, no float", Shape::Type),
    ],
};

pub(super) static VIEW: Vocabulary = Vocabulary {
    table: "a feature view",
    place: TOP,
    words: &[
        required("kind", "\"feature_view\"", "what this file defines", Shape::Kind("feature_view")),
        NAME,
        PROJECT,
        required("entity", "\"airport\"", "the entity that the features describe", Shape::Name),
        optional(
            "ttl",
            "\"3h\"",
            "how far a retrieval looks back; for ever where it is left out",
            Shape::Span,
        ),
        optional(
            "reject_above",
            "0.01",
            "the share of rejected rows, 0 to 1, above which a batch is refused whole",
            Shape::Share,
        ),
        DESCRIPTION,
        OWNER,
        TAGS,
        optional(
            "hypothesis",
            "\"delays follow wind more than rain\"",
            "what this version is to find out, not part of the version",
            Shape::Text,
        ),
        required(
            "time",
            "a [time] table with valid_at and known_at",
            "how the two times of an observation are found",
            Shape::Table(&TIME),
        ),
        optional(
            "keys",
            "a [keys] table with lines such as origin = \"airport_code\"",
            "entity key = source column, for keys whose column has another name",
            Shape::Columns,
        ),
        optional(
            "occurrence",
            "an [occurrence] table with name and type",
            "a column that keeps apart several observations of one key and instant",
            Shape::Table(&OCCURRENCE),
        ),
        required(
            "features",
            "a [[features]] table with name and type for each",
            "the features, in the order of the table's columns",
            Shape::Tables(&FEATURE),
        ),
        optional(
            "checks",
            "a [[checks]] table with name and sql for each",
            "conditions over one row; a row that fails one is rejected",
            Shape::Tables(&CHECK),
        ),
        optional(
            "source",
            "a [source] table with files",
            "where rows come from when ingest is given no files",
            Shape::Table(&SOURCE),
        ),
        optional(
            "derived",
            "a [derived] table with sql",
            "the query over other feature views that makes the rows, brought up to date by refresh",
            Shape::Table(&DERIVED),
        ),
        optional(
            "quality",
            "a [quality] table",
            "how its batches are judged, not part of the version; without it they are profiled only",
            Shape::Table(&QUALITY),
        ),
        optional(
            "sampling",
            "a [sampling] table with lines such as reads = 0.01",
            "what is profiled of that which is read and streamed, not part of the version",
            Shape::Table(&SAMPLING),
        ),
        optional(
            "retention",
            "a [retention] table with keep",
            "how long its rows are kept, not part of the version; for ever where it is left out",
            Shape::Table(&RETENTION),
        ),
    ],
};

const READS: Word = optional(
    "reads",
    "0.01",
    "the share of entities, 0 to 1, whose retrieved features are compared with the baseline",
    Shape::Share,
);

pub(super) static SAMPLING: Vocabulary = Vocabulary {
    table: "[sampling]",
    place: "in the [sampling] table",
    words: &[
        READS,
        optional(
            "streams",
            "0.05",
            "the share of entities, 0 to 1, whose streamed rows are compared with the baseline",
            Shape::Share,
        ),
    ],
};

static RETENTION: Vocabulary = Vocabulary {
    table: "[retention]",
    place: "in the [retention] table",
    words: &[
        required(
            "keep",
            "\"400d\"",
            "rows that have been valid for longer than this go; no less than the view's ttl",
            Shape::Span,
        ),
        optional(
            "unused_sets",
            "\"90d\"",
            "how long a training set of which no model is known keeps the rows that it was made of; for ever where it is left out",
            Shape::Span,
        ),
    ],
};

pub(super) static READ_SAMPLING: Vocabulary = Vocabulary {
    table: "[sampling] of a feature service",
    place: "in the [sampling] table of a feature service",
    words: &[READS],
};

pub(super) static QUALITY: Vocabulary = Vocabulary {
    table: "[quality]",
    place: "in the [quality] table",
    words: &[
        optional(
            "baseline",
            "{ batches = 30 }",
            "what a batch is compared with; the latest 30 batches where it is left out",
            Shape::Table(&BASELINE),
        ),
        optional(
            "on_fail",
            "\"quarantine\"",
            "what becomes of a batch that fails: it counts all the same, or for nobody until it is released",
            Shape::Choice(&["admit", "quarantine"]),
        ),
        optional(
            "least_rows",
            "30",
            "values that a batch and its baseline need before their distributions are compared",
            Shape::Count,
        ),
        optional(
            "checks",
            "a [quality.checks] table with lines such as psi = { warn = 0.2, fail = 1 }",
            "thresholds for the batch and for all features",
            Shape::Table(&CHECKS),
        ),
        optional(
            "features",
            "a [quality.features.temp] table with lines such as psi = { warn = 0.2, fail = 1 }",
            "thresholds for single features",
            Shape::Named(&FEATURE_CHECKS),
        ),
    ],
};

pub(super) static BASELINE: Vocabulary = Vocabulary {
    table: "baseline",
    place: "in the braces of baseline",
    words: &[
        optional("batches", "30", "so many batches that count, the latest", Shape::Count),
        optional("from", "\"2013-06-01T00:00:00Z\"", "batches of this time on", Shape::Instant),
        optional("until", "\"2013-09-01T00:00:00Z\"", "and before this time", Shape::Instant),
        optional(
            "model",
            "\"delay\"",
            "what the deployed versions of this model were trained on",
            Shape::Text,
        ),
    ],
};

const PSI: Word = optional(
    "psi",
    "{ warn = 0.5, fail = 5 }",
    "population stability index over the tenths of the baseline, or over categories",
    Shape::Table(&THRESHOLDS),
);
const JENSEN_SHANNON: Word = optional(
    "jensen_shannon",
    "{ warn = 0.3 }",
    "Jensen-Shannon distance over the same, 0 to 1",
    Shape::Table(&THRESHOLDS),
);
const WASSERSTEIN: Word = optional(
    "wasserstein",
    "{ warn = 1.5, fail = 8 }",
    "how far values moved, in standard deviations of the baseline",
    Shape::Table(&THRESHOLDS),
);
const CHI_SQUARE: Word = optional(
    "chi_square",
    "{ warn = 0.5, fail = 2 }",
    "Cohen's w of categories, where chi-square is significant",
    Shape::Table(&THRESHOLDS),
);
const NULL_RATE: Word = optional(
    "null_rate",
    "{ warn = 0.1, fail = 0.45 }",
    "by how much the share of nulls and NaN grew",
    Shape::Table(&THRESHOLDS),
);
const NEW_VALUES: Word = optional(
    "new_values",
    "{ warn = 0.02, fail = 0.2 }",
    "share of rows in categories that the baseline lacks",
    Shape::Table(&THRESHOLDS),
);
const OUT_OF_RANGE: Word = optional(
    "out_of_range",
    "{ warn = 0.02, fail = 0.25 }",
    "share of numbers more than a quarter of the baseline's range outside of it",
    Shape::Table(&THRESHOLDS),
);
const SPREAD: Word = optional(
    "spread",
    "{ warn = 4, fail = 20 }",
    "the factor by which the standard deviation differs",
    Shape::Table(&THRESHOLDS),
);

const SEASONAL_MEAN: Word = optional(
    "seasonal_mean",
    "{ warn = 8 }",
    "how far the mean is from what is usual at that weekday and hour, in standard deviations",
    Shape::Table(&THRESHOLDS),
);

pub(super) static CHECKS: Vocabulary = Vocabulary {
    table: "[quality.checks]",
    place: "in the [quality.checks] table",
    words: &[
        PSI,
        JENSEN_SHANNON,
        WASSERSTEIN,
        CHI_SQUARE,
        NULL_RATE,
        NEW_VALUES,
        OUT_OF_RANGE,
        SPREAD,
        optional(
            "volume",
            "{ warn = 2, fail = 5 }",
            "the factor by which the number of rows differs from the baseline's median batch",
            Shape::Table(&THRESHOLDS),
        ),
        optional(
            "schema",
            "{ warn = 0 }",
            "columns of the source that came, went or changed type since the latest batch",
            Shape::Table(&THRESHOLDS),
        ),
        optional(
            "freshness",
            "{ warn = 3, fail = 24 }",
            "hours from the last valid_at to now",
            Shape::Table(&THRESHOLDS),
        ),
        SEASONAL_MEAN,
        optional(
            "seasonal_rows",
            "{ warn = 8 }",
            "how far the number of rows is from what is usual at that weekday and hour, in standard deviations",
            Shape::Table(&THRESHOLDS),
        ),
    ],
};

pub(super) static FEATURE_CHECKS: Vocabulary = Vocabulary {
    table: "a table of [quality.features]",
    place: "in the table of a feature under [quality.features]",
    words: &[
        PSI,
        JENSEN_SHANNON,
        WASSERSTEIN,
        CHI_SQUARE,
        NULL_RATE,
        NEW_VALUES,
        OUT_OF_RANGE,
        SPREAD,
        SEASONAL_MEAN,
    ],
};

pub(super) static THRESHOLDS: Vocabulary = Vocabulary {
    table: "thresholds",
    place: "in the braces of a check",
    words: &[
        optional("warn", "0.25", "a value above this warns; left out, none does", Shape::Limit),
        optional("fail", "1", "a value above this fails; left out, none does", Shape::Limit),
    ],
};

static TIME: Vocabulary = Vocabulary {
    table: "[time]",
    place: "in the [time] table",
    words: &[
        required(
            "valid_at",
            "\"time_hour\"",
            "the source column that says when the values are true of the entity",
            Shape::Text,
        ),
        required(
            "known_at",
            "{ delay = \"30m\" }",
            "when the values could first have been known: { column = … }, { delay = … }, \"arrival\" or \"assumed\"",
            Shape::KnownAt,
        ),
        optional("zone", "\"America/New_York\"", "the IANA zone of times that carry none", Shape::Text),
        optional(
            "repeated_hour",
            "\"refuse\"",
            "what a naive time means in the hour that the zone repeats in autumn",
            Shape::Choice(&["refuse", "earlier", "later"]),
        ),
    ],
};

pub(super) static KNOWN_AT: Vocabulary = Vocabulary {
    table: "known_at",
    place: "in the braces of known_at",
    words: &[
        optional("column", "\"published_at\"", "the source column that says it", Shape::Text),
        optional("delay", "\"30m\"", "this long after valid_at", Shape::Span),
    ],
};

/// `known_at` without a table, each with its meaning.
pub(super) const KNOWN_AT_WORDS: [(&str, &str); 2] = [
    ("arrival", "when the store took it in"),
    ("assumed", "nobody knows: taken as valid_at, and marked as assumed"),
];

static OCCURRENCE: Vocabulary = Vocabulary {
    table: "[occurrence]",
    place: "in the [occurrence] table",
    words: &[
        required("name", "\"flight_id\"", "the column's name in the view", Shape::Name),
        required("type", "\"int64\"", "its type, no float", Shape::Type),
        optional("column", "\"flight_id\"", "the source column; the name where it is left out", Shape::Text),
    ],
};

static FEATURE: Vocabulary = Vocabulary {
    table: "[[features]]",
    place: "in a [[features]] table",
    words: &[
        required("name", "\"wind_speed\"", "the feature's name", Shape::Name),
        required("type", "\"float64\"", "the feature's type", Shape::Type),
        optional("unit", "\"mph\"", "what the number counts, a part of the type", Shape::Text),
        optional("column", "\"wind_speed\"", "the source column; the name where it is left out", Shape::Text),
        optional(
            "range",
            "[0, 200]",
            "least and greatest accepted value, both inclusive, \"\" for an open end",
            Shape::Range,
        ),
        optional("one_of", "[\"N\", \"S\"]", "the accepted values", Shape::Constants),
        optional(
            "nullable",
            "true",
            "whether a row may have no value here; true where it is left out",
            Shape::Bool,
        ),
        optional(
            "nan",
            "false",
            "whether NaN is accepted, for floats; true where it is left out",
            Shape::Bool,
        ),
        optional("default", "0", "what a retrieval gives when there is no observation", Shape::Constant),
        DESCRIPTION,
        OWNER,
        TAGS,
    ],
};

static CHECK: Vocabulary = Vocabulary {
    table: "[[checks]]",
    place: "in a [[checks]] table",
    words: &[
        required(
            "name",
            "\"gust_not_below_wind\"",
            "the name under which rejected rows are counted",
            Shape::Name,
        ),
        required(
            "sql",
            "\"wind_gust >= wind_speed\"",
            "a condition over the view's columns; a row is rejected where it is false, null passes",
            Shape::Text,
        ),
    ],
};

static SOURCE: Vocabulary = Vocabulary {
    table: "[source]",
    place: "in the [source] table",
    words: &[
        required(
            "files",
            "\"../weather/*.parquet\"",
            "a path or pattern, relative to this file's folder",
            Shape::Text,
        ),
        optional(
            "format",
            "\"parquet\"",
            "the files' format; by their ending where it is left out",
            Shape::Choice(&["parquet", "csv", "arrow"]),
        ),
        optional(
            "where",
            "\"dep_utc IS NOT NULL\"",
            "which rows are taken, in SQL over the source's columns",
            Shape::Text,
        ),
    ],
};

static DERIVED: Vocabulary = Vocabulary {
    table: "[derived]",
    place: "in the [derived] table",
    words: &[required(
        "sql",
        "\"SELECT origin, valid_at, known_at, (temp - 32) / 1.8 AS celsius FROM history('weather')\"",
        "a query over other feature views; its columns are what valid_at, known_at, keys and features name",
        Shape::Text,
    )],
};

pub(super) static SERVICE: Vocabulary = Vocabulary {
    table: "a feature service",
    place: TOP,
    words: &[
        required("kind", "\"feature_service\"", "what this file defines", Shape::Kind("feature_service")),
        NAME,
        PROJECT,
        DESCRIPTION,
        OWNER,
        TAGS,
        required(
            "features",
            "[\"weather.temp\", \"plane.*\"]",
            "the features that a model uses: view.feature, view@version.feature or view.*",
            Shape::References,
        ),
        optional(
            "sampling",
            "a [sampling] table with reads = 0.01",
            "what is profiled of that which is read by the service's name, not part of the version",
            Shape::Table(&READ_SAMPLING),
        ),
    ],
};

/// The kinds of definition, by the value of `kind`.
pub(super) static KINDS: [(&str, &Vocabulary); 3] =
    [("entity", &ENTITY), ("feature_view", &VIEW), ("feature_service", &SERVICE)];

/// What other tools call it, and our word for the same.
pub(super) const FOREIGN: [(&str, &str); 30] = [
    ("allowed", "one_of"),
    ("allowed_values", "one_of"),
    ("batch_source", "source"),
    ("condition", "sql"),
    ("created_timestamp_column", "known_at"),
    ("data_type", "type"),
    ("doc", "description"),
    ("dtype", "type"),
    ("entities", "entity"),
    ("enum", "one_of"),
    ("event_time", "valid_at"),
    ("event_timestamp_column", "valid_at"),
    ("expression", "sql"),
    ("feature_views", "features"),
    ("fields", "features"),
    ("file", "files"),
    ("fillna", "default"),
    ("filter", "where"),
    ("join_key", "keys"),
    ("join_keys", "keys"),
    ("max", "range"),
    ("maximum", "range"),
    ("min", "range"),
    ("minimum", "range"),
    ("not_null", "nullable"),
    ("path", "files"),
    ("required", "nullable"),
    ("schema", "features"),
    ("timestamp_field", "valid_at"),
    ("timezone", "zone"),
];
