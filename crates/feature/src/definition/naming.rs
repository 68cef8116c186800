//! A valid name for any text: what a message suggests, and what an inferred definition uses.

use crate::name::{Name, RESERVED};

/// The nearest valid name: lower case, other characters as `_`, and never one of the reserved names.
#[must_use]
pub fn valid_name(text: &str) -> Name {
    let mut folded = String::new();
    let mut before = ' ';
    for character in text.chars() {
        if character.is_ascii_alphanumeric() {
            // windSpeed becomes wind_speed
            if character.is_ascii_uppercase() && before.is_ascii_lowercase() {
                folded.push('_');
            }
            folded.push(character.to_ascii_lowercase());
        } else if !folded.is_empty() && !folded.ends_with('_') {
            folded.push('_');
        }
        before = character;
    }
    if !folded.starts_with(|first: char| first.is_ascii_lowercase()) {
        folded.insert_str(0, if folded.is_empty() { "unnamed" } else { "n_" });
    }
    // Long names leave room for a number that keeps two of them apart.
    folded.truncate(58);
    let folded = folded.trim_end_matches('_');
    let folded = if RESERVED.contains(&folded) { format!("{folded}_value") } else { folded.to_owned() };
    folded.parse().unwrap_or_else(|_| Name::default_project())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_becomes_a_name() {
        for (text, name) in [
            ("wind_speed", "wind_speed"),
            ("Wind Speed", "wind_speed"),
            ("windSpeed", "wind_speed"),
            ("TEMP", "temp"),
            ("9lives", "n_9lives"),
            ("a__b", "a_b"),
            ("_x_", "x"),
            ("at", "at_value"),
            ("Known At", "known_at_value"),
            ("", "unnamed"),
            ("Größe (cm)", "gr_e_cm"),
            ("日本", "unnamed"),
            (&"x".repeat(80), &"x".repeat(58)),
        ] {
            assert_eq!(valid_name(text).as_str(), name, "{text}");
        }
    }
}
