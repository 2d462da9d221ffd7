//! DeleteRange.

use keelson_proto::etcdserverpb::{DeleteRangeRequest, DeleteRangeResponse};
use keelson_proto::mvccpb::KeyValue;

use super::keys::KeyRange;
use super::range::header;
use super::shared::{ReadError, Reads};
use super::write::Write;

/// Applies a delete. When no key is there, the revision stays as it is.
pub(super) fn apply(
    write: &mut Write<'_>,
    request: &DeleteRangeRequest,
    want: bool,
) -> Result<DeleteRangeResponse, ReadError> {
    let range = KeyRange::new(&request.key, &request.range_end);
    let prev_kvs = match want && request.prev_kv {
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

/// The pairs of a range as they are now.
pub(super) fn pairs(reads: &Reads<'_>, range: KeyRange<'_>) -> Result<Vec<KeyValue>, ReadError> {
    let mut rows = Vec::new();
    reads.shared.index.visit(range, reads.current, |_, row| {
        rows.push(row);
        true
    });
    rows.into_iter().map(|row| reads.row(row)).collect()
}
