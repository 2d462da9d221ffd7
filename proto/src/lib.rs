//! etcd's v3 API and Keelson's own peer protocol, as Rust types.
//!
//! The `.proto` files in `proto/proto` are the source; `build.rs` compiles them with `protox`. The
//! crate has no logic. The gRPC clients and servers are behind the feature `grpc`, so that
//! `keelson-core` gets the messages without a network stack; their JSON form is behind `json`.

/// etcd's key-value pair and event (`mvccpb`).
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod mvccpb {
    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
    #[cfg(feature = "json")]
    include!(concat!(env!("OUT_DIR"), "/mvccpb.serde.rs"));
}

/// etcd's users, roles and permissions (`authpb`).
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod authpb {
    include!(concat!(env!("OUT_DIR"), "/authpb.rs"));
    #[cfg(feature = "json")]
    include!(concat!(env!("OUT_DIR"), "/authpb.serde.rs"));
}

/// etcd's v3 API (`etcdserverpb`).
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod etcdserverpb {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
    #[cfg(feature = "json")]
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.serde.rs"));
}

/// etcd's lock service (`v3lockpb`).
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod v3lockpb {
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.rs"));
    #[cfg(feature = "json")]
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.serde.rs"));
}

/// etcd's election service (`v3electionpb`).
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod v3electionpb {
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.rs"));
    #[cfg(feature = "json")]
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.serde.rs"));
}

/// gRPC's health checking protocol (`grpc.health.v1`).
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod health {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}

/// The use of prefixes, for `keelson top` (`usage.proto`).
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod keelsonpb {
    include!(concat!(env!("OUT_DIR"), "/keelsonpb.rs"));
}

/// OpenTelemetry's protocol for traces (`otlp.proto`).
#[cfg(feature = "grpc")]
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod otlp {
    include!(concat!(
        env!("OUT_DIR"),
        "/opentelemetry.proto.collector.trace.v1.rs"
    ));
}

/// Messages in Keelson's log and engine (`internal.proto`).
#[allow(missing_docs, clippy::all, unreachable_pub)]
#[doc(hidden)]
pub mod keelson_internal {
    include!(concat!(env!("OUT_DIR"), "/keelson_internal.rs"));
}

/// The protocol between Keelson's members (`peer.proto`).
#[allow(missing_docs, clippy::all, unreachable_pub)]
#[doc(hidden)]
pub mod keelson_peer {
    include!(concat!(env!("OUT_DIR"), "/keelson_peer.rs"));
}

pub use keelson_internal as internal;
pub use keelson_peer as peer;
