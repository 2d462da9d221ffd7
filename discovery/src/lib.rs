//! How a cluster comes up from one URL and a fixed member count.
//!
//! Every host gets the same discovery URL. The first N hosts that register there are the cluster's
//! founders and wait for each other; all others become proxies. A host's role is decided here and
//! nowhere else:
//!
//! | a host has | function |
//! |---|---|
//! | `--discovery` | [`join`], or as a proxy [`cluster_of`] |
//! | `--discovery-token` | [`v3::join`], or as a proxy [`v3::cluster_of`] |
//! | `--discovery-srv` | [`srv::cluster`], or as a proxy [`srv::cluster_of`] |
//! | a static `--initial-cluster` and `DEIS_NUM_INSTANCES` | [`choose()`] |
//!
//! [`service`] is the other side, a discovery service of our own, and [`new_token`] gets a URL from
//! any such service.
//!
//! Both protocols differ in their requests only ([`v2`], [`v3`]). `join.rs` has the steps of a
//! host, `roster.rs` decides which hosts are founders. Everything here may be repeated after a
//! crash, and every wait ends when it is dropped. A fault of a token, its service or its entries is
//! a [`DiscoveryError`]: etcd's text where etcd has one, then the remedy.
//!
//! This crate does not depend on the store, since a proxy uses it too, and does not read the
//! environment. A discovery URL may be `https://`; `--discovery-endpoints` and the service's
//! registry may not yet.

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

pub use backoff::RetryPolicy;
pub use choose::{ChooseError, Place, choose, list_is_short, token_disagrees};
pub use error::{DiscoveryError, Remedies};
pub use http::{BoxError, HttpError};
pub use identity::member_id;
pub use join::{Note, Outcome};
pub use new_token::new_token;
pub use registration::Registration;
pub use roster::{Entry, Roster};
pub use size::{Size, SizeError};
pub use v2::{Options, cluster_of, join};
