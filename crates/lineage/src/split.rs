//! How a training set falls into parts, declared when it is made: the rule stands in the manifest, and with it and the rows
//! anybody finds the parts again. `docs/splits.md` says which row falls where, to the bit.

use std::collections::BTreeSet;

use feature::{Span, Timestamp};
use serde::{Deserialize, Serialize};

/// The most parts that a set may have.
const PARTS: usize = 64;
/// The longest name of a part or a column.
const NAME_BYTES: usize = 63;

/// A rule that puts each row into one part, or into none. What a program does not know of a rule changes its meaning, so unknown
/// members are refused rather than passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Split {
    /// By the rows' time: what was learnt from comes before what it is tested on.
    Time(TimeSplit),
    /// By entity: all rows of one stand in one part.
    Entity(EntitySplit),
    /// By the rows' numbers and a seed.
    Random(RandomSplit),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeSplit {
    /// Ascending; the last has no end.
    pub parts: Vec<TimePart>,
    /// So long after each boundary rows belong to no part: their labels may overlap with the part before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Span>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimePart {
    pub name: String,
    /// Rows before this instant, and not before the part before ends.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "feature::time::rfc3339::option")]
    pub until: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntitySplit {
    /// Columns of the spine that tell one entity from another.
    pub keys: Vec<String>,
    pub parts: Vec<WeightedPart>,
    #[serde(default)]
    pub seed: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomSplit {
    pub parts: Vec<WeightedPart>,
    #[serde(default)]
    pub seed: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightedPart {
    pub name: String,
    /// The part's share is this of the sum of all.
    pub weight: u32,
}

impl Split {
    /// Refuses a rule that says nothing, or that could be read in two ways.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn verify(&self) -> Result<(), String> {
        match self {
            Self::Time(split) => {
                verify_names(split.parts.iter().map(|part| &*part.name))?;
                split.verify_times()
            }
            Self::Entity(split) => {
                if split.keys.is_empty() {
                    return Err("a split by entity names the key columns; give at least one".to_owned());
                }
                let mut seen = BTreeSet::new();
                if let Some(twice) = split.keys.iter().find(|key| !seen.insert(key.as_str())) {
                    return Err(format!("the split names the key column `{twice}` twice; name each once"));
                }
                verify_weights(&split.parts)
            }
            Self::Random(split) => verify_weights(&split.parts),
        }
    }

    /// The columns of the spine that it looks at, beside the time column.
    pub fn keys(&self) -> &[String] {
        match self {
            Self::Entity(split) => &split.keys,
            Self::Time(_) | Self::Random(_) => &[],
        }
    }
}

impl TimeSplit {
    fn verify_times(&self) -> Result<(), String> {
        let gap = self.gap.map_or(0, Span::micros);
        let Some((last, bounded)) = self.parts.split_last() else { return Ok(()) };
        if last.until.is_some() {
            return Err(format!(
                "the split's last part `{}` has an end; it takes all later rows, so leave `until` out, or add a part for them",
                last.name
            ));
        }
        let mut before: Option<(&str, Timestamp)> = None;
        for part in bounded {
            let Some(until) = part.until else {
                return Err(format!(
                    "the split's part `{}` has no end; every part but the last says `until` when",
                    part.name
                ));
            };
            if let Some((name, earlier)) = before
                && until.micros() <= earlier.micros().saturating_add(gap)
            {
                return Err(format!(
                    "the split's part `{}` ends at {until}, which leaves it no time after part `{name}`, whose end is {earlier}{}",
                    part.name,
                    if gap > 0 { ", and the gap" } else { "" }
                ));
            }
            before = Some((&part.name, until));
        }
        Ok(())
    }
}

fn verify_weights(parts: &[WeightedPart]) -> Result<(), String> {
    verify_names(parts.iter().map(|part| &*part.name))?;
    if let Some(part) = parts.iter().find(|part| part.weight == 0) {
        return Err(format!(
            "the split's part `{}` has the weight 0, so it would be empty; leave it out",
            part.name
        ));
    }
    let sum: u64 = parts.iter().map(|part| u64::from(part.weight)).sum();
    if sum > u64::from(u32::MAX) {
        return Err(format!(
            "the weights of the split's parts sum up to {sum}; at most {} is allowed",
            u32::MAX
        ));
    }
    Ok(())
}

fn verify_names<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> Result<(), String> {
    let count = names.len();
    if !(2..=PARTS).contains(&count) {
        return Err(format!("the split has {count} parts; it has 2 to {PARTS}"));
    }
    let mut seen = BTreeSet::new();
    for name in names {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if name.is_empty() || name.len() > NAME_BYTES || !name.bytes().all(plain) {
            return Err(format!(
                "`{name}` cannot name a part of a split; names are `a` to `z`, `0` to `9` and `_`, at most {NAME_BYTES} characters"
            ));
        }
        if !seen.insert(name) {
            return Err(format!("the split has two parts named `{name}`; name each differently"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Split, String> {
        let split: Split = serde_json::from_str(text).map_err(|error| error.to_string())?;
        split.verify().map(|()| split)
    }

    #[test]
    fn the_stored_form_stays() {
        for text in [
            r#"{"time":{"parts":[{"name":"train","until":"2013-09-01T00:00:00Z"},{"name":"test"}],"gap":"1d"}}"#,
            r#"{"entity":{"keys":["tailnum"],"parts":[{"name":"train","weight":4},{"name":"test","weight":1}],"seed":7}}"#,
            r#"{"random":{"parts":[{"name":"train","weight":80},{"name":"test","weight":20}],"seed":0}}"#,
        ] {
            let split = read(text).unwrap();
            assert_eq!(serde_json::to_string(&split).unwrap(), text);
        }
    }

    #[test]
    fn a_rule_that_says_nothing_is_refused() {
        for (text, why) in [
            (r#"{"random":{"parts":[{"name":"train","weight":1}]}}"#, "has 1 parts"),
            (
                r#"{"random":{"parts":[{"name":"a","weight":1},{"name":"a","weight":1}]}}"#,
                "two parts named `a`",
            ),
            (r#"{"random":{"parts":[{"name":"a","weight":1},{"name":"b","weight":0}]}}"#, "weight 0"),
            (
                r#"{"random":{"parts":[{"name":"a","weight":4294967295},{"name":"b","weight":1}]}}"#,
                "sum up to 4294967296",
            ),
            (
                r#"{"random":{"parts":[{"name":"A b","weight":1},{"name":"b","weight":1}]}}"#,
                "`A b` cannot name",
            ),
            (r#"{"random":{"parts":[],"seed":-1}}"#, "invalid value"),
            (r#"{"random":{"parts":[],"salt":1}}"#, "unknown field `salt`"),
            (
                r#"{"entity":{"keys":[],"parts":[{"name":"a","weight":1},{"name":"b","weight":1}]}}"#,
                "key columns",
            ),
            (
                r#"{"entity":{"keys":["k","k"],"parts":[{"name":"a","weight":1},{"name":"b","weight":1}]}}"#,
                "`k` twice",
            ),
            (r#"{"time":{"parts":[{"name":"a"},{"name":"b"}]}}"#, "`a` has no end"),
            (
                r#"{"time":{"parts":[{"name":"a","until":"2013-01-01T00:00:00Z"},{"name":"b","until":"2014-01-01T00:00:00Z"}]}}"#,
                "`b` has an end",
            ),
            (
                r#"{"time":{"parts":[{"name":"a","until":"2013-01-02T00:00:00Z"},{"name":"b","until":"2013-01-03T00:00:00Z"},{"name":"c"}],"gap":"1d"}}"#,
                "leaves it no time after part `a`",
            ),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }
}
