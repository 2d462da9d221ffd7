//! etcd's log: segments of frames, each with the length of its record; the records' checksums are
//! a chain.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;

use super::messages::{RaftEntry, Record, StoredHardState};
use super::state::ImportError;
use super::tail::{self, Unread, frame};
use crate::disk::{Disk, ReadOnlyFile, RealDisk};

const ENTRY: i64 = 2;
pub(super) const STATE: i64 = 3;
const CHECKSUM: i64 = 4;
/// The largest record that is read, in bytes.
const RECORD_BYTES_MAX: u64 = 256 << 20;

/// A log: where its entries are, and how far they are committed.
pub(super) struct EtcdLog {
    segments: Vec<(PathBuf, ReadOnlyFile)>,
    /// Without gaps.
    entries: Vec<Place>,
    pub(super) commit: u64,
    pub(super) term: u64,
    /// What its end has that is no whole record.
    pub(super) unread: Option<Unread>,
}

/// The place of an entry.
#[derive(Clone, Copy)]
struct Place {
    index: u64,
    segment: usize,
    offset: u64,
    bytes: u64,
}

impl EtcdLog {
    /// Reads every segment of the directory. Memory: 32 bytes an entry.
    ///
    /// # Errors
    /// A file that cannot be read, or a record that is damaged other than at the end of the log.
    pub(super) fn open(dir: &Path) -> Result<EtcdLog, ImportError> {
        let names = RealDisk
            .list(dir)
            .map_err(|error| ImportError::io(dir, error))?;
        let mut log = EtcdLog {
            segments: Vec::new(),
            entries: Vec::new(),
            commit: 0,
            term: 0,
            unread: None,
        };
        // The names begin with the number of the segment, in hexadecimal digits of one length.
        for name in names.iter().filter(|name| name.ends_with(".wal")) {
            let path = dir.join(name);
            let file = ReadOnlyFile::open(&path).map_err(|error| ImportError::io(&path, error))?;
            log.segments.push((path, file));
        }
        let mut sum = 0;
        for segment in 0..log.segments.len() {
            log.read_segment(segment, &mut sum)?;
        }
        Ok(log)
    }

    /// The entries above an index up to `end`, in order. What is committed ends at
    /// [`EtcdLog::commit`] or later: a state may include more.
    ///
    /// # Errors
    /// [`ImportError::Gap`]: the log does not have all of them.
    pub(super) fn entries(
        &self,
        index: u64,
        end: u64,
    ) -> Result<impl Iterator<Item = Result<RaftEntry, ImportError>>, ImportError> {
        let ends = self.entries.first().zip(self.entries.last());
        let log = ends.map(|(first, last)| (first.index, last.index));
        let is_whole = log.is_some_and(|(first, last)| first <= index + 1 && end <= last);
        if index < end && !is_whole {
            let holds = index;
            return Err(ImportError::Gap { holds, end, log });
        }
        let places = self.entries.iter();
        let places = places.filter(move |place| index < place.index && place.index <= end);
        Ok(places.map(|place| self.entry(*place)))
    }

    /// The last entry; 0 if there is none.
    pub(super) fn last(&self) -> u64 {
        self.entries.last().map_or(0, |place| place.index)
    }

    fn entry(&self, place: Place) -> Result<RaftEntry, ImportError> {
        let data = self.read(place.segment, place.offset, place.bytes)?;
        let record = Record::decode(data).map_err(|error| self.damaged(place, error))?;
        let entry = RaftEntry::decode(record.data.unwrap_or_default());
        entry.map_err(|error| self.damaged(place, error))
    }

    fn read_segment(&mut self, segment: usize, sum: &mut u32) -> Result<(), ImportError> {
        let (path, file) = &self.segments[segment];
        let end = file
            .size_bytes()
            .map_err(|error| ImportError::io(path, error))?;
        let is_last = segment + 1 == self.segments.len();
        let mut offset = 0;
        while offset + 8 <= end {
            let word = self.read(segment, offset, 8)?;
            let word = word[..].try_into().map_or(0, u64::from_le_bytes);
            let mut place = Place {
                index: 0,
                segment,
                offset: offset + 8,
                bytes: 0,
            };
            // What follows was allocated and never written, or was cut off by a crash.
            if word == 0 {
                break;
            }
            let sizes = frame(word).ok_or_else(|| self.damaged(place, "a length that is none"));
            let (bytes, padding) = sizes?;
            place.bytes = bytes;
            let next = place.offset.saturating_add(bytes).saturating_add(padding);
            let taken = match next <= end && bytes <= RECORD_BYTES_MAX {
                true => self.take(place, sum),
                false => Err(self.damaged(place, "a record beyond the end")),
            };
            match taken {
                Err(ImportError::Damaged { .. })
                    if is_last && self.is_cut_off(place, next, *sum)? =>
                {
                    break;
                }
                other => other?,
            }
            offset = next;
        }
        if is_last {
            self.refuse_hole(segment, offset)?;
            self.note_unread(offset)?;
        }
        Ok(())
    }

    /// Whether a record that is not whole is the log's last one.
    fn is_cut_off(&self, place: Place, next: u64, sum: u32) -> Result<bool, ImportError> {
        let (path, file) = &self.segments[place.segment];
        let size = file.size_bytes();
        let size = size.map_err(|error| ImportError::io(path, error))?;
        let holds = tail::holds_records(file, (place.offset, next.min(size)), place.bytes, sum);
        if holds.map_err(|error| ImportError::io(path, error))? {
            return Ok(false);
        }
        Ok(size < next || RECORD_BYTES_MAX < place.bytes || self.is_torn(place)?)
    }

    /// Refuses an end behind which a hard state has a commit that was not read: this is a hole. Any
    /// other record may stand there: a crash may keep some sectors of the last write, and lose
    /// those before.
    fn refuse_hole(&self, segment: usize, offset: u64) -> Result<(), ImportError> {
        let (path, file) = &self.segments[segment];
        let commit = tail::commit_behind(file, offset);
        let commit = commit.map_err(|error| ImportError::io(path, error))?;
        if commit <= self.last().max(self.commit) {
            return Ok(());
        }
        Err(ImportError::Damaged {
            path: path.clone(),
            what: format!("at {offset}: a hole, behind which entry {commit} was committed"),
        })
    }

    /// Notes what the last segment has behind its last whole record.
    fn note_unread(&mut self, offset: u64) -> Result<(), ImportError> {
        let Some((path, file)) = self.segments.last() else {
            return Ok(());
        };
        let bytes = tail::written_bytes(file, offset);
        let bytes = bytes.map_err(|error| ImportError::io(path, error))?;
        let path = path.clone();
        self.unread = (bytes != 0).then_some(Unread {
            path,
            offset,
            bytes,
        });
        Ok(())
    }

    /// Checks a record, and notes what it states.
    fn take(&mut self, place: Place, sum: &mut u32) -> Result<(), ImportError> {
        let bytes = self.read(place.segment, place.offset, place.bytes)?;
        let record = Record::decode(bytes).map_err(|error| self.damaged(place, error))?;
        let data = record.data.unwrap_or_default();
        if record.kind == CHECKSUM {
            if *sum != 0 && *sum != record.crc {
                return Err(self.damaged(place, "another checksum than the segment before"));
            }
            *sum = record.crc;
            return Ok(());
        }
        let with = crc32c::crc32c_append(*sum, &data);
        if with != record.crc {
            return Err(self.damaged(place, "a wrong checksum"));
        }
        *sum = with;
        match record.kind {
            ENTRY => {
                let entry = RaftEntry::decode(data).map_err(|error| self.damaged(place, error))?;
                self.note(Place {
                    index: entry.index,
                    ..place
                })
            }
            STATE => {
                let state = StoredHardState::decode(data);
                let state = state.map_err(|error| self.damaged(place, error))?;
                (self.commit, self.term) = (state.commit, state.term);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// An entry replaces those from its index on: an earlier leader appended them.
    fn note(&mut self, place: Place) -> Result<(), ImportError> {
        let kept = self
            .entries
            .partition_point(|other| other.index < place.index);
        self.entries.truncate(kept);
        // After a snapshot from the leader the log goes on behind it.
        if self
            .entries
            .last()
            .is_some_and(|last| last.index + 1 != place.index)
        {
            self.entries.clear();
        }
        self.entries.push(place);
        Ok(())
    }

    /// Whether a record has a part that was never written, by whole sectors of zeros.
    fn is_torn(&self, place: Place) -> Result<bool, ImportError> {
        const SECTOR: u64 = 512;
        let bytes = self.read(place.segment, place.offset, place.bytes)?;
        let lead = (SECTOR - place.offset % SECTOR).min(place.bytes) as usize;
        let (first, rest) = bytes.split_at(lead);
        let mut parts = std::iter::once(first).chain(rest.chunks(SECTOR as usize));
        Ok(parts.any(|part| part.iter().all(|byte| *byte == 0)))
    }

    fn read(&self, segment: usize, offset: u64, bytes: u64) -> Result<Bytes, ImportError> {
        let (path, file) = &self.segments[segment];
        let mut read = vec![0; bytes as usize];
        let done = file.read_exact_at(offset, &mut read);
        done.map_err(|error| ImportError::io(path, error))?;
        Ok(Bytes::from(read))
    }

    fn damaged(&self, place: Place, what: impl std::fmt::Display) -> ImportError {
        ImportError::Damaged {
            path: self.segments[place.segment].0.clone(),
            what: format!("at {}: {what}", place.offset),
        }
    }
}
