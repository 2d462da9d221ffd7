//! Detects a data directory of etcd, names it in the error, and leaves it unchanged.
//!
//! etcd 2.0.1 and later keep `member/snap/db`, a bbolt file, and `member/wal`, whose segments begin
//! with a record of their checksum. 2.0.0 had the two directly in the data directory; 0.4 had
//! `log`, `conf` and `snapshot`. The check reads the files, since Keelson's own log has file names
//! of the same form.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::config::Config;
use crate::open_error::OpenError;
use crate::wal;

/// bbolt's magic number, after the 16 bytes of the page header; 0xED0CDAED, little endian.
const BBOLT_MAGIC: [u8; 4] = [0xed, 0xda, 0x0c, 0xed];
/// etcd's first record in a segment of its log: type 4, the checksum of the previous records,
/// which is 0 in the first segment. It follows its length: 8 bytes, one of which holds flags.
const CHECKSUM_RECORD: [u8; 3] = [0x08, 0x04, 0x10];

/// Refuses directories that belong to etcd. It reads only the files it has to check.
pub(crate) fn refuse_etcds(config: &Config) -> Result<(), OpenError> {
    let dir = &config.data_dir;
    let member = dir.join("member");
    let version = if is_bbolt(&member.join("snap/db"))
        || has_etcds_log(&member.join("wal"))
        || config.wal_dir.as_deref().is_some_and(has_etcds_log)
        || has_etcds_snapshot(&member.join("snap"))
    {
        "etcd"
    } else if has_etcds_log(&dir.join("wal")) {
        "etcd 2.0"
    } else if dir.join("log").is_file() && dir.join("snapshot").is_dir() {
        "etcd 0.4"
    } else {
        return Ok(());
    };
    Err(OpenError::EtcdsData {
        dir: dir.clone(),
        version,
    })
}

fn is_bbolt(path: &Path) -> bool {
    beginning::<20>(path).is_ok_and(|bytes| bytes[16..] == BBOLT_MAGIC)
}

/// Whether any segment of a log begins as etcd's do.
fn has_etcds_log(dir: &Path) -> bool {
    let Ok(entries) = dir.read_dir() else {
        return false;
    };
    let mut paths = entries.flatten().map(|entry| entry.path());
    paths.any(|path| {
        let is_segment = path.extension().is_some_and(|end| end == "wal");
        is_segment
            && beginning::<11>(&path).is_ok_and(|bytes| bytes[8..] == CHECKSUM_RECORD)
            && !beginning::<24>(&path).is_ok_and(|bytes| wal::is_segment(&bytes))
    })
}

/// Detects the rest of an etcd 2 directory whose log is in another directory.
fn has_etcds_snapshot(dir: &Path) -> bool {
    let Ok(mut entries) = dir.read_dir() else {
        return false;
    };
    entries.any(|entry| entry.is_ok_and(|entry| entry.path().extension() == Some("snap".as_ref())))
}

fn beginning<const N: usize>(path: &Path) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open(path)?.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    /// The first bytes of etcd 3.4.23's files.
    const WAL: [u8; 16] = [4, 0, 0, 0, 0, 0, 0, 0x84, 8, 4, 16, 0, 0, 0, 0, 0];
    const SEGMENT: &str = "0000000000000000-0000000000000000.wal";

    fn bbolt() -> Vec<u8> {
        let mut page = vec![0; 4096];
        page[8] = 4;
        page[16..20].copy_from_slice(&BBOLT_MAGIC);
        page
    }

    fn everything(dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => found.extend(everything(&path)),
                false => drop(found.insert(path.clone(), fs::read(&path).ok())),
            }
        }
        found
    }

    #[tokio::test]
    async fn a_data_directory_of_etcd_is_called_that_and_not_touched() {
        let (wal, db) = (WAL.to_vec(), bbolt());
        let cases: [&[(&str, &[u8])]; 5] = [
            &[
                (&format!("member/wal/{SEGMENT}"), &wal),
                ("member/snap/db", &db),
            ],
            &[("member/snap/db", &db)],
            &[(&format!("member/wal/{SEGMENT}"), &wal)],
            &[(&format!("wal/{SEGMENT}"), &wal), ("snap/1.snap", b"x")],
            &[("log", b"x"), ("conf", b"{}"), ("snapshot/1.ss", b"x")],
        ];
        for files in cases {
            let dir = tempfile::tempdir().unwrap();
            for (name, bytes) in files {
                let path = dir.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            }
            let before = everything(dir.path());
            let mut config = Config::single("m1", "here");
            config.data_dir = dir.path().to_owned();
            let error = crate::Store::open(config)
                .await
                .err()
                .expect("it is etcd's");
            let text = error.to_string();
            assert!(text.contains("is a data directory of etcd"), "{text}");
            assert!(
                text.contains("To move") && text.contains("start etcd"),
                "{text}"
            );
            assert_eq!(everything(dir.path()), before);
        }
    }

    #[tokio::test]
    async fn an_own_data_directory_is_none_of_etcds() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::single("m1", "here");
        config.data_dir = dir.path().to_owned();
        refuse_etcds(&config).expect("it is empty");
        let store = crate::Store::open(config.clone())
            .await
            .expect("a new member");
        store.shutdown().await;
        refuse_etcds(&config).expect("it is a member's");
    }

    /// The first frame names the checksum of the previous frame at that place: one segment in 16
    /// million matches.
    #[test]
    fn a_segment_of_an_own_log_is_none_of_etcds_whatever_its_checksums_are() {
        let dir = tempfile::tempdir().unwrap();
        let mut segment = vec![0; 200];
        segment[0] = 92;
        segment[8..12].copy_from_slice(&[8, 4, 16, 0x77]);
        segment[16..24].copy_from_slice(b"KEELWAL\0");
        fs::write(dir.path().join(SEGMENT), &segment).unwrap();
        assert!(!has_etcds_log(dir.path()));
        segment[16] = 0;
        fs::write(dir.path().join(SEGMENT), &segment).unwrap();
        assert!(has_etcds_log(dir.path()));
    }
}
