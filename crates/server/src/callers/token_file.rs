//! Static tokens: a file of those that count, as digests. Who reads the file cannot call.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::hint::black_box;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use feature::Timestamp;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;

use super::bearer::Bearer;
use super::watched_file::WatchedFile;
use super::{Caller, Refusal, hex, is_name};
use crate::error::{Error, Result};

/// What tokens begin with, so that scanners for secrets know them.
const PREFIX: &str = "lmt_";
const DIGEST_BYTES: usize = 32;
/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;
const HEADER: &str = "# Tokens that may call a Lineament server, as SHA-256 digests; `lineament token create` adds one.\n# The server reads this file again when it changes: take an entry out, and its token counts no more.\n";

/// A token that is to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// In whose name its bearer calls.
    pub principal: String,
    /// The last instant at which it counts; for ever where there is none.
    pub expires: Option<Timestamp>,
    pub roles: Vec<String>,
}

/// Makes a token and adds its digest to the file, which is made where there is none. The answer is the token, which is kept nowhere.
///
/// # Errors
/// `Access` for names that are none, for a file that cannot be read or written, and where another program is adding a token.
pub fn create(file: &Path, wanted: &NewToken) -> Result<String> {
    let said = |what: String| Error::Access(format!("`{}`: {what}", file.display()));
    if !is_name(&wanted.principal) {
        return Err(Error::Access(
            "a principal is one line of 1 to 256 bytes, as ada or nightly-training".to_owned(),
        ));
    }
    if let Some(wrong) = wanted.roles.iter().find(|role| !is_name(role)) {
        return Err(Error::Access(format!("the role `{wrong}` is not one line of 1 to 256 bytes")));
    }
    // The new file has a name of its own until it is whole, which also keeps two programs from writing at once.
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside);
    let mut made = made.map_err(|error| {
        let why = match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                "another program is adding a token, or was stopped while it did; then remove it".to_owned()
            }
            _ => error.to_string(),
        };
        Error::Access(format!("`{}` cannot be made: {why}", beside.display()))
    })?;
    let written = extended(file, wanted).and_then(|(token, text)| {
        made.write_all(text.as_bytes())
            .and_then(|()| made.sync_all())
            .and_then(|()| std::fs::rename(&beside, file))
            .map_err(|error| said(error.to_string()))?;
        Ok(token)
    });
    if written.is_err() {
        // It is ours, and nobody reads it.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// A new token, and the text of the file with it.
fn extended(file: &Path, wanted: &NewToken) -> Result<(String, String)> {
    let said = |what: String| Error::Access(format!("`{}`: {what}", file.display()));
    let mut text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => HEADER.to_owned(),
        Err(error) => return Err(said(error.to_string())),
    };
    read(&text).map_err(said)?;
    let mut random = [0; TOKEN_BYTES];
    SystemRandom::new()
        .fill(&mut random)
        .map_err(|_| Error::Access("the system gives no random bytes for a token".to_owned()))?;
    let token = format!("{PREFIX}{}", digits(&random));
    let quoted = |name: &str| toml::Value::from(name).to_string();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "\n[[tokens]]\nprincipal = {}\nsha256 = \"{}\"\n",
        quoted(&wanted.principal),
        digits(digest(&SHA256, token.as_bytes()).as_ref())
    );
    if let Some(expires) = wanted.expires {
        let _ = writeln!(text, "expires = \"{expires}\"");
    }
    if !wanted.roles.is_empty() {
        let roles: Vec<String> = wanted.roles.iter().map(|role| quoted(role)).collect();
        let _ = writeln!(text, "roles = [{}]", roles.join(", "));
    }
    read(&text).map_err(said)?;
    Ok((token, text))
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    tokens: Vec<WrittenToken>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenToken {
    principal: String,
    sha256: String,
    expires: Option<String>,
    #[serde(default)]
    roles: Vec<String>,
}

/// The tokens of a file.
pub struct Tokens(Vec<Known>);

struct Known {
    digest: [u8; DIGEST_BYTES],
    expires: Option<Timestamp>,
    caller: Caller,
}

fn read(text: &str) -> Result<Tokens, String> {
    let Written { tokens } = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut seen = BTreeSet::new();
    let known = tokens.into_iter().enumerate().map(|(at, token)| {
        let said = |what: &str| format!("token {} (of `{}`): {what}", at + 1, token.principal);
        if !is_name(&token.principal) || !token.roles.iter().all(|role| is_name(role)) {
            return Err(said("principal and roles are one line of 1 to 256 bytes each"));
        }
        let digest = hex(&token.sha256).ok_or_else(|| {
            said("`sha256` is the digest of a token as 64 hexadecimal digits; `lineament token create` writes it")
        })?;
        if !seen.insert(digest) {
            return Err(said("another entry has the same digest"));
        }
        let expires = token.expires.as_deref().map(str::parse::<Timestamp>).transpose();
        let expires = expires.map_err(|error| said(&format!("`expires`: {error}")))?;
        let caller = Caller { principal: token.principal, roles: token.roles, ..Caller::default() };
        Ok(Known { digest, expires, caller })
    });
    known.collect::<Result<_, _>>().map(Tokens)
}

/// The file of tokens of a running server.
pub struct TokenFile(WatchedFile<Tokens>);

impl TokenFile {
    /// # Errors
    /// Why the file cannot be read, with its name.
    pub fn open(path: &Path) -> Result<Self, String> {
        WatchedFile::open(path, read).map(Self)
    }

    /// The caller whose token it is.
    pub fn caller(&self, token: Bearer, now: Timestamp) -> Result<Caller, Refusal> {
        self.0.current().caller(token, now)
    }
}

impl Tokens {
    /// All of them are looked at, and each to its end, so that the time it takes tells nothing of them.
    fn caller(&self, token: Bearer, now: Timestamp) -> Result<Caller, Refusal> {
        let given = digest(&SHA256, token.secret().as_bytes());
        let mut found = None;
        for known in &self.0 {
            let differs = known.digest.iter().zip(given.as_ref()).fold(0, |bits, (a, b)| bits | (a ^ b));
            if black_box(differs) == 0 {
                found = Some(known);
            }
        }
        let known = found.ok_or_else(|| {
            Refusal::new(
                "the token is none that this server knows: it was mistyped or taken back; ask who runs the server for one",
            )
        })?;
        match known.expires {
            Some(expires) if now > expires => Err(Refusal::new(format!(
                "the token of `{}` expired at {expires}; ask who runs the server for a new one",
                known.caller.principal
            ))),
            _ => Ok(known.caller.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::codegen::http::{HeaderMap, HeaderValue, header::AUTHORIZATION};

    use super::*;

    fn asks(tokens: &Tokens, token: &str, now: i64) -> Result<Caller, Refusal> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
        tokens.caller(Bearer::of(&headers).unwrap(), Timestamp(now))
    }

    #[test]
    fn tokens_are_made_kept_as_digests_and_known_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens.toml");
        let wanted = |principal: &str, expires, roles: &[&str]| NewToken {
            principal: principal.to_owned(),
            expires,
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        };
        let ada = create(&file, &wanted("ada", None, &["reader", "a \"quoted\" one"])).unwrap();
        let bob = create(&file, &wanted("bob \\ \"x\"", Some(Timestamp(5_000_000)), &[])).unwrap();
        assert!(ada.starts_with("lmt_") && ada.len() == 68 && ada != bob);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains(&ada[4..]) && !text.contains(&bob[4..]), "{text}");
        assert!(text.starts_with("# Tokens"), "{text}");

        let tokens = read(&text).unwrap();
        let caller = asks(&tokens, &ada, 9_000_000).unwrap();
        assert_eq!((caller.principal.as_str(), caller.roles.len()), ("ada", 2));
        assert_eq!(asks(&tokens, &bob, 5_000_000).unwrap().principal, "bob \\ \"x\"");
        let late = asks(&tokens, &bob, 5_000_001).unwrap_err().0;
        assert!(late.contains("expired at 1970-01-01T00:00:05Z"), "{late}");
        for wrong in [&ada[..67], &format!("{ada}0"), &ada.to_uppercase(), &ada[4..], "x"] {
            let refused = asks(&tokens, wrong, 0).unwrap_err().0;
            assert!(refused.contains("none that this server knows"), "{refused}");
            assert!(!refused.contains(wrong) || wrong == "x", "{refused}");
        }
        // The digest itself is no token.
        let written = digits(digest(&SHA256, ada.as_bytes()).as_ref());
        assert!(text.contains(&written));
        assert!(asks(&tokens, &written, 0).is_err());
    }

    #[test]
    fn what_a_file_gets_wrong_is_said_with_its_place() {
        let digest = "0".repeat(64);
        for (text, says) in [
            ("tokens = 1".to_owned(), "tokens"),
            ("[[tokens]]\nprincipal = \"ada\"\n".to_owned(), "sha256"),
            (format!("[[tokens]]\nprincipal = \"ada\"\nsha256 = \"{digest}\"\ntoken = \"x\""), "token"),
            (format!("[[tokens]]\nprincipal = \" \"\nsha256 = \"{digest}\""), "token 1"),
            ("[[tokens]]\nprincipal = \"ada\"\nsha256 = \"xyz\"".to_owned(), "64 hexadecimal"),
            (
                format!("[[tokens]]\nprincipal = \"ada\"\nsha256 = \"{digest}\"\nexpires = \"soon\""),
                "`soon` is not an instant",
            ),
            (format!("[[tokens]]\nprincipal = \"ada\"\nsha256 = \"{digest}\"\n").repeat(2), "same digest"),
        ] {
            let said = read(&text).err().unwrap_or_else(|| panic!("taken: {text}"));
            assert!(said.contains(says), "{said}");
        }
        assert!(read("").unwrap().0.is_empty());
    }

    #[test]
    fn nothing_is_lost_where_a_token_cannot_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens.toml");
        let wanted = NewToken { principal: "ada".to_owned(), expires: None, roles: Vec::new() };
        std::fs::write(&file, "broken").unwrap();
        assert!(create(&file, &wanted).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "broken");
        assert!(!folder.path().join("tokens.toml.new").exists());
        std::fs::write(&file, "").unwrap();
        std::fs::write(folder.path().join("tokens.toml.new"), "").unwrap();
        let busy = create(&file, &wanted).unwrap_err().to_string();
        assert!(busy.contains("another program"), "{busy}");
        let nameless = NewToken { principal: "a\nb".to_owned(), ..wanted };
        assert!(create(&file, &nameless).unwrap_err().to_string().contains("one line"));
    }
}
