//! Digests as values, and how they are written: `blake3:<64 hex>`, `lmt1:blake3:<64 hex>`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::hasher::HashAlgorithm;

/// The digest of an object's bytes: `blake3:<64 hex>` or `sha256:<64 hex>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: HashAlgorithm,
    bytes: [u8; 32],
}

/// The `lmt1` digest of a table's values: `lmt1:blake3:<64 hex>` or `lmt1:sha256:<64 hex>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContentDigest {
    algorithm: HashAlgorithm,
    bytes: [u8; 32],
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestTextError {
    #[error("`{text}` is not a digest: write it as {form}")]
    Form { text: String, form: &'static str },
    #[error("`{text}` is a digest by `{algorithm}`; known are blake3 and sha256")]
    Algorithm { text: String, algorithm: String },
    #[error("`{text}` is not a digest: it needs 64 hexadecimal digits, in lower case")]
    Digits { text: String },
}

impl Digest {
    pub fn new(algorithm: HashAlgorithm, bytes: [u8; 32]) -> Self {
        Self { algorithm, bytes }
    }

    /// The bytes in hexadecimal digits, without the algorithm.
    pub fn hex(&self) -> String {
        hex(&self.bytes)
    }

    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }
}

impl ContentDigest {
    pub fn new(algorithm: HashAlgorithm, bytes: [u8; 32]) -> Self {
        Self { algorithm, bytes }
    }

    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_digest(f, "", self.algorithm, &self.bytes)
    }
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_digest(f, "lmt1:", self.algorithm, &self.bytes)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestTextError;

    fn from_str(text: &str) -> Result<Self, DigestTextError> {
        let (algorithm, bytes) = parse(text, text, "blake3:<64 hex digits> or sha256:<64 hex digits>")?;
        Ok(Self { algorithm, bytes })
    }
}

impl FromStr for ContentDigest {
    type Err = DigestTextError;

    fn from_str(text: &str) -> Result<Self, DigestTextError> {
        let form = "lmt1:blake3:<64 hex digits> or lmt1:sha256:<64 hex digits>";
        let Some(rest) = text.strip_prefix("lmt1:") else {
            return Err(DigestTextError::Form { text: text.to_owned(), form });
        };
        let (algorithm, bytes) = parse(text, rest, form)?;
        Ok(Self { algorithm, bytes })
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestTextError;
    fn try_from(text: String) -> Result<Self, DigestTextError> {
        text.parse()
    }
}

impl TryFrom<String> for ContentDigest {
    type Error = DigestTextError;
    fn try_from(text: String) -> Result<Self, DigestTextError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl From<ContentDigest> for String {
    fn from(digest: ContentDigest) -> Self {
        digest.to_string()
    }
}

fn write_digest(
    f: &mut fmt::Formatter<'_>,
    prefix: &str,
    algorithm: HashAlgorithm,
    bytes: &[u8; 32],
) -> fmt::Result {
    write!(f, "{prefix}{}:{}", algorithm.name(), hex(bytes))
}

fn hex(bytes: &[u8; 32]) -> String {
    use fmt::Write;
    let mut text = String::with_capacity(64);
    for byte in bytes {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Parses `algorithm:hex`; `whole` and `form` are for the message.
fn parse(whole: &str, text: &str, form: &'static str) -> Result<(HashAlgorithm, [u8; 32]), DigestTextError> {
    let Some((name, hex)) = text.split_once(':') else {
        return Err(DigestTextError::Form { text: whole.to_owned(), form });
    };
    let Some(algorithm) = HashAlgorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name) else {
        return Err(DigestTextError::Algorithm { text: whole.to_owned(), algorithm: name.to_owned() });
    };
    let wrong = || DigestTextError::Digits { text: whole.to_owned() };
    if hex.len() != 64 {
        return Err(wrong());
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().as_chunks::<2>().0) {
        *byte = digit(pair[0]).zip(digit(pair[1])).map(|(high, low)| high << 4 | low).ok_or_else(wrong)?;
    }
    Ok((algorithm, bytes))
}

/// One spelling a digest, so that texts can be compared: upper case is not accepted.
fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::hash;
    use super::*;

    #[test]
    fn digests_are_those_of_the_published_functions() {
        let empty = hash(HashAlgorithm::Sha256, b"");
        assert_eq!(
            empty.to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        let empty = hash(HashAlgorithm::Blake3, b"");
        assert_eq!(
            empty.to_string(),
            "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
    }

    #[test]
    fn digests_read_back_as_written() {
        for algorithm in HashAlgorithm::ALL {
            let digest = hash(algorithm, b"abc");
            assert_eq!(digest.to_string().parse(), Ok(digest));
            let json = serde_json::to_string(&digest).unwrap();
            assert_eq!(json, format!("\"{digest}\""));
            assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
            let content = ContentDigest::new(algorithm, *digest.bytes());
            assert_eq!(content.to_string(), format!("lmt1:{digest}"));
            assert_eq!(content.to_string().parse(), Ok(content));
            let json = serde_json::to_string(&content).unwrap();
            assert_eq!(serde_json::from_str::<ContentDigest>(&json).unwrap(), content);
            assert_eq!(serde_json::to_string(&algorithm).unwrap(), format!("\"{}\"", algorithm.name()));
        }
    }

    #[test]
    fn other_texts_are_refused_with_a_reason() {
        let good = hash(HashAlgorithm::Blake3, b"").to_string();
        for (text, part) in [
            (String::new(), "write it as blake3:"),
            (good.replace("blake3", "md5"), "`md5`"),
            (good.replace("af13", "AF13"), "lower case"),
            (good[..good.len() - 1].to_owned(), "64 hexadecimal digits"),
            (format!("{good}0"), "64 hexadecimal digits"),
            (format!("lmt1:{good}"), "`lmt1`"),
            (format!("blake3:{}", "é".repeat(32)), "64 hexadecimal digits"),
        ] {
            let message = text.parse::<Digest>().unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
        let message = good.parse::<ContentDigest>().unwrap_err().to_string();
        assert!(message.contains("write it as lmt1:blake3:"), "{message}");
        assert!(format!("lmt1:{good}0").parse::<ContentDigest>().is_err());
    }
}
