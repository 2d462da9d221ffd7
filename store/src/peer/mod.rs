//! How members talk: one long gRPC stream each way, and a call of its own for each snapshot.
//!
//! The transport may lose messages; Raft expects that. It may never deliver one twice, nor one from
//! another cluster, from a removed member, or meant for somebody else: `gate.rs` sees to it. It knows
//! nothing of Raft beyond who sends to whom.

mod connect;
mod gate;
mod load;
mod receiver;
mod sender;
mod snapshots;

pub use gate::Gate;
pub(crate) use load::weight;
pub use receiver::{Inbox, PeerService, SnapshotSink};
pub use sender::{Links, Outbox, PeerEvent, PeerListener};
pub use snapshots::{ask_members, send_snapshot};

use keelson_core::{ClusterId, MemberId};
use tonic::metadata::{MetadataMap, MetadataValue};

/// The metadata of every call between members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// The caller's cluster.
    pub cluster: ClusterId,
    /// The caller.
    pub from: MemberId,
    /// Whom it means to call.
    pub to: MemberId,
    /// Which life of the caller.
    pub boot: u64,
}

const CLUSTER: &str = "keelson-cluster-id";
const FROM: &str = "keelson-from";
const TO: &str = "keelson-to";
const BOOT: &str = "keelson-boot";

impl Introduction {
    fn write(&self, metadata: &mut MetadataMap) {
        metadata.insert(CLUSTER, MetadataValue::from(self.cluster.0));
        metadata.insert(FROM, MetadataValue::from(self.from.0));
        metadata.insert(TO, MetadataValue::from(self.to.0));
        metadata.insert(BOOT, MetadataValue::from(self.boot));
    }

    fn read(metadata: &MetadataMap) -> Option<Introduction> {
        let number = |name| metadata.get(name)?.to_str().ok()?.parse().ok();
        Some(Introduction {
            cluster: ClusterId(number(CLUSTER)?),
            from: MemberId(number(FROM)?),
            to: MemberId(number(TO)?),
            boot: number(BOOT)?,
        })
    }
}
