//! Reads bodies, with limits for size, time and all bodies together.

use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::HttpBody;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time;

/// The timeout for a body, against clients that send a byte now and then.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How long a body waits for room before it is refused.
const ROOM_TIMEOUT: Duration = Duration::from_secs(2);

/// The largest form that Go's `ParseForm` reads, in bytes; etcd sets no limit of its own.
pub(super) const FORM_BYTES_MAX: usize = 10 << 20;

/// The limit of all bodies of requests in progress together, in bytes.
const BODIES_BYTES_MAX: usize = 256 << 20;

/// A body of up to this size, in bytes, needs no room.
const SMALL_BYTES: usize = 16 << 10;

/// The error text for a request whose body has no room.
pub(super) const CROWDED: &str = "too many large requests are being read; try again";

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// The body is too large.
    TooLarge,
    /// Its sender stopped, or was too slow.
    Broken,
    /// Other bodies use the whole budget.
    Crowded,
}

/// The budget for bodies, in KiB. It is charged as bytes arrive, not by the announced length, so
/// that a client that sends nothing uses nothing.
pub(super) struct Bodies(Arc<Semaphore>);

impl Default for Bodies {
    fn default() -> Bodies {
        Bodies::within(BODIES_BYTES_MAX)
    }
}

impl Bodies {
    /// A budget of that many bytes.
    pub(super) fn within(bytes_max: usize) -> Bodies {
        Bodies(Arc::new(Semaphore::new(bytes_max / 1024)))
    }

    /// Reads the whole body. It keeps its part of the budget until its last slice is dropped.
    pub(super) async fn read<R>(&self, body: R, bytes_max: usize) -> Result<Bytes, BodyError>
    where
        R: HttpBody<Data = Bytes>,
        R::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        if body.is_end_stream() {
            return Ok(Bytes::new());
        }
        // Refused before a client that waits for "100 Continue" has sent it.
        if u64::try_from(bytes_max).is_ok_and(|max| max < body.size_hint().lower()) {
            return Err(BodyError::TooLarge);
        }
        let collected = time::timeout(TIMEOUT, self.collect(body, bytes_max)).await;
        collected.unwrap_or(Err(BodyError::Broken))
    }

    async fn collect<R>(&self, body: R, bytes_max: usize) -> Result<Bytes, BodyError>
    where
        R: HttpBody<Data = Bytes>,
    {
        let mut body = pin!(body);
        let mut read = Read::default();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| BodyError::Broken)?;
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            let bytes = read.len() + piece.len();
            if bytes_max < bytes {
                return Err(BodyError::TooLarge);
            }
            self.make_room(&mut read.room, bytes).await?;
            read.push(piece);
        }
        Ok(read.whole())
    }

    /// Extends a reservation to that many bytes in all.
    async fn make_room(
        &self,
        room: &mut Option<OwnedSemaphorePermit>,
        bytes: usize,
    ) -> Result<(), BodyError> {
        let held = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = bytes.div_ceil(1024).saturating_sub(held);
        if bytes <= SMALL_BYTES || missing == 0 {
            return Ok(());
        }
        let missing = u32::try_from(missing).map_err(|_| BodyError::TooLarge)?;
        let more = Arc::clone(&self.0).acquire_many_owned(missing);
        match time::timeout(ROOM_TIMEOUT, more).await {
            Ok(Ok(more)) => {
                match room {
                    Some(room) => room.merge(more),
                    None => *room = Some(more),
                }
                Ok(())
            }
            Ok(Err(_)) | Err(_) => Err(BodyError::Crowded),
        }
    }
}

/// The received part of a body.
#[derive(Default)]
struct Read {
    /// The first chunk, which is usually the whole body.
    first: Bytes,
    /// All chunks, if there are several.
    joined: BytesMut,
    room: Option<OwnedSemaphorePermit>,
}

impl Read {
    fn len(&self) -> usize {
        self.first.len().max(self.joined.len())
    }

    fn push(&mut self, piece: Bytes) {
        if self.len() == 0 {
            self.first = piece;
            return;
        }
        if self.joined.is_empty() {
            self.joined.extend_from_slice(&self.first);
            self.first = Bytes::new();
        }
        self.joined.extend_from_slice(&piece);
    }

    fn whole(self) -> Bytes {
        let bytes = match self.joined.is_empty() {
            true => self.first,
            false => self.joined.freeze(),
        };
        match self.room {
            Some(room) => Bytes::from_owner(HeldBody { bytes, _room: room }),
            None => bytes,
        }
    }
}

/// A body with its part of the budget.
struct HeldBody {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for HeldBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
