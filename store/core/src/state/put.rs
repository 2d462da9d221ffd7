//! Put.

use keelson_proto::etcdserverpb::{PutRequest, PutResponse};

use super::error::Error;
use super::leases;
use super::range::header;
use super::shared::{ReadError, Reads};
use super::write::Write;

/// What can be wrong with a put that only the state can tell. Inside a transaction every put is
/// checked before the first is applied, so that a transaction happens whole or not at all.
pub(super) fn check(reads: &Reads<'_>, request: &PutRequest) -> Result<(), Error> {
    let keeps = request.ignore_value || request.ignore_lease;
    if keeps && reads.shared.index.at(&request.key, reads.current).is_none() {
        return Err(Error::KeyNotFound);
    }
    if request.lease != 0 && !leases::exists(request.lease) {
        return Err(Error::LeaseNotFound);
    }
    Ok(())
}

/// The same for a put outside of transactions: of two faults etcd names the lease's first there.
pub(super) fn check_alone(reads: &Reads<'_>, request: &PutRequest) -> Result<(), Error> {
    if request.lease != 0 && !leases::exists(request.lease) {
        return Err(Error::LeaseNotFound);
    }
    check(reads, request)
}

/// Applies a put. `want` is false where nobody waits for the answer; the state is the same.
pub(super) fn apply(
    write: &mut Write<'_>,
    request: PutRequest,
    want: bool,
) -> Result<PutResponse, ReadError> {
    let keeps = request.ignore_value || request.ignore_lease;
    let previous = match keeps || (want && request.prev_kv) {
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
        prev_kv: previous.filter(|_| want && request.prev_kv),
    })
}
