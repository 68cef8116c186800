//! What users write to say where a store is.

use feature::name::nearest;
use object_store::path::Path;
use url::Url;

use crate::error::{Error, Result};

const SCHEMES: [&str; 5] = ["file", "s3", "gs", "az", "memory"];
const ALLOWED: &str = "a store is at the path of a folder, or at file://, s3://, gs://, az:// or memory://";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    S3,
    Gcs,
    Azure,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Address {
    /// A folder of this machine, as written.
    Folder(std::path::PathBuf),
    Memory,
    Remote {
        service: Service,
        url: Url,
        /// Where in the bucket the store's root is.
        root: Path,
    },
}

impl Address {
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: String| Error::location(hide_credentials(text), why);
        if text.trim().is_empty() {
            return Err(wrong(format!("the address is empty; {ALLOWED}")));
        }
        if text.contains('\0') {
            return Err(Error::location(text.replace('\0', "\\0"), "no path holds a zero byte"));
        }
        let Some((scheme, _)) = text.split_once("://") else {
            if let Some(scheme) = SCHEMES
                .iter()
                .find(|scheme| text.split_once(':').is_some_and(|(before, _)| before == **scheme))
            {
                return Err(wrong(format!("write {scheme}:// with two slashes; {ALLOWED}")));
            }
            return Ok(Self::Folder(text.into()));
        };
        if !SCHEMES.contains(&scheme) {
            let hint = nearest(scheme, SCHEMES)
                .map(|near| format!(" (did you mean {near}://?)"))
                .unwrap_or_default();
            return Err(wrong(format!("the scheme {scheme}:// is not known{hint}; {ALLOWED}")));
        }
        let url = Url::parse(text).map_err(|error| wrong(format!("it is not a URL: {error}")))?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong(
                "a store's address has no `?` and no `#`; options come from the environment".to_owned(),
            ));
        }
        let service = match scheme {
            "file" => {
                return folder(&url)
                    .ok_or_else(|| wrong("write file:// with a path that begins with /".to_owned()));
            }
            "memory" => {
                return if matches!(url.host_str(), None | Some("")) && matches!(url.path(), "" | "/") {
                    Ok(Self::Memory)
                } else {
                    Err(wrong("a store in memory has no name: write memory://".to_owned()))
                };
            }
            "s3" => Service::S3,
            "gs" => Service::Gcs,
            _ => Service::Azure,
        };
        // For Azure the part before the @ is the container.
        if url.password().is_some() || (service != Service::Azure && !url.username().is_empty()) {
            return Err(wrong(
                "credentials do not belong in the address; they come from the environment".to_owned(),
            ));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(wrong(format!("name the bucket, as in {scheme}://bucket/path")));
        }
        let root = Path::from_url_path(url.path()).map_err(|error| wrong(error.to_string()))?;
        Ok(Self::Remote { service, url, root })
    }
}

fn folder(url: &Url) -> Option<Address> {
    if !matches!(url.host_str(), None | Some("" | "localhost")) {
        return None;
    }
    url.to_file_path().ok().map(Address::Folder)
}

/// A checked URL for people.
pub(super) fn printable(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

/// An address that may hold credentials where it should not, without them.
fn hide_credentials(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (rest, hidden) = match rest.split_once('?') {
        Some((rest, _)) => (rest, "?…"),
        None => (rest, ""),
    };
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://…@{host}{path}{hidden}"),
        None => format!("{scheme}://{authority}{path}{hidden}"),
    }
}
