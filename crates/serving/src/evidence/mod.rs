//! Evidence for an auditor: a folder that says what a model or a training set was made of, and that can be checked without
//! the store. `docs/evidence.md` specifies it.
//!
//! A pack is a function of the log up to a sequence and of the objects that it names: the same store gives the same bytes.

mod contents;
mod entries;
mod signing;
mod statement;
mod verify;

use std::collections::BTreeMap;

use async_recursion::async_recursion;
use feature::Sequence;

use crate::error::{Error, Kind, Result};
use crate::retrieve::Serving;
use contents::{Contents, Source, derive, packed, written};
use entries::LOG;
use statement::{About, FORMAT, FileDigest, Predicate, STATEMENT, Statement};

pub use signing::{PublicKey, SigningKey};
pub use verify::{Verification, verify};

/// The file of a signed pack with the key that checks it.
pub const PUBLIC_KEY: &str = "public_key.pem";
const README: &str = "README.txt";

/// What evidence is wanted of.
#[derive(Clone, Debug)]
pub struct EvidenceRequest {
    /// A model version (`delay/3`, `delay@champion`) or a training set, by name or id.
    pub subject: String,
    /// As of an earlier sequence; the newest where it is left out.
    pub sequence: Option<Sequence>,
}

/// A pack, still in memory.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// What it is of, as people call it.
    pub subject: String,
    pub sequence: Sequence,
    /// By path within the folder, with `/` in between.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Serving {
    /// Gathers a pack, and signs it if there is a key. Nothing is written to the store.
    ///
    /// # Errors
    /// `NotFound` for a name of nothing, `Invalid` for what evidence is not given of, `Damaged` where the store has lost or altered
    /// something that the pack needs.
    #[async_recursion]
    pub async fn evidence(&self, request: &EvidenceRequest, key: Option<&SigningKey>) -> Result<Evidence> {
        let (state, graph) = self.graph(request.sequence).await?;
        let sequence = graph.sequence();
        let about = graph.node(crate::graph::find(&graph, &state, &request.subject)?).clone();
        let entries = entries::read(self.catalog(), sequence).await?;
        // The state at that sequence and no later, from the very bytes that the pack will hold.
        let state = entries::fold(&entries).await?;
        let contents = derive(&state, &about, Source::Store(self.catalog())).await?;
        let Contents { about, subjects, tables, objects } = contents;
        let (kind, id, label) = about;

        let mut files = BTreeMap::from([(LOG.to_owned(), entries::lines(&entries)?)]);
        for (name, table) in &tables {
            files.insert(name.clone(), written(table)?);
        }
        for (path, bytes) in objects {
            files.insert(packed(&path), bytes.to_vec());
        }
        if let Some(key) = key {
            files.insert(PUBLIC_KEY.to_owned(), key.public().pem().into_bytes());
        }
        let committed_at = state.head.committed_at.to_string();
        let about = About { kind, id, label: label.clone() };
        files.insert(README.to_owned(), readme(&about, sequence, &committed_at, key.is_some()).into_bytes());
        let digests = files.iter().map(|(name, bytes)| (name.clone(), FileDigest::of(bytes))).collect();
        let predicate = Predicate {
            format: FORMAT,
            about,
            store: state.store,
            sequence,
            head: state.head.digest,
            committed_at,
            files: digests,
        };
        files.insert(STATEMENT.to_owned(), Statement::new(subjects, predicate).seal(key)?);
        Ok(Evidence { subject: label, sequence, files })
    }
}

/// Words for a person who opens the folder.
fn readme(about: &About, sequence: Sequence, committed_at: &str, signed: bool) -> String {
    let kind = about.kind.replace('_', " ");
    let signature = if signed {
        "It is signed (Ed25519). public_key.pem is the key that checks it; whether that is the key of the one whom you trust,\nask them and give it by --public-key."
    } else {
        "It is not signed: it agrees with itself, and nothing tells who made it."
    };
    format!(
        "Evidence: what the {kind} {label} was made of
id {id}
as of sequence {sequence} of the log, committed {committed_at}

Check this folder, without the store and without a network:

    lineament verify FOLDER

{signature}

statement.json        what is stated: an in-toto Statement v1 in a DSSE envelope, with the SHA-256 of every file here
log.jsonl             the log: the exact bytes of each entry, one a line; each holds the digest of the one before
graph.json            what came from what, with cells by batch
training_sets.json    the training sets, their content digests and snapshots
column_edges.json     which column of which version each of their columns comes from
definitions.json      the feature view versions, as they were defined
files.json            the batches that counted, their data files with digests, and their sources
runs.json             experiments, runs, and which training set each used for what
models.json           model versions
aliases.json          which model version an alias meant, with the bounds of when it moved
deployments.json      what served when
verifications.json    when training sets were rebuilt and compared
objects/              manifests and bodies, byte for byte as in the store; the log holds their digests

Data is not here: rows of features and spines stay in the store. With the store, `lineament replay ID` rebuilds a training set
and compares it with the digest stated here.
",
        label = about.label,
        id = about.id,
    )
}

fn damaged(why: impl Into<String>) -> Error {
    Error::new(Kind::Damaged, why)
}
