//! Put.

use keelson_proto::etcdserverpb::{PutRequest, PutResponse};

use super::error::Error;
use super::range::header;
use super::shared::{ReadError, Reads};
use super::write::Write;

/// Checks of a put that need the state. Inside a transaction every put is checked before the first
/// is applied, so that the transaction is atomic.
pub(super) fn check(reads: &Reads<'_>, request: &PutRequest) -> Result<(), Error> {
    let keeps = request.ignore_value || request.ignore_lease;
    if keeps && reads.shared.index.at(&request.key, reads.current).is_none() {
        return Err(Error::KeyNotFound);
    }
    if request.lease != 0 && !reads.shared.leases.read().exists(request.lease) {
        return Err(Error::LeaseNotFound);
    }
    Ok(())
}

/// The checks of a put outside of transactions: if two apply, etcd reports the lease's error first
/// there.
pub(super) fn check_alone(reads: &Reads<'_>, request: &PutRequest) -> Result<(), Error> {
    if request.lease != 0 && !reads.shared.leases.read().exists(request.lease) {
        return Err(Error::LeaseNotFound);
    }
    check(reads, request)
}

/// Applies a put. `want_response` is false if the answer is not needed; the state is the same.
pub(super) fn apply(
    write: &mut Write<'_>,
    request: PutRequest,
    want_response: bool,
) -> Result<PutResponse, ReadError> {
    let keeps = request.ignore_value || request.ignore_lease;
    let previous = match keeps || (want_response && request.prev_kv) {
        true => write.reads().newest(&request.key)?,
        false => None,
    };
    let (mut value, mut lease) = (request.value, request.lease);
    if keeps {
        let previous = previous.as_ref().ok_or(Error::KeyNotFound)?;
        if request.ignore_value {
            value = previous.value.clone();
        }
        if request.ignore_lease {
            lease = previous.lease;
        }
    }
    write.put(request.key, value, lease);
    Ok(PutResponse {
        header: header(write.revision()),
        prev_kv: previous.filter(|_| want_response && request.prev_kv),
    })
}
