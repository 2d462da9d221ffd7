//! `v3lockpb.Lock`: etcd's `server/etcdserver/api/v3lock`.

use keelson_port::Drain;
use keelson_proto::etcdserverpb::DeleteRangeRequest;
use keelson_proto::v3lockpb::lock_server;
use keelson_proto::v3lockpb::*;
use tonic::{Request, Response, Status};

use super::auth::Sessions;
use super::session::{Queue, failure, take};
use super::unless_drained;
use super::unread::Unread;
use crate::Error;
use crate::backend::Backend;

/// The gRPC service.
pub(super) struct Lock<B> {
    sessions: Sessions<B>,
    unread: Unread,
    drain: Drain,
}

impl<B> Lock<B> {
    pub(super) fn new(sessions: Sessions<B>, unread: Unread, drain: Drain) -> Lock<B> {
        Lock {
            sessions,
            unread,
            drain,
        }
    }
}

#[tonic::async_trait]
impl<B: Backend> lock_server::Lock for Lock<B> {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        let LockRequest { name, lease } = request.into_inner();
        let queue = Queue::admit(name, &self.unread)?;
        let taken = take(&backend, queue, lease, None).await;
        let taken = taken.map_err(failure)?;
        let header = match taken.is_first {
            true => taken.header,
            false => unless_drained(&self.drain, taken.place.wait())
                .await
                .map_err(failure)?
                .ok_or(Error::SessionExpired)?,
        };
        Ok(Response::new(LockResponse {
            header: Some(header),
            key: taken.place.keep(),
        }))
    }

    async fn unlock(
        &self,
        request: Request<UnlockRequest>,
    ) -> Result<Response<UnlockResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        let delete = DeleteRangeRequest {
            key: request.into_inner().key,
            ..DeleteRangeRequest::default()
        };
        let deleted = backend.delete_range(delete).await.map_err(failure)?;
        Ok(Response::new(UnlockResponse {
            header: deleted.header,
        }))
    }
}
