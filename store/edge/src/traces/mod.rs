//! OpenTelemetry's spans of gRPC calls, with etcd's names and attributes (etcd v3.7.1
//! `etcdserver/v3_server.go`, and otelgrpc around it).
//!
//! A sampled call has a span of kind SERVER, `etcdserverpb.KV/Range`, from its head to its status,
//! and one inside it, `range`, with what was requested. Spans that have ended wait in a bounded
//! queue until the member exports them. A call that is not sampled costs the lookup of one header,
//! and without a tracer a call costs a comparison.

mod context;
mod queue;
mod requests;
mod span;

use std::sync::Arc;

use http::HeaderMap;
use keelson_proto::otlp::Span;

pub(crate) use self::context::CallSpan;
use self::context::{Ids, Sampler};
use self::queue::SpanQueue;
use self::requests::Traced;
pub(crate) use self::requests::begun;
pub(crate) use self::span::{ChildSpan, ServerSpan};

/// The most spans of one export.
pub const BATCH_SPANS: usize = queue::BATCH_SPANS;

/// Makes the spans of calls, and holds them until they are exported. Clones share the queue.
#[derive(Clone, Debug)]
pub struct Tracer(Arc<TracerState>);

#[derive(Debug)]
struct TracerState {
    sampler: Sampler,
    ids: Ids,
    ended: SpanQueue,
}

impl Tracer {
    /// Samples so many of a million calls, and all whose parent is sampled.
    #[must_use]
    pub fn new(samples_per_million: u32) -> Tracer {
        Tracer(Arc::new(TracerState {
            sampler: Sampler::new(samples_per_million),
            ids: Ids::default(),
            ended: SpanQueue::default(),
        }))
    }

    /// Takes up to [`BATCH_SPANS`] spans that have ended, the oldest first.
    pub fn take(&self) -> Vec<Span> {
        self.0.ended.take()
    }

    /// Returns once a span has ended that was not taken.
    pub async fn some(&self) {
        self.0.ended.reach(1).await;
    }

    /// Returns once a whole batch waits.
    pub async fn batch(&self) {
        self.0.ended.reach(BATCH_SPANS).await;
    }

    /// The number of spans that were dropped because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.0.ended.dropped()
    }

    /// Begins the span of a call, if it is sampled.
    pub(crate) fn begin(
        &self,
        method: (&'static str, &'static str),
        headers: &HeaderMap,
    ) -> Option<ServerSpan> {
        let origin = self.0.sampler.origin(&self.0.ids, headers)?;
        Some(ServerSpan::begin(self.clone(), method, origin))
    }

    fn next_id(&self) -> [u8; 8] {
        self.0.ids.span()
    }

    fn end(&self, span: Span) {
        self.0.ended.put(span);
    }
}
