//! A plan in words, as `lineament plan` prints it.

use std::fmt;

use feature::evolution::Effect;

use super::{Action, FeltBy, Planned};
use crate::records::Subject;

/// Names of a kind that are printed.
const SHOWN: usize = 5;

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Entity => "entity",
            Self::FeatureView => "feature view",
            Self::FeatureService => "feature service",
        })
    }
}

impl Planned {
    /// `feature view weather@2: feature `temp`: unit degF → degC`
    pub(super) fn headline(&self) -> String {
        let Self { subject, name, .. } = self;
        match &self.action {
            Action::NextVersion { number, differences, .. } => {
                format!("{subject} {name}@{number}: {}", differences.join("; "))
            }
            _ => format!("{subject} {name}"),
        }
    }
}

/// Of each kind the first few, on a line of its own; nothing where nobody feels it.
impl fmt::Display for FeltBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { derived_views, training_sets, model_versions, deployments } = self;
        for (kind, names) in [
            ("derived views", derived_views),
            ("training sets", training_sets),
            ("model versions", model_versions),
            ("deployments in force", deployments),
        ] {
            if names.is_empty() {
                continue;
            }
            let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
            write!(f, "\n    felt by {} {kind}: {shown}", names.len())?;
            if names.len() > SHOWN {
                f.write_str(", …")?;
            }
        }
        Ok(())
    }
}

/// One line a change, as `lineament plan` prints them.
impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, name, .. } = self;
        match &self.action {
            Action::Create => write!(f, "+ {subject} {name}@1")?,
            Action::Describe { differences } if differences.is_empty() => {
                write!(f, "~ {subject} {name}: description, owner, tags or source")?;
            }
            Action::Describe { differences } => write!(f, "~ {subject} {name}: {}", differences.join("; "))?,
            Action::Keep { number } => write!(f, "  {subject} {name}@{number} unchanged")?,
            Action::NextVersion { number, starts_empty, effect, services, .. } => {
                write!(f, "+ {}", self.headline())?;
                match (effect, starts_empty) {
                    (Effect::Breaking, _) => f.write_str("\n    breaking: it needs a reason (--reason)")?,
                    (Effect::NeedsBackFill, false) => f.write_str(
                        "\n    needs a back-fill: the rows that are there lack it, or were taken under the old rule",
                    )?,
                    (Effect::NeedsBackFill, true) | (Effect::Harmless, _) => {}
                }
                if *starts_empty {
                    write!(
                        f,
                        "\n    starts empty: back-fill it with `lineament ingest {name}`; {name}@{} keeps its rows",
                        number - 1
                    )?;
                }
                if !services.is_empty() {
                    write!(f, "\n    read without a pinned version by: {}", services.join(", "))?;
                }
            }
        }
        self.felt_by.fmt(f)?;
        if let Some(refusal) = &self.untraced {
            write!(f, "\n    what its columns come from cannot be traced: {refusal}")?;
        }
        match &self.hypothesis {
            Some(hypothesis) => write!(f, "\n    hypothesis: {hypothesis}"),
            None => Ok(()),
        }
    }
}
