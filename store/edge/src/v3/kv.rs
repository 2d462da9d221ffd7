//! `etcdserverpb.KV`. Each handler only decodes, calls the backend once and encodes: these are
//! the most frequent requests.

use keelson_proto::etcdserverpb::kv_server;
use keelson_proto::etcdserverpb::*;
use prost::Message;
use tokio_stream::StreamExt;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use super::Unread;
use super::auth::Sessions;
use super::slow::SlowLog;
use crate::Error;
use crate::backend::Backend;
use crate::traces;

/// The gRPC service.
pub(super) struct Kv<B> {
    sessions: Sessions<B>,
    unread: Unread,
    slow: SlowLog,
}

impl<B> Kv<B> {
    pub(super) fn new(sessions: Sessions<B>, unread: Unread, slow: SlowLog) -> Kv<B> {
        Kv {
            sessions,
            unread,
            slow,
        }
    }
}

impl<B: Backend> Kv<B> {
    async fn read(
        &self,
        backend: &B,
        request: RangeRequest,
    ) -> Result<Response<RangeResponse>, Status> {
        if !request.serializable && backend.is_learner() {
            return Err(Error::NotSupportedForLearner.into());
        }
        self.unread.read(backend.range(request).await?)
    }

    async fn changed<A: Message>(
        &self,
        answer: impl Future<Output = Result<A, Error>>,
    ) -> Result<Response<A>, Status> {
        self.unread.changed(answer.await?).await
    }
}

#[tonic::async_trait]
impl<B: Backend> kv_server::Kv for Kv<B> {
    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        let _span = traces::begun(&request);
        let request = request.into_inner();
        let slow = self.slow.request("/etcdserverpb.KV/Range", &request);
        let answer = self.read(&backend, request).await;
        slow.end(&answer);
        answer
    }

    type RangeStreamStream = BoxStream<RangeStreamResponse>;

    async fn range_stream(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        let backend = self.sessions.of(&request).await?;
        let pieces = backend.range_stream(request.into_inner());
        let pieces = pieces.map(|piece| match piece {
            Ok(response) => Ok(RangeStreamResponse {
                range_response: Some(response),
            }),
            Err(error) => Err(Status::from(error)),
        });
        let pieces: Self::RangeStreamStream = Box::pin(pieces);
        let piece_bytes_max = backend.max_request_bytes();
        self.unread.pieces(piece_bytes_max, pieces).await
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        let _span = traces::begun(&request);
        let request = request.into_inner();
        let slow = self.slow.request("/etcdserverpb.KV/Put", &request);
        let answer = self.changed(backend.put(request)).await;
        slow.end(&answer);
        answer
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        let _span = traces::begun(&request);
        let request = request.into_inner();
        let slow = self.slow.request("/etcdserverpb.KV/DeleteRange", &request);
        let answer = self.changed(backend.delete_range(request)).await;
        slow.end(&answer);
        answer
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        let _span = traces::begun(&request);
        let request = request.into_inner();
        let slow = self.slow.request("/etcdserverpb.KV/Txn", &request);
        let answer = self.changed(backend.txn(request)).await;
        slow.end(&answer);
        answer
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        let _span = traces::begun(&request);
        Ok(Response::new(backend.compact(request.into_inner()).await?))
    }
}
