//! A log file: appended to, opened again on SIGHUP, and rotated if it is to be. No failure stops
//! the process; what was lost is stated once lines can be written again.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::Format;
use super::rotation::{self, Rotation};

/// Between two attempts to rotate a file that cannot be renamed.
const RETRY: Duration = Duration::from_secs(10);

/// An open log file.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// The length of the file in bytes, by what this process has written and its last look.
    len: u64,
    rotation: Option<Arc<Rotation>>,
    /// Whether rotated files are being compressed and removed. One thread does so at a time.
    tidying: Arc<AtomicBool>,
    /// After a failed rotation.
    rotate_after: Option<Instant>,
    /// Lines that could not be written.
    lost: u64,
    /// Whether a part of the last one stands at the end of the file.
    is_torn: bool,
    format: Format,
}

impl LogFile {
    /// Opens the file, and makes it if it is not there.
    pub(super) fn open(
        path: &Path,
        format: Format,
        rotation: Option<Arc<Rotation>>,
    ) -> io::Result<LogFile> {
        if let Some(directory) = path.parent().filter(|_| rotation.is_some()) {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)?;
        }
        let file = create(path)?;
        let opened = LogFile {
            path: path.to_owned(),
            len: length(&file),
            file,
            rotation,
            tidying: Arc::default(),
            rotate_after: None,
            lost: 0,
            is_torn: false,
            format,
        };
        opened.tidy();
        Ok(opened)
    }

    /// Opens the path anew: another program has renamed the file. Without success the old one is
    /// written on.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.file = create(&self.path)?;
        self.len = length(&self.file);
        self.is_torn = false;
        Ok(())
    }

    /// Appends a line. One that cannot be written is counted.
    pub(super) fn write_line(&mut self, line: &[u8]) {
        self.rotate_before(line.len() as u64);
        if self.state_lost().and_then(|()| self.append(line)).is_err() {
            self.lost += 1;
            let len = length(&self.file);
            self.is_torn |= len != self.len;
            self.len = len;
        }
    }

    /// States how many lines were lost since the last such statement, if any were.
    fn state_lost(&mut self) -> io::Result<()> {
        if self.lost > 0 {
            self.append(&self.statement(self.lost))?;
            self.lost = 0;
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.len += bytes.len() as u64;
        self.is_torn = false;
        Ok(())
    }

    /// A line that states how many lines were lost.
    fn statement(&self, lost: u64) -> Vec<u8> {
        let begin = if self.is_torn { "\n" } else { "" };
        let now = super::timestamp();
        match self.format {
            Format::Json => format!(
                "{begin}{{\"level\":\"warn\",\"ts\":\"{}\",\"msg\":\"lines of the log were \
                 lost\",\"lines\":{lost}}}\n",
                super::format::milliseconds(&now)
            ),
            Format::Console => format!("{begin}{now} W | logging: {lost} lines were lost\n"),
        }
        .into_bytes()
    }

    /// Rotates a file that would become too large. An empty one takes any line.
    fn rotate_before(&mut self, more: u64) {
        let Some(rotation) = &self.rotation else {
            return;
        };
        if self.len == 0 || self.len + more <= rotation.bytes_max() {
            return;
        }
        let now = Instant::now();
        if self.rotate_after.is_some_and(|at| now < at) {
            return;
        }
        let renamed = match rotation::rename(&self.path, OffsetDateTime::now_utc()) {
            // Another program has moved it, or the one made after the last rename is missing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            renamed => renamed,
        };
        self.rotate_after = match renamed.and_then(|()| self.reopen()) {
            Ok(()) => {
                self.tidy();
                None
            }
            Err(_) => Some(now + RETRY),
        };
    }

    /// Compresses and removes rotated files on a thread of its own.
    fn tidy(&self) {
        let Some(rotation) = self.rotation.clone() else {
            return;
        };
        if self.tidying.swap(true, Ordering::AcqRel) {
            return; // the next rotation does so
        }
        let (path, tidying) = (self.path.clone(), Arc::clone(&self.tidying));
        let work = move || {
            rotation.tidy(&path, OffsetDateTime::now_utc());
            tidying.store(false, Ordering::Release);
        };
        let thread = std::thread::Builder::new().name("log-rotation".into());
        if thread.spawn(work).is_err() {
            self.tidying.store(false, Ordering::Release);
        }
    }
}

/// Opens a file to append to it. A new one is accessible only to its owner.
pub(super) fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.mode(0o600).create(true).append(true).open(path)
}

fn length(file: &File) -> u64 {
    file.metadata().map_or(0, |metadata| metadata.len())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(path: &Path) -> String {
        fs::read_to_string(path).expect("it is there")
    }

    #[test]
    fn a_renamed_file_is_left_at_reopening() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, old) = (dir.path().join("log"), dir.path().join("log.1"));
        let mut log = LogFile::open(&path, Format::Console, None).expect("room");
        log.write_line(b"one\n");
        fs::rename(&path, &old).expect("room");
        log.write_line(b"two\n");
        log.reopen().expect("room");
        log.write_line(b"three\n");
        assert_eq!(
            (read(&old), read(&path)),
            ("one\ntwo\n".into(), "three\n".into())
        );
    }

    #[test]
    fn a_large_file_is_rotated_before_a_line() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("new/m.log");
        let rotation = Rotation::parse("{\"maxsize\": 1}").expect("good");
        let mut log = LogFile::open(&path, Format::Json, Some(Arc::new(rotation))).expect("room");
        let mut half = vec![b'x'; 600 << 10];
        half.push(b'\n');
        // A file that was there counts too.
        log.write_line(&half);
        log.write_line(&half);
        log.write_line(b"last\n");
        let sizes = |name: &str| fs::metadata(dir.path().join("new").join(name)).map(|m| m.len());
        assert_eq!(sizes("m.log").ok(), Some(half.len() as u64 + 5));
        let count = fs::read_dir(dir.path().join("new"))
            .expect("it is there")
            .count();
        assert_eq!(count, 2);
    }

    #[test]
    fn a_file_that_another_program_has_moved_is_made_anew_when_it_is_full() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, moved) = (dir.path().join("m.log"), dir.path().join("moved"));
        let rotation = Rotation::parse("{\"maxsize\": 1}").expect("good");
        let mut log = LogFile::open(&path, Format::Json, Some(Arc::new(rotation))).expect("room");
        let mut half = vec![b'x'; 600 << 10];
        half.push(b'\n');
        log.write_line(&half);
        fs::rename(&path, &moved).expect("room");
        log.write_line(&half);
        let sizes = [&path, &moved].map(|path| fs::metadata(path).map(|m| m.len()).ok());
        assert_eq!(sizes, [Some(half.len() as u64); 2]);
    }

    /// The process went on without its log when the disk was full, and did not state so.
    #[test]
    fn a_full_disk_loses_lines_and_nothing_else() {
        let full = Path::new("/dev/full");
        let mut log = LogFile::open(full, Format::Json, None).expect("Linux has it");
        log.write_line(b"one\n");
        log.write_line(b"two\n");
        assert_eq!(log.lost, 2);
        let dir = tempfile::tempdir().expect("a directory");
        log.path = dir.path().join("log");
        log.reopen().expect("room");
        log.write_line(b"three\n");
        let text = read(&log.path);
        let (first, rest) = text.split_once('\n').expect("two lines");
        let first: serde_json::Value = serde_json::from_str(first).expect("JSON");
        assert_eq!((&first["lines"], rest), (&2.into(), "three\n"));
        assert_eq!(log.lost, 0);
    }
}
