//! Permissions: a member's files are accessible only to their owner (directories 0700, files
//! 0600).

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{RealDisk, create_dir_durably};

/// The permission bits of group and others.
const OPEN: u32 = 0o077;

/// Creates a directory that only its owner may enter, and its missing parents. Each is durable in
/// its own parent, unless that parent is writable but not readable, so that it cannot be synced.
pub fn create_private_dir(dir: &Path) -> io::Result<()> {
    match create_dir_durably(&RealDisk, dir) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && dir.is_dir() => Ok(()),
        other => other,
    }
}

/// Warns if group or others may enter a directory. The mode is not changed, since an operator may
/// have set it for a group.
pub fn warn_if_open(dir: &Path) {
    let Ok(found) = fs::metadata(dir) else {
        return;
    };
    let mode = found.permissions().mode() & 0o7777;
    if mode & OPEN != 0 {
        tracing::warn!(
            dir = %dir.display(),
            permission = %format_args!("{mode:04o}"),
            "others than its owner may enter the data directory; make it 0700 (chmod 700)"
        );
    }
}

/// Removes the permissions of group and others from a directory and everything in it: earlier
/// builds created files with the umask. Symbolic links and the files of another user, as
/// `lost+found`, are left unchanged. A missing directory is not an error.
pub fn make_private(dir: &Path) -> io::Result<()> {
    match tighten(dir) {
        Ok(false) => Ok(()),
        Ok(true) => make_contents_private(dir),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// As [`make_private`], for the files in a directory whose name `is_own` accepts. The directory
/// and its other files, which may not be the member's, are left unchanged.
pub fn make_files_private(dir: &Path, is_own: impl Fn(&str) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let is_own = entry.file_name().to_str().is_some_and(&is_own);
        if is_own && entry.file_type()?.is_file() {
            or_warn(&entry.path(), tighten(&entry.path()).map(drop))?;
        }
    }
    Ok(())
}

fn make_contents_private(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        or_warn(&path, make_private(&path))?;
    }
    Ok(())
}

/// Turns a missing permission on another user's file into a warning.
fn or_warn(path: &Path, made: io::Result<()>) -> io::Result<()> {
    match made {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            tracing::warn!(path = %path.display(), %error, "could not restrict the permissions");
            Ok(())
        }
        other => other,
    }
}

/// Removes the permissions of group and others from one file or directory. Returns whether it is
/// a directory.
fn tighten(path: &Path) -> io::Result<bool> {
    let found = fs::symlink_metadata(path)?;
    if found.is_symlink() {
        return Ok(false);
    }
    let mode = found.permissions().mode() & 0o7777;
    if mode & OPEN != 0 {
        fs::set_permissions(path, Permissions::from_mode(mode & !OPEN))?;
    }
    Ok(found.is_dir())
}

/// Refuses a symbolic link in place of an engine's own file, since the engine would follow it.
pub fn refuse_link(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => Err(io::Error::other(format!(
            "{} is a symbolic link, which Keelson never creates; remove it",
            path.display()
        ))),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_an_earlier_build_left_open_is_tightened_and_links_are_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let (member, outside) = (root.path().join("member"), root.path().join("outside"));
        fs::create_dir_all(member.join("wal")).unwrap();
        for file in [&member.join("wal/1.wal"), &outside] {
            fs::write(file, "x").unwrap();
            fs::set_permissions(file, Permissions::from_mode(0o644)).unwrap();
        }
        for dir in [&member, &member.join("wal")] {
            fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
        }
        symlink(&outside, member.join("wal/link")).unwrap();
        make_private(&member).unwrap();
        assert_eq!((mode(&member), mode(&member.join("wal"))), (0o700, 0o700));
        assert_eq!(mode(&member.join("wal/1.wal")), 0o600);
        assert_eq!(mode(&outside), 0o644);
        make_private(&root.path().join("not there")).unwrap();
        assert!(refuse_link(&member.join("wal/link")).is_err());
        assert!(refuse_link(&member.join("wal/1.wal")).is_ok());
    }
}
