//! Reading bodies, within bounds of size and time, and of all together.

use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::HttpBody;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time;

/// How long a body may take to arrive: cuts clients that send a byte now and then.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How long a body waits for room before it is refused.
const ROOM_TIMEOUT: Duration = Duration::from_secs(2);

/// The largest form that Go's `ParseForm` reads; etcd has no bound of its own.
pub(super) const FORM_BYTES_MAX: usize = 10 << 20;

/// All bodies that are read, or whose requests are under way, together.
const BODIES_BYTES_MAX: usize = 256 << 20;

/// A body up to this size has room in any case.
const SMALL_BYTES: usize = 16 << 10;

/// What a refused request is told where bodies leave no room.
pub(super) const CROWDED: &str = "too many large requests are being read; try again";

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// There is too much of it.
    TooLarge,
    /// Its sender stopped, or was too slow.
    Broken,
    /// Other bodies leave it no room.
    Crowded,
}

/// The room for bodies, in KiB. It is taken as their bytes arrive, not as they are announced: a client
/// that sends nothing takes nothing.
pub(super) struct Bodies(Arc<Semaphore>);

impl Default for Bodies {
    fn default() -> Bodies {
        Bodies::within(BODIES_BYTES_MAX)
    }
}

impl Bodies {
    /// Room for that many bytes.
    pub(super) fn within(bytes_max: usize) -> Bodies {
        Bodies(Arc::new(Semaphore::new(bytes_max / 1024)))
    }

    /// The whole body. It keeps its room until its last slice is dropped.
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

    /// Makes a room large enough for that many bytes in all.
    async fn make_room(
        &self,
        room: &mut Option<OwnedSemaphorePermit>,
        bytes: usize,
    ) -> Result<(), BodyError> {
        let held = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let wanted = bytes.div_ceil(1024).saturating_sub(held);
        if bytes <= SMALL_BYTES || wanted == 0 {
            return Ok(());
        }
        let wanted = u32::try_from(wanted).map_err(|_| BodyError::TooLarge)?;
        let more = Arc::clone(&self.0).acquire_many_owned(wanted);
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

/// What has arrived of a body.
#[derive(Default)]
struct Read {
    /// The first piece, which is mostly the whole.
    first: Bytes,
    /// All pieces, if there are more.
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
            Some(room) => Bytes::from_owner(Held { bytes, _room: room }),
            None => bytes,
        }
    }
}

/// A body in its room.
struct Held {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
