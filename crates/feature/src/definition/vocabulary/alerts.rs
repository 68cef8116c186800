//! The words of a file of alerts.

use super::{Shape, TOP, Vocabulary, optional, required};

pub(in crate::definition) static ALERTS: Vocabulary = Vocabulary {
    table: "a file of alerts",
    place: TOP,
    words: &[
        optional("every", "\"1m\"", "how often what stands is looked at", Shape::Span),
        required(
            "sinks",
            "a [[sinks]] table for each place that alerts go to",
            "where alerts go",
            Shape::Tables(&SINK),
        ),
        required(
            "rules",
            "a [[rules]] table for each rule",
            "of what somebody is told",
            Shape::Tables(&RULE),
        ),
    ],
};

pub(in crate::definition) static SINK: Vocabulary = Vocabulary {
    table: "[[sinks]]",
    place: "in a [[sinks]] table",
    words: &[
        required("name", "\"on_call\"", "the name that rules have for it", Shape::Name),
        required("type", "\"webhook\"", "webhook or log", Shape::Choice(&["webhook", "log"])),
        optional("url", "\"https://alerts.example.org/lineament\"", "where a webhook is", Shape::Text),
        optional(
            "url_env",
            "\"ALERTS_URL\"",
            "the environment variable that says where a webhook is, where its address is a secret",
            Shape::Text,
        ),
        optional(
            "secret_env",
            "\"LINEAMENT_ALERTS_SECRET\"",
            "the environment variable that holds the key that messages are signed with",
            Shape::Text,
        ),
        optional("timeout", "\"10s\"", "how long a receiver may take for its answer", Shape::Span),
    ],
};

pub(in crate::definition) static RULE: Vocabulary = Vocabulary {
    table: "[[rules]]",
    place: "in a [[rules]] table",
    words: &[
        required("name", "\"weather_fails\"", "the name that alerts have of it", Shape::Name),
        required(
            "on",
            "\"check\"",
            "what it is about",
            Shape::Choice(&[
                "check",
                "quarantine",
                "refused",
                "version_churn",
                "freshness",
                "missing_lineage",
                "dangling",
            ]),
        ),
        required("sinks", "[\"on_call\"]", "the names of the sinks that are told", Shape::Texts),
        optional("views", "[\"weather\", \"fraud.*\"]", "the feature views that it is about", Shape::Texts),
        optional("verdict", "\"fail\"", "fail, or warn for both", Shape::Choice(&["warn", "fail"])),
        optional("measures", "[\"psi\"]", "the measures that it is about", Shape::Texts),
        optional("more_than", "3", "how many versions are not too many", Shape::Count),
        optional("within", "\"7d\"", "the time in which versions are counted", Shape::Span),
        optional("after", "\"3h\"", "how long it may last", Shape::Span),
        optional("deployed", "true", "only what a deployment in force stands on", Shape::Bool),
        optional("objects", "\"1h\"", "how often the store's objects are asked for as well", Shape::Span),
    ],
};
