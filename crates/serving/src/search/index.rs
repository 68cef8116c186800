//! Which documents have which words, and the best of them for what was typed.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use feature::name::nearest;

use super::words::{Word, nearness, words_of};

/// Where a word stands in what is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    Name,
    Tag,
    Unit,
    Owner,
    /// Names of models, deployments, services and training sets that have it.
    Use,
    /// The names that it stands under: view, entity, project.
    View,
    Description,
}

impl Field {
    pub const ALL: [Self; 7] =
        [Self::Name, Self::Tag, Self::Unit, Self::Owner, Self::Use, Self::View, Self::Description];

    pub fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Tag => "tag",
            Self::Unit => "unit",
            Self::Owner => "owner",
            Self::Use => "use",
            Self::View => "view",
            Self::Description => "description",
        }
    }

    fn weight(self) -> f32 {
        match self {
            Self::Name => 8.0,
            Self::Tag => 5.0,
            Self::Unit | Self::Owner => 4.0,
            Self::Use | Self::View | Self::Description => 3.0,
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a name that is hit whole counts for beyond its words.
const WHOLE_NAME: f32 = 4.0;
/// Words that are looked for at once.
const MOST_WORDS: usize = 16;
/// Characters of all of them.
const MOST_CHARACTERS: usize = 1_000;

/// Words to look for, at least one.
#[derive(Clone, Debug)]
pub struct Wanted(Vec<(Option<Field>, Word)>);

/// Why a text is nothing to look for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WantedError {
    #[error(
        "nothing is looked for; write words, as wind speed, and where they stand, if that matters: tag:pii, owner:ann"
    )]
    Empty,
    #[error(
        "`{field}:` is no place to look in{hint}; it is one of name, tag, unit, owner, use, view and description"
    )]
    Field { field: String, hint: String },
    #[error("{0} words are looked for; at most {MOST_WORDS} are, of {MOST_CHARACTERS} characters together")]
    TooLong(usize),
}

impl FromStr for Wanted {
    type Err = WantedError;

    /// `wind speed`, `weather.temp`, `tag:pii owner:ann`.
    fn from_str(text: &str) -> Result<Self, WantedError> {
        let mut wanted = Vec::new();
        for part in text.split_whitespace() {
            let (field, rest) = match part.split_once(':') {
                Some((field, rest)) => (Some(field_of(field)?), rest),
                None => (None, part),
            };
            wanted.extend(words_of(rest).map(|word| (field, Word::new(&word))));
        }
        if wanted.is_empty() {
            return Err(WantedError::Empty);
        }
        if wanted.len() > MOST_WORDS || text.chars().count() > MOST_CHARACTERS {
            return Err(WantedError::TooLong(wanted.len()));
        }
        Ok(Self(wanted))
    }
}

fn field_of(text: &str) -> Result<Field, WantedError> {
    let lower = text.to_lowercase();
    Field::ALL.into_iter().find(|field| field.name() == lower).ok_or_else(|| {
        let near = nearest(&lower, Field::ALL.map(Field::name));
        let hint = near.map(|near| format!(" (did you mean `{near}:`?)")).unwrap_or_default();
        WantedError::Field { field: text.to_owned(), hint }
    })
}

/// A document that has some of the words.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    pub document: u32,
    /// How many of the words it has.
    pub words: usize,
    pub score: f32,
    fields: u8,
}

impl Hit {
    /// Where the words stand in it.
    pub fn fields(&self) -> impl Iterator<Item = Field> {
        let fields = self.fields;
        Field::ALL.into_iter().filter(move |field| fields & field.bit() != 0)
    }
}

/// Where a word stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    document: u32,
    field: Field,
    /// Which of the document's texts of that field it is.
    text: u32,
}

/// Words of many documents.
#[derive(Debug, Default)]
pub struct Index {
    words: Vec<Word>,
    /// Of each word, where it stands.
    places: Vec<Vec<Place>>,
    /// Of each document, how many words its name has.
    name_words: Vec<u16>,
}

/// An index that is being made.
#[derive(Default)]
pub struct Building {
    words: HashMap<String, Vec<Place>>,
    name_words: Vec<u16>,
}

impl Building {
    /// The next document, by the words that stand in its fields.
    pub fn document<'a>(&mut self, texts: impl IntoIterator<Item = (Field, &'a str)>) {
        let number = u32::try_from(self.name_words.len()).unwrap_or(u32::MAX);
        let mut name_words = 0u16;
        let mut of_field = [0u32; Field::ALL.len()];
        for (field, text) in texts {
            let count = &mut of_field[field as usize];
            let place = Place { document: number, field, text: *count };
            *count += 1;
            let words: Vec<String> = words_of(text).collect();
            if field == Field::Name {
                name_words = name_words.saturating_add(u16::try_from(words.len()).unwrap_or(u16::MAX));
                // Whoever writes `windspeed` means `wind_speed`.
                if words.len() > 1 {
                    self.word(words.concat(), place);
                }
            }
            for word in words {
                self.word(word, place);
            }
        }
        self.name_words.push(name_words);
    }

    fn word(&mut self, word: String, place: Place) {
        let places = self.words.entry(word).or_default();
        if places.last() != Some(&place) {
            places.push(place);
        }
    }

    pub fn finish(self) -> Index {
        let (words, places) = self.words.into_iter().map(|(word, places)| (Word::new(&word), places)).unzip();
        Index { words, places, name_words: self.name_words }
    }
}

impl Index {
    /// Documents that have at least one of the words: those with most of them first, then by score. Among equals the first document is
    /// first. What is said of one document depends on no other. `shown` says whether a use counts, by its document and its place among
    /// that one's uses: what the asker may not see is as if it did not stand there.
    pub fn find(&self, wanted: &Wanted, shown: impl Fn(u32, u32) -> bool) -> Vec<Hit> {
        let documents = self.name_words.len();
        let mut found = vec![Hit { document: 0, words: 0, score: 0.0, fields: 0 }; documents];
        // Of each document, how many of the words stand in its name as they are.
        let mut in_name = vec![0u16; documents];
        let mut best = vec![0f32; documents];
        let mut named = vec![false; documents];
        for (field, word) in &wanted.0 {
            best.fill(0.0);
            named.fill(false);
            for (standing, places) in self.words.iter().zip(&self.places) {
                let Some(near) = nearness(word, standing) else { continue };
                for Place { document, field: place, text } in places {
                    let is_elsewhere = field.is_some_and(|field| field != *place);
                    if is_elsewhere || (*place == Field::Use && !shown(*document, *text)) {
                        continue;
                    }
                    let at = *document as usize;
                    let (Some(best), Some(hit)) = (best.get_mut(at), found.get_mut(at)) else { continue };
                    *best = best.max(near * place.weight());
                    hit.fields |= place.bit();
                    if *place == Field::Name && near == 1.0 {
                        named[at] = true;
                    }
                }
            }
            for ((hit, best), (named, count)) in found
                .iter_mut()
                .zip(&best)
                .zip(named.iter().zip(&mut in_name))
                .filter(|((_, best), _)| **best > 0.0)
            {
                hit.words += 1;
                hit.score += best;
                *count += u16::from(*named);
            }
        }
        for (number, hit) in found.iter_mut().enumerate() {
            hit.document = u32::try_from(number).unwrap_or(u32::MAX);
        }
        for ((hit, in_name), of_name) in found.iter_mut().zip(in_name).zip(&self.name_words) {
            // The shorter of two names that have the words is the better.
            hit.score += WHOLE_NAME * f32::from(in_name.min(*of_name)) / f32::from((*of_name).max(1));
        }
        found.retain(|hit| hit.words > 0);
        found.sort_by(|one, other| {
            other
                .words
                .cmp(&one.words)
                .then(other.score.total_cmp(&one.score))
                .then(one.document.cmp(&other.document))
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn index(documents: &[&[(Field, &str)]]) -> Index {
        let mut building = Building::default();
        documents.iter().for_each(|document| building.document(document.iter().copied()));
        building.finish()
    }

    fn found(index: &Index, words: &str) -> Vec<u32> {
        index.find(&words.parse().unwrap(), |_, _| true).iter().map(|hit| hit.document).collect()
    }

    #[test]
    fn what_has_more_of_the_words_and_has_them_in_its_name_comes_first() {
        let index = index(&[
            &[(Field::Name, "wind_gust"), (Field::Description, "speed of the strongest gust")],
            &[(Field::Name, "wind_speed"), (Field::Unit, "mph")],
            &[(Field::Name, "speed"), (Field::Owner, "ann")],
            &[(Field::Name, "wind_speed_at_sea_level")],
        ]);
        assert_eq!(found(&index, "wind speed"), [1, 3, 0, 2]);
        assert_eq!(found(&index, "windspeed")[0], 1);
        assert_eq!(found(&index, "sped wnid"), [1, 3, 0, 2]);
        assert_eq!(found(&index, "owner:ann"), [2]);
        assert_eq!(found(&index, "unit:speed"), [] as [u32; 0]);
        assert_eq!(found(&index, "speed unit:MPH")[0], 1);
        let hit = index.find(&"wind gust speed".parse().unwrap(), |_, _| true)[0];
        assert_eq!((hit.document, hit.words), (0, 3));
        assert_eq!(hit.fields().collect::<Vec<_>>(), [Field::Name, Field::Description]);
    }

    #[test]
    fn a_use_that_is_not_shown_does_not_stand_there() {
        let index = index(&[&[(Field::Name, "hours"), (Field::Use, "delay"), (Field::Use, "secret score")]]);
        let wanted = |words: &str| words.parse::<Wanted>().unwrap();
        let hidden = |_: u32, text: u32| text != 1;
        assert!(index.find(&wanted("secret"), hidden).is_empty());
        assert_eq!(index.find(&wanted("delay"), hidden).len(), 1);
        assert_eq!(index.find(&wanted("secret hours"), hidden), index.find(&wanted("zzzz hours"), hidden));
    }

    #[test]
    fn what_is_nothing_to_look_for_says_why() {
        let wrong = |text: &str| text.parse::<Wanted>().unwrap_err().to_string();
        assert!(wrong(" … ").starts_with("nothing is looked for; write words"), "{}", wrong(" … "));
        assert_eq!(
            wrong("tags:pii"),
            "`tags:` is no place to look in (did you mean `tag:`?); it is one of name, tag, unit, owner, use, view and description"
        );
        assert!(wrong(&"a ".repeat(17)).starts_with("17 words are looked for; at most 16"));
        assert!(wrong(&"a".repeat(1_001)).contains("of 1000 characters together"));
    }

    fn fields() -> impl Strategy<Value = Field> {
        (0..Field::ALL.len()).prop_map(|place| Field::ALL[place])
    }

    fn documents() -> impl Strategy<Value = Vec<Vec<(Field, String)>>> {
        let text = "[abc]{1,6}( [abc]{1,6}){0,2}";
        proptest::collection::vec(proptest::collection::vec((fields(), text), 1..5), 0..12)
    }

    /// The best that any word of a document is for a word that is looked for.
    fn best(document: &[(Field, String)], field: Option<Field>, word: &Word) -> f32 {
        let standing = document.iter().filter(|(place, _)| field.is_none_or(|field| field == *place));
        let each = standing.flat_map(|(place, text)| {
            let mut words: Vec<String> = words_of(text).collect();
            if *place == Field::Name && words.len() > 1 {
                words.push(words.concat());
            }
            words.into_iter().map(move |word| (*place, word))
        });
        each.filter_map(|(place, there)| Some(nearness(word, &Word::new(&there))? * place.weight()))
            .fold(0.0, f32::max)
    }

    proptest! {
        /// The index gives what a look at every word of every document gives, and what it says of one depends on no other.
        #[test]
        fn the_index_finds_what_a_look_at_everything_finds(
            documents in documents(),
            field in proptest::option::of(fields()),
            words in proptest::collection::vec("[abc]{1,6}", 1..4),
        ) {
            let wanted = Wanted(words.iter().map(|word| (field, Word::new(word))).collect());
            let of = |documents: &[Vec<(Field, String)>]| {
                let mut building = Building::default();
                for document in documents {
                    building.document(document.iter().map(|(field, text)| (*field, text.as_str())));
                }
                building.finish().find(&wanted, |_, _| true)
            };
            let hits = of(&documents);
            for (number, document) in documents.iter().enumerate() {
                let hit = hits.iter().find(|hit| hit.document as usize == number);
                let expected = wanted.0.iter().filter(|(field, word)| best(document, *field, word) > 0.0).count();
                prop_assert_eq!(hit.map_or(0, |hit| hit.words), expected);
                let alone = of(std::slice::from_ref(document));
                prop_assert_eq!(hit.map(|hit| hit.score), alone.first().map(|hit| hit.score));
            }
            let order = |hit: &Hit| (std::cmp::Reverse(hit.words), -hit.score, hit.document);
            prop_assert!(hits.windows(2).all(|pair| order(&pair[0]) < order(&pair[1])));
        }
    }
}
