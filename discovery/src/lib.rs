//! How a cluster comes up from one URL and a fixed member count.
//!
//! Every host gets the same discovery URL. The first N that register there are the cluster's
//! founders, and wait for each other; everybody else becomes a proxy. [`join`] is what a host does,
//! [`cluster_of`] what a proxy does.
//!
//! This crate may not know the store, a proxy uses it too; nor does it read the environment.

mod backoff;
mod error;
mod http;
mod identity;
pub mod registration;
mod size;
pub mod v2;

pub use backoff::Patience;
pub use error::DiscoveryError;
pub use http::{BoxError, HttpError};
pub use identity::member_id;
pub use registration::Registration;
pub use size::{Size, SizeError};
pub use v2::{Options, Outcome, cluster_of, join};
