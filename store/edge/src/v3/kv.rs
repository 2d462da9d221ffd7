//! `etcdserverpb.KV`. Each handler only decodes, calls the backend once and encodes: these are
//! the most frequent requests.

use keelson_proto::etcdserverpb::kv_server;
use keelson_proto::etcdserverpb::*;
use tokio_stream::StreamExt;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use super::Unread;
use crate::Error;
use crate::backend::Backend;

/// The gRPC service.
pub(crate) struct Kv<B> {
    backend: B,
    unread: Unread,
}

impl<B> Kv<B> {
    pub(crate) fn new(backend: B, unread: Unread) -> Kv<B> {
        Kv { backend, unread }
    }
}

#[tonic::async_trait]
impl<B: Backend> kv_server::Kv for Kv<B> {
    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        let request = request.into_inner();
        if !request.serializable && self.backend.is_learner() {
            return Err(Error::NotSupportedForLearner.into());
        }
        self.unread.read(self.backend.range(request).await?)
    }

    type RangeStreamStream = BoxStream<RangeStreamResponse>;

    async fn range_stream(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        let pieces = self.backend.range_stream(request.into_inner());
        let pieces = pieces.map(|piece| match piece {
            Ok(response) => Ok(RangeStreamResponse {
                range_response: Some(response),
            }),
            Err(error) => Err(Status::from(error)),
        });
        let pieces: Self::RangeStreamStream = Box::pin(pieces);
        let piece_bytes_max = self.backend.max_request_bytes();
        self.unread.pieces(piece_bytes_max, pieces).await
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let put = self.backend.put(request.into_inner()).await?;
        self.unread.changed(put).await
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let deleted = self.backend.delete_range(request.into_inner()).await?;
        self.unread.changed(deleted).await
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let decided = self.backend.txn(request.into_inner()).await?;
        self.unread.changed(decided).await
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        Ok(Response::new(
            self.backend.compact(request.into_inner()).await?,
        ))
    }
}
