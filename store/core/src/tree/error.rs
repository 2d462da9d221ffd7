//! What a request to the tree can be refused for: etcd's numbers. The words are the edge's.

use bytes::Bytes;

/// etcd's error codes, as far as the tree itself finds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum ErrorCode {
    /// Nothing at that path.
    KeyNotFound = 100,
    /// The node is not what the request expected.
    TestFailed = 101,
    /// A directory where a file is needed.
    NotFile = 102,
    /// A file where a directory is needed.
    NotDir = 104,
    /// There is a node already.
    NodeExist = 105,
    /// The root cannot be changed.
    RootReadOnly = 107,
    /// A directory with children, and nobody said recursive.
    DirNotEmpty = 108,
    /// What would be listed takes more bytes than its reader takes.
    ListingTooLarge = 209,
    /// The history does not reach back that far.
    EventIndexCleared = 401,
}

/// A refusal: it changed nothing, not even the index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code:?} ({}) [{index}]", String::from_utf8_lossy(cause))]
pub struct TreeError {
    /// Which.
    pub code: ErrorCode,
    /// What it is about: a whole path ("/1/foo"), or values that differ.
    pub cause: Bytes,
    /// The tree's index then.
    pub index: u64,
}
