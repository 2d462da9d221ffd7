//! Large listings: how many bytes of them may wait for their clients.
//!
//! A listing is built whole, from the tree as it is at one index, and is held until its client has read
//! it. A few requests of sixty bytes that are not read could otherwise hold gigabytes.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The largest listing, in bytes, roughly; of all together as well.
pub(super) const LISTING_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Smaller answers are not counted.
const LARGE_BYTES: usize = 1024 * 1024;

/// The room for large listings, in KiB.
pub(super) struct Listings(Arc<Semaphore>);

impl Default for Listings {
    fn default() -> Listings {
        // The estimate of a listing leaves out what JSON escapes.
        Listings(Arc::new(Semaphore::new(2 * LISTING_BYTES_MAX / 1024)))
    }
}

/// A listing in its room.
struct Held {
    listing: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.listing
    }
}

impl Listings {
    /// The same bytes, which keep their room until they are dropped. `None`: there is no room.
    pub(super) fn hold(&self, listing: Bytes) -> Option<Bytes> {
        if listing.len() < LARGE_BYTES {
            return Some(listing);
        }
        let kib = u32::try_from(listing.len() / 1024).ok()?;
        let room = Arc::clone(&self.0).try_acquire_many_owned(kib).ok()?;
        let held = Held {
            listing,
            _room: room,
        };
        Some(Bytes::from_owner(held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_that_are_not_read_are_bounded() {
        let listings = Listings(Arc::new(Semaphore::new(3 * 1024)));
        let large = Bytes::from(vec![b'x'; LARGE_BYTES]);
        let held: Vec<_> = (0..9)
            .filter_map(|_| listings.hold(large.clone()))
            .collect();
        assert_eq!(held.len(), 3);
        assert!(listings.hold(Bytes::from_static(b"small")).is_some());
        drop(held);
        assert_eq!(listings.hold(large.clone()), Some(large));
    }
}
