//! Files of alerts.

use toml::de::DeTable;

use super::is_toml;
use super::page::Page;
use super::table::{Table, did_you_mean, listed};
use crate::definition::alerts::{Address, Alerts, Condition, Rule, Sink, SinkKind, ViewPattern};
use crate::definition::errors::DefinitionErrors;
use crate::definition::quality::Measure;
use crate::definition::vocabulary::{ALERTS, RULE, SINK};
use crate::name::{Name, nearest, split_project};
use crate::quality::Verdict;
use crate::time::Span;

/// How often what stands is looked at, where the file does not say.
const EVERY: &str = "1m";
/// How long a receiver may take, and a missing link be missing, where the file does not say.
const TIMEOUT: &str = "10s";
const LINK_AFTER: &str = "1h";
/// The longest that a receiver may take: meanwhile others wait.
const LONGEST_TIMEOUT: i64 = 60_000_000;

/// Reads a file of alerts; `file_name` is for messages alone. All errors come together, each with its line and column.
pub fn parse_alerts(file_name: &str, text: &str) -> Result<Alerts, DefinitionErrors> {
    let mut page = Page::new(file_name, text);
    match read(&mut page, text) {
        Some(alerts) if page.is_clean() => Ok(alerts),
        _ => Err(DefinitionErrors::new(page.take_errors())),
    }
}

fn read(page: &mut Page<'_>, text: &str) -> Option<Alerts> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if !is_toml(page, &errors) {
        return None;
    }
    let family = ALERTS.family();
    let table = Table::open(&ALERTS, &family, String::new(), 0..0, document.get_ref(), page);
    let every = span(&table, "every", page).or_else(|| EVERY.parse().ok())?;
    for key in ["sinks", "rules"] {
        if table.get(key).is_none() {
            table.missing(key, page);
        }
    }
    let tables = table.tables("sinks", "sink", &SINK, &family, page).unwrap_or_default();
    let sinks: Vec<Option<Sink>> = tables.iter().map(|table| sink(table, page)).collect();
    let names: Vec<Option<Name>> = sinks.iter().map(|sink| Some(sink.as_ref()?.name.clone())).collect();
    twice(&tables, &names, page);
    let broken = sinks.iter().any(Option::is_none);
    let sinks: Vec<Sink> = sinks.into_iter().flatten().collect();
    let tables = table.tables("rules", "rule", &RULE, &family, page).unwrap_or_default();
    let rules: Vec<Option<Rule>> = tables.iter().map(|table| rule(table, &sinks, broken, page)).collect();
    let names: Vec<Option<Name>> = rules.iter().map(|rule| Some(rule.as_ref()?.name.clone())).collect();
    twice(&tables, &names, page);
    Some(Alerts { every, sinks, rules: rules.into_iter().flatten().collect() })
}

/// Notes names that come twice.
fn twice(tables: &[Table<'_>], names: &[Option<Name>], page: &mut Page<'_>) {
    for (place, (table, name)) in tables.iter().zip(names).enumerate() {
        let Some(name) = name else { continue };
        if names.iter().take(place).flatten().any(|earlier| earlier == name) {
            let span = table.get("name").map_or_else(|| table.span.clone(), |value| value.span());
            page.wrong(span, format!("{}the name comes twice; give it another", table.label));
        }
    }
}

/// A span that is not nothing.
fn span(table: &Table<'_>, key: &'static str, page: &mut Page<'_>) -> Option<Span> {
    let read: Span = table.parsed(key, page)?;
    if read > Span::ZERO {
        return Some(read);
    }
    if let Some(value) = table.get(key) {
        page.wrong(value.span(), format!("{}`{key}` is no time at all; write 1s or more", table.label));
    }
    None
}

fn sink(table: &Table<'_>, page: &mut Page<'_>) -> Option<Sink> {
    #[derive(Clone, Copy)]
    enum Kind {
        Log,
        Webhook,
    }
    require(table, &["name", "type"], page);
    let name = table.name("name", page);
    let timeout = span(table, "timeout", page);
    if let (Some(value), Some(timeout)) = (table.get("timeout"), timeout)
        && timeout.micros() > LONGEST_TIMEOUT
    {
        page.wrong(value.span(), format!("{}`timeout` is {timeout}; at most 1m is waited", table.label));
    }
    let to = match table.choice("type", &[("log", Kind::Log), ("webhook", Kind::Webhook)], page)? {
        Kind::Log => {
            belong(table, &["url", "url_env", "secret_env", "timeout"], &[], "a sink of type \"log\"", page);
            SinkKind::Log
        }
        Kind::Webhook => {
            let secret_env = variable(table, "secret_env", page);
            if table.get("secret_env").is_none() {
                table.missing("secret_env", page);
            }
            let address = match (table.get("url"), table.get("url_env")) {
                (Some(value), None) => {
                    let text = table.text("url", page)?;
                    if !text.starts_with("https://") && !text.starts_with("http://") {
                        let message =
                            format!("{}`url` is \"{text}\"; it begins with https:// or http://", table.label);
                        page.wrong(value.span(), message);
                    }
                    Address::Written(text)
                }
                (None, Some(_)) => Address::Environment(variable(table, "url_env", page)?),
                (both, _) => {
                    let span = both.map_or_else(|| table.span.clone(), |value| value.span());
                    let message = format!(
                        "{}a webhook has either `url` or, where its address is a secret, `url_env`, the name of an environment variable",
                        table.label
                    );
                    page.wrong(span, message);
                    return None;
                }
            };
            let timeout = timeout.or_else(|| TIMEOUT.parse().ok())?;
            SinkKind::Webhook { address, secret_env: secret_env?, timeout }
        }
    };
    Some(Sink { name: name?, to })
}

/// The name of an environment variable, and not what it holds.
fn variable(table: &Table<'_>, key: &'static str, page: &mut Page<'_>) -> Option<String> {
    let text = table.text(key, page)?;
    let is_name = |text: &str| {
        text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !text.starts_with(|c: char| c.is_ascii_digit())
    };
    if is_name(&text) {
        return Some(text);
    }
    if let Some(value) = table.get(key) {
        // What stands there may be a secret: it is not repeated.
        let message = format!(
            "{}`{key}` is no name of an environment variable; write the variable's name there, never what it holds",
            table.label
        );
        page.wrong(value.span(), message);
    }
    None
}

/// Notes keys that are missing.
fn require(table: &Table<'_>, keys: &[&'static str], page: &mut Page<'_>) {
    for key in keys.iter().filter(|key| table.get(key).is_none()) {
        table.missing(key, page);
    }
}

/// Notes keys among these that say nothing here.
fn belong(table: &Table<'_>, among: &[&'static str], own: &[&'static str], what: &str, page: &mut Page<'_>) {
    for key in among.iter().filter(|key| !own.contains(key)) {
        if let Some(value) = table.get(key) {
            page.wrong(value.span(), format!("{}`{key}` says nothing of {what}; leave it out", table.label));
        }
    }
}

const CONDITIONS: [(&str, &[&str]); 7] = [
    ("check", &["views", "verdict", "measures"]),
    ("quarantine", &["views"]),
    ("refused", &["views"]),
    ("version_churn", &["views", "more_than", "within"]),
    ("freshness", &["views", "after"]),
    ("missing_lineage", &["after"]),
    ("dangling", &["deployed", "objects"]),
];

fn rule(table: &Table<'_>, sinks: &[Sink], broken: bool, page: &mut Page<'_>) -> Option<Rule> {
    require(table, &["name", "on", "sinks"], page);
    let name = table.name("name", page);
    let told = told(table, sinks, broken, page);
    let views = views(table, page);
    let on = table.choice("on", &CONDITIONS.map(|(word, keys)| (word, (word, keys))), page);
    let (word, keys) = on?;
    let all = ["views", "verdict", "measures", "more_than", "within", "after", "deployed", "objects"];
    belong(table, &all, keys, &format!("a rule on \"{word}\""), page);
    let on = match word {
        "check" => Condition::Check {
            least: table
                .choice("verdict", &[("warn", Verdict::Warn), ("fail", Verdict::Fail)], page)
                .unwrap_or(Verdict::Fail),
            measures: measures(table, page),
        },
        "quarantine" => Condition::Quarantine,
        "refused" => Condition::Refused,
        "version_churn" => {
            require(table, &["more_than", "within"], page);
            Condition::VersionChurn { more_than: count(table, page)?, within: span(table, "within", page)? }
        }
        "freshness" => {
            require(table, &["after"], page);
            Condition::Freshness { after: span(table, "after", page)? }
        }
        "missing_lineage" => Condition::MissingLineage {
            after: span(table, "after", page).or_else(|| LINK_AFTER.parse().ok())?,
        },
        _ => Condition::Dangling {
            deployed: table.boolean("deployed", page).unwrap_or(false),
            objects: span(table, "objects", page),
        },
    };
    Some(Rule { name: name?, on, views, sinks: told? })
}

/// A whole number.
fn count(table: &Table<'_>, page: &mut Page<'_>) -> Option<u32> {
    let number = table.number("more_than", page)?;
    if number >= 0.0 && number.fract() == 0.0 && number <= f64::from(u32::MAX) {
        return Some(number as u32);
    }
    if let Some(value) = table.get("more_than") {
        let message = format!("{}`more_than` is {number}; write a whole number", table.label);
        page.wrong(value.span(), message);
    }
    None
}

/// The sinks of a rule. `broken`: one of the file could not be read, so that no name can be called unknown.
fn told(table: &Table<'_>, sinks: &[Sink], broken: bool, page: &mut Page<'_>) -> Option<Vec<Name>> {
    let texts = table.texts("sinks", page)?;
    let span = table.get("sinks").map_or_else(|| table.span.clone(), |value| value.span());
    if texts.is_empty() {
        page.wrong(span, format!("{}`sinks` is empty, and nobody would be told; name one", table.label));
        return None;
    }
    let mut names: Vec<Name> = Vec::new();
    for text in &texts {
        match sinks.iter().find(|sink| sink.name.as_str() == text) {
            Some(sink) if names.contains(&sink.name) => {}
            Some(sink) => names.push(sink.name.clone()),
            None if broken => {}
            None => {
                let known = || sinks.iter().map(|sink| sink.name.as_str());
                let message = format!(
                    "{}there is no sink `{text}`{}; the file has {}",
                    table.label,
                    did_you_mean(nearest(text, known())),
                    listed(known())
                );
                page.wrong(span.clone(), message);
            }
        }
    }
    Some(names)
}

fn views(table: &Table<'_>, page: &mut Page<'_>) -> Vec<ViewPattern> {
    let mut patterns = Vec::new();
    for text in table.texts("views", page).unwrap_or_default() {
        let (project, view) = split_project(&text);
        let named = if view == "*" { Ok(None) } else { view.parse::<Name>().map(Some) };
        match (project.parse::<Name>(), named) {
            (Ok(project), Ok(view)) => patterns.push(ViewPattern { project, view }),
            (Err(why), _) | (_, Err(why)) => {
                let span = table.get("views").map_or_else(|| table.span.clone(), |value| value.span());
                let message = format!(
                    "{}`views`: \"{text}\" is no feature view ({why}); write weather, fraud.cards, or fraud.* for all of a project",
                    table.label
                );
                page.wrong(span, message);
            }
        }
    }
    patterns
}

fn measures(table: &Table<'_>, page: &mut Page<'_>) -> Vec<Measure> {
    let mut found = Vec::new();
    for text in table.texts("measures", page).unwrap_or_default() {
        match Measure::ALL.into_iter().find(|measure| measure.name() == text) {
            Some(measure) => found.push(measure),
            None => {
                let known = || Measure::ALL.into_iter().map(Measure::name);
                let span = table.get("measures").map_or_else(|| table.span.clone(), |value| value.span());
                let message = format!(
                    "{}`measures`: there is no measure `{text}`{}; they are {}",
                    table.label,
                    did_you_mean(nearest(&text, known())),
                    listed(known())
                );
                page.wrong(span, message);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
every = "30s"
[[sinks]]
name = "on_call"
type = "webhook"
url = "https://alerts.example.org/in"
secret_env = "ALERTS_SECRET"
timeout = "2s"
[[sinks]]
name = "log"
type = "log"
[[rules]]
name = "drift"
on = "check"
verdict = "warn"
measures = ["psi", "wasserstein"]
views = ["weather", "fraud.*"]
sinks = ["on_call", "log"]
[[rules]]
name = "churn"
on = "version_churn"
more_than = 3
within = "7d"
sinks = ["log"]
[[rules]]
name = "gone"
on = "dangling"
deployed = true
objects = "1h"
sinks = ["log"]
[[rules]]
name = "unlinked"
on = "missing_lineage"
sinks = ["log"]
"#;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn a_whole_file_is_read() {
        let alerts = parse_alerts("alerts.toml", WHOLE).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(alerts.every, "30s".parse().unwrap());
        let SinkKind::Webhook { address, secret_env, timeout } = &alerts.sinks[0].to else { panic!() };
        assert_eq!(*address, Address::Written("https://alerts.example.org/in".to_owned()));
        assert_eq!((secret_env.as_str(), *timeout), ("ALERTS_SECRET", "2s".parse().unwrap()));
        assert_eq!(alerts.sinks[1].to, SinkKind::Log);
        let [drift, churn, gone, unlinked] = &alerts.rules[..] else { panic!() };
        let measures = vec![Measure::Psi, Measure::Wasserstein];
        assert_eq!(drift.on, Condition::Check { least: Verdict::Warn, measures });
        assert!(
            drift.covers(&name("default"), &name("weather")) && drift.covers(&name("fraud"), &name("cards"))
        );
        assert!(!drift.covers(&name("default"), &name("legs")) && churn.covers(&name("a"), &name("b")));
        assert_eq!(drift.sinks, [name("on_call"), name("log")]);
        assert_eq!(churn.on, Condition::VersionChurn { more_than: 3, within: "7d".parse().unwrap() });
        assert_eq!(gone.on, Condition::Dangling { deployed: true, objects: "1h".parse().ok() });
        assert_eq!(unlinked.on, Condition::MissingLineage { after: "1h".parse().unwrap() });
    }

    #[test]
    fn mistakes_come_together_with_their_lines() {
        let text = r#"[[sinks]]
name = "on_call"
type = "webhook"
url = "ftp://alerts.example.org"
secret_env = "s3cr3t!"
[[sinks]]
name = "log"
type = "logg"
[[rules]]
name = "drift"
on = "cheque"
sinks = ["log"]
[[rules]]
name = "old"
on = "freshness"
within = "1h"
sinks = []
[[rules]]
name = "old"
on = "check"
measures = ["pzi"]
veiws = ["weather"]
sinks = ["log"]
"#;
        let errors = parse_alerts("alerts.toml", text).unwrap_err().to_string();
        let lines: Vec<&str> = errors.lines().collect();
        let expected = [
            "alerts.toml:4:7: sink `on_call`: `url` is \"ftp://alerts.example.org\"; it begins with https:// or http://",
            "alerts.toml:5:14: sink `on_call`: `secret_env` is no name of an environment variable; write the variable's name there, never what it holds",
            "alerts.toml:8:8: `type` is \"logg\" (did you mean `log`?)",
            "alerts.toml:11:6: `on` is \"cheque\" (did you mean `check`?)",
            "rule `old`: [[rules]] needs `after`, how long it may last; write after = \"3h\"",
            "alerts.toml:16:10: rule `old`: `within` says nothing of a rule on \"freshness\"; leave it out",
            "alerts.toml:17:9: rule `old`: `sinks` is empty, and nobody would be told; name one",
            "alerts.toml:21:12: rule `old`: `measures`: there is no measure `pzi` (did you mean `psi`?)",
            "alerts.toml:22:1: rule `old`: `veiws` is not a key of [[rules]] (did you mean `views`?)",
        ];
        for expected in expected {
            let parts: Vec<&str> = expected.split(": ").collect();
            let found = lines.iter().any(|line| parts.iter().all(|part| line.contains(part)));
            assert!(found, "{expected}\n---\n{errors}");
        }
        assert!(!errors.contains("s3cr3t"), "{errors}");
        let errors = parse_alerts("alerts.toml", "every = 3\n").unwrap_err().to_string();
        assert!(errors.contains("needs `sinks`") && errors.contains("needs `rules`"), "{errors}");
        let unknown = WHOLE.replace("sinks = [\"on_call\", \"log\"]", "sinks = [\"on_cal\"]");
        let errors = parse_alerts("alerts.toml", &unknown).unwrap_err().to_string();
        assert!(
            errors.contains(
                "there is no sink `on_cal` (did you mean `on_call`?); the file has on_call and log"
            ),
            "{errors}"
        );
        let twice = WHOLE.replace("name = \"churn\"", "name = \"drift\"");
        let errors = parse_alerts("alerts.toml", &twice).unwrap_err().to_string();
        assert!(
            errors.contains("alerts.toml:20:8: rule `drift`: the name comes twice; give it another"),
            "{errors}"
        );
    }
}
