//! An object that is uploaded in parts over a network that a seed drives: parts are lost, and what was sent is put together or not,
//! whatever is answered. An upload that nobody completes leaves nothing that can be seen.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, MultipartUpload, PutOptions, PutPayload, PutResult, Result, UploadPart};

use super::faulty_store::{Connection, Fault, broken};
use super::planted::Plant;

const BEGINNINGS: [Fault; 2] = [Fault::BeforeEffect, Fault::Slow];
const PARTS: [Fault; 4] = [Fault::BeforeEffect, Fault::AfterEffect, Fault::Slow, Fault::PartLost];
const COMPLETIONS: [Fault; 4] = [Fault::BeforeEffect, Fault::AfterEffect, Fault::LateEffect, Fault::Slow];
const ABORTS: [Fault; 3] = [Fault::BeforeEffect, Fault::AfterEffect, Fault::Slow];

/// The upload of one object.
#[derive(Debug)]
pub struct Upload {
    connection: Connection,
    location: Path,
    /// In the order in which they were begun; none where nothing of one has come.
    parts: Arc<Mutex<Vec<Option<Bytes>>>>,
}

impl Upload {
    pub async fn begin(connection: &Connection, location: &Path) -> Result<Self> {
        let (fault, _) = connection.draw("upload", location.as_ref(), &BEGINNINGS).await;
        if fault == Fault::BeforeEffect {
            return Err(broken());
        }
        Ok(Self { connection: connection.clone(), location: location.clone(), parts: Arc::default() })
    }

    /// The bytes of all parts; an error where one is missing, as every sound storage says.
    fn whole(&self) -> Result<Bytes> {
        let parts = self.parts.lock().unwrap();
        let mut whole = Vec::new();
        for part in parts.iter() {
            let Some(part) = part else {
                return Err(Error::Generic { store: "network", source: "a part is not there".into() });
            };
            whole.extend_from_slice(part);
        }
        if self.connection.plant() == Some(Plant::HalfUploaded) {
            whole.truncate(whole.len() / 2);
        }
        Ok(whole.into())
    }
}

#[async_trait::async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let place = {
            let mut parts = self.parts.lock().unwrap();
            parts.push(None);
            parts.len() - 1
        };
        let (connection, location, parts) =
            (self.connection.clone(), self.location.clone(), self.parts.clone());
        Box::pin(async move {
            let (fault, _) = connection.draw("part", location.as_ref(), &PARTS).await;
            match fault {
                Fault::BeforeEffect => return Err(broken()),
                Fault::PartLost => return Ok(()),
                _ => {}
            }
            parts.lock().unwrap()[place] = Some(data.into());
            if fault == Fault::AfterEffect { Err(broken()) } else { Ok(()) }
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (fault, bits) = self.connection.draw("complete", self.location.as_ref(), &COMPLETIONS).await;
        if fault == Fault::BeforeEffect {
            return Err(broken());
        }
        let (whole, options) = (PutPayload::from(self.whole()?), PutOptions::default());
        if fault == Fault::LateEffect {
            let (connection, location) = (self.connection.clone(), self.location.clone());
            tokio::spawn(async move {
                connection.wait(1 + bits % 20_000).await;
                let _ = connection.effect(&location, whole, options).await;
            });
            return Err(broken());
        }
        let done = self.connection.effect(&self.location, whole, options).await;
        if fault == Fault::AfterEffect { Err(broken()) } else { done }
    }

    async fn abort(&mut self) -> Result<()> {
        let (fault, _) = self.connection.draw("abort", self.location.as_ref(), &ABORTS).await;
        if fault != Fault::BeforeEffect {
            self.parts.lock().unwrap().clear();
        }
        if matches!(fault, Fault::BeforeEffect | Fault::AfterEffect) { Err(broken()) } else { Ok(()) }
    }
}
