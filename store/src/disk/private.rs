//! What a member keeps is its owner's alone: directories 0700, files 0600.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// Of others than the owner.
const OPEN: u32 = 0o077;

/// Creates a directory that only its owner may enter, with its missing parents.
pub fn create_private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Warns of a directory that others than its owner may enter. It is left as it is: an operator made
/// it, perhaps for a group.
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

/// Takes the rights of others off everything in a directory, and off the directory: earlier builds
/// created files with the umask. Symbolic links are left alone. A directory that is not there is no
/// error.
pub fn make_private(dir: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(dir) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if found.is_symlink() {
        return Ok(());
    }
    let mode = found.permissions().mode() & 0o7777;
    if mode & OPEN != 0 {
        fs::set_permissions(dir, Permissions::from_mode(mode & !OPEN))?;
    }
    if !found.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(dir)? {
        make_private(&entry?.path())?;
    }
    Ok(())
}

/// Refuses a symbolic link where a file of an engine's own is to be opened, which follows it.
pub fn refuse_link(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => Err(io::Error::other(format!(
            "{} is a symbolic link, which no member makes; remove it",
            path.display()
        ))),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
