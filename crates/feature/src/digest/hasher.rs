//! The two hash functions that a store may be created with.

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::text::Digest;

/// A store's hash function, chosen when it is created.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HashAlgorithm {
    #[default]
    Blake3,
    Sha256,
}

impl HashAlgorithm {
    pub const ALL: [Self; 2] = [Self::Blake3, Self::Sha256];

    /// As texts of digests and JSON spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blake3 => "blake3",
            Self::Sha256 => "sha256",
        }
    }
}

/// The digest of the bytes of an object.
pub fn hash(algorithm: HashAlgorithm, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    Digest::new(algorithm, hasher.finish())
}

/// The digest of the bytes of an object that come in parts.
pub struct BytesDigest {
    algorithm: HashAlgorithm,
    hasher: Hasher,
}

impl BytesDigest {
    pub fn new(algorithm: HashAlgorithm) -> Self {
        Self { algorithm, hasher: Hasher::new(algorithm) }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// What [`hash`] gives for all of them.
    pub fn finish(self) -> Digest {
        Digest::new(self.algorithm, self.hasher.finish())
    }
}

/// One hash in progress.
pub(super) enum Hasher {
    Blake3(Box<blake3::Hasher>),
    Sha256(sha2::Sha256),
}

impl Hasher {
    pub fn new(algorithm: HashAlgorithm) -> Self {
        match algorithm {
            HashAlgorithm::Blake3 => Self::Blake3(Box::new(blake3::Hasher::new())),
            HashAlgorithm::Sha256 => Self::Sha256(sha2::Sha256::new()),
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Blake3(hasher) => {
                hasher.update(bytes);
            }
            Self::Sha256(hasher) => hasher.update(bytes),
        }
    }

    /// `text(s)` of the format: u32 length in bytes, then the bytes. Names and types are far below 4 GiB.
    pub fn update_text(&mut self, text: &str) {
        self.update(&(text.len() as u32).to_le_bytes());
        self.update(text.as_bytes());
    }

    pub fn finish(self) -> [u8; 32] {
        match self {
            Self::Blake3(hasher) => *hasher.finalize().as_bytes(),
            Self::Sha256(hasher) => hasher.finalize().into(),
        }
    }
}
