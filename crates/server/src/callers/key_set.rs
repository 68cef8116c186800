//! The keys that an identity provider signs tokens with: one of a file, a set of a file, or a set of an address.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use reqwest::{Client, Url};
use serde::Deserialize;
use serde_json::Value;

use super::Refusal;
use super::watched_file::WatchedFile;
use crate::outgoing;

/// How long a set may take to come.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest set that is read.
const SET_BYTES: usize = 1 << 20;
/// How old a set may get before it is asked for again, so that a key that the provider took back is forgotten.
const FRESH: Duration = Duration::from_secs(15 * 60);

/// What a token may be signed with. No algorithm with a shared secret is among them, nor `none`.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// A public key, and the algorithms that it may be used with.
pub struct Key {
    id: Option<String>,
    pub decoding: DecodingKey,
    pub algorithms: Vec<Algorithm>,
}

/// Keys by their ids.
pub struct Keys(Vec<Arc<Key>>);

/// Where keys come from.
pub enum KeySet {
    /// One key, for tokens of any id.
    One(Arc<Key>),
    File(WatchedFile<Keys>),
    Fetched(Box<Fetched>),
}

impl KeySet {
    /// The public key in a PEM file.
    pub fn of_pem(file: &Path) -> Result<Self, String> {
        let said = |why: String| format!("`{}`: {why}", file.display());
        let pem = std::fs::read(file).map_err(|error| said(error.to_string()))?;
        let kinds = [DecodingKey::from_rsa_pem, DecodingKey::from_ec_pem, DecodingKey::from_ed_pem];
        let decoding = kinds.iter().find_map(|read| read(&pem).ok());
        let decoding = decoding.ok_or_else(|| {
            said("it is not a public key in PEM (RSA, P-256, P-384 or Ed25519), as `openssl pkey -pubout` writes it".to_owned())
        })?;
        let algorithms = of_family(decoding.family());
        Ok(Self::One(Arc::new(Key { id: None, decoding, algorithms })))
    }

    /// A set (JWKS) in a file, which is read again when it changes.
    pub fn of_file(file: &Path) -> Result<Self, String> {
        WatchedFile::open(file, |text| keys(text.as_bytes())).map(Self::File)
    }

    /// A set at an address, which is asked for it now. An unknown key has it asked for again, but not within `between` of the
    /// last time.
    pub async fn of_address(address: &str, between: Duration) -> Result<Self, String> {
        let url = Url::parse(address).map_err(|error| format!("the keys' address is none: {error}"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the keys' address holds a user or password; a provider's keys are public".to_owned());
        }
        let loopback = matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"));
        if url.scheme() != "https" && !(url.scheme() == "http" && loopback) {
            return Err(format!(
                "`{address}`: keys are fetched over https:// alone (or from loopback): whoever changes them on their way can call as anybody"
            ));
        }
        let client = outgoing::client("the token", None, TIMEOUT).map_err(|error| error.to_string())?;
        let first = fetch(&client, &url).await?;
        let held =
            Mutex::new(Held { keys: Arc::new(first), asked_at: Instant::now(), got_at: Instant::now() });
        let fetching = tokio::sync::Mutex::new(());
        Ok(Self::Fetched(Box::new(Fetched { client, url, between, held, fetching })))
    }

    /// The key that a token says it is signed with.
    ///
    /// # Errors
    /// No id where there are several keys, and an id that is none of them.
    pub async fn find(&self, id: Option<&str>) -> Result<Arc<Key>, Refusal> {
        if let Self::One(key) = self {
            return Ok(key.clone());
        }
        let Some(id) = id else {
            return Err(Refusal::new("the token does not say which key it is signed with (`kid`)"));
        };
        let found = match self {
            Self::One(key) => Some(key.clone()),
            Self::File(file) => file.current().find(id),
            Self::Fetched(fetched) => fetched.find(id).await,
        };
        // The id is not repeated: it is the caller's, and of any length.
        found.ok_or_else(|| {
            Refusal::new("the token is signed with a key that its issuer does not publish here")
        })
    }
}

impl Keys {
    fn find(&self, id: &str) -> Option<Arc<Key>> {
        self.0.iter().find(|key| key.id.as_deref() == Some(id)).cloned()
    }
}

/// A set that an address gives out.
pub struct Fetched {
    client: Client,
    url: Url,
    between: Duration,
    held: Mutex<Held>,
    /// One asks, the others wait for it.
    fetching: tokio::sync::Mutex<()>,
}

struct Held {
    keys: Arc<Keys>,
    asked_at: Instant,
    got_at: Instant,
}

impl Fetched {
    async fn find(&self, id: &str) -> Option<Arc<Key>> {
        let (keys, fresh) = self.held();
        if let Some(key) = keys.find(id) {
            // An old set is asked for again by one call; the others go on with it meanwhile.
            if fresh {
                return Some(key);
            }
            let Ok(_one) = self.fetching.try_lock() else { return Some(key) };
            self.ask().await;
        } else {
            let _one = self.fetching.lock().await;
            self.ask().await;
        }
        self.held().0.find(id)
    }

    fn held(&self) -> (Arc<Keys>, bool) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        (held.keys.clone(), held.got_at.elapsed() < FRESH)
    }

    /// Asks for the set, unless that was done a moment ago. Where none comes, the last one stays in force.
    async fn ask(&self) {
        {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            if held.asked_at.elapsed() < self.between {
                return;
            }
            held.asked_at = Instant::now();
        }
        match fetch(&self.client, &self.url).await {
            Ok(keys) => {
                let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
                (held.keys, held.got_at) = (Arc::new(keys), Instant::now());
            }
            Err(why) => tracing::warn!("{why}; the keys that it gave last stay in force"),
        }
    }
}

async fn fetch(client: &Client, url: &Url) -> Result<Keys, String> {
    let said = |why: String| format!("the keys at {url} cannot be had: {why}");
    let mut answer =
        client.get(url.clone()).send().await.map_err(|error| said(outgoing::causes(&error.without_url())))?;
    if !answer.status().is_success() {
        return Err(said(format!("the answer is {}", answer.status())));
    }
    let mut body = Vec::new();
    while let Some(part) =
        answer.chunk().await.map_err(|error| said(outgoing::causes(&error.without_url())))?
    {
        body.extend_from_slice(&part);
        if body.len() > SET_BYTES {
            return Err(said(format!("the answer has more than {SET_BYTES} bytes")));
        }
    }
    keys(&body).map_err(said)
}

/// The keys of a set that tokens may be signed with. Those of other kinds and uses are passed over, also of kinds that nobody here
/// knows.
fn keys(text: &[u8]) -> Result<Keys, String> {
    let set: Set =
        serde_json::from_slice(text).map_err(|error| format!("it is not a set of keys (JWKS): {error}"))?;
    let count = set.keys.len();
    let known = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    let keys: Vec<_> = known.filter_map(|jwk| key(&jwk)).map(Arc::new).collect();
    if keys.is_empty() {
        return Err(format!(
            "of its {count} keys none is a public one to sign with (RSA, P-256, P-384 or Ed25519) that has an id (`kid`)"
        ));
    }
    Ok(Keys(keys))
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

fn key(jwk: &Jwk) -> Option<Key> {
    let common = &jwk.common;
    if common.public_key_use.as_ref().is_some_and(|used| *used != PublicKeyUse::Signature) {
        return None;
    }
    let fits = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => of_family(AlgorithmFamily::Rsa),
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => vec![Algorithm::ES256],
            EllipticCurve::P384 => vec![Algorithm::ES384],
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            vec![Algorithm::EdDSA]
        }
        // A shared secret has no place among public keys.
        _ => return None,
    };
    // A key that says for which algorithm it is, is for no other.
    let algorithms = match common.key_algorithm {
        Some(named) => fits.into_iter().filter(|algorithm| is_called(*algorithm, named)).collect(),
        None => fits,
    };
    if algorithms.is_empty() {
        return None;
    }
    Some(Key { id: Some(common.key_id.clone()?), decoding: DecodingKey::from_jwk(jwk).ok()?, algorithms })
}

fn is_called(algorithm: Algorithm, named: KeyAlgorithm) -> bool {
    format!("{algorithm:?}") == named.to_string()
}

fn of_family(family: AlgorithmFamily) -> Vec<Algorithm> {
    ALGORITHMS.into_iter().filter(|algorithm| algorithm.family() == family).collect()
}
