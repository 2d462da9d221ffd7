//! The transport between members: a long-lived gRPC stream in each direction, and a separate call
//! for each snapshot.
//!
//! The transport may lose messages; Raft expects that. It never delivers a message twice, nor one
//! from another cluster, from an unknown id, or for another member: `gate.rs` checks that.
//! `prove.rs` verifies the identity of a caller. Raft's own rules are not checked here.

mod connect;
mod gate;
mod link_log;
mod load;
mod prove;
mod receiver;
mod refusals;
mod sender;
mod service;
mod snapshots;

pub use gate::{CallerGate, ReceivedNumbers};
pub use receiver::{Evicted, Inbox, PeerService, SnapshotSink};
pub use sender::{Links, Numbering, Outbox, PeerEvent, PeerListener, SendError};
pub use service::routes;
pub use snapshots::{request_hash_kv, request_members, request_token_use, send_snapshot};

use keelson_core::{ClusterId, MemberId};
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::config::Url;

/// The largest message between members, in bytes. A message that declares a larger size is
/// refused before memory is allocated for it.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// The largest request for the member list, in bytes. It needs no introduction, so any host may
/// send it.
pub(crate) const MEMBERS_REQUEST_BYTES_MAX: usize = 1 << 10;

/// The addresses of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// The member's id.
    pub id: MemberId,
    /// Its name, empty until it has been started.
    pub name: String,
    /// Its peer URLs.
    pub urls: Vec<Url>,
}

/// The metadata of every call between members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// The caller's cluster.
    pub cluster: ClusterId,
    /// The caller's member id.
    pub from: MemberId,
    /// The addressed member.
    pub to: MemberId,
    /// The caller's boot count.
    pub incarnation: u64,
    /// The random key of the caller's incarnation; never 0.
    pub key: u64,
}

/// The metadata of a request for the members that queries the last use of a token: its signature.
/// As metadata, since releases without it ignore that.
const TOKEN: &str = "keelson-token-bin";
/// The metadata of the answer, in nanoseconds since 1970.
const TOKEN_USED: &str = "keelson-token-used";

const CLUSTER: &str = "keelson-cluster-id";
const FROM: &str = "keelson-from";
const TO: &str = "keelson-to";
const BOOT: &str = "keelson-boot";
const KEY: &str = "keelson-key";

impl Introduction {
    fn write(&self, metadata: &mut MetadataMap) {
        metadata.insert(CLUSTER, MetadataValue::from(self.cluster.0));
        metadata.insert(FROM, MetadataValue::from(self.from.0));
        metadata.insert(TO, MetadataValue::from(self.to.0));
        metadata.insert(BOOT, MetadataValue::from(self.incarnation));
        metadata.insert(KEY, MetadataValue::from(self.key));
    }

    fn read(metadata: &MetadataMap) -> Option<Introduction> {
        let number = |name| metadata.get(name)?.to_str().ok()?.parse().ok();
        Some(Introduction {
            cluster: ClusterId(number(CLUSTER)?),
            from: MemberId(number(FROM)?),
            to: MemberId(number(TO)?),
            incarnation: number(BOOT)?,
            // Earlier releases send no key.
            key: number(KEY).unwrap_or(0),
        })
    }
}
