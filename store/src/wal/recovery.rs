//! Reads a log: its entries, its end, and whether it is intact.
//!
//! A frame is written only after the previous one was synced, so at most the last frame can be
//! unfinished. A frame that does not verify elsewhere than at the end of the last segment is
//! damage and is refused. At the end, `tail.rs` judges it by its sectors, and it is cut off only
//! if a part was never written. "The end" is where no whole frame follows: the rest is searched
//! for any frame, not only the next. A segment that is shorter than it was made is damage.
//!
//! After a cut frame, and after frames of an older format, the log continues in a new segment,
//! since frames are only written over zeros.

use std::path::{Path, PathBuf};

use keelson_core::{Entry, Index};

use super::Identity;
use super::active::{first_offset, lock_error};
use super::error::WalError;
use super::frame;
use super::item::{self, BadHeader, Item, SegmentHeader};
use super::log::Log;
use super::segment::Segment;
use super::tail::{self, Tail};
use super::watermark;
use super::window::{Style, Window};
use crate::disk::{self, Disk, DiskFile};

/// The result of reading a log.
pub(super) struct ReplayedLog<F> {
    pub(super) log: Log,
    pub(super) entries: Vec<Entry>,
    pub(super) boot: u64,
    /// All segments except the last.
    pub(super) sealed: Vec<Segment>,
    pub(super) active: Segment,
    /// The offset of the last segment's watermark.
    pub(super) watermark: Option<u64>,
    pub(super) file: F,
    pub(super) end: FramesEnd,
    pub(super) repaired: Option<String>,
    /// Whether frames may be written after `end`.
    pub(super) goes_on: bool,
}

/// The end of a segment's frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct FramesEnd {
    /// The offset of the last frame.
    pub(super) last_frame: u64,
    /// The offset of the next frame.
    pub(super) offset: u64,
    /// The crc of the last frame.
    pub(super) crc: u32,
}

/// Reads the segments, which are in order.
pub(super) fn recover<D: Disk>(
    disk: &D,
    paths: &[(u64, PathBuf)],
    identity: Identity,
) -> Result<ReplayedLog<D::File>, WalError> {
    let mut replay = Replay::default();
    let mut previous: Option<(&Path, FramesEnd)> = None;
    let mut open = None;
    for (sequence, path) in paths {
        let file = disk::wait_for_descriptors(path, || disk.open(path));
        let file = file.map_err(WalError::io("open", path))?;
        let last = paths.last().is_some_and(|(last, _)| last == sequence);
        if last {
            file.try_lock().map_err(|error| lock_error(path, error))?;
        }
        let mut reader = SegmentReader::new(&file, path, *sequence)?;
        let (style, end) = reader.replay(&mut replay, identity, previous)?;
        if last {
            let watermark = reader.check_watermark(style, end)?;
            let repaired = reader.check_tail(style, end)?;
            let goes_on = repaired.is_none() && style.version == item::VERSION;
            open = Some((file, end, repaired, goes_on, watermark));
        }
        previous = Some((path, end));
    }
    let (file, end, repaired, goes_on, watermark) = open.expect("there is at least one segment");
    let active = replay
        .segments
        .pop()
        .expect("one was pushed for every path");
    replay.check_whole(&active, end)?;
    Ok(ReplayedLog {
        log: replay.log,
        entries: replay.entries,
        boot: replay.boot,
        sealed: replay.segments,
        active,
        watermark,
        file,
        end,
        repaired,
        goes_on,
    })
}

/// The owner of a segment.
pub(super) fn identity_of<D: Disk>(
    disk: &D,
    path: &Path,
    sequence: u64,
) -> Result<Identity, WalError> {
    let file = disk::wait_for_descriptors(path, || disk.open(path));
    let file = file.map_err(WalError::io("open", path))?;
    let mut reader = SegmentReader::new(&file, path, sequence)?;
    Ok(reader.header()?.0.identity)
}

#[derive(Default)]
struct Replay {
    log: Log,
    entries: Vec<Entry>,
    boot: u64,
    segments: Vec<Segment>,
}

impl Replay {
    fn begin_segment(&mut self, header: &SegmentHeader, path: &Path, size_bytes: u64) {
        if self.segments.is_empty() {
            self.log = Log::new(header.hard_state, header.mark);
        }
        self.boot = self.boot.max(header.boot);
        self.segments.push(Segment {
            sequence: header.sequence,
            path: path.to_path_buf(),
            size_bytes,
            last: Index(0),
        });
    }

    fn apply(&mut self, item: Item) -> Result<(), String> {
        match item {
            Item::Boot(boot) => self.boot = self.boot.max(boot),
            Item::HardState(state) => self.log.hard_state = state,
            Item::Mark { mark, kept } => {
                self.log.set_mark(mark, kept);
                let keep = |entry: &Entry| kept && mark.index < entry.index;
                self.entries.retain(keep);
                if !kept {
                    self.replaced_from(Index(0));
                }
            }
            Item::Entry(entry) => self.push(entry)?,
        }
        Ok(())
    }

    fn push(&mut self, entry: Entry) -> Result<(), String> {
        if !self.log.admits_replayed(entry.index) {
            return Err(format!(
                "entry {} does not follow entry {} (mark {})",
                entry.index, self.log.last, self.log.mark.index
            ));
        }
        if entry.index <= self.log.last {
            let keep = self
                .entries
                .partition_point(|known| known.index < entry.index);
            self.entries.truncate(keep);
            self.replaced_from(entry.index);
        }
        self.log.push(entry.index, entry.term);
        if let Some(segment) = self.segments.last_mut() {
            segment.last = entry.index;
        }
        self.entries.push(entry);
        Ok(())
    }

    fn replaced_from(&mut self, index: Index) {
        for segment in &mut self.segments {
            segment.replaced_from(index);
        }
    }

    /// Checks the consistency of the whole log: no gap after the mark, no committed entry missing.
    fn check_whole(&self, active: &Segment, end: FramesEnd) -> Result<(), WalError> {
        let first = self.entries.first().map(|entry| entry.index.0);
        let expected = self.log.mark.index.0 + 1;
        let cause = if first.is_some_and(|first| first != expected) {
            format!("the log begins with entry {first:?} where {expected} was expected")
        } else if self.log.last < self.log.hard_state.commit {
            let commit = self.log.hard_state.commit;
            format!(
                "entry {commit} was committed but the log ends at {}",
                self.log.last
            )
        } else {
            return Ok(());
        };
        Err(WalError::damaged(&active.path, end.offset, cause))
    }
}

struct SegmentReader<'a, F> {
    window: Window<'a, F>,
    path: &'a Path,
    sequence: u64,
}

impl<'a, F: DiskFile> SegmentReader<'a, F> {
    fn new(file: &'a F, path: &'a Path, sequence: u64) -> Result<SegmentReader<'a, F>, WalError> {
        Ok(SegmentReader {
            window: Window::new(file).map_err(WalError::io("look at", path))?,
            path,
            sequence,
        })
    }

    /// The first frame, its `prev`, and its end.
    fn header(&mut self) -> Result<(SegmentHeader, u32, FramesEnd), WalError> {
        let path = self.path;
        let damaged = |cause: &str| WalError::damaged(path, 0, cause);
        let size_bytes = self.window.size_bytes();
        let frame = self.window.first_frame();
        let frame = frame.map_err(WalError::io("read", path))?;
        let frame = frame.ok_or_else(|| damaged("the segment's header does not verify"))?;
        let header = SegmentHeader::decode(frame.payload).map_err(|bad| match bad {
            BadHeader::Malformed => damaged("the segment's header is no header"),
            BadHeader::Version(version) => WalError::UnknownVersion {
                file: path.to_path_buf(),
                version,
            },
        })?;
        if size_bytes < header.made_bytes {
            let made = header.made_bytes;
            let cause = format!("the file has {size_bytes} bytes and was made with {made}");
            return Err(WalError::damaged(path, size_bytes, cause));
        }
        let offset = match header.version {
            1 => frame.size_bytes,
            _ => first_offset(frame.size_bytes),
        };
        let end = FramesEnd {
            last_frame: 0,
            offset,
            crc: frame.crc,
        };
        Ok((header, frame.prev, end))
    }

    /// Replays every frame up to the first that is not whole.
    fn replay(
        &mut self,
        replay: &mut Replay,
        identity: Identity,
        previous: Option<(&Path, FramesEnd)>,
    ) -> Result<(Style, FramesEnd), WalError> {
        let (header, prev, mut end) = self.header()?;
        self.check_header(&header, identity)?;
        if let Some((path, previous)) = previous
            && previous.crc != prev
        {
            let cause = "the frame that the next segment follows does not verify here";
            return Err(WalError::damaged(path, previous.offset, cause));
        }
        let path = self.path;
        replay.begin_segment(&header, path, self.window.size_bytes());
        let style = Style {
            seed: frame::seed(identity, self.sequence),
            version: header.version,
            made_bytes: header.made_bytes,
        };
        loop {
            let frame = self.window.frame(style, end.offset);
            let frame = frame.map_err(WalError::io("read", path))?;
            let Some(frame) = frame.filter(|frame| frame.prev == end.crc) else {
                return Ok((style, end));
            };
            let damaged = |cause: String| WalError::damaged(path, end.offset, cause);
            for item in item::decode(frame.payload).map_err(|cause| damaged(cause.into()))? {
                replay.apply(item).map_err(damaged)?;
            }
            end = FramesEnd {
                last_frame: end.offset,
                offset: end.offset + frame.size_bytes,
                crc: frame.crc,
            };
        }
    }

    fn check_header(&self, header: &SegmentHeader, identity: Identity) -> Result<(), WalError> {
        if header.identity != identity {
            return Err(WalError::WrongIdentity {
                file: self.path.to_path_buf(),
                found: header.identity,
                expected: identity,
            });
        }
        if header.sequence != self.sequence {
            let cause = format!("the file was segment {:016x}", header.sequence);
            return Err(WalError::damaged(self.path, 0, cause));
        }
        Ok(())
    }

    /// Checks that the frames reach as far as the last segment's watermark states. Returns its
    /// offset, and excludes it from the range that is searched later.
    fn check_watermark(&mut self, style: Style, end: FramesEnd) -> Result<Option<u64>, WalError> {
        let place = watermark::place(style.made_bytes);
        if style.version == 1 || place < end.offset {
            return Ok(None);
        }
        let path = self.path;
        let mark = watermark::read(&mut self.window, style.seed, place);
        if let Some(mark) = mark.map_err(WalError::io("read", path))? {
            if mark.has_next {
                return Err(WalError::MissingSegment {
                    dir: path.parent().unwrap_or(path).to_path_buf(),
                    sequence: self.sequence + 1,
                });
            }
            if end.offset < mark.end || (end.offset == mark.end && end.crc != mark.crc) {
                let cause = format!("what was durable up to byte {} is not there", mark.end);
                return Err(WalError::damaged(path, end.offset, cause));
            }
        }
        self.window.end_at(place);
        Ok(Some(place))
    }

    /// Checks the bytes after the last whole frame of the last segment: they may hold an
    /// unfinished frame, but no whole one. Returns a description of the frame that was cut off,
    /// if any.
    fn check_tail(&mut self, style: Style, end: FramesEnd) -> Result<Option<String>, WalError> {
        let path = self.path;
        let later = self.window.scan(style, end.offset);
        if let Some(later) = later.map_err(WalError::io("read", path))? {
            let cause =
                format!("it does not verify, yet what was written after it (at byte {later}) does");
            return Err(WalError::damaged(path, end.offset, cause));
        }
        let tail = match style.version {
            1 => self.window.begins_v1(style.seed, end.offset).map(tail_v1),
            _ => tail::judge(&mut self.window, style, end),
        };
        match tail.map_err(WalError::io("read", path))? {
            Tail::Clean => Ok(None),
            Tail::Torn => Ok(Some(format!(
                "cut an unfinished write at byte {} of {}",
                end.offset,
                path.display()
            ))),
            Tail::Damaged(cause) => Err(WalError::damaged(path, end.offset, cause)),
        }
    }
}

/// Format 1 does not show which sectors were written: a frame that was begun counts as unfinished.
fn tail_v1(begun: bool) -> Tail {
    match begun {
        true => Tail::Torn,
        false => Tail::Clean,
    }
}
