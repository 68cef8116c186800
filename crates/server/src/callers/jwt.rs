//! Tokens of an identity provider: JSON Web Tokens, checked against its public keys.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::bearer::Bearer;
use super::key_set::KeySet;
use super::{Caller, Refusal, is_name};

/// How far the provider's clock and this machine's may be apart.
const LEEWAY_SECONDS: u64 = 60;
/// Roles of a token that are kept.
const ROLES: usize = 64;

/// Whose tokens count, and what they say of their bearers.
#[derive(Clone, Debug)]
pub struct JwtOptions {
    pub keys: JwtKeys,
    /// What `iss` must be.
    pub issuer: String,
    /// What `aud` must be, or hold one of.
    pub audience: Vec<String>,
    /// The claim that is the principal.
    pub principal_claim: String,
    /// The claim that is the roles: a list of texts, or one text of words.
    pub roles_claim: String,
    /// An unknown key has the set at an address asked for again, but not more often than this.
    pub fetch_every: Duration,
}

/// Where the provider's public keys are.
#[derive(Clone, Debug)]
pub enum JwtKeys {
    /// A key in a PEM file.
    Pem(PathBuf),
    /// A set in a file.
    File(PathBuf),
    /// A set at an address.
    Address(String),
}

/// Checks tokens of one provider.
pub struct Jwt {
    keys: KeySet,
    validation: Validation,
    principal_claim: String,
    roles_claim: String,
}

impl Jwt {
    /// # Errors
    /// Why the keys cannot be had.
    pub async fn open(options: &JwtOptions) -> Result<Self, String> {
        let keys = match &options.keys {
            JwtKeys::Pem(file) => KeySet::of_pem(file)?,
            JwtKeys::File(file) => KeySet::of_file(file)?,
            JwtKeys::Address(address) => KeySet::of_address(address, options.fetch_every).await?,
        };
        let mut validation =
            Validation { leeway: LEEWAY_SECONDS, validate_nbf: true, ..Validation::default() };
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.set_issuer(&[&options.issuer]);
        validation.set_audience(&options.audience);
        let JwtOptions { principal_claim, roles_claim, .. } = options.clone();
        Ok(Self { keys, validation, principal_claim, roles_claim })
    }

    /// The caller whose token it is.
    ///
    /// # Errors
    /// Whatever is wrong with it. What its claims say is not repeated.
    pub async fn caller(&self, token: Bearer<'_>) -> Result<Caller, Refusal> {
        let header = decode_header(token.secret()).map_err(|error| refusal(error.kind()))?;
        // Whoever writes `crit` wants the token refused by those who do not know what it names, as here.
        if header.crit.is_some() {
            return Err(Refusal::new("the token asks for extensions (`crit`) that are not known here"));
        }
        let key = self.keys.find(header.kid.as_deref()).await?;
        if !key.algorithms.contains(&header.alg) {
            return Err(refusal(&ErrorKind::InvalidAlgorithm));
        }
        let validation = Validation { algorithms: vec![header.alg], ..self.validation.clone() };
        let claims = decode::<Map<String, Value>>(token.secret(), &key.decoding, &validation)
            .map_err(|error| refusal(error.kind()))?
            .claims;
        let principal = claims.get(&self.principal_claim).and_then(Value::as_str);
        let principal = principal.filter(|name| is_name(name)).ok_or_else(|| {
            Refusal::new(format!(
                "the token has no claim `{}` that could be a principal: a text of one line, of at most 256 bytes",
                self.principal_claim
            ))
        })?;
        let roles = roles(claims.get(&self.roles_claim));
        let claims = self.others(&claims);
        Ok(Caller { principal: principal.to_owned(), roles, claims })
    }
}

/// Claims that say how the token itself is to be taken.
const OF_THE_TOKEN: [&str; 8] = ["iss", "aud", "exp", "nbf", "iat", "jti", "azp", "nonce"];

impl Jwt {
    /// What policies may ask of the bearer: texts, and lists of them.
    fn others(&self, claims: &Map<String, Value>) -> BTreeMap<String, Vec<String>> {
        let kept = claims.iter().filter(|(name, _)| {
            !OF_THE_TOKEN.contains(&name.as_str()) && **name != self.roles_claim && is_name(name)
        });
        let values = |claim: &Value| -> Vec<String> {
            let texts: Vec<&str> = match claim {
                Value::String(text) => vec![text],
                Value::Array(texts) => texts.iter().filter_map(Value::as_str).collect(),
                _ => Vec::new(),
            };
            texts.into_iter().filter(|text| is_name(text)).take(ROLES).map(str::to_owned).collect()
        };
        let kept = kept.map(|(name, claim)| (name.clone(), values(claim)));
        kept.filter(|(_, values)| !values.is_empty()).take(ROLES).collect()
    }
}

fn roles(claim: Option<&Value>) -> Vec<String> {
    let roles: Vec<&str> = match claim {
        Some(Value::Array(roles)) => roles.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(roles)) => roles.split_ascii_whitespace().collect(),
        _ => Vec::new(),
    };
    roles.into_iter().filter(|role| is_name(role)).take(ROLES).map(str::to_owned).collect()
}

fn refusal(kind: &ErrorKind) -> Refusal {
    let why = match kind {
        ErrorKind::ExpiredSignature => "it has expired; get a new one from its issuer",
        ErrorKind::ImmatureSignature => "it does not count yet (`nbf`)",
        ErrorKind::InvalidIssuer => "it is of another issuer (`iss`) than this server takes tokens from",
        ErrorKind::InvalidAudience => "it was issued for another audience (`aud`) than this server",
        ErrorKind::InvalidSignature => {
            "its signature does not fit: it was changed, or signed with another key"
        }
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm | ErrorKind::InvalidAlgorithmName => {
            "it is not signed with an algorithm that its key is for"
        }
        ErrorKind::MissingRequiredClaim(claim) => return missing(claim),
        ErrorKind::InvalidClaimFormat(claim) => return missing(claim),
        _ => "it is not a JSON Web Token that can be read",
    };
    Refusal::new(format!("the token is refused: {why}"))
}

fn missing(claim: &str) -> Refusal {
    Refusal::new(format!(
        "the token is refused: its claim `{claim}` is missing, or is not of the kind that it must be"
    ))
}
