//! Ranges of many keys, read in steps, with other tasks of the thread in between: a put would
//! otherwise wait until a whole page is read.

use keelson_core::state::{self, RangeStream, ReadView, check};
use keelson_proto::etcdserverpb::range_request::SortTarget;
use keelson_proto::etcdserverpb::{RangeRequest, RangeResponse};
use tokio::sync::Semaphore;

use crate::Error;

/// Bytes of a step, about a millisecond.
const STEP_BYTES: usize = 64 * 1024;

/// How often a range of the latest revision is begun again because a compaction has passed its
/// revision. After that it is read at once.
const ATTEMPTS_MAX: usize = 3;

/// Bounds the ranges that are read in steps at a time: as many as there are threads to read them.
/// Until a range is read, no client's room for answers bounds its memory. One that waits holds
/// nothing of what it has read, and no revision.
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
    ///
    /// # Errors
    /// Those of [`ReadView::range`].
    pub(crate) async fn read(
        &self,
        view: &ReadView,
        request: &RangeRequest,
    ) -> Result<RangeResponse, Error> {
        if let Some(whole) = first_step(view, request)? {
            return Ok(whole);
        }
        let _turn = self.0.acquire().await.map_err(|_| Error::Stopped)?;
        for _ in 0..ATTEMPTS_MAX {
            match in_steps(view.range_stream(request, STEP_BYTES)?).await {
                Err(state::Error::Compacted) if request.revision <= 0 => {}
                outcome => return Ok(outcome?),
            }
        }
        Ok(view.range(request)?)
    }
}

/// The answer, if it has one step.
fn first_step(view: &ReadView, request: &RangeRequest) -> Result<Option<RangeResponse>, Error> {
    match view.range_stream(request, STEP_BYTES)?.next_chunk() {
        Ok(step) => Ok(step.filter(|step| step.header.is_some())),
        Err(state::Error::Compacted) if request.revision <= 0 => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads a range to its end.
///
/// # Errors
/// `Compacted` once a compaction has passed the revision at which the steps read.
async fn in_steps(mut steps: RangeStream) -> Result<RangeResponse, state::Error> {
    let mut kvs = Vec::new();
    while let Some(mut step) = steps.next_chunk()? {
        kvs.append(&mut step.kvs);
        if step.header.is_some() {
            return Ok(RangeResponse { kvs, ..step });
        }
        tokio::task::yield_now().await;
    }
    // The last step has a header.
    Err(state::Error::Compacted)
}

/// Whether the range may have many keys, and its answer has them in key order.
pub(crate) fn has_steps(request: &RangeRequest) -> bool {
    !request.range_end.is_empty()
        && !request.count_only
        && request.sort_target() == SortTarget::Key
        && check::range_stream(request).is_ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;
    use keelson_core::engine::MemoryEngine;
    use keelson_core::state::{Genesis, Limits, StateMachine};
    use keelson_core::{Committed, Entry, EntryKind, Index, ProposalId, Term, proposal};
    use keelson_proto::etcdserverpb::{CompactionRequest, PutRequest};
    use keelson_proto::internal::{Command, command::Op};
    use prost::Message;

    use super::*;

    fn apply(machine: &mut StateMachine, op: Op) {
        let command = Command { op: Some(op) }.encode_to_vec();
        let entry = Entry {
            index: Index(machine.applied().index + 1),
            term: Term(1),
            kind: EntryKind::Command,
            data: proposal::encode(ProposalId::default(), &command),
            context: bytes::Bytes::new(),
        };
        let committed = Committed { entry, conf: None };
        let applied = machine.apply(&committed, true).expect("a map");
        assert!(applied.response.is_ok());
    }

    fn put(machine: &mut StateMachine, key: u32, byte: u8) {
        let put = PutRequest {
            key: format!("k{key:03}").into(),
            value: vec![byte; 4096].into(),
            ..PutRequest::default()
        };
        apply(machine, Op::Put(put));
    }

    fn compact(machine: &mut StateMachine) {
        let compaction = CompactionRequest {
            revision: machine.view().revision(),
            physical: false,
        };
        apply(machine, Op::Compaction(compaction));
    }

    /// A hundred keys: several steps.
    fn machine() -> StateMachine {
        let engine = Arc::new(MemoryEngine::new());
        let machine = StateMachine::create(engine, Genesis::default(), Limits::default());
        let mut machine = machine.expect("a map");
        (0..100).for_each(|key| put(&mut machine, key, b'a'));
        machine
    }

    fn all(revision: i64) -> RangeRequest {
        RangeRequest {
            key: "k".into(),
            range_end: "l".into(),
            revision,
            ..RangeRequest::default()
        }
    }

    /// It kept its first step and that step's revision, however long it waited.
    #[test]
    fn a_range_that_waits_for_its_turn_is_read_as_of_its_turn() {
        let mut machine = machine();
        let (view, ranges) = (machine.view(), LongRanges(Semaphore::new(1)));
        let latest = all(0);
        let mut one = Box::pin(ranges.read(&view, &latest));
        assert!(one.as_mut().now_or_never().is_none());
        let mut other = Box::pin(ranges.read(&view, &latest));
        assert!(other.as_mut().now_or_never().is_none());
        put(&mut machine, 0, b'b');
        let answer = one.as_mut().now_or_never();
        assert!(answer.is_none(), "it yields between steps");
        drop(one);
        let mut answer = None;
        for _ in 0..100 {
            answer = answer.or_else(|| other.as_mut().now_or_never());
            if answer.is_some() {
                break;
            }
        }
        let answer = answer
            .expect("a hundred steps at most")
            .expect("it is read");
        assert_eq!((answer.count, answer.kvs.len()), (100, 100));
        assert_eq!(answer.kvs[0].value[0], b'b');
    }

    #[test]
    fn a_compaction_between_steps_repeats_the_latest_and_refuses_a_named_revision() {
        let mut machine = machine();
        let (view, ranges) = (machine.view(), LongRanges(Semaphore::new(1)));
        let named = all(view.revision());
        let mut range = Box::pin(ranges.read(&view, &named));
        assert!(range.as_mut().now_or_never().is_none());
        put(&mut machine, 0, b'b');
        compact(&mut machine);
        let refused = range.as_mut().now_or_never().expect("at the next step");
        assert_eq!(refused, Err(Error::State(state::Error::Compacted)));
        drop(range);

        let latest = all(0);
        let mut range = Box::pin(ranges.read(&view, &latest));
        let mut answer = None;
        let mut repeated = 0;
        // A compaction after each step: no attempt in steps comes to its end.
        while answer.is_none() && repeated < 100 {
            repeated += 1;
            put(&mut machine, 1, b'c');
            compact(&mut machine);
            answer = range.as_mut().now_or_never();
        }
        let answer = answer.expect("it ends").expect("it is read");
        assert_eq!(answer.kvs.len(), 100);
        assert_eq!(repeated, ATTEMPTS_MAX + 1);
    }
}
