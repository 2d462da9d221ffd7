//! The protocol's steps as ranges, transactions and watches.

use keelson_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keelson_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use keelson_proto::etcdserverpb::watch_client::WatchClient;
use keelson_proto::etcdserverpb::watch_request::RequestUnion;
use keelson_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    WatchCreateRequest, WatchRequest, request_op,
};
use keelson_proto::mvccpb::KeyValue;
use std::time::Duration;

use tokio::time::timeout;
use tonic::{Code, Status};
use tracing::info;

use super::session::Session;
use crate::DiscoveryError;
use crate::error::Remedies;
use crate::join::{Protocol, Registered, Waited};
use crate::registration::Registration;
use crate::roster::{Entry, Roster};

/// The interval of reads where watches are not available.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Bound on the entries read; a size has two digits.
const ENTRIES_MAX: i64 = 1000;

impl Protocol for Session {
    async fn roster(&mut self) -> Result<(Roster, u64), DiscoveryError> {
        let size_key = format!("{}/_config/size", self.prefix);
        let request = RangeRequest {
            key: size_key.into(),
            ..RangeRequest::default()
        };
        let found = self.range(request).await?;
        let not_found = || DiscoveryError::SizeNotFound {
            url: self.name(),
            renew: self.renew(),
        };
        let size = found.kvs.first().ok_or_else(not_found)?;
        let text = String::from_utf8_lossy(&size.value).trim().to_owned();
        let size = text.parse().map_err(|reason| DiscoveryError::BadSizeKey {
            url: self.name(),
            value: text,
            reason,
            renew: self.renew(),
        })?;
        let members = self.range(self.members()).await?;
        let mut roster = Roster::new(size);
        for entry in members.kvs.iter().filter_map(|kv| self.entry(kv)) {
            roster.add(entry);
        }
        let revision = members.header.map_or(0, |header| header.revision);
        Ok((roster, revision.unsigned_abs()))
    }

    async fn register(&mut self, me: &Registration) -> Result<Registered, DiscoveryError> {
        let key = self.member_key(&me.hex_id());
        let absent = Compare {
            key: key.clone().into(),
            result: CompareResult::Equal.into(),
            target: CompareTarget::Create.into(),
            target_union: Some(TargetUnion::CreateRevision(0)),
            ..Compare::default()
        };
        let put = PutRequest {
            key: key.into(),
            value: me.value().into(),
            ..PutRequest::default()
        };
        let request = TxnRequest {
            compare: vec![absent],
            success: vec![op(request_op::Request::RequestPut(put))],
            failure: Vec::new(),
        };
        // Safe to repeat: the entry is created once, and found to be ours the next time.
        match self.txn(request).await?.succeeded {
            true => Ok(Registered::Made),
            false => Ok(Registered::Exists),
        }
    }

    async fn withdraw(&mut self, entry: &Entry) {
        let key = self.member_key(&entry.id);
        let unchanged = Compare {
            key: key.clone().into(),
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            target_union: Some(TargetUnion::ModRevision(entry.modified.cast_signed())),
            ..Compare::default()
        };
        let delete = DeleteRangeRequest {
            key: key.into(),
            ..DeleteRangeRequest::default()
        };
        let request = TxnRequest {
            compare: vec![unchanged],
            success: vec![op(request_op::Request::RequestDeleteRange(delete))],
            failure: Vec::new(),
        };
        // A surplus entry does no harm: the host does not wait long for its deletion.
        match timeout(self.options.request_timeout, self.txn(request)).await {
            Ok(Ok(_)) => info!(id = entry.id, "deleted the surplus entry"),
            Ok(Err(error)) => info!(%error, "could not delete the surplus entry"),
            Err(_) => info!("could not delete the surplus entry in time"),
        }
    }

    async fn wait(&mut self, index: u64) -> Result<Waited, DiscoveryError> {
        let longest = self.options.wait_max;
        match timeout(longest, self.watch(index)).await {
            Err(_) => Ok(Waited::Quiet),
            // A read of the list shows best what happened.
            Ok(Ok(())) => Ok(Waited::Lost),
            // An etcd without watches is read at intervals.
            Ok(Err(status)) if status.code() == Code::Unimplemented => {
                tokio::time::sleep(LOOK_AGAIN).await;
                Ok(Waited::Lost)
            }
            Ok(Err(status)) => {
                self.failed(&status).await?;
                Ok(Waited::Lost)
            }
        }
    }

    async fn pause(&mut self, error: String) -> Result<(), DiscoveryError> {
        let name = self.name();
        self.pause_after(&name, error).await
    }

    fn name(&self) -> String {
        self.prefix.clone()
    }

    fn remedies(&self) -> Remedies {
        Remedies {
            remove: format!("ETCDCTL_API=3 etcdctl del {}/members", self.prefix),
            renew: self.renew(),
        }
    }
}

impl Session {
    fn renew(&self) -> String {
        format!(
            "choose a token, make it (ETCDCTL_API=3 etcdctl put {}/_config/size N)",
            self.prefix
        )
    }

    fn member_key(&self, id: &str) -> String {
        format!("{}/members/{id}", self.prefix)
    }

    /// All members, in the order of registration.
    fn members(&self) -> RangeRequest {
        RangeRequest {
            key: self.member_key("").into(),
            range_end: self.members_end().into(),
            limit: ENTRIES_MAX,
            sort_order: SortOrder::Ascend.into(),
            sort_target: SortTarget::Create.into(),
            ..RangeRequest::default()
        }
    }

    /// `0` comes right after `/`.
    fn members_end(&self) -> String {
        format!("{}/members0", self.prefix)
    }

    fn entry(&self, kv: &KeyValue) -> Option<Entry> {
        let key = String::from_utf8_lossy(&kv.key);
        let id = key.strip_prefix(&self.member_key(""))?.trim();
        (!id.is_empty()).then(|| Entry {
            id: id.to_owned(),
            value: String::from_utf8_lossy(&kv.value).trim().to_owned(),
            created: kv.create_revision.unsigned_abs(),
            modified: kv.mod_revision.unsigned_abs(),
        })
    }

    /// Returns when the members have changed after this revision.
    async fn watch(&mut self, revision: u64) -> Result<(), Status> {
        let create = WatchCreateRequest {
            key: self.member_key("").into(),
            range_end: self.members_end().into(),
            start_revision: revision.saturating_add(1).cast_signed(),
            ..WatchCreateRequest::default()
        };
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        // The stream of requests must stay open while the watch is read.
        let requests = tokio_stream::once(request);
        let requests = tokio_stream::StreamExt::chain(requests, tokio_stream::pending());
        let mut events = WatchClient::new(self.channel())
            .watch(requests)
            .await?
            .into_inner();
        while let Some(answer) = events.message().await? {
            // Cancelled: the revision may have been compacted.
            if answer.canceled || !answer.events.is_empty() {
                return Ok(());
            }
        }
        Err(Status::unavailable("the watch ended"))
    }
}

fn op(request: request_op::Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}
