//! `keelsonpb.Usage`: what the keys of each prefix are used for. Keelson's own service.

use keelson_proto::keelsonpb::usage_server;
use keelson_proto::keelsonpb::{UsageRequest, UsageResponse};
use tonic::{Request, Response, Status};

use super::auth::Sessions;
use crate::backend::Backend;

/// The gRPC service.
pub(super) struct Usage<B> {
    sessions: Sessions<B>,
}

impl<B: Backend> Usage<B> {
    pub(super) fn new(sessions: Sessions<B>) -> Usage<B> {
        Usage { sessions }
    }
}

#[tonic::async_trait]
impl<B: Backend> usage_server::Usage for Usage<B> {
    async fn get(&self, request: Request<UsageRequest>) -> Result<Response<UsageResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        let sizes = request.into_inner().sizes;
        Ok(Response::new(backend.usage(sizes).await?))
    }
}
