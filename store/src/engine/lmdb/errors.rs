//! What LMDB's errors mean to an operator.

use std::io;

use heed::MdbError;
use keelson_core::engine::EngineError;

use super::file;

const NO_ROOM: &str = "no space left on the device that holds the database; free some or enlarge \
    it, then start this member again: nothing that was acknowledged is lost";

/// With less room than this, a write that failed was cut short by the end of the device.
const FULL_BYTES: u64 = 1 << 20;

/// Why a batch was not written.
#[derive(Debug)]
pub(super) enum WriteError {
    Lmdb(heed::Error),
    /// A row that holds several long keys is damaged.
    Row(EngineError),
}

impl From<heed::Error> for WriteError {
    fn from(error: heed::Error) -> WriteError {
        WriteError::Lmdb(error)
    }
}

impl From<EngineError> for WriteError {
    fn from(error: EngineError) -> WriteError {
        WriteError::Row(error)
    }
}

impl WriteError {
    /// `available` is the room on the device, in bytes. LMDB reports a write that the end of the
    /// device cuts short as EIO; only one of which nothing is written is ENOSPC.
    pub(super) fn explain(self, available: impl FnOnce() -> io::Result<u64>) -> EngineError {
        let error = match self {
            WriteError::Lmdb(error) => error,
            WriteError::Row(error) => return error,
        };
        let is_eio = |error: &heed::Error| match error {
            heed::Error::Io(error) => error.raw_os_error() == Some(EIO),
            _ => false,
        };
        let is_full = || available().is_ok_and(|bytes| bytes < FULL_BYTES);
        match is_eio(&error) && is_full() {
            true => EngineError(NO_ROOM.to_owned()),
            false => explain(&error),
        }
    }
}

const EIO: i32 = rustix::io::Errno::IO.raw_os_error();

pub(super) fn explain(error: &heed::Error) -> EngineError {
    EngineError(match error {
        heed::Error::Mdb(MdbError::MapFull) => {
            "the database has reached the size reserved for it: compact, then start with a larger \
             --quota-backend-bytes"
                .to_owned()
        }
        heed::Error::Mdb(
            error @ (MdbError::Corrupted
            | MdbError::PageNotFound
            | MdbError::Invalid
            | MdbError::VersionMismatch
            | MdbError::Panic),
        ) => format!("the database is damaged ({error}): {}", file::REMEDY),
        heed::Error::Io(error) if error.kind() == io::ErrorKind::StorageFull => NO_ROOM.to_owned(),
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen on a full tmpfs: the member ended with "Input/output error".
    #[test]
    fn a_write_that_is_cut_short_is_named_by_its_cause() {
        let named = |errno: rustix::io::Errno, available| {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            let error = WriteError::Lmdb(heed::Error::Io(error));
            error.explain(|| available).0 == NO_ROOM
        };
        use rustix::io::Errno;
        assert!(named(Errno::IO, Ok(0)) && named(Errno::NOSPC, Ok(1 << 30)));
        assert!(!named(Errno::IO, Ok(1 << 30)) && !named(Errno::PERM, Ok(0)));
        assert!(!named(Errno::IO, Err(io::Error::other("no such device"))));
    }
}
