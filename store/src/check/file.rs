//! A snapshot, of Keelson or of etcd; or an etcd's database.

use std::path::Path;

use keelson_proto::authpb;
use keelson_proto::internal::LeaseRow;
use prost::Message;

use super::{CheckError, CheckReport};
use crate::disk::ReadOnlyFile;
use crate::snapshot::{self, InputError, RestoreError, SnapshotFile, buckets};

/// Checks a file.
///
/// # Errors
/// It cannot be opened.
pub fn check_file(path: &Path) -> Result<CheckReport, CheckError> {
    ReadOnlyFile::open(path).map_err(CheckError::io(path))?;
    let mut report = CheckReport::default();
    let name = path.display().to_string();
    let opened = SnapshotFile::open(path);
    let bytes = |file: &SnapshotFile| format!("a database of {} bytes", file.bytes());
    let Some(file) = report.note(&name, opened, bytes) else {
        return Ok(report);
    };
    match file.check_sum() {
        Err(InputError::NoSum) => report.found.push(format!("{name}: no checksum behind it")),
        sum => drop(report.note(&name, sum, |()| "its SHA-256 is right".to_owned())),
    }
    report.note(&name, snapshot::status(&file), |status| {
        format!("{} rows, revision {}", status.total_keys, status.revision)
    });
    report.note(&name, snapshot::hash_kv(&file, 0), |hash| {
        format!("HashKV {} from {}", hash.hash, hash.compact_revision)
    });
    report.note(&name, small_rows(&file), |count| {
        format!("{count} leases, users, roles and members")
    });
    Ok(report)
}

/// Decodes the rows of the small buckets; returns their number.
fn small_rows(file: &SnapshotFile) -> Result<usize, RestoreError> {
    let mut count = crate::snapshot::dropped::members(file)?.len();
    file.rows(buckets::LEASE, |row| {
        count += 1;
        let lease = LeaseRow::decode(row.value).map(drop);
        lease.map_err(|error| file.wrong(buckets::LEASE, error))
    })?;
    file.rows(buckets::AUTH_USERS, |row| {
        count += 1;
        let user = authpb::User::decode(row.value).map(drop);
        user.map_err(|error| file.wrong(buckets::AUTH_USERS, error))
    })?;
    file.rows(buckets::AUTH_ROLES, |row| {
        count += 1;
        let role = authpb::Role::decode(row.value).map(drop);
        role.map_err(|error| file.wrong(buckets::AUTH_ROLES, error))
    })?;
    Ok(count)
}
