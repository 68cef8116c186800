//! What is said when a server starts: how calls are encrypted, and who may make them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tonic::transport::{Identity, ServerTlsConfig};

use super::jwt::JwtOptions;
use super::{Gate, TicketKey};
use crate::error::{Error, Result};
use crate::sealed::{Now, Seals};

/// How long a client may take for its part of the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
const TICKETS: Duration = Duration::from_secs(15 * 60);
/// A statement is prepared once and run for as long as a program lives.
const HANDLES: Duration = Duration::from_secs(24 * 3_600);

/// Who may call, and how.
#[derive(Clone, Debug)]
pub struct AccessOptions {
    /// Calls are encrypted where there is one.
    pub tls: Option<TlsFiles>,
    pub authentication: Authentication,
    /// The key that tickets are sealed with, shared by servers over one store and kept over restarts; made where there is no such
    /// file. Without one, each server makes a key of its own that ends with it.
    pub ticket_key: Option<PathBuf>,
    /// How long a ticket of GetFlightInfo counts.
    pub ticket_lifetime: Duration,
    /// How long a client may take to begin a connection; only where it is encrypted.
    pub handshake_timeout: Duration,
}

impl Default for AccessOptions {
    /// Anybody may call, unencrypted, which goes on loopback alone.
    fn default() -> Self {
        Self {
            tls: None,
            authentication: Authentication::None,
            ticket_key: None,
            ticket_lifetime: TICKETS,
            handshake_timeout: HANDSHAKE,
        }
    }
}

/// The server's certificate, with those that vouch for it after it, and its private key: PEM both.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// How callers are known.
#[derive(Clone, Debug)]
pub enum Authentication {
    /// Not at all: all call in the server's name.
    None,
    /// By a token of a file.
    Tokens(PathBuf),
    /// By a token of an identity provider.
    Jwt(JwtOptions),
}

/// What of the options a running server needs.
pub(crate) struct Access {
    pub tls: Option<ServerTlsConfig>,
    pub gate: Gate,
    pub seals: Seals,
}

impl Access {
    /// Reads what the options name. `principal` is in whose name calls are made where nobody is asked who they are.
    ///
    /// # Errors
    /// `NotLoopback` where other machines can reach the address, and calls would not be encrypted or callers not known; `Access`
    /// for a file or an address that cannot be used.
    pub async fn open(
        options: &AccessOptions,
        address: SocketAddr,
        principal: &str,
        now: Now,
    ) -> Result<Self> {
        if !address.ip().is_loopback() {
            let tls = options.tls.is_none().then_some("--tls-cert and --tls-key");
            let callers = matches!(options.authentication, Authentication::None)
                .then_some("--tokens, --jwt-jwks or --jwt-key");
            let missing: Vec<&str> = tls.into_iter().chain(callers).collect();
            if !missing.is_empty() {
                return Err(Error::NotLoopback { address, missing: missing.join(", and ") });
            }
        }
        let tls =
            options.tls.as_ref().map(|files| certificate(files, options.handshake_timeout)).transpose()?;
        let gate = Gate::open(&options.authentication, principal, now.clone()).await?;
        let key = match &options.ticket_key {
            Some(file) => TicketKey::from_file(file)?,
            None => TicketKey::random()?,
        };
        let seals = Seals::new(&key, now, options.ticket_lifetime, HANDLES)
            .map_err(|status| Error::Access(status.message().to_owned()))?;
        Ok(Self { tls, gate, seals })
    }
}

fn certificate(files: &TlsFiles, handshake: Duration) -> Result<ServerTlsConfig> {
    let read = |option: &str, file: &PathBuf, kind: &str| {
        let said = |why: String| Error::Access(format!("{option} `{}`: {why}", file.display()));
        let pem = std::fs::read(file).map_err(|error| said(error.to_string()))?;
        let text = String::from_utf8_lossy(&pem);
        if !text.lines().any(|line| line.starts_with("-----BEGIN ") && line.contains(kind)) {
            return Err(said(format!("it holds no {kind} in PEM")));
        }
        Ok(pem)
    };
    let certificate = read("--tls-cert", &files.certificate, "CERTIFICATE")?;
    let key = read("--tls-key", &files.key, "PRIVATE KEY")?;
    let config = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key)).timeout(handshake);
    // Made once in vain, so that what is wrong with them is said before the server listens.
    tonic::transport::Server::builder().tls_config(config.clone()).map_err(|error| {
        Error::Access(format!(
            "--tls-cert `{}` and --tls-key `{}` cannot be used together: {}",
            files.certificate.display(),
            files.key.display(),
            crate::outgoing::causes(&error)
        ))
    })?;
    Ok(config)
}
