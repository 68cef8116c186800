//! One file being read: its text, what is wrong with it so far, and where things stand in it.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::definition::errors::DefinitionError;

pub(in crate::definition) struct Page<'t> {
    file: &'t str,
    text: &'t str,
    errors: Vec<DefinitionError>,
    /// Where parts stand, by their path in the definition (`features.2.name`), for checks of what is built.
    places: BTreeMap<String, Range<usize>>,
}

impl<'t> Page<'t> {
    pub fn new(file: &'t str, text: &'t str) -> Self {
        Self { file, text, errors: Vec::new(), places: BTreeMap::new() }
    }

    pub fn file(&self) -> &'t str {
        self.file
    }

    /// Notes something wrong at a place.
    pub fn wrong(&mut self, span: Range<usize>, message: impl Into<String>) {
        let error = self.error(Some(span), message.into());
        self.errors.push(error);
    }

    pub fn push(&mut self, error: DefinitionError) {
        self.errors.push(error);
    }

    /// An error of a part, or of the part that holds it where the part itself is not written.
    pub fn part_error(&self, path: &str, message: impl Into<String>) -> DefinitionError {
        let mut path = path;
        let span = loop {
            match (self.places.get(path), path.rsplit_once('.')) {
                (Some(span), _) => break Some(span.clone()),
                (None, Some((holder, _))) => path = holder,
                (None, None) => break None,
            }
        };
        self.error(span, message.into())
    }

    fn error(&self, span: Option<Range<usize>>, message: String) -> DefinitionError {
        let start = span.map_or(0, |span| span.start).min(self.text.len());
        let before = self.text.get(..start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        DefinitionError { file: self.file.to_owned(), line, column: Some(column), message }
    }

    pub fn mark(&mut self, path: impl Into<String>, span: Range<usize>) {
        self.places.insert(path.into(), span);
    }

    /// What stands at a place, cut to a length that fits a message.
    pub fn shown(&self, span: Range<usize>) -> String {
        let written = self.text.get(span).unwrap_or_default();
        let line = written.lines().next().unwrap_or_default().trim();
        if line.chars().count() > 60 || line.len() < written.trim_end().len() {
            return format!("{} …", line.chars().take(60).collect::<String>().trim_end());
        }
        line.to_owned()
    }

    /// The line of a place, trimmed.
    pub fn line(&self, start: usize) -> &'t str {
        let start = start.min(self.text.len());
        let from = self.text.get(..start).and_then(|before| before.rfind('\n')).map_or(0, |end| end + 1);
        self.text.get(from..).and_then(|rest| rest.lines().next()).unwrap_or_default().trim()
    }

    pub fn is_clean(&self) -> bool {
        self.errors.is_empty()
    }

    pub fn take_errors(&mut self) -> Vec<DefinitionError> {
        std::mem::take(&mut self.errors)
    }
}
