//! A range answered in chunks: the memory is constant for any number of keys.

use bytes::{BufMut, Bytes, BytesMut};
use keelson_proto::etcdserverpb::{RangeRequest, RangeResponse};
use keelson_proto::mvccpb::KeyValue;
use prost::Message;

use super::error::Error;
use super::keys::KeyRange;
use super::range::header;
use super::shared::{ReadError, Reads};
use super::view::ReadView;

/// The number of keys that the first chunk scans; later chunks adapt it.
const FIRST_LOOKAHEAD: usize = 256;
/// The maximum number of keys that a chunk scans.
const LOOKAHEAD_MAX: usize = 8192;

/// A range in progress, pinned to one revision. Fails with `Compacted` once a compaction passes it.
pub struct RangeStream {
    view: ReadView,
    request: RangeRequest,
    chunk_bytes: usize,
    /// The revision being read.
    revision: i64,
    /// The store's revision when the stream began, for the header.
    current: i64,
    /// Where the next chunk begins.
    from: Bytes,
    /// The number of pairs that may still be sent.
    left: usize,
    lookahead: usize,
    ended: bool,
}

/// The pairs of one chunk.
struct StreamChunk {
    kvs: Vec<KeyValue>,
    /// Whether more keys follow.
    more: bool,
}

impl RangeStream {
    pub(super) fn new(
        view: ReadView,
        request: RangeRequest,
        chunk_bytes: usize,
    ) -> Result<RangeStream, Error> {
        let pin = |reads: &Reads<'_>| Ok((reads.revision(request.revision)?, reads.current));
        let (revision, current) = view.read(request.revision, pin)?;
        let limit = usize::try_from(request.limit).unwrap_or(0);
        Ok(RangeStream {
            from: request.key.clone(),
            left: if limit == 0 { usize::MAX } else { limit },
            view,
            request,
            chunk_bytes,
            revision,
            current,
            lookahead: FIRST_LOOKAHEAD,
            ended: false,
        })
    }

    /// The next chunk; `None` after the last.
    ///
    /// # Errors
    /// [`Error::Compacted`] once a compaction has passed the revision, and [`Error::Engine`].
    pub fn next_chunk(&mut self) -> Result<Option<RangeResponse>, Error> {
        if self.ended {
            return Ok(None);
        }
        let chunk = match self.request.count_only {
            true => StreamChunk {
                kvs: Vec::new(),
                more: false,
            },
            false => self.view.read(self.revision, |reads| self.chunk(reads))?,
        };
        self.left -= chunk.kvs.len();
        let mut response = RangeResponse::default();
        if chunk.more && self.left > 0 {
            self.continue_after(&chunk.kvs);
        } else {
            self.ended = true;
            response.header = header(self.current);
            response.more = chunk.more;
            response.count = self.view.read(self.revision, |reads| self.total(reads))?;
        }
        response.kvs = chunk.kvs;
        Ok(Some(response))
    }

    fn continue_after(&mut self, kvs: &[KeyValue]) {
        let last = kvs.last().map_or(&self.from, |kv| &kv.key);
        // The least key after the last one.
        let mut from = BytesMut::with_capacity(last.len() + 1);
        from.put_slice(last);
        from.put_u8(0);
        self.from = from.freeze();
        self.lookahead = (2 * kvs.len()).clamp(16, LOOKAHEAD_MAX);
    }

    fn chunk(&self, reads: &Reads<'_>) -> Result<StreamChunk, ReadError> {
        reads.revision(self.revision)?;
        let most = self.lookahead.min(self.left);
        let mut rows = Vec::with_capacity(most + 1);
        let keys = KeyRange::new(&self.from, &self.request.range_end);
        reads.shared.index.visit(keys, self.revision, |_, row| {
            rows.push(row);
            rows.len() <= most
        });
        let (mut kvs, mut bytes) = (Vec::new(), 0);
        reads.each_row(&rows[..most.min(rows.len())], |mut kv| {
            if self.request.keys_only {
                kv.value.clear();
            }
            bytes += kv.encoded_len();
            kvs.push(kv);
            bytes < self.chunk_bytes
        })?;
        let more = kvs.len() < rows.len();
        Ok(StreamChunk { kvs, more })
    }

    fn total(&self, reads: &Reads<'_>) -> Result<i64, ReadError> {
        reads.revision(self.revision)?;
        let keys = KeyRange::new(&self.request.key, &self.request.range_end);
        Ok(reads.shared.index.count(keys, self.revision) as i64)
    }
}

impl Iterator for RangeStream {
    type Item = Result<RangeResponse, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let chunk = self.next_chunk().transpose();
        self.ended |= matches!(chunk, Some(Err(_)));
        chunk
    }
}
