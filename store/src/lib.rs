//! The IO around `keelson-core`: log, engines, peers, worker, and its client port.
//!
//! [`Store::open`] starts a member inside any program; [`edge`] serves its client port. Data moves
//! one way: request -> proposal -> log -> commit -> apply -> reply.
//!
//! | where | what |
//! |---|---|
//! | `store`, `requests`, `submit`, `cluster` | the handle, and what it does for its callers |
//! | `member/` | the threads of a member: worker, log writer, flusher |
//! | `peer/` | the transport between members |
//! | `wal/`, `disk/`, `engine/` | the write-ahead log, files, storage engines |
//!
//! This crate neither reads the environment nor parses flags: the binary does.
//!
//! ```no_run
//! use keelson_store::messages::PutRequest;
//! use keelson_store::{Config, Store};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Store::open(Config::single("alone", "data")).await?;
//! store.ready().await;
//! let (key, value) = ("greeting".into(), "hello".into());
//! store.put(PutRequest { key, value, ..Default::default() }).await?;
//! store.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod backend;
pub mod check;
mod cluster;
mod compaction;
pub mod config;
mod corruption;
pub mod defrag;
mod disk;
mod downgrade;
mod engine;
mod go_time;
pub mod import;
mod jobs;
mod jwt;
mod lease;
pub mod listen;
mod long_range;
mod member;
mod membership;
pub mod metrics;
mod open_error;
mod peer;
mod publish;
mod reads;
mod recovery;
mod requests;
mod session;
mod shared;
pub mod snapshot;
mod space;
mod standby;
mod store;
mod submit;
mod traces;
pub mod tree;
mod usage;
pub mod version;
mod wal;
mod watch;

pub use config::Config;
pub use jwt::{JwtFiles, JwtFilesError, JwtTokens};
pub use keelson_core::state::Error as StateError;
pub use keelson_core::state::auth;
pub use keelson_edge as edge;
pub use keelson_edge::Error;
pub use keelson_port::raise_descriptor_limit;
pub use lease::{Lease, LeaseTimes};
pub use member::fatal::{FatalHandler, end_process};
pub use open_error::OpenError;
pub use session::{ElectionObserver, Leadership, Lock};
pub use store::{LogControl, Store};
pub use watch::KeyWatch;

/// etcd's request and response messages, as `rpc.proto` and `kv.proto` define them.
pub mod messages {
    pub use keelson_proto::etcdserverpb::*;
    pub use keelson_proto::mvccpb::{Event, KeyValue, event};
}

/// For the binary, tests and benchmarks. It is no part of the library's interface.
#[doc(hidden)]
pub mod internals {
    /// Files.
    pub mod disk {
        pub use crate::disk::*;
    }
    /// Storage engines.
    pub mod engine {
        pub use crate::engine::*;
    }
    pub use crate::go_time::time_ns;
    pub use keelson_core::tree::{Action, NodeExtern, WalkScope};
    /// The transport between members.
    pub mod peer {
        pub use crate::peer::*;
    }
    /// What a member begins with.
    pub mod recovery {
        pub use crate::recovery::*;
    }
    /// The write-ahead log.
    pub mod wal {
        pub use crate::wal::*;
    }
}

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
