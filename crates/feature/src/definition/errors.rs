//! What is wrong with definition files, and where.

use std::fmt;

/// One thing that is wrong in one file. The message names the key, the value, what is allowed and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DefinitionError {
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters; `None` where the line as a whole is meant.
    pub column: Option<usize>,
    pub message: String,
}

impl fmt::Display for DefinitionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.file, self.line)?;
        if let Some(column) = self.column {
            write!(f, "{column}:")?;
        }
        write!(f, " {}", self.message)
    }
}

impl std::error::Error for DefinitionError {}

/// All that is wrong, at least one, by file and line. It is shown as one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinitionErrors(Vec<DefinitionError>);

impl DefinitionErrors {
    /// Those of one reading; at least one.
    pub fn new(mut errors: Vec<DefinitionError>) -> Self {
        errors.sort();
        errors.dedup();
        Self(errors)
    }

    pub fn iter(&self) -> std::slice::Iter<'_, DefinitionError> {
        self.0.iter()
    }

    pub fn into_vec(self) -> Vec<DefinitionError> {
        self.0
    }
}

impl fmt::Display for DefinitionErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for DefinitionErrors {}
