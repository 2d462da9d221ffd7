//! Generations: engine directories `db-<n>`. The file `CURRENT` names the one in use, with the
//! index and term of its state when it began: `db-<n> <index> <term>`.
//!
//! A received snapshot is built in a new generation beside the current one. An atomic rename
//! makes it current, and the old one can be removed. A crash leaves either of the two, and the
//! next open removes those that are not current.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keelson_core::{Index, LastIncluded, Term};

use crate::disk::{self, Disk};

/// The file that names the current generation. It exists if the member has state.
pub const CURRENT: &str = "CURRENT";
const PREFIX: &str = "db-";

/// Why the directory of generations cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GenerationError {
    /// A system call failed.
    #[error("storage: cannot {action} {}: {source}", path.display())]
    Io {
        /// The failed operation.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// `CURRENT` exists, but names no generation.
    #[error(
        "storage: {} names {named:?}, which is not there. If the directory was moved away, put it \
         back; else remove the member from the cluster, move its data directory away, and add it \
         again with an empty one", path.display()
    )]
    NoCurrent {
        /// The path of `CURRENT`.
        path: PathBuf,
        /// Its content.
        named: String,
    },
}

/// The generations of one member.
pub struct Generations<D: Disk> {
    disk: Arc<D>,
    dir: PathBuf,
    current: Option<u64>,
    began: Option<LastIncluded>,
    last: u64,
    /// Those that are being built: a snapshot and a defragmentation may be under way at once.
    building: BTreeSet<u64>,
    /// The one that `CURRENT` may name after an error.
    uncertain: Option<u64>,
}

/// A generation that is being built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fresh {
    /// Its number.
    pub number: u64,
    /// Its empty directory.
    pub dir: PathBuf,
}

impl<D: Disk> Generations<D> {
    /// Reads `dir`, which is created if needed, and removes generations that are not current.
    ///
    /// # Errors
    /// A `CURRENT` that names no generation, or the system's.
    pub fn open(disk: Arc<D>, dir: &Path) -> Result<Generations<D>, GenerationError> {
        disk::create_dir_durably(&*disk, dir).map_err(fail("create", dir))?;
        // A visible rename may not be durable yet.
        disk.sync_dir(dir).map_err(fail("sync", dir))?;
        let path = dir.join(CURRENT);
        let named = disk::read_file(&*disk, &path).map_err(fail("read", &path))?;
        let numbers = numbers(&*disk, dir)?;
        let (current, began) = match &named {
            None => (None, None),
            Some(bytes) => parse(&path, bytes, &numbers)?,
        };
        let generations = Generations {
            last: numbers.iter().copied().max().unwrap_or_default(),
            disk,
            dir: dir.to_path_buf(),
            current,
            began,
            building: BTreeSet::new(),
            uncertain: None,
        };
        generations.remove_others()?;
        Ok(generations)
    }

    /// The current directory; `None` before the first switch.
    pub fn current(&self) -> Option<PathBuf> {
        self.current.map(|number| self.dir_of(number))
    }

    /// The mark of the current engine's state when it began; `None` for a generation of an
    /// earlier version, which did not record it.
    pub fn began(&self) -> Option<LastIncluded> {
        self.began
    }

    /// Creates an empty directory for the next generation. It is kept until it is discarded.
    pub fn begin(&mut self) -> Result<Fresh, GenerationError> {
        self.last += 1;
        let dir = self.dir_of(self.last);
        self.disk.create_dir(&dir).map_err(fail("create", &dir))?;
        self.disk
            .sync_dir(&self.dir)
            .map_err(fail("sync", &self.dir))?;
        self.building.insert(self.last);
        Ok(Fresh {
            number: self.last,
            dir,
        })
    }

    /// Makes a durable generation the current one. Its state is that of the mark `began`.
    ///
    /// # Errors
    /// The disk's. It is then unknown which of both is current: both are kept, and the member must
    /// end.
    pub fn switch(&mut self, fresh: &Fresh, began: LastIncluded) -> Result<(), GenerationError> {
        self.disk
            .sync_dir(&fresh.dir)
            .map_err(fail("sync", &fresh.dir))?;
        self.name(fresh.number, began)
    }

    /// Records the mark of the current engine's state, if none is recorded. Call it once the log
    /// holds the mark too.
    pub fn note_began(&mut self, began: LastIncluded) -> Result<(), GenerationError> {
        match (self.current, self.began) {
            (Some(number), None) => self.name(number, began),
            _ => Ok(()),
        }
    }

    fn name(&mut self, number: u64, began: LastIncluded) -> Result<(), GenerationError> {
        let path = self.dir.join(CURRENT);
        let named = format!("{PREFIX}{number} {} {}\n", began.index.0, began.term.0);
        self.uncertain = Some(number);
        disk::replace_file(&*self.disk, &path, named.as_bytes()).map_err(fail("replace", &path))?;
        self.uncertain = None;
        self.building.remove(&number);
        self.current = Some(number);
        self.began = Some(began);
        Ok(())
    }

    fn is_kept(&self, number: u64) -> bool {
        let number = Some(number);
        number == self.current || number == self.uncertain
    }

    /// Removes every generation but the current one and those that are being built. An engine that
    /// still has one open continues to work: the files are deleted when it closes them.
    pub fn remove_others(&self) -> Result<(), GenerationError> {
        for number in numbers(&*self.disk, &self.dir)? {
            if self.is_kept(number) || self.building.contains(&number) {
                continue;
            }
            let dir = self.dir_of(number);
            self.disk
                .remove_dir_all(&dir)
                .map_err(fail("remove", &dir))?;
        }
        Ok(())
    }

    /// Removes a generation that will not be used. The current one is left unchanged.
    pub fn discard(&mut self, fresh: &Fresh) -> Result<(), GenerationError> {
        self.building.remove(&fresh.number);
        match self.is_kept(fresh.number) {
            true => Ok(()),
            false => self
                .disk
                .remove_dir_all(&fresh.dir)
                .map_err(fail("remove", &fresh.dir)),
        }
    }

    fn dir_of(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{PREFIX}{number}"))
    }
}

/// The current directory of generations in `dir`; `None` before the first switch. Nothing is
/// changed.
///
/// # Errors
/// As [`Generations::open`].
pub(crate) fn current_in(disk: &impl Disk, dir: &Path) -> Result<Option<PathBuf>, GenerationError> {
    let path = dir.join(CURRENT);
    let named = disk::read_file(disk, &path).map_err(fail("read", &path))?;
    let Some(named) = named else {
        return Ok(None);
    };
    let (current, _) = parse(&path, &named, &numbers(disk, dir)?)?;
    Ok(current.map(|number| dir.join(format!("{PREFIX}{number}"))))
}

fn numbers(disk: &impl Disk, dir: &Path) -> Result<Vec<u64>, GenerationError> {
    let names = disk.list(dir).map_err(fail("list", dir))?;
    let number = |name: &String| name.strip_prefix(PREFIX)?.parse().ok();
    Ok(names.iter().filter_map(number).collect())
}

/// The generation that `CURRENT` names, and its mark.
fn parse(
    path: &Path,
    bytes: &[u8],
    numbers: &[u64],
) -> Result<(Option<u64>, Option<LastIncluded>), GenerationError> {
    let text = String::from_utf8_lossy(bytes);
    let mut words = text.split_ascii_whitespace();
    let named = words.next().unwrap_or_default();
    let number = named
        .strip_prefix(PREFIX)
        .and_then(|digits| digits.parse().ok());
    let number = number.filter(|number| numbers.contains(number));
    if number.is_none() {
        return Err(GenerationError::NoCurrent {
            path: path.to_path_buf(),
            named: named.to_owned(),
        });
    }
    let mut word = || words.next().and_then(|digits| digits.parse().ok());
    let began = word().zip(word());
    let began = began.map(|(index, term)| LastIncluded {
        index: Index(index),
        term: Term(term),
    });
    Ok((number, began))
}

fn fail(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> GenerationError {
    move |source| GenerationError::Io {
        action,
        path: path.to_path_buf(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::DiskFile;
    use crate::disk::sim::SimDisk;

    const DIR: &str = "/member/snap";

    fn open(disk: &SimDisk) -> Result<Generations<SimDisk>, GenerationError> {
        Generations::open(Arc::new(disk.clone()), Path::new(DIR))
    }

    fn mark(index: u64) -> LastIncluded {
        LastIncluded {
            index: Index(index),
            term: Term(3),
        }
    }

    fn build(disk: &SimDisk, fresh: &Fresh) {
        let file = disk.create(&fresh.dir.join("data")).unwrap();
        file.write_at(0, &fresh.number.to_le_bytes()).unwrap();
        file.sync_data().unwrap();
    }

    #[test]
    fn a_switch_is_all_or_nothing_in_every_crash() {
        let disk = SimDisk::new();
        disk.record();
        let mut switched = vec![(0, None)];
        let mut generations = open(&disk).unwrap();
        for _ in 0..3 {
            let fresh = generations.begin().unwrap();
            build(&disk, &fresh);
            generations.switch(&fresh, mark(fresh.number)).unwrap();
            switched.push((disk.operations(), generations.current()));
            generations.remove_others().unwrap();
        }
        let mut states = 0;
        for moment in disk.moments() {
            let done = switched.partition_point(|(at, _)| *at <= moment.operations);
            let allowed = &switched[done - 1..switched.len().min(done + 1)];
            for subset in 0..1u64 << moment.disk.unsynced().min(10) {
                let disk = moment.disk.fork();
                disk.crash_keeping(subset);
                states += 1;
                let current = open(&disk).unwrap().current();
                assert!(allowed.iter().any(|(_, allowed)| *allowed == current));
                if let Some(dir) = current {
                    assert_eq!(disk.bytes(&dir.join("data")).unwrap().len(), 8);
                }
            }
        }
        println!("generations: {states} crash states opened");
    }

    #[test]
    fn the_mark_of_a_generation_is_kept_and_missing_in_earlier_versions() {
        let disk = SimDisk::new();
        let mut generations = open(&disk).unwrap();
        let first = generations.begin().unwrap();
        generations.switch(&first, mark(7)).unwrap();
        generations.note_began(mark(9)).unwrap();
        assert_eq!(open(&disk).unwrap().began(), Some(mark(7)));
        let path = Path::new(DIR).join(CURRENT);
        disk::replace_file(&disk, &path, b"db-1\n").unwrap();
        let mut generations = open(&disk).unwrap();
        assert_eq!(generations.current(), Some(first.dir));
        assert_eq!(generations.began(), None);
        generations.note_began(mark(9)).unwrap();
        assert_eq!(open(&disk).unwrap().began(), Some(mark(9)));
    }

    #[test]
    fn leftovers_go_and_numbers_are_not_used_twice() {
        let disk = SimDisk::new();
        let mut generations = open(&disk).unwrap();
        let first = generations.begin().unwrap();
        generations.switch(&first, mark(1)).unwrap();
        let unfinished = generations.begin().unwrap();
        build(&disk, &unfinished);
        drop(generations);
        let mut generations = open(&disk).unwrap();
        assert_eq!(generations.current(), Some(first.dir));
        assert!(!disk.exists(&unfinished.dir).unwrap());
        assert_eq!(generations.begin().unwrap().number, 3);
    }

    #[test]
    fn two_may_be_built_at_once() {
        let disk = SimDisk::new();
        let mut generations = open(&disk).unwrap();
        let first = generations.begin().unwrap();
        generations.switch(&first, mark(1)).unwrap();
        let snapshot = generations.begin().unwrap();
        generations.remove_others().unwrap();
        let defragmented = generations.begin().unwrap();
        generations.switch(&defragmented, mark(1)).unwrap();
        generations.remove_others().unwrap();
        assert!(!disk.exists(&first.dir).unwrap());
        generations.switch(&snapshot, mark(9)).unwrap();
        generations.remove_others().unwrap();
        assert_eq!(open(&disk).unwrap().current(), Some(snapshot.dir));
        let given_up = generations.begin().unwrap();
        generations.discard(&given_up).unwrap();
        assert!(!disk.exists(&given_up.dir).unwrap());
    }

    #[test]
    fn both_are_kept_when_it_is_unknown_which_is_current() {
        let disk = SimDisk::new();
        let mut generations = open(&disk).unwrap();
        let first = generations.begin().unwrap();
        generations.switch(&first, mark(1)).unwrap();
        let second = generations.begin().unwrap();
        // The file of the switch cannot be made.
        disk.create_dir(&Path::new(DIR).join("CURRENT.tmp"))
            .unwrap();
        generations.switch(&second, mark(2)).unwrap_err();
        generations.discard(&second).unwrap();
        generations.remove_others().unwrap();
        assert!(disk.exists(&first.dir).unwrap() && disk.exists(&second.dir).unwrap());
    }

    #[test]
    fn a_current_that_names_nothing_is_refused() {
        let disk = SimDisk::new();
        let mut generations = open(&disk).unwrap();
        let first = generations.begin().unwrap();
        generations.switch(&first, mark(1)).unwrap();
        disk.remove_dir_all(&first.dir).unwrap();
        let error = open(&disk)
            .err()
            .expect("the directory is gone")
            .to_string();
        assert!(
            error.contains("names \"db-1\", which is not there"),
            "{error}"
        );
    }
}
