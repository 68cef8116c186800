//! An identity provider: keys, their public set, and tokens signed with them, good and bad.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use serde_json::{Value, json};

pub const ISSUER: &str = "https://issuer.example/";
pub const AUDIENCE: &str = "lineament";

pub struct TokenIssuer {
    pub elliptic: EncodingKey,
    pub elliptic_pem: String,
    pub edwards: EncodingKey,
    pub edwards_pem: String,
}

impl TokenIssuer {
    pub fn new() -> Self {
        let elliptic = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let edwards = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        Self {
            elliptic_pem: elliptic.public_key_pem(),
            elliptic: EncodingKey::from_ec_pem(elliptic.serialize_pem().as_bytes()).unwrap(),
            edwards_pem: edwards.public_key_pem(),
            edwards: EncodingKey::from_ed_pem(edwards.serialize_pem().as_bytes()).unwrap(),
        }
    }

    /// The public keys, `ec` and `ed`.
    pub fn set(&self) -> Value {
        let mut keys = Vec::new();
        for (id, pem, algorithm) in
            [("ec", &self.elliptic_pem, Algorithm::ES256), ("ed", &self.edwards_pem, Algorithm::EdDSA)]
        {
            let read = if id == "ec" { DecodingKey::from_ec_pem } else { DecodingKey::from_ed_pem };
            let mut jwk = Jwk::from_decoding_key(&read(pem.as_bytes()).unwrap(), Some(algorithm)).unwrap();
            jwk.common.key_id = Some(id.to_owned());
            keys.push(serde_json::to_value(jwk).unwrap());
        }
        json!({ "keys": keys })
    }

    /// A token as it should be, of the key `ec`.
    pub fn token(&self) -> String {
        self.signed(&json!({ "alg": "ES256", "typ": "JWT", "kid": "ec" }), &claims())
    }

    /// A token of this header and these claims, signed as the header says where a key of ours can.
    pub fn signed(&self, header: &Value, claims: &Value) -> String {
        let (key, algorithm) = match header["alg"].as_str() {
            Some("EdDSA") => (&self.edwards, Algorithm::EdDSA),
            _ => (&self.elliptic, Algorithm::ES256),
        };
        signed(&header.to_string(), &claims.to_string(), key, algorithm)
    }
}

/// A token of any texts.
pub fn signed(header: &str, claims: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

pub fn part(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// Seconds from now.
pub fn seconds(from_now: i64) -> i64 {
    i64::try_from(jsonwebtoken::get_current_timestamp()).unwrap() + from_now
}

/// Claims as they should be.
pub fn claims() -> Value {
    json!({
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ada@example.org",
        "exp": seconds(600),
        "nbf": seconds(-10),
        "roles": ["reader", "trainer"],
    })
}
