//! Errors of requests to the tree: etcd's codes. The edge has their texts.

use bytes::Bytes;

/// etcd's error codes, as far as the tree returns them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum ErrorCode {
    /// No node at that path.
    KeyNotFound = 100,
    /// The node does not have the expected value or index.
    TestFailed = 101,
    /// A directory where a file is needed.
    NotFile = 102,
    /// A file where a directory is needed.
    NotDir = 104,
    /// A node exists already.
    NodeExist = 105,
    /// The root cannot be changed.
    RootReadOnly = 107,
    /// A directory with children, in a request without `recursive`.
    DirNotEmpty = 108,
    /// The listing exceeds the reader's limit in bytes.
    ListingTooLarge = 209,
    /// This member's state differs from the majority's.
    Corrupt = 300,
    /// The history does not reach back that far.
    EventIndexCleared = 401,
}

/// An error. The request changed nothing, not even the index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code:?} ({}) [{index}]", String::from_utf8_lossy(cause))]
pub struct TreeError {
    /// The error code.
    pub code: ErrorCode,
    /// The subject: a whole path ("/1/foo"), or values that differ.
    pub cause: Bytes,
    /// The tree's index at that time.
    pub index: u64,
}
