//! Ranges of many keys, read in steps, with other tasks of the thread in between: a put would
//! otherwise wait until a whole page is read.

use keelson_core::state::{self, ReadView, check};
use keelson_proto::etcdserverpb::range_request::SortTarget;
use keelson_proto::etcdserverpb::{RangeRequest, RangeResponse};
use tokio::sync::Semaphore;

use crate::Error;

/// Bytes of a step, about a millisecond.
const STEP_BYTES: usize = 64 * 1024;

/// Bounds the ranges that are read in steps at a time: as many as there are threads to read them.
/// Until a range is read, no client's room for answers bounds its memory.
#[derive(Debug)]
pub(crate) struct LongRanges(Semaphore);

impl Default for LongRanges {
    fn default() -> LongRanges {
        let threads = std::thread::available_parallelism();
        LongRanges(Semaphore::new(threads.map_or(1, usize::from)))
    }
}

impl LongRanges {
    /// Answers a range that [`has_steps`] as [`ReadView::range`] does.
    pub(crate) async fn read(
        &self,
        view: &ReadView,
        request: &RangeRequest,
    ) -> Result<RangeResponse, Error> {
        let mut steps = view.range_stream(request, STEP_BYTES)?;
        let mut kvs = Vec::new();
        let mut place = None;
        loop {
            match steps.next_chunk() {
                Ok(Some(mut step)) if step.header.is_some() => {
                    kvs.append(&mut step.kvs);
                    return Ok(RangeResponse { kvs, ..step });
                }
                Ok(Some(mut step)) => kvs.append(&mut step.kvs),
                // A compaction has passed the revision at which the steps read.
                Err(state::Error::Compacted) if request.revision <= 0 => break,
                Ok(None) => break,
                Err(error) => return Err(error.into()),
            }
            match place {
                None => place = Some(self.0.acquire().await),
                Some(_) => tokio::task::yield_now().await,
            }
        }
        Ok(view.range(request)?)
    }
}

/// Whether the range may have many keys, and its answer has them in key order.
pub(crate) fn has_steps(request: &RangeRequest) -> bool {
    !request.range_end.is_empty()
        && !request.count_only
        && request.sort_target() == SortTarget::Key
        && check::range_stream(request).is_ok()
}
