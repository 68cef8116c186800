//! Clients of object storage services.

use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{BackoffConfig, ClientConfigKey, ObjectStore, Result, RetryConfig};
use url::Url;

use super::address::Service;

/// What a client is for, which says how long it tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Large objects, which may be sent again without harm.
    Data,
    /// Log entries. Whoever appends one settles doubtful answers itself, so an early answer is better.
    Commits,
}

impl Use {
    fn retry(self) -> RetryConfig {
        match self {
            Self::Data => RetryConfig::default(),
            Self::Commits => RetryConfig {
                backoff: BackoffConfig {
                    init_backoff: Duration::from_millis(50),
                    max_backoff: Duration::from_secs(1),
                    base: 2.0,
                },
                max_retries: 2,
                retry_timeout: Duration::from_secs(20),
            },
        }
    }

    /// For one whole request, unless the environment says otherwise.
    fn timeout(self) -> &'static str {
        match self {
            Self::Data => "120s",
            Self::Commits => "10s",
        }
    }
}

pub(super) fn connect(service: Service, url: &Url, purpose: Use) -> Result<Box<dyn ObjectStore>> {
    let (retry, timeout) = (purpose.retry(), purpose.timeout());
    let is_set = |prefix: &str| std::env::var_os(format!("{prefix}_TIMEOUT")).is_some();
    match service {
        Service::S3 => {
            let mut builder = AmazonS3Builder::from_env().with_url(url.as_str()).with_retry(retry);
            if !is_set("AWS") {
                builder = builder.with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), timeout);
            }
            Ok(Box::new(builder.build()?))
        }
        Service::Gcs => {
            let mut builder = GoogleCloudStorageBuilder::from_env().with_url(url.as_str()).with_retry(retry);
            if !is_set("GOOGLE") {
                builder = builder.with_config(GoogleConfigKey::Client(ClientConfigKey::Timeout), timeout);
            }
            Ok(Box::new(builder.build()?))
        }
        Service::Azure => {
            let mut builder = MicrosoftAzureBuilder::from_env().with_url(url.as_str()).with_retry(retry);
            if !is_set("AZURE") {
                builder = builder.with_config(AzureConfigKey::Client(ClientConfigKey::Timeout), timeout);
            }
            Ok(Box::new(builder.build()?))
        }
    }
}
