//! The calls to the cluster that is followed.

use std::time::Duration;

use keelson_proto::etcdserverpb::alarm_request::AlarmAction;
use keelson_proto::etcdserverpb::auth_client::AuthClient;
use keelson_proto::etcdserverpb::kv_client::KvClient;
use keelson_proto::etcdserverpb::lease_client::LeaseClient;
use keelson_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_proto::etcdserverpb::watch_client::WatchClient;
use keelson_proto::etcdserverpb::watch_request::RequestUnion;
use keelson_proto::etcdserverpb::{
    AlarmRequest, AlarmType, AuthStatusRequest, HashKvRequest, HashKvResponse, LeaseLeasesRequest,
    LeaseTimeToLiveRequest, RangeRequest, StatusRequest, StatusResponse, WatchCreateRequest,
    WatchProgressRequest, WatchRequest, WatchResponse,
};
use keelson_store::{Error, StateError};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};

use crate::commands::access::{MemberAccess, MemberChannel, text_is};

/// The longest wait for an answer; a HashKV reads all keys.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// The largest part of a watch's response, in bytes: above what an etcd may be set to accept.
const RESPONSE_BYTES_MAX: usize = 64 << 20;
/// The first of all keys, and as the end of a range: behind the last.
const ALL: &[u8] = &[0];

/// A member of the cluster that is followed.
#[derive(Clone)]
pub(super) struct SourceMember {
    pub(super) channel: MemberChannel,
    pub(super) url: String,
    pub(super) status: StatusResponse,
}

/// The responses of a watch, and the way for progress requests.
pub(super) struct SourceWatch {
    pub(super) responses: Streaming<WatchResponse>,
    requests: mpsc::Sender<WatchRequest>,
}

impl SourceMember {
    pub(super) async fn connect(access: &MemberAccess, url: &str) -> Result<SourceMember, Status> {
        let channel = access.connect(url, ANSWER_MAX).await?;
        let mut source = SourceMember {
            channel,
            url: url.to_owned(),
            status: StatusResponse::default(),
        };
        source.status = source.status_now().await?;
        Ok(source)
    }

    pub(super) fn cluster(&self) -> u64 {
        self.status
            .header
            .as_ref()
            .map_or(0, |header| header.cluster_id)
    }

    fn maintenance(&self) -> MaintenanceClient<MemberChannel> {
        MaintenanceClient::new(self.channel.clone())
    }

    pub(super) async fn status_now(&self) -> Result<StatusResponse, Status> {
        let status = self.maintenance().status(StatusRequest::default()).await?;
        Ok(status.into_inner())
    }

    /// The revision of users and roles; `None` of an etcd before 3.5, which does not show it.
    pub(super) async fn auth_revision(&self) -> Result<Option<u64>, Status> {
        let mut auth = AuthClient::new(self.channel.clone());
        match auth.auth_status(AuthStatusRequest::default()).await {
            Ok(status) => Ok(Some(status.into_inner().auth_revision)),
            Err(status) if status.code() == Code::Unimplemented => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Watches all keys from a revision on.
    pub(super) async fn watch(&self, from: i64) -> Result<SourceWatch, Status> {
        let (requests, waiting) = mpsc::channel(4);
        let create = WatchCreateRequest {
            key: ALL.into(),
            range_end: ALL.into(),
            start_revision: from,
            progress_notify: true,
            fragment: true,
            ..WatchCreateRequest::default()
        };
        // The queue has room.
        let _ = requests.try_send(WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        });
        let mut request = Request::new(ReceiverStream::new(waiting));
        let has_leader = tonic::metadata::MetadataValue::from_static("true");
        request.metadata_mut().insert("hasleader", has_leader);
        let client = WatchClient::new(self.channel.clone());
        let mut client = client.max_decoding_message_size(RESPONSE_BYTES_MAX);
        Ok(SourceWatch {
            responses: client.watch(request).await?.into_inner(),
            requests,
        })
    }

    /// The compaction, if it is later than the known one.
    pub(super) async fn compacted_after(&self, known: i64) -> Result<Option<i64>, Status> {
        // Of one key: a count of all would walk the source's index.
        let at_known = RangeRequest {
            key: ALL.into(),
            revision: known.max(1),
            serializable: true,
            count_only: true,
            ..RangeRequest::default()
        };
        match KvClient::new(self.channel.clone()).range(at_known).await {
            Ok(_) => return Ok(None),
            Err(status) if is_compacted(&status) => {}
            Err(status) => return Err(status),
        }
        // A watch from a compacted revision ends with the compaction.
        let late = |_| Status::deadline_exceeded("it is silent");
        let mut watch = self.watch(known.max(1)).await?;
        loop {
            let response = timeout(ANSWER_MAX, watch.responses.message()).await;
            match response.map_err(late)?? {
                Some(response) if response.canceled => {
                    let compacted = response.compact_revision;
                    return Ok(Some(compacted).filter(|revision| known < *revision));
                }
                Some(response) if response.created => {}
                _ => return Ok(None),
            }
        }
    }

    /// The ids of all leases, and the revision at which they were read.
    pub(super) async fn leases(&self) -> Result<(Vec<i64>, i64), Status> {
        let mut client = LeaseClient::new(self.channel.clone());
        let client = &mut client;
        let leases = client.lease_leases(LeaseLeasesRequest::default()).await?;
        let leases = leases.into_inner();
        let ids = leases.leases.iter().map(|lease| lease.id).collect();
        Ok((ids, leases.header.map_or(0, |header| header.revision)))
    }

    /// The granted time to live of a lease, in seconds; `None` if there is none.
    pub(super) async fn granted_ttl(&self, id: i64) -> Result<Option<i64>, Status> {
        let request = LeaseTimeToLiveRequest { id, keys: false };
        let mut client = LeaseClient::new(self.channel.clone());
        let times = client.lease_time_to_live(request).await?.into_inner();
        Ok(Some(times.granted_ttl).filter(|ttl| 0 < *ttl && times.ttl != -1))
    }

    pub(super) async fn hash_kv(&self, revision: i64) -> Result<HashKvResponse, Status> {
        let hash = self
            .maintenance()
            .hash_kv(HashKvRequest { revision })
            .await?;
        Ok(hash.into_inner())
    }

    pub(super) fn member_id(&self) -> u64 {
        self.status.header.unwrap_or_default().member_id
    }

    /// Raises or clears the alarm CORRUPT of a member, with which a cluster refuses all reads and
    /// writes of keys and leases.
    pub(super) async fn fence(&self, action: AlarmAction, member_id: u64) -> Result<(), Status> {
        let alarm = AlarmRequest {
            action: action.into(),
            member_id,
            alarm: AlarmType::Corrupt.into(),
        };
        // etcd's answer has no header.
        self.maintenance().alarm(alarm).await.map(drop)
    }
}

impl SourceWatch {
    /// Sends a progress request, whose answer is a sign of life.
    pub(super) fn ask_progress(&self) {
        // With a full queue the connection stands still, which the silence shows.
        let _ = self.requests.try_send(WatchRequest {
            request_union: Some(RequestUnion::ProgressRequest(
                WatchProgressRequest::default(),
            )),
        });
    }
}

/// Why a watch was cancelled. etcd writes the refusal of its user as Go prints an error.
pub(super) fn cancelled(reason: &str) -> Status {
    let printed = reason.strip_prefix("rpc error: code = ");
    let (name, text) = printed
        .and_then(|printed| printed.split_once(" desc = "))
        .unwrap_or(("Unavailable", reason));
    let code = match name {
        "Unauthenticated" => Code::Unauthenticated,
        "PermissionDenied" => Code::PermissionDenied,
        _ => Code::Unavailable,
    };
    Status::new(code, text)
}

pub(super) fn is_compacted(status: &Status) -> bool {
    text_is(status, &Error::State(StateError::Compacted))
}
