//! Who asks, and what for.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What rows are wanted for, as the asker says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// To look around. What nobody said otherwise.
    #[default]
    Explore,
    /// To fit a model.
    Train,
    /// To answer with a model.
    Serve,
}

impl Purpose {
    pub const ALL: [Self; 3] = [Self::Explore, Self::Train, Self::Serve];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Explore => "explore",
            Self::Train => "train",
            Self::Serve => "serve",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a purpose; it is explore, train or serve")]
pub struct UnknownPurpose(pub String);

impl FromStr for Purpose {
    type Err = UnknownPurpose;

    fn from_str(text: &str) -> Result<Self, UnknownPurpose> {
        let known = Self::ALL.into_iter().find(|purpose| purpose.as_str() == text);
        known.ok_or_else(|| UnknownPurpose(text.to_owned()))
    }
}

/// Who asks: a name that was proved (or, without a server, the local login), and what is said of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Asker {
    pub principal: String,
    pub roles: Vec<String>,
    /// Other claims of the token, by name. Each may have several values.
    pub claims: BTreeMap<String, Vec<String>>,
    pub purpose: Purpose,
}
