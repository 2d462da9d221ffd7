//! Reading bodies, within bounds of size and time.

use std::error::Error;
use std::time::Duration;

use axum::body::HttpBody;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time;

/// How long a body may take to arrive: cuts clients that send a byte now and then.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The largest form that Go's `ParseForm` reads; etcd has no bound of its own.
pub(super) const FORM_BYTES_MAX: usize = 10 << 20;

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// There is too much of it.
    TooLarge,
    /// Its sender stopped, or was too slow.
    Broken,
}

/// The whole body.
pub(super) async fn read<R>(body: R, bytes_max: usize) -> Result<Bytes, BodyError>
where
    R: HttpBody<Data = Bytes>,
    R::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    // Says so before a client that waits for "100 Continue" has sent it.
    if u64::try_from(bytes_max).is_ok_and(|max| max < body.size_hint().lower()) {
        return Err(BodyError::TooLarge);
    }
    let collected = time::timeout(TIMEOUT, Limited::new(body, bytes_max).collect()).await;
    match collected {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        Ok(Err(_)) | Err(_) => Err(BodyError::Broken),
    }
}
