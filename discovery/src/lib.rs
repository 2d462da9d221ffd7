//! How a cluster comes up from one URL and a fixed member count.
//!
//! Every host gets the same discovery URL. The first N that register there are the cluster's
//! founders, and wait for each other; everybody else becomes a proxy. [`join`] is what a host does,
//! [`cluster_of`] what a proxy does.
//!
//! This crate may not know the store, a proxy uses it too; nor does it read the environment.

mod backoff;
mod choose;
mod error;
mod http;
mod identity;
mod join;
mod new_token;
pub mod registration;
mod roster;
pub mod service;
mod size;
pub mod srv;
pub mod v2;
pub mod v3;

pub use backoff::Patience;
pub use choose::{ChooseError, Place, choose, list_is_short, token_disagrees};
pub use error::{DiscoveryError, Remedies};
pub use http::{BoxError, HttpError};
pub use identity::member_id;
pub use join::Outcome;
pub use new_token::new_token;
pub use registration::Registration;
pub use roster::{Entry, Roster};
pub use size::{Size, SizeError};
pub use v2::{Options, cluster_of, join};
