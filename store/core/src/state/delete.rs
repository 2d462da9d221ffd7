//! DeleteRange.

use keelson_proto::etcdserverpb::{DeleteRangeRequest, DeleteRangeResponse};
use keelson_proto::mvccpb::KeyValue;

use super::keys::KeyRange;
use super::range::header;
use super::shared::{ReadError, Reads};
use super::write::Write;

/// Applies a delete. If no key exists, the revision does not change.
pub(super) fn apply(
    write: &mut Write<'_>,
    request: &DeleteRangeRequest,
    want_response: bool,
) -> Result<DeleteRangeResponse, ReadError> {
    let range = KeyRange::new(&request.key, &request.range_end);
    let prev_kvs = match want_response && request.prev_kv {
        true => pairs(&write.reads(), range)?,
        false => Vec::new(),
    };
    let deleted = write.delete(range);
    Ok(DeleteRangeResponse {
        header: header(write.revision()),
        deleted,
        prev_kvs,
    })
}

/// The current pairs of a range.
pub(super) fn pairs(reads: &Reads<'_>, range: KeyRange<'_>) -> Result<Vec<KeyValue>, ReadError> {
    let mut rows = Vec::new();
    reads.shared.index.visit(range, reads.current, |_, row| {
        rows.push(row);
        true
    });
    rows.into_iter().map(|row| reads.row(row)).collect()
}
