//! How a scan stands in a plan.

use std::fmt;

use arrow::datatypes::Schema;
use catalog::state::ViewVersion;

use super::Predicate;

/// A scan as `EXPLAIN` shows it.
pub struct Shown<'a> {
    pub node: &'a str,
    pub version: &'a ViewVersion,
    pub files: usize,
    /// Files that manifests ruled out.
    pub pruned: usize,
    pub schema: &'a Schema,
    pub predicate: Option<&'a Predicate>,
    /// Whether the number of files would tell of rows that are hidden.
    pub hides: bool,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, version, files, pruned, schema, predicate, hides } = self;
        write!(f, "{node}: {}", version.label())?;
        if !hides {
            write!(f, ", files={files}")?;
        }
        if *pruned > 0 && !hides {
            write!(f, ", files_pruned={pruned}")?;
        }
        let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, ", columns=[{}]", columns.join(", "))?;
        match predicate {
            Some(predicate) => write!(f, ", filter=[{predicate}]"),
            None => Ok(()),
        }
    }
}
