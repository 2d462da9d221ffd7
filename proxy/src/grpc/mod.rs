//! The messages of the two long-lived streams of etcd's API, as far as the proxy reads them.
//!
//! Other calls pass without being decoded. Of `Watch` and `LeaseKeepAlive` the proxy reads what it
//! needs to continue a stream on another member: `policy::resumption` decides with it.

pub(crate) mod events;
pub(crate) mod fuzzing;
mod prefix;
mod protobuf;
pub(crate) mod requests;
pub(crate) mod responses;

#[cfg(test)]
mod tests;

/// A message that is not one of this method's, or is compressed. Its stream passes unread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Unreadable;
