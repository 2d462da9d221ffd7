//! Headers of the fake member's answers.

use futures_util::stream::{self, Stream};
use keelson_core::{MemberId, state};
use keelson_proto::etcdserverpb::{
    HashKvResponse, HashResponse, RangeResponse, ResponseHeader, SnapshotResponse,
};

use super::{CLUSTER, MEMBER, TERM};
use crate::{Error, RaftStatus, Versions};

/// Completes a header: the state machine sets only the revision.
pub(super) fn full(header: Option<ResponseHeader>) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        cluster_id: CLUSTER,
        member_id: MEMBER,
        raft_term: TERM,
        ..header.unwrap_or_default()
    })
}

pub(super) fn with_full_header(
    piece: Result<RangeResponse, state::Error>,
) -> Result<RangeResponse, Error> {
    let mut piece = piece?;
    piece.header = piece.header.and_then(|header| full(Some(header)));
    Ok(piece)
}

/// The hash of the pairs.
pub(super) fn hashed_kv(hashed: state::HashKv) -> HashKvResponse {
    HashKvResponse {
        header: full(None),
        hash: hashed.hash,
        compact_revision: hashed.compact_revision,
        hash_revision: hashed.hash_revision,
    }
}

/// The hash of everything.
pub(super) fn hashed() -> HashResponse {
    HashResponse {
        header: full(None),
        hash: 7,
    }
}

/// A snapshot.
pub(super) fn pieces() -> impl Stream<Item = Result<SnapshotResponse, Error>> + Send + use<> {
    stream::iter([&b"ab"[..], b"c"].map(|blob| {
        let mut piece = SnapshotResponse::default();
        piece.blob = blob.into();
        Ok(piece)
    }))
}

/// The versions that the member reports.
pub(super) fn versions() -> Versions {
    Versions {
        server: "3.7.1".to_owned(),
        cluster: Some("3.7.0".to_owned()),
        storage: None,
    }
}

/// Raft's status with these values.
pub(super) fn raft_status(leader: MemberId, applied: u64) -> RaftStatus {
    RaftStatus {
        id: MemberId(MEMBER),
        leader,
        role: "StateLeader",
        term: TERM,
        committed: 11,
        applied,
    }
}
