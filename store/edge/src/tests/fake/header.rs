//! Headers of the fake member's answers.

use keelson_core::state;
use keelson_proto::etcdserverpb::{RangeResponse, ResponseHeader};

use super::{CLUSTER, MEMBER, TERM};
use crate::Error;

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
