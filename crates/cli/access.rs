//! Who may call: the options of `lineament serve` that say so.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use server::{AccessOptions, Authentication, JwtKeys, JwtOptions, TlsFiles};

/// An unknown key has its set asked for again, but not more often than this.
const FETCH_EVERY: Duration = Duration::from_secs(30);

/// How calls are encrypted, and by what callers are known.
#[derive(Args, Clone)]
pub struct Access {
    /// Encrypt calls, with this certificate and those that vouch for it after it, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Callers need one of the tokens of this file, which `lineament token create` makes
    #[arg(long, value_name = "FILE", conflicts_with_all = ["jwt_jwks", "jwt_key"])]
    tokens: Option<PathBuf>,
    /// Callers need a JSON Web Token signed with one of these keys: a set (JWKS) in a file, or at an https:// address
    #[arg(
        long,
        value_name = "FILE|URL",
        group = "jwt_keys",
        requires_all = ["jwt_issuer", "jwt_audience"]
    )]
    jwt_jwks: Option<String>,
    /// Callers need a JSON Web Token signed with this key: a public key in PEM
    #[arg(long, value_name = "FILE", group = "jwt_keys", requires_all = ["jwt_issuer", "jwt_audience"])]
    jwt_key: Option<PathBuf>,
    /// The issuer (`iss`) whose tokens count
    #[arg(long, value_name = "ISSUER", requires = "jwt_keys")]
    jwt_issuer: Option<String>,
    /// The audience (`aud`) that tokens must be issued for; may be given several times
    #[arg(long, value_name = "AUDIENCE", requires = "jwt_keys")]
    jwt_audience: Vec<String>,
    /// The claim that is the principal in the log
    #[arg(long, value_name = "CLAIM", default_value = "sub")]
    jwt_principal_claim: String,
    /// The claim that is the caller's roles: a list of texts, or one text of words
    #[arg(long, value_name = "CLAIM", default_value = "roles")]
    jwt_roles_claim: String,
    /// Seal tickets with the key in this file, which is made where there is none: servers with the same key take each other's
    /// tickets, also after a restart. Not said: a key that ends with the server
    #[arg(long, value_name = "FILE")]
    ticket_key: Option<PathBuf>,
    /// How long a ticket of a planned query counts, as 15m
    #[arg(long, value_name = "SPAN", default_value = "15m", value_parser = crate::serve::period)]
    ticket_lifetime: Duration,
}

impl Access {
    pub fn options(&self) -> AccessOptions {
        let tls = self.tls_cert.clone().zip(self.tls_key.clone());
        let keys = match (&self.jwt_jwks, &self.jwt_key) {
            (Some(set), _) if set.contains("://") => Some(JwtKeys::Address(set.clone())),
            (Some(set), _) => Some(JwtKeys::File(PathBuf::from(set))),
            (None, Some(key)) => Some(JwtKeys::Pem(key.clone())),
            (None, None) => None,
        };
        let authentication = match (&self.tokens, keys) {
            (Some(file), _) => Authentication::Tokens(file.clone()),
            (None, Some(keys)) => Authentication::Jwt(JwtOptions {
                keys,
                issuer: self.jwt_issuer.clone().unwrap_or_default(),
                audience: self.jwt_audience.clone(),
                principal_claim: self.jwt_principal_claim.clone(),
                roles_claim: self.jwt_roles_claim.clone(),
                fetch_every: FETCH_EVERY,
            }),
            (None, None) => Authentication::None,
        };
        AccessOptions {
            tls: tls.map(|(certificate, key)| TlsFiles { certificate, key }),
            authentication,
            ticket_key: self.ticket_key.clone(),
            ticket_lifetime: self.ticket_lifetime,
            ..AccessOptions::default()
        }
    }
}
