//! What the server gives out and takes back: tickets and handles, sealed for the caller they were given to.
//!
//! A seal is ChaCha20-Poly1305 over the instant at which it expires, a digest of the principal and what is asked. The server
//! keeps nothing: who has the key can open what another server with it has sealed.

use std::sync::Arc;
use std::time::Duration;

use feature::Timestamp;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use tonic::{Code, Status};

use crate::callers::TicketKey;
use crate::status;

/// What sealed bytes begin with. No JSON, SQL text or Flight SQL message does.
const MARK: [u8; 4] = [0, b'L', b'S', 1];
/// Of the principal's digest, what is kept.
const PRINCIPAL_BYTES: usize = 16;
const EXPIRY_BYTES: usize = 8;

/// The clock of the store.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What is sealed. One kind does not open as the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// Of GetFlightInfo, for DoGet.
    Ticket,
    /// Of a prepared statement.
    Handle,
}

impl Sealed {
    fn word(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Handle => "statement's handle",
        }
    }

    fn again(self) -> &'static str {
        match self {
            Self::Ticket => "ask for the query's FlightInfo again",
            Self::Handle => "prepare the statement again",
        }
    }

    /// What the seal vouches for beside what it holds.
    fn context(self) -> [u8; 5] {
        let kind = match self {
            Self::Ticket => b't',
            Self::Handle => b'h',
        };
        let [a, b, c, d] = MARK;
        [a, b, c, d, kind]
    }
}

/// Seals and opens.
pub struct Seals {
    key: LessSafeKey,
    random: SystemRandom,
    now: Now,
    /// How long a ticket counts.
    tickets: Duration,
    /// How long a prepared statement does.
    handles: Duration,
}

impl Seals {
    /// # Errors
    /// `INTERNAL` where the key is none for the cipher.
    pub fn new(key: &TicketKey, now: Now, tickets: Duration, handles: Duration) -> Result<Self, Status> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key.bytes())
            .map_err(|error| status::internal("the key of tickets cannot be used", error))?;
        Ok(Self { key: LessSafeKey::new(key), random: SystemRandom::new(), now, tickets, handles })
    }

    /// When what is sealed now expires.
    pub fn expiry(&self, kind: Sealed) -> Timestamp {
        let lifetime = match kind {
            Sealed::Ticket => self.tickets,
            Sealed::Handle => self.handles,
        };
        let micros = i64::try_from(lifetime.as_micros()).unwrap_or(i64::MAX);
        Timestamp((self.now)().micros().saturating_add(micros))
    }

    /// Seals what `principal` may ask for with it.
    ///
    /// # Errors
    /// `INTERNAL` where the system gives no random bytes.
    pub fn seal(&self, kind: Sealed, principal: &str, asked: &[u8]) -> Result<Vec<u8>, Status> {
        let mut nonce = [0; NONCE_LEN];
        self.random
            .fill(&mut nonce)
            .map_err(|error| status::internal("the system gives no random bytes", error))?;
        let expires = self.expiry(kind).micros().to_le_bytes();
        let mut content = [expires.as_slice(), &digest_of(principal), asked].concat();
        let tag = self
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(kind.context()),
                &mut content,
            )
            .map_err(|error| status::internal("a ticket could not be sealed", error))?;
        Ok([MARK.as_slice(), &nonce, content.as_slice(), tag.as_ref()].concat())
    }

    /// What was sealed for `principal`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for what was changed, sealed with another key or as another kind, or has expired; `PERMISSION_DENIED`
    /// for what was given to another principal.
    pub fn open(&self, kind: Sealed, principal: &str, sealed: &[u8]) -> Result<Vec<u8>, Status> {
        let (word, again) = (kind.word(), kind.again());
        let broken = || {
            status::invalid(format!(
                "the {word} cannot be opened: it was changed, or it is of a server with another key (without --ticket-key a server makes a new one when it starts); {again}"
            ))
        };
        let rest = sealed.strip_prefix(&MARK).ok_or_else(broken)?;
        let (nonce, content) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(broken)?;
        let mut content = content.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened =
            self.key.open_in_place(nonce, Aad::from(kind.context()), &mut content).map_err(|_| broken())?;
        let (expires, rest) = opened.split_first_chunk::<EXPIRY_BYTES>().ok_or_else(broken)?;
        let (owner, asked) = rest.split_first_chunk::<PRINCIPAL_BYTES>().ok_or_else(broken)?;
        if *owner != digest_of(principal) {
            return Err(status::status(
                Code::PermissionDenied,
                format!("the {word} was given to another caller than `{principal}`; {again}"),
            ));
        }
        let expires = Timestamp(i64::from_le_bytes(*expires));
        if (self.now)() > expires {
            return Err(status::invalid(format!("the {word} expired at {expires}; {again}")));
        }
        Ok(asked.to_vec())
    }
}

/// Whether bytes say of themselves that they are sealed.
pub fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(&MARK)
}

fn digest_of(principal: &str) -> [u8; PRINCIPAL_BYTES] {
    let mut short = [0; PRINCIPAL_BYTES];
    for (byte, of) in short.iter_mut().zip(digest(&SHA256, principal.as_bytes()).as_ref()) {
        *byte = *of;
    }
    short
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const ASKED: &[u8] = br#"{"sql":"SELECT temp FROM weather"}"#;

    fn seals(clock: &Arc<AtomicI64>) -> Seals {
        let clock = clock.clone();
        let now: Now = Arc::new(move || Timestamp(clock.load(Ordering::SeqCst)));
        Seals::new(&TicketKey::random().unwrap(), now, MINUTE, 2 * MINUTE).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_for_its_caller_until_it_expires() {
        let clock = Arc::new(AtomicI64::new(0));
        let seals = seals(&clock);
        for (kind, lifetime) in [(Sealed::Ticket, 60_000_000), (Sealed::Handle, 120_000_000)] {
            clock.store(0, Ordering::SeqCst);
            let sealed = seals.seal(kind, "ada", ASKED).unwrap();
            assert!(is_sealed(&sealed) && sealed.len() == ASKED.len() + 56);
            assert_ne!(sealed, seals.seal(kind, "ada", ASKED).unwrap());
            let hidden = !sealed.windows(6).any(|some| some == b"SELECT");
            assert!(hidden, "what is asked can be read");
            clock.store(lifetime, Ordering::SeqCst);
            assert_eq!(seals.open(kind, "ada", &sealed).unwrap(), ASKED);
            let other = seals.open(kind, "bob", &sealed).unwrap_err();
            assert_eq!(other.code(), Code::PermissionDenied);
            assert!(other.message().contains("another caller than `bob`"), "{other:?}");
            clock.store(lifetime + 1, Ordering::SeqCst);
            let late = seals.open(kind, "ada", &sealed).unwrap_err();
            assert!(late.message().contains("expired at 1970-01-01T00:0"), "{late:?}");
            assert!(late.message().contains("again"), "{late:?}");
        }
    }

    #[test]
    fn no_bit_can_be_turned_and_no_byte_taken_away() {
        let clock = Arc::new(AtomicI64::new(0));
        let seals = seals(&clock);
        let sealed = seals.seal(Sealed::Ticket, "ada", ASKED).unwrap();
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut turned = sealed.clone();
                turned[at] ^= 1 << bit;
                let refused = seals.open(Sealed::Ticket, "ada", &turned).unwrap_err();
                assert_eq!(refused.code(), Code::InvalidArgument, "byte {at}, bit {bit}");
            }
            assert!(seals.open(Sealed::Ticket, "ada", &sealed[..at]).is_err(), "{at}");
        }
        assert!(seals.open(Sealed::Handle, "ada", &sealed).is_err(), "a ticket is no handle");
        assert!(seals_of_another(&clock).open(Sealed::Ticket, "ada", &sealed).is_err());
    }

    fn seals_of_another(clock: &Arc<AtomicI64>) -> Seals {
        seals(clock)
    }
}
