//! A store: one root in object storage, found by its address.

mod address;
mod local;
mod remote;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use feature::Sequence;
use futures::StreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::prefix::PrefixStore;

use crate::durable_local::DurableLocal;
pub use crate::durable_local::Unfinished;
use crate::environment::Clock;
use crate::error::{Error, Result};
use crate::log::{self, Log};
use address::Address;

/// A handle to the place of a store, whether one is there yet or not; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    location: Arc<str>,
    objects: Arc<dyn ObjectStore>,
    local: Option<DurableLocal>,
    log: Log,
    clock: Clock,
}

impl Store {
    /// The store at an address: a folder's path, or a URL with the scheme `file`, `s3`, `gs`, `az` or `memory`. Nothing is
    /// written and no server is asked. Each `memory://` is a new store, shared by the clones of this handle.
    ///
    /// Credentials and endpoints come from the environment, under the names that `object_store` gives them
    /// (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT`, `AWS_ALLOW_HTTP`, `GOOGLE_SERVICE_ACCOUNT`, `AZURE_STORAGE_ACCOUNT_NAME`, …).
    ///
    /// # Errors
    /// `Location` where the address cannot be used, `NotAStore` for a folder that holds something else.
    pub fn open(address: &str, clock: Clock) -> Result<Self> {
        match Address::parse(address)? {
            Address::Folder(path) => {
                let root = local::resolve(&path)?;
                local::inspect(&root)?;
                let location = root.display().to_string();
                let local = DurableLocal::new(root);
                let objects: Arc<dyn ObjectStore> = Arc::new(local.clone());
                Ok(Self::assemble(location, objects.clone(), objects, Some(local), false, clock))
            }
            Address::Memory => {
                let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
                Ok(Self::assemble("memory://".to_owned(), objects.clone(), objects, None, false, clock))
            }
            Address::Remote { service, url, root } => {
                let location = address::printable(&url);
                let failed = |error: object_store::Error| Error::location(&location, error.to_string());
                let objects = remote::connect(service, &url, remote::Use::Data).map_err(failed)?;
                let commits = remote::connect(service, &url, remote::Use::Commits).map_err(failed)?;
                let objects = Arc::new(PrefixStore::new(objects, root.clone()));
                let commits = Arc::new(PrefixStore::new(commits, root));
                Ok(Self::assemble(location, objects, commits, None, true, clock))
            }
        }
    }

    /// The folder that an address names, by its path or by `file://`; none for other addresses. Nothing is looked at.
    ///
    /// # Errors
    /// `Location` where the address cannot be used.
    pub fn folder_of(address: &str) -> Result<Option<std::path::PathBuf>> {
        match Address::parse(address)? {
            Address::Folder(path) => Ok(Some(path)),
            Address::Memory | Address::Remote { .. } => Ok(None),
        }
    }

    /// A store over objects that the caller brings. They must be durable when a write is acknowledged; for local
    /// files, [`open`](Self::open) a path. What comes from them is trusted as little as what comes over a network.
    pub fn over(location: impl Into<String>, objects: Arc<dyn ObjectStore>, clock: Clock) -> Self {
        Self::assemble(location.into(), objects.clone(), objects, None, true, clock)
    }

    fn assemble(
        location: String,
        objects: Arc<dyn ObjectStore>,
        commits: Arc<dyn ObjectStore>,
        local: Option<DurableLocal>,
        is_remote: bool,
        clock: Clock,
    ) -> Self {
        let log = Log::new(commits, local.clone(), is_remote);
        Self { location: location.into(), objects, local, log, clock }
    }

    /// The address to show to people; it holds no credentials.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// The store's objects; their paths begin at its root.
    pub fn objects(&self) -> Arc<dyn ObjectStore> {
        self.objects.clone()
    }

    /// Whether the objects are files of this machine, which nobody hands on.
    pub fn is_local(&self) -> bool {
        self.local.is_some()
    }

    pub fn log(&self) -> &Log {
        &self.log
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Local files that never became objects; none in other storage.
    ///
    /// # Errors
    /// `Unavailable` where the folder cannot be read.
    pub async fn unfinished(&self) -> Result<Vec<Unfinished>> {
        match &self.local {
            Some(local) => Ok(local.unfinished().await?),
            None => Ok(Vec::new()),
        }
    }

    /// Removes local files that never became objects. A writer that is at work on one fails.
    ///
    /// # Errors
    /// `Unavailable` where one cannot be removed.
    pub async fn remove_unfinished(&self, files: Vec<Unfinished>) -> Result<()> {
        match &self.local {
            Some(local) => Ok(local.remove_unfinished(files).await?),
            None => Ok(()),
        }
    }

    /// Whether the log has begun.
    pub async fn is_initialized(&self) -> Result<bool> {
        Ok(self.log.read_bytes(Sequence::ZERO).await?.is_some())
    }

    /// Makes the place ready for the first entry: in local files, the folder, for its owner alone. Harmless where a store is.
    ///
    /// # Errors
    /// `NotAStore` where the place holds objects and no log, `Corrupt` where it holds a log without its first entry.
    pub async fn initialize(&self) -> Result<()> {
        if let Some(local) = &self.local {
            local.create_root().await?;
        }
        if self.is_initialized().await? {
            return Ok(());
        }
        let mut objects = self.objects.list(None);
        while let Some(object) = objects.next().await {
            let object = object?.location;
            let first = object.parts().next();
            let ours = first.is_some_and(|part| matches!(part.as_ref(), "probe" | "log"));
            let entry = log::sequence_of(&object);
            // Somebody else may be making the same store right now.
            if (!ours || entry.is_some()) && !self.is_initialized().await? {
                // A new first entry would bury what is left of the old log.
                return Err(match entry {
                    Some(later) => Error::corrupt_entry(
                        Sequence::ZERO,
                        format!(
                            "log entry 0 is missing, though entry {later} is there; entries are never deleted: restore it from a copy of the store"
                        ),
                    ),
                    None => Error::not_a_store(&*self.location),
                });
            }
        }
        Ok(())
    }
}
