//! A power cut at every moment: the real writer's operations are recorded, and from every prefix of the recording,
//! with every subset of what was not synced, the disk must hold what was acknowledged and nothing half.
//!
//! The model: a name (made, removed or renamed) is durable once its directory was synced, a file's bytes once the file
//! was. What is not durable may be kept or lost, each piece for itself and in any combination; unsynced bytes may also
//! be kept in part or come back as zeros.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use object_store::PutPayload;

use super::file_system::{FileSystem, Kind, Real};
use super::writer::{Failure, Writer};
use crate::splitmix::SplitMix;

#[derive(Clone, Debug)]
enum Step {
    CreateDirectory(PathBuf),
    CreateFile(PathBuf, usize),
    Write(usize, u64, Vec<u8>),
    SyncFile(usize),
    Link(PathBuf, PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    SyncDirectory(PathBuf),
    /// Not an operation: from here on the object may have this content (`None`: be absent).
    Begin(PathBuf, Option<Vec<u8>>),
    /// Not an operation: from here on it must have the content begun last, or one begun later.
    Acknowledge(PathBuf),
}

/// Does everything on the real file system and records it; after `budget` operations the process is dead.
#[derive(Debug, Default)]
struct Recording {
    inner: Mutex<Recorded>,
}

#[derive(Debug, Default)]
struct Recorded {
    steps: Vec<Step>,
    files: usize,
    budget: Option<usize>,
}

impl Recording {
    fn operate<T>(&self, operation: impl FnOnce(&mut Recorded) -> io::Result<(T, Step)>) -> io::Result<T> {
        let mut recorded = self.inner.lock().unwrap();
        if recorded.budget == Some(0) {
            return Err(io::Error::other("the process was killed"));
        }
        let (value, step) = operation(&mut recorded)?;
        recorded.steps.push(step);
        if let Some(budget) = &mut recorded.budget {
            *budget -= 1;
        }
        Ok(value)
    }

    fn note(&self, step: Step) {
        self.inner.lock().unwrap().steps.push(step);
    }

    fn is_dead(&self) -> bool {
        self.inner.lock().unwrap().budget == Some(0)
    }

    fn set_budget(&self, budget: Option<usize>) {
        self.inner.lock().unwrap().budget = budget;
    }

    fn steps(&self) -> Vec<Step> {
        self.inner.lock().unwrap().steps.clone()
    }
}

impl FileSystem for std::sync::Arc<Recording> {
    type File = (File, usize);

    fn kind(&self, path: &Path) -> io::Result<Option<Kind>> {
        Real.kind(path)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.operate(|_| Ok((Real.create_directory(path)?, Step::CreateDirectory(path.to_owned()))))
    }

    fn create_file(&self, path: &Path) -> io::Result<Self::File> {
        self.operate(|recorded| {
            let file = Real.create_file(path)?;
            let number = recorded.files;
            recorded.files += 1;
            Ok(((file, number), Step::CreateFile(path.to_owned(), number)))
        })
    }

    fn write_at(&self, file: &Self::File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.operate(|_| {
            Ok((Real.write_at(&file.0, offset, bytes)?, Step::Write(file.1, offset, bytes.to_vec())))
        })
    }

    /// The disk under the test need not be synced: the model says what would be lost.
    fn sync_file(&self, file: &Self::File) -> io::Result<()> {
        self.operate(|_| Ok(((), Step::SyncFile(file.1))))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operate(|_| Ok((Real.link(from, to)?, Step::Link(from.to_owned(), to.to_owned()))))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operate(|_| Ok((Real.rename(from, to)?, Step::Rename(from.to_owned(), to.to_owned()))))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.operate(|_| Ok((Real.remove(path)?, Step::Remove(path.to_owned()))))
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.operate(|_| {
            assert!(path.is_dir(), "{}", path.display());
            Ok(((), Step::SyncDirectory(path.to_owned())))
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Node {
    Directory,
    File(usize),
}

#[derive(Clone, Debug)]
enum Change {
    Add(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, Node),
}

/// A disk with a volatile layer over the durable one.
#[derive(Clone, Default)]
struct Disk {
    /// What programs see.
    names: BTreeMap<PathBuf, Node>,
    /// Every change of a name, in order, with its directory and whether that was synced since.
    changes: Vec<(PathBuf, Change, bool)>,
    /// Bytes of each file: as programs see them, and as last synced.
    files: Vec<(Vec<u8>, Vec<u8>)>,
    /// Of each object: its content as acknowledged last, and what was begun since.
    objects: BTreeMap<PathBuf, (Content, Vec<Content>)>,
}

/// What an object holds; `None` where it is absent.
type Content = Option<Vec<u8>>;

impl Disk {
    fn change(&mut self, path: &Path, change: Change) {
        self.changes.push((path.parent().unwrap().to_owned(), change, false));
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::CreateDirectory(path) => {
                self.names.insert(path.clone(), Node::Directory);
                self.change(path, Change::Add(path.clone(), Node::Directory));
            }
            Step::CreateFile(path, number) => {
                assert_eq!(*number, self.files.len());
                self.files.push((Vec::new(), Vec::new()));
                self.names.insert(path.clone(), Node::File(*number));
                self.change(path, Change::Add(path.clone(), Node::File(*number)));
            }
            Step::Write(number, offset, bytes) => {
                let (seen, _) = &mut self.files[*number];
                let offset = usize::try_from(*offset).unwrap();
                seen.resize(seen.len().max(offset + bytes.len()), 0);
                seen[offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            Step::SyncFile(number) => {
                let (seen, synced) = &mut self.files[*number];
                synced.clone_from(seen);
            }
            Step::Link(from, to) => {
                let node = self.names[from];
                assert!(self.names.insert(to.clone(), node).is_none());
                self.change(to, Change::Add(to.clone(), node));
            }
            Step::Rename(from, to) => {
                let node = self.names[from];
                if self.names.get(to) != Some(&node) {
                    self.names.remove(from);
                    self.names.insert(to.clone(), node);
                    self.change(to, Change::Rename(from.clone(), to.clone(), node));
                }
            }
            Step::Remove(path) => {
                self.names.remove(path);
                self.change(path, Change::Remove(path.clone()));
            }
            Step::SyncDirectory(path) => {
                for (directory, _, durable) in &mut self.changes {
                    *durable |= directory == path;
                }
            }
            Step::Begin(path, content) => {
                self.objects.entry(path.clone()).or_default().1.push(content.clone());
            }
            Step::Acknowledge(path) => {
                let (last, begun) = self.objects.get_mut(path).unwrap();
                *last = begun.pop().unwrap();
                begun.clear();
            }
        }
    }

    fn unsynced_changes(&self) -> usize {
        self.changes.iter().filter(|(_, _, durable)| !durable).count()
    }

    fn unsynced_files(&self) -> Vec<usize> {
        (0..self.files.len()).filter(|&number| self.files[number].0 != self.files[number].1).collect()
    }

    /// What is wrong after a power cut that keeps these unsynced changes, and of each unsynced file what `kept` says.
    fn wrong_after_cut(&self, keep: impl Fn(usize) -> bool, kept: impl Fn(usize) -> u64) -> Option<String> {
        let mut names: BTreeMap<PathBuf, Node> = BTreeMap::new();
        let mut unsynced = 0;
        for (_, change, durable) in &self.changes {
            if !durable {
                unsynced += 1;
                if !keep(unsynced - 1) {
                    continue;
                }
            }
            match change {
                Change::Add(path, node) => drop(names.insert(path.clone(), *node)),
                Change::Remove(path) => drop(names.remove(path)),
                Change::Rename(from, to, node) => {
                    names.remove(from);
                    names.insert(to.clone(), *node);
                }
            }
        }
        for (path, (last, begun)) in &self.objects {
            let reachable = path
                .ancestors()
                .skip(1)
                .take_while(|above| self.names.contains_key(*above))
                .all(|above| names.get(above) == Some(&Node::Directory));
            let found = match names.get(path) {
                Some(Node::File(number)) if reachable => Some(self.content(*number, &kept)),
                Some(Node::Directory) => return Some(format!("{} is a directory", path.display())),
                _ => None,
            };
            if found != *last && !begun.contains(&found) {
                return Some(format!(
                    "{} holds {found:?}, acknowledged {last:?}, begun {begun:?}",
                    path.display()
                ));
            }
        }
        let objects: BTreeSet<&PathBuf> = self.objects.keys().collect();
        for (path, node) in &names {
            let hidden =
                path.to_string_lossy().rsplit_once('#').is_some_and(|(_, tail)| tail.parse::<u64>().is_ok());
            if matches!(node, Node::File(_)) && !hidden && !objects.contains(path) {
                return Some(format!("{} can be listed", path.display()));
            }
        }
        None
    }

    fn content(&self, number: usize, kept: impl Fn(usize) -> u64) -> Vec<u8> {
        let (seen, synced) = &self.files[number];
        if seen == synced {
            return seen.clone();
        }
        match kept(number) % 4 {
            0 => synced.clone(),
            1 => seen.clone(),
            2 => vec![0; seen.len()],
            _ => seen[..seen.len() / 2].to_vec(),
        }
    }
}

/// Cuts the power at every step and in every way; counts the ways, or says what went wrong.
fn every_cut(steps: &[Step]) -> Result<u64, String> {
    let mut disk = Disk::default();
    let mut cuts = 0;
    for (number, step) in steps.iter().enumerate() {
        disk.step(step);
        let changes = disk.unsynced_changes();
        let files = disk.unsynced_files();
        assert!(changes + 2 * files.len() <= 20, "{changes} unsynced changes are too many to try all");
        for subset in 0..1u64 << changes {
            for contents in 0..1u64 << (2 * files.len()) {
                let kept = |file: usize| {
                    let at = files.iter().position(|number| *number == file).unwrap();
                    contents >> (2 * at)
                };
                if let Some(wrong) = disk.wrong_after_cut(|change| subset >> change & 1 == 1, kept) {
                    return Err(format!("after step {number} ({step:?}): {wrong}"));
                }
                cuts += 1;
            }
        }
    }
    Ok(cuts)
}

/// A folder with the recording of everything that is done in it.
struct Bench {
    recording: std::sync::Arc<Recording>,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { recording: Default::default(), folder: tempfile::tempdir().unwrap() }
    }

    /// As a process that starts now: it remembers nothing of those before.
    fn process(&self) -> Writer<std::sync::Arc<Recording>> {
        Writer::new(self.recording.clone(), self.folder.path().join("store"))
    }

    fn path(&self, object: &str) -> PathBuf {
        self.folder.path().join("store").join(object)
    }

    /// Lets a write run and records when it began and whether it was acknowledged.
    fn put(
        &self,
        writer: &Writer<std::sync::Arc<Recording>>,
        object: &str,
        content: &str,
        mode: Mode,
    ) -> bool {
        let path = self.path(object);
        let payload = PutPayload::from(content.to_owned());
        let exists = path.exists();
        if mode != Mode::Create || !exists {
            self.recording.note(Step::Begin(path.clone(), Some(content.as_bytes().to_vec())));
        }
        let result = match mode {
            Mode::Create => writer.create(&path, &payload),
            Mode::Replace => writer.replace(&path, &payload),
            Mode::Parts => writer.stage(&path).and_then(|staged| {
                let half = content.len() / 2;
                let parts = [&content.as_bytes()[..half], &content.as_bytes()[half..]];
                let payload = |bytes: &[u8]| PutPayload::from(bytes.to_vec());
                writer.write_at(&staged.file, half as u64, &payload(parts[1]), &path)?;
                writer.write_at(&staged.file, 0, &payload(parts[0]), &path)?;
                writer.finish(staged, &path)
            }),
            Mode::Copy => {
                let from = self.path("copied/from");
                writer.create(&from, &payload).and_then(|()| writer.copy(&from, &path, true))
            }
        };
        match result {
            Ok(()) => {
                assert!(mode != Mode::Create || !exists);
                self.recording.note(Step::Acknowledge(path));
                true
            }
            Err(Failure::Exists(_)) => {
                assert!(exists);
                false
            }
            Err(failure) => {
                assert!(self.recording.is_dead(), "{failure}");
                false
            }
        }
    }

    fn delete(&self, writer: &Writer<std::sync::Arc<Recording>>, object: &str) {
        let path = self.path(object);
        self.recording.note(Step::Begin(path.clone(), None));
        match writer.delete(&path) {
            Ok(()) => self.recording.note(Step::Acknowledge(path)),
            Err(failure) => assert!(self.recording.is_dead(), "{failure}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Create,
    Replace,
    Parts,
    Copy,
}

/// A process that was killed after it made the store's folder, and one that makes an object in it.
fn create_after_a_crash() -> Vec<Step> {
    let bench = Bench::new();
    bench.recording.set_budget(Some(1));
    bench.process().create_root().unwrap_err();
    bench.recording.set_budget(None);
    assert!(bench.put(&bench.process(), "data/v1/file", "whole content", Mode::Create));
    bench.recording.steps()
}

#[test]
fn every_kind_of_write_survives_every_power_cut() {
    let mut cuts = 0;
    for mode in [Mode::Create, Mode::Replace, Mode::Parts] {
        let bench = Bench::new();
        let writer = bench.process();
        writer.create_root().unwrap();
        assert!(bench.put(&writer, "log/0.json", "the first entry", mode));
        assert!(bench.put(&writer, "log/1.json", "the second entry", mode));
        if mode != Mode::Create {
            assert!(bench.put(&writer, "log/1.json", "a longer text in its place", mode));
        }
        bench.delete(&writer, "log/0.json");
        cuts += every_cut(&bench.recording.steps()).unwrap();
    }
    let bench = Bench::new();
    let writer = bench.process();
    writer.create_root().unwrap();
    bench.recording.note(Step::Begin(bench.path("copied/from"), Some(b"copied".to_vec())));
    assert!(bench.put(&writer, "copy", "copied", Mode::Copy));
    cuts += every_cut(&bench.recording.steps()).unwrap();
    assert!(cuts > 200, "{cuts} cuts are too few to be all");
}

#[test]
fn a_writer_killed_at_any_moment_harms_no_later_one() {
    let mut cuts = 0;
    for second in ["log/0.json", "log/1.json"] {
        for operations in 0.. {
            let bench = Bench::new();
            let first = bench.process();
            bench.recording.set_budget(Some(operations));
            let started = first.create_root().is_ok();
            let ended =
                started && bench.put(&first, "log/0.json", "from the one that was killed", Mode::Create);
            bench.recording.set_budget(None);
            let next = bench.process();
            next.create_root().unwrap();
            // Whoever reads what another wrote makes it durable before acting on it.
            next.settle(&bench.path("log")).unwrap();
            let there = bench.path("log/0.json").exists();
            if there && !ended {
                bench.recording.note(Step::Acknowledge(bench.path("log/0.json")));
            }
            let won = bench.put(&next, second, "from the next", Mode::Create);
            assert_eq!(won, second != "log/0.json" || !there);
            cuts += every_cut(&bench.recording.steps())
                .unwrap_or_else(|wrong| panic!("{operations}, {second}: {wrong}"));
            if ended {
                break;
            }
        }
    }
    assert!(cuts > 1_000, "{cuts} cuts are too few to be all");
}

#[test]
fn the_model_misses_none_of_the_syncs() {
    let steps = create_after_a_crash();
    every_cut(&steps).unwrap();
    let syncs: Vec<usize> = steps
        .iter()
        .enumerate()
        .filter(|(_, step)| matches!(step, Step::SyncFile(_) | Step::SyncDirectory(_)))
        .map(|(number, _)| number)
        .collect();
    assert_eq!(syncs.len(), 5, "the folder, two levels, the file, its name: {steps:?}");
    for sync in syncs {
        let mut without = steps.clone();
        let removed = without.remove(sync);
        assert!(every_cut(&without).is_err(), "nothing goes wrong without {removed:?}");
    }
}

#[test]
fn the_model_sees_a_name_given_before_the_bytes_are_synced() {
    let mut steps = create_after_a_crash();
    let sync = steps.iter().position(|step| matches!(step, Step::SyncFile(_))).unwrap();
    let link = steps.iter().position(|step| matches!(step, Step::Link(..))).unwrap();
    steps.swap(sync, link);
    every_cut(&steps).unwrap_err();
}

/// Long histories have too many cuts to try all, so this tries 100,000 of them.
#[test]
fn random_histories_survive_random_power_cuts() {
    let mut cuts = 0;
    for seed in 0..500 {
        let mut random = SplitMix::new(seed);
        let bench = Bench::new();
        let mut writer = bench.process();
        writer.create_root().unwrap();
        for number in 0..12 {
            let object = ["a", "log/0", "log/1", "data/v1/x", "data/v2/x"][random.below(5) as usize];
            let budget = random.below(40) as usize;
            bench.recording.set_budget((budget < 10).then_some(budget));
            match random.below(5) {
                0 if bench.path(object).exists() => bench.delete(&writer, object),
                0 | 1 => _ = bench.put(&writer, object, &format!("created {seed} {number}"), Mode::Create),
                2 | 3 => _ = bench.put(&writer, object, &format!("replaced {seed} {number}"), Mode::Replace),
                _ => _ = bench.put(&writer, object, &format!("in parts {seed} {number}"), Mode::Parts),
            }
            if bench.recording.is_dead() {
                bench.recording.set_budget(None);
                writer = bench.process();
            }
            bench.recording.set_budget(None);
        }
        let steps = bench.recording.steps();
        let mut disks = vec![Disk::default()];
        for step in &steps {
            let mut disk = disks.last().unwrap().clone();
            disk.step(step);
            disks.push(disk);
        }
        for _ in 0..200 {
            let disk = &disks[random.below(disks.len() as u64) as usize];
            let (subset, contents) = (random.next(), random.next());
            let wrong = disk.wrong_after_cut(
                |change| subset.rotate_right(change as u32) & 1 == 1,
                |file| contents.rotate_right(2 * file as u32),
            );
            if let Some(wrong) = wrong {
                panic!("seed {seed}: {wrong}");
            }
            cuts += 1;
        }
    }
    assert_eq!(cuts, 100_000);
}
