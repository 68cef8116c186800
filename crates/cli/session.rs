//! Where the store is and who asks: the options that all verbs share.

use std::sync::{Arc, Mutex, PoisonError};

use catalog::records::{How, Role};
use catalog::{Author, Catalog};
use clap::Args;
use feature::policy::Purpose;
use serving::{Error, Kind, Result, Serving};
use storage::{Clock, Store};

#[derive(Args, Clone)]
pub struct Place {
    /// The store: a folder, or file://, s3://, gs://, az:// or memory://
    #[arg(long, global = true, env = "LINEAMENT_STORE", default_value = "lineament-store")]
    pub store: String,
    /// The run that this is done for; goes into the log
    #[arg(long, global = true, env = "LINEAMENT_RUN")]
    run: Option<String>,
    /// The experiment that this is done for; goes into the log
    #[arg(long, global = true, env = "LINEAMENT_EXPERIMENT")]
    experiment: Option<String>,
    /// Roles that policies see in the local user
    #[arg(
        long = "as-role",
        global = true,
        env = "LINEAMENT_ROLES",
        value_name = "ROLE",
        value_delimiter = ','
    )]
    roles: Vec<String>,
    /// What rows are wanted for, as policies ask: explore, train or serve
    #[arg(long, global = true, env = "LINEAMENT_PURPOSE", default_value_t)]
    purpose: Purpose,
    /// What was opened.
    #[arg(skip)]
    opened: Arc<Mutex<Vec<Serving>>>,
}

/// Name and version of this program, as the log keeps it.
pub const PROGRAM: &str = concat!("lineament ", env!("CARGO_PKG_VERSION"));

impl Place {
    /// The local user, and what the options say of the run.
    pub fn author(&self) -> Author {
        let login = ["USER", "LOGNAME", "USERNAME"].iter().find_map(|name| std::env::var(name).ok());
        Author {
            principal: login.filter(|login| !login.is_empty()).unwrap_or_else(|| "unknown".to_owned()),
            program: PROGRAM.to_owned(),
            run: self.run.clone(),
            experiment: self.experiment.clone(),
            how: How::Explicit,
            role: Role::Unknown,
            steps: Vec::new(),
            roles: self.roles.clone(),
            purpose: self.purpose,
            ..Author::default()
        }
    }

    /// The place of the store, which is not opened: also a damaged one can be looked at.
    pub fn unopened(&self) -> Result<Store> {
        self.address(&self.store)
    }

    /// Opens a store that exists.
    pub async fn open(&self) -> Result<Serving> {
        let store = self.address(&self.store)?;
        if !store.is_initialized().await.map_err(catalog::Error::from)? {
            return Err(Error::new(
                Kind::NotFound,
                format!(
                    "there is no store at {}; `lineament apply` makes one there, or name another by --store",
                    store.location()
                ),
            ));
        }
        Ok(self.serving(Catalog::open(store).await?))
    }

    /// Opens a store, and makes it where there is none yet.
    pub async fn open_or_create(&self) -> Result<Serving> {
        self.open_or_create_at(&self.store).await
    }

    pub async fn open_or_create_at(&self, address: &str) -> Result<Serving> {
        let store = self.address(address)?;
        Ok(self.serving(Catalog::open_or_create(store, &self.author()).await?))
    }

    /// Writes what is to be on record and is not yet, as what was denied, and waits for checkpoints that are being written; without
    /// them the program would end in the midst of it, each time.
    pub async fn close(&self) {
        let opened = std::mem::take(&mut *self.opened.lock().unwrap_or_else(PoisonError::into_inner));
        for serving in opened {
            if let Err(error) = serving.flush(&self.author()).await {
                eprintln!("warning: what was asked is not on record: {error}");
            }
            serving.catalog().checkpoint_written().await;
        }
    }

    fn serving(&self, catalog: Catalog) -> Serving {
        if let Some(passed) = catalog.passed_over().first() {
            eprintln!(
                "warning: checkpoint {} was passed over: {}; the store is whole, and opens more slowly",
                passed.sequence, passed.why
            );
        }
        let serving = Serving::new(catalog).with_policies(Arc::new(policy::Cedar));
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).push(serving.clone());
        serving
    }

    fn address(&self, address: &str) -> Result<Store> {
        Ok(Store::open(address, Clock::System).map_err(catalog::Error::from)?)
    }
}

/// An error of a file that the user named.
pub fn file_error(path: &std::path::Path, error: impl std::fmt::Display) -> Error {
    Error::new(Kind::NotFound, format!("`{}`: {error}", path.display()))
}
