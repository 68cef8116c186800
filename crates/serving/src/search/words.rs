//! Words: how texts are cut into them, and how near a word that was typed is to one that stands somewhere.

/// Characters of a word that are looked at; the rest of a longer one counts for nothing.
pub const LONGEST: usize = 64;

/// A word with what is needed to compare it fast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub chars: Box<[char]>,
    /// A bit for each character that occurs in it.
    mask: u64,
}

impl Word {
    pub fn new(text: &str) -> Self {
        let chars: Box<[char]> = text.chars().take(LONGEST).collect();
        let mask = chars.iter().fold(0, |mask, c| mask | 1 << bit(*c));
        Self { chars, mask }
    }
}

fn bit(c: char) -> u32 {
    match c {
        'a'..='z' => c as u32 - 'a' as u32,
        '0'..='9' => 26 + c as u32 - '0' as u32,
        other => 36 + other as u32 % 28,
    }
}

/// The words of a text, in lower case: what stands between characters that are neither letters nor digits.
pub fn words_of(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// How near a typed word is to one that stands there: 1 for the same, less for one that begins so, holds it, or differs by a typing
/// error; none where it is another word. Typing errors are a letter too many, too few, another, or two swapped: none in words of one
/// or two letters, one up to five, else two.
pub fn nearness(typed: &Word, standing: &Word) -> Option<f32> {
    let (wanted, there) = (&*typed.chars, &*standing.chars);
    let bearable = match wanted.len() {
        0..=2 => 0,
        3..=5 => 1,
        _ => 2,
    };
    // Each error takes away at most one character that the other word has not.
    if (typed.mask & !standing.mask).count_ones() as usize > bearable {
        return None;
    }
    if wanted == there {
        return Some(1.0);
    }
    let share = wanted.len() as f32 / there.len().max(1) as f32;
    if there.starts_with(wanted) {
        return Some(0.6 + 0.3 * share);
    }
    if wanted.len() >= 3 && there.windows(wanted.len()).any(|part| part == wanted) {
        return Some(0.4 + 0.2 * share);
    }
    if bearable == 0 {
        return None;
    }
    let Errors { whole, beginning } = errors(wanted, there);
    if whole <= bearable {
        return Some(0.75 - 0.15 * whole as f32);
    }
    // Of a short word too many others begin nearly so.
    (wanted.len() >= 5 && beginning <= bearable).then_some(0.5 - 0.15 * beginning as f32)
}

/// Typing errors between words.
struct Errors {
    /// Against the whole of the other word.
    whole: usize,
    /// Against the part of its beginning that is nearest.
    beginning: usize,
}

/// The restricted Damerau-Levenshtein distance: a swap of two letters is one error, and no letter is changed twice.
fn errors(wanted: &[char], there: &[char]) -> Errors {
    const WIDTH: usize = LONGEST + 1;
    let mut rows = [[0usize; WIDTH]; 3];
    for (column, cell) in rows[0].iter_mut().enumerate() {
        *cell = column;
    }
    for (row, from) in wanted.iter().enumerate() {
        let (now, before, earlier) = ((row + 1) % 3, row % 3, (row + 2) % 3);
        rows[now][0] = row + 1;
        for (column, to) in there.iter().enumerate() {
            let changed = rows[before][column] + usize::from(from != to);
            let mut least = changed.min(rows[before][column + 1] + 1).min(rows[now][column] + 1);
            let swapped = row > 0
                && column > 0
                && wanted.get(row - 1) == Some(to)
                && there.get(column - 1) == Some(from);
            if swapped {
                least = least.min(rows[earlier][column - 1] + 1);
            }
            rows[now][column + 1] = least;
        }
    }
    let last = rows[wanted.len() % 3].iter().take(there.len() + 1);
    Errors {
        whole: last.clone().next_back().copied().unwrap_or(usize::MAX),
        beginning: last.min().copied().unwrap_or(usize::MAX),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn near(typed: &str, standing: &str) -> Option<f32> {
        nearness(&Word::new(typed), &Word::new(standing))
    }

    /// The same distance, as its definition has it.
    fn distance(a: &[char], b: &[char]) -> usize {
        match (a, b) {
            ([], rest) | (rest, []) => rest.len(),
            ([.., x], [.., y]) => {
                let (shorter_a, shorter_b) = (&a[..a.len() - 1], &b[..b.len() - 1]);
                let mut least = (distance(shorter_a, shorter_b) + usize::from(x != y))
                    .min(distance(shorter_a, b) + 1)
                    .min(distance(a, shorter_b) + 1);
                if let ([.., p, q], [.., r, s]) = (a, b)
                    && (p, q) == (s, r)
                {
                    least = least.min(distance(&a[..a.len() - 2], &b[..b.len() - 2]) + 1);
                }
                least
            }
        }
    }

    proptest! {
        #[test]
        fn errors_are_counted_as_their_definition_says(a in "[abc]{0,6}", b in "[abc]{0,6}") {
            let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
            let found = errors(&a, &b);
            prop_assert_eq!(found.whole, distance(&a, &b));
            let beginning = (0..=b.len()).map(|until| distance(&a, &b[..until])).min();
            prop_assert_eq!(Some(found.beginning), beginning);
        }

        /// What the bits of characters rule out is out of reach.
        #[test]
        fn nothing_near_is_ruled_out(a in "[a-e]{3,8}", b in "[a-f]{0,8}") {
            let bearable = if a.chars().count() <= 5 { 1 } else { 2 };
            let (x, y): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
            if distance(&x, &y) <= bearable {
                prop_assert!(near(&a, &b).is_some());
            }
        }
    }

    #[test]
    fn the_nearer_word_comes_first() {
        let order = ["temp", "temperature", "attempt", "tepm"];
        let found: Vec<f32> = order.iter().map(|word| near("temp", word).unwrap()).collect();
        assert!(found[0] > found[1], "{found:?}");
        assert!(found[1] > found[2] && found[1] > found[3], "{found:?}");
        assert_eq!(near("temp", "visibility"), None);
        assert_eq!(near("ab", "ac"), None, "two letters bear no error");
        assert!(near("temprature", "temperature").is_some(), "one is missing");
        assert!(near("tempreature", "temperature").is_some(), "two are swapped");
        assert!(near("visability", "visibility_km").is_some(), "the beginning is enough");
        assert_eq!(near("", "temp"), Some(0.6));
    }

    #[test]
    fn texts_are_cut_into_words() {
        let words = |text: &str| words_of(text).collect::<Vec<_>>();
        assert_eq!(words("weather.wind_speed"), ["weather", "wind", "speed"]);
        assert_eq!(words("  Größe (m²)… "), ["größe", "m²"]);
        assert!(words("…").is_empty());
    }
}
