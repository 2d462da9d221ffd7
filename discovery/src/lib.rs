//! How a cluster comes up from one URL and a fixed member count.
//!
//! Static configuration (`--initial-cluster`) is `keelson-store`'s own. What is here so far is the
//! member count as operators give it; the discovery protocol, its service and DNS come next. This
//! crate may not know the store: a proxy uses it too.

mod size;

pub use size::{Size, SizeError};
