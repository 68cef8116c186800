//! Keys of packs: Ed25519, in PEM files as other programs write and read them.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use feature::digest::{HashAlgorithm, hash};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::error::{Error, Kind, Result};

/// What stands before the 32 bytes of a private key in PKCS#8 (RFC 8410).
const PRIVATE_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// What stands before the 32 bytes of a public key in SubjectPublicKeyInfo (RFC 8410).
const PUBLIC_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

const PRIVATE: &str = "PRIVATE KEY";
const PUBLIC: &str = "PUBLIC KEY";

/// A private key, to sign packs with.
pub struct SigningKey {
    pair: Ed25519KeyPair,
}

/// A public key, to check them with.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    bytes: [u8; 32],
}

impl SigningKey {
    /// A new key, and its PEM. Who has the text can sign: it belongs in a file that its owner alone can read.
    pub fn generate() -> Result<(Self, String)> {
        let mut seed = [0; 32];
        // The one place that needs chance which nobody can foresee; ids need only differ.
        SystemRandom::new()
            .fill(&mut seed)
            .map_err(|_| Error::new(Kind::Internal, "the system gives no random bytes for a key"))?;
        let pem = pem(PRIVATE, &[PRIVATE_PREFIX.as_slice(), &seed].concat());
        Ok((Self::from_pem(&pem)?, pem))
    }

    /// Reads a private key from PEM, in PKCS#8.
    ///
    /// # Errors
    /// `Invalid` for any other text, and for keys that are not Ed25519.
    pub fn from_pem(text: &str) -> Result<Self> {
        let der = read_pem(PRIVATE, text)?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|why| {
            let message =
                format!("this private key is not Ed25519 ({why}); `lineament evidence-key FILE` makes one");
            Error::new(Kind::Invalid, message)
        })?;
        Ok(Self { pair })
    }

    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey { bytes }
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().id())
    }
}

impl PublicKey {
    /// Reads a public key from PEM, as `openssl pkey -pubout` writes it.
    ///
    /// # Errors
    /// `Invalid` for any other text, and for keys that are not Ed25519.
    pub fn from_pem(text: &str) -> Result<Self> {
        let der = read_pem(PUBLIC, text)?;
        let key = der.strip_prefix(PUBLIC_PREFIX.as_slice()).and_then(|key| <[u8; 32]>::try_from(key).ok());
        match key {
            Some(bytes) => Ok(Self { bytes }),
            None => {
                Err(Error::new(Kind::Invalid, "this public key is not Ed25519, as packs are signed with"))
            }
        }
    }

    pub fn pem(&self) -> String {
        pem(PUBLIC, &self.der())
    }

    fn der(&self) -> Vec<u8> {
        [PUBLIC_PREFIX.as_slice(), &self.bytes].concat()
    }

    /// By what a signature names its key: SHA-256 over the key's DER.
    pub fn id(&self) -> String {
        hash(HashAlgorithm::Sha256, &self.der()).to_string()
    }

    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.bytes).verify(message, signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

/// Keys are so short that their base64 is one line.
fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

fn read_pem(label: &str, text: &str) -> Result<Vec<u8>> {
    let wrong = |why: &str| {
        Error::new(Kind::Invalid, format!("this is no PEM file with a {}: {why}", label.to_lowercase()))
    };
    let begin = format!("-----BEGIN {label}-----");
    let end = format!("-----END {label}-----");
    let rest =
        text.trim().strip_prefix(&begin).ok_or_else(|| wrong(&format!("it must begin with {begin}")))?;
    let inner = rest.strip_suffix(&end).ok_or_else(|| wrong(&format!("it must end with {end}")))?;
    let digits: String = inner.split_whitespace().collect();
    STANDARD.decode(digits).map_err(|error| wrong(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key pair of RFC 8410, section 10.
    const PRIVATE_OF_RFC: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
    const PUBLIC_OF_RFC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

    #[test]
    fn keys_are_read_and_written_as_the_standard_says() {
        let key = SigningKey::from_pem(PRIVATE_OF_RFC).unwrap();
        assert_eq!(key.public().pem(), PUBLIC_OF_RFC);
        assert_eq!(PublicKey::from_pem(PUBLIC_OF_RFC).unwrap(), key.public());
        let signature = key.sign(b"message");
        assert!(key.public().has_signed(b"message", &signature));
        assert!(!key.public().has_signed(b"massage", &signature));
        assert_eq!(signature, key.sign(b"message"));
    }

    #[test]
    fn new_keys_differ_and_sign() {
        let (one, text) = SigningKey::generate().unwrap();
        let (other, _) = SigningKey::generate().unwrap();
        assert_ne!(one.public(), other.public());
        let again = SigningKey::from_pem(&text).unwrap();
        assert_eq!(again.public(), one.public());
        assert!(!other.public().has_signed(b"m", &one.sign(b"m")));
        assert!(!format!("{one:?}").contains(text.lines().nth(1).unwrap()));
    }

    #[test]
    fn other_texts_are_refused_with_what_they_should_be() {
        for (text, says) in [
            ("", "must begin with -----BEGIN PRIVATE KEY-----"),
            (PUBLIC_OF_RFC, "must begin with -----BEGIN PRIVATE KEY-----"),
            ("-----BEGIN PRIVATE KEY-----\nMC4C", "must end with"),
            ("-----BEGIN PRIVATE KEY-----\nM\n-----END PRIVATE KEY-----", "no PEM file"),
            ("-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----", "not Ed25519"),
        ] {
            let wrong = SigningKey::from_pem(text).unwrap_err().to_string();
            assert!(wrong.contains(says), "{text:?}: {wrong}");
        }
        assert!(PublicKey::from_pem(PRIVATE_OF_RFC).is_err());
        let short = "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n";
        assert!(PublicKey::from_pem(short).unwrap_err().to_string().contains("not Ed25519"));
    }
}
