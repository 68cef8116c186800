//! The key that tickets are sealed with.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use ring::rand::{SecureRandom, SystemRandom};

use super::hex;
use crate::error::{Error, Result};

const KEY_BYTES: usize = 32;

/// A key of 32 bytes. It has neither `Debug` nor `Display`, so that no log can hold it.
pub struct TicketKey([u8; KEY_BYTES]);

impl TicketKey {
    /// A new key, which lives as long as the process.
    ///
    /// # Errors
    /// `Access` where the system gives no random bytes.
    pub fn random() -> Result<Self> {
        let mut bytes = [0; KEY_BYTES];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| Error::Access("the system gives no random bytes for a key".to_owned()))?;
        Ok(Self(bytes))
    }

    /// The key that a file holds, as 64 hexadecimal digits. Where there is no file, one is made with a new key that its owner
    /// alone can read.
    ///
    /// # Errors
    /// `Access` for a file that cannot be read or made, holds something else, or that others can read.
    pub fn from_file(path: &Path) -> Result<Self> {
        let said = |what: &str| Error::Access(format!("--ticket-key `{}`: {what}", path.display()));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(mut file) => {
                let key = Self::random()?;
                let mut text = String::with_capacity(2 * KEY_BYTES + 1);
                for byte in key.0 {
                    // Writing to a string does not fail.
                    let _ = write!(text, "{byte:02x}");
                }
                text.push('\n');
                file.write_all(text.as_bytes())
                    .and_then(|()| file.sync_all())
                    .map_err(|error| said(&format!("the new key cannot be written: {error}")))?;
                Ok(key)
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let unreadable = |error: std::io::Error| said(&format!("cannot be read: {error}"));
                let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode();
                if mode & 0o077 != 0 {
                    return Err(said(
                        "others can read it, and could make tickets in anybody's name; `chmod 600` it, or name a new file",
                    ));
                }
                let text = std::fs::read_to_string(path).map_err(unreadable)?;
                hex(text.trim()).map(Self).ok_or_else(|| {
                    said("is not a key of 64 hexadecimal digits; name a file that does not exist, and it is made")
                })
            }
            Err(error) => Err(said(&format!("cannot be made: {error}"))),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_then_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ticket.key");
        let made = TicketKey::from_file(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(TicketKey::from_file(&path).unwrap().bytes() == made.bytes());
        assert!(TicketKey::random().unwrap().bytes() != made.bytes());

        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        let refused = TicketKey::from_file(&path).err().unwrap().to_string();
        assert!(refused.contains("chmod 600"), "{refused}");
        for text in ["", "abc", &"g".repeat(64), &"é".repeat(32), &"0".repeat(66)] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            let refused = TicketKey::from_file(&path).err().unwrap().to_string();
            assert!(refused.contains("64 hexadecimal digits"), "{text}: {refused}");
        }
        let nowhere = TicketKey::from_file(&folder.path().join("no/such/folder")).err().unwrap();
        assert!(nowhere.to_string().contains("cannot be made"), "{nowhere}");
    }
}
