//! The `[sampling]` table of a view or a service.

use super::page::Page;
use super::table::Table;
use crate::definition::sampling::Sampling;
use crate::definition::vocabulary::Vocabulary;

/// What could be read of it; the rest has been noted. What the table may say is in `words`.
pub(super) fn sampling(
    table: &Table<'_>,
    words: &'static Vocabulary,
    family: &[&'static Vocabulary],
    page: &mut Page<'_>,
) -> Option<Sampling> {
    let value = table.get("sampling")?;
    page.mark("sampling", value.span());
    let mut inner = table.table("sampling", words, family, page)?;
    inner.label = "[sampling]: ".to_owned();
    for (key, path) in [("reads", "sampling.reads"), ("streams", "sampling.streams")] {
        if let Some(value) = inner.get(key) {
            page.mark(path, value.span());
        }
    }
    let share =
        |key: &'static str, page: &mut Page<'_>| words.word(key).and_then(|_| inner.number(key, page));
    Some(Sampling { reads: share("reads", page), streams: share("streams", page) })
}
