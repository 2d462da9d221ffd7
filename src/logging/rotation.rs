//! Rotation of a log file by size, with the fields, the names and the rules of etcd's
//! (`lumberjack.Logger`): `m1.log` becomes `m1-2026-11-30T02-55-30.026.log`, and then `.gz`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Deserialize;
use time::{Duration, OffsetDateTime};

/// `maxsize` is in MiB; its default is that of 0.
const MEGABYTE: u64 = 1 << 20;
const MAX_SIZE_DEFAULT: u64 = 100;

/// The ending of a compressed file.
const COMPRESSED: &str = ".gz";

/// `--log-rotation-config-json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Rotation {
    /// MiB at which a file is rotated.
    maxsize: u64,
    /// Days after which a rotated file is removed; 0: none is.
    maxage: u32,
    /// The number of rotated files that are kept; 0: all.
    maxbackups: u64,
    /// Names in local time, not in UTC.
    localtime: bool,
    /// Whether rotated files are compressed.
    compress: bool,
}

impl Rotation {
    /// The errors begin as etcd's.
    pub(super) fn parse(json: &str) -> Result<Rotation, String> {
        let remedy = "write --log-rotation-config-json as {\"maxsize\": 100, \"maxage\": 0, \
                      \"maxbackups\": 0, \"compress\": false}";
        let failed = |error: serde_json::Error| {
            let kind = match error.is_data() {
                true => "invalid",
                false => "improperly formatted",
            };
            format!("{kind} log rotation config: {error}; {remedy}")
        };
        let map: serde_json::Map<_, _> = serde_json::from_str(json).map_err(failed)?;
        // Go reads names regardless of case.
        let lower = map
            .into_iter()
            .map(|(name, value)| (name.to_lowercase(), value));
        let value = serde_json::Value::Object(lower.collect());
        let rotation: Rotation = serde_json::from_value(value).map_err(failed)?;
        match rotation.localtime {
            true => Err(format!(
                "invalid log rotation config: localtime is not supported, names are in \
                 UTC; {remedy}"
            )),
            false => Ok(rotation),
        }
    }

    /// The bytes at which a file is rotated.
    pub(super) fn bytes_max(&self) -> u64 {
        let megabytes = match self.maxsize {
            0 => MAX_SIZE_DEFAULT,
            size => size,
        };
        megabytes.saturating_mul(MEGABYTE)
    }

    /// Removes rotated files of `path` that are too old or too many, and compresses the others.
    /// A file that cannot be is left as it is.
    pub(super) fn tidy(&self, path: &Path, now: OffsetDateTime) {
        let names = Names::of(path);
        let mut all = names.rotated();
        all.sort_unstable_by(|a, b| b.stamp.cmp(&a.stamp));
        let oldest = now.checked_sub(Duration::days(self.maxage.into()));
        let oldest = oldest.map(stamp).filter(|_| self.maxage != 0);
        let mut kept: Vec<&str> = Vec::new();
        for file in &all {
            if kept.last() != Some(&file.stamp.as_str()) {
                kept.push(&file.stamp);
            }
            let too_many = self.maxbackups != 0 && self.maxbackups < kept.len() as u64;
            let too_old = oldest.as_ref().is_some_and(|oldest| file.stamp < *oldest);
            if too_many || too_old {
                let _ = fs::remove_file(&file.path);
            } else if self.compress && !file.is_compressed {
                let _ = compress(&file.path);
            }
        }
    }
}

/// Renames the file at `path` to a free name of `now`, or of a few milliseconds later.
pub(super) fn rename(path: &Path, now: OffsetDateTime) -> io::Result<()> {
    let names = Names::of(path);
    for milliseconds in 0..1000 {
        let at = now + Duration::milliseconds(milliseconds);
        let target = names.rotated_at(&stamp(at));
        let compressed = PathBuf::from(format!("{}{COMPRESSED}", target.display()));
        if !target.exists() && !compressed.exists() {
            return fs::rename(path, target);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// The parts of a log file's name.
struct Names {
    directory: PathBuf,
    /// Before the time.
    prefix: String,
    /// After it: `.log`.
    ending: String,
}

/// A rotated file. Times sort as text.
struct Rotated {
    path: PathBuf,
    stamp: String,
    is_compressed: bool,
}

impl Names {
    fn of(path: &Path) -> Names {
        let text = |part: Option<&std::ffi::OsStr>| {
            part.map_or_else(String::new, |part| part.to_string_lossy().into_owned())
        };
        let ending = text(path.extension());
        Names {
            directory: match path.parent() {
                Some(parent) if parent != Path::new("") => parent.to_owned(),
                _ => PathBuf::from("."),
            },
            prefix: format!("{}-", text(path.file_stem())),
            ending: match ending.as_str() {
                "" => ending,
                ending => format!(".{ending}"),
            },
        }
    }

    fn rotated_at(&self, stamp: &str) -> PathBuf {
        self.directory
            .join(format!("{}{stamp}{}", self.prefix, self.ending))
    }

    fn rotated(&self) -> Vec<Rotated> {
        let Ok(files) = fs::read_dir(&self.directory) else {
            return Vec::new();
        };
        let files = files.filter_map(Result::ok).filter_map(|file| {
            let name = file.file_name().into_string().ok()?;
            let plain = name.strip_suffix(COMPRESSED);
            let rest = plain.unwrap_or(&name).strip_prefix(&self.prefix)?;
            let stamp = rest.strip_suffix(&self.ending)?;
            is_stamp(stamp).then(|| Rotated {
                path: file.path(),
                stamp: stamp.to_owned(),
                is_compressed: plain.is_some(),
            })
        });
        files.collect()
    }
}

/// `2026-11-30T02-55-30.026`.
fn stamp(at: OffsetDateTime) -> String {
    format!(
        "{:04}-{:02}-{:02}T{:02}-{:02}-{:02}.{:03}",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.millisecond()
    )
}

fn is_stamp(text: &str) -> bool {
    let form = b"0000-00-00T00-00-00.000";
    let fits = |(byte, form): (u8, &u8)| match form {
        b'0' => byte.is_ascii_digit(),
        other => byte == *other,
    };
    text.len() == form.len() && text.bytes().zip(form).all(fits)
}

/// Writes the file as `.gz`, and removes it.
fn compress(path: &Path) -> io::Result<()> {
    let target = PathBuf::from(format!("{}{COMPRESSED}", path.display()));
    let written = File::open(path).and_then(|mut from| {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let to = options.open(&target)?;
        let mut encoder = GzEncoder::new(to, Compression::default());
        io::copy(&mut from, &mut encoder)?;
        encoder.finish()?.sync_all()
    });
    match written {
        Ok(()) => fs::remove_file(path),
        Err(error) => {
            let _ = fs::remove_file(&target);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::seconds(seconds)
    }

    fn names(dir: &Path) -> Vec<String> {
        let files = fs::read_dir(dir).expect("it is there");
        let names = files.map(|file| file.expect("an entry").file_name());
        let mut names: Vec<_> = names
            .map(|name| name.into_string().expect("text"))
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn the_configuration_is_etcds() {
        let rotation = Rotation::parse("{\"MaxSize\": 3, \"nosuch\": 1}").expect("good");
        assert_eq!(rotation.bytes_max(), 3 << 20);
        let default = Rotation::parse("{}").expect("good");
        assert_eq!(default.bytes_max(), 100 << 20);
        for (json, text) in [
            (
                "{\"maxsize\":",
                "improperly formatted log rotation config: ",
            ),
            ("", "improperly formatted log rotation config: "),
            ("{\"maxsize\": \"a\"}", "invalid log rotation config: "),
            ("{\"maxsize\": -1}", "invalid log rotation config: "),
            (
                "{\"localtime\": true}",
                "invalid log rotation config: localtime ",
            ),
        ] {
            let error = Rotation::parse(json).expect_err(json);
            assert!(error.starts_with(text), "{error}");
        }
    }

    #[test]
    fn rotated_files_are_named_as_lumberjacks() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("m1.log");
        for _ in 0..2 {
            fs::write(&path, "x").expect("room");
            rename(&path, at(1)).expect("it can be renamed");
        }
        let expected = [
            "m1-1970-01-01T00-00-01.000.log",
            "m1-1970-01-01T00-00-01.001.log",
        ];
        assert_eq!(names(dir.path()), expected);
        let bare = Names::of(Path::new("log"));
        assert_eq!(bare.rotated_at("T"), Path::new("./log-T"));
    }

    #[test]
    fn old_files_are_removed_and_others_compressed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("m1.log");
        for day in 0..5 {
            fs::write(&path, format!("day {day}")).expect("room");
            rename(&path, at(day * 86_400)).expect("it can be renamed");
        }
        fs::write(dir.path().join("m1-other.log"), "not a rotated one").expect("room");
        let rotation = Rotation {
            maxage: 3,
            maxbackups: 2,
            compress: true,
            ..Rotation::default()
        };
        rotation.tidy(&path, at(4 * 86_400 + 1));
        let expected = [
            "m1-1970-01-04T00-00-00.000.log.gz",
            "m1-1970-01-05T00-00-00.000.log.gz",
            "m1-other.log",
        ];
        assert_eq!(names(dir.path()), expected);
        let packed = File::open(dir.path().join(expected[1])).expect("it is there");
        let mut text = String::new();
        let mut decoder = flate2::read::GzDecoder::new(packed);
        decoder.read_to_string(&mut text).expect("it is gzip");
        assert_eq!(text, "day 4");
        // All are older than one day by now.
        let rotation = Rotation {
            maxage: 1,
            ..Rotation::default()
        };
        rotation.tidy(&path, at(40 * 86_400));
        assert_eq!(names(dir.path()), ["m1-other.log"]);
    }
}
