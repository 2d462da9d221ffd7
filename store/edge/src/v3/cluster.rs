//! `etcdserverpb.Cluster`.

use keelson_core::MemberId;
use keelson_proto::etcdserverpb::cluster_server;
use keelson_proto::etcdserverpb::*;
use tonic::{Request, Response, Status};

use super::auth::Sessions;
use crate::backend::Backend;

/// The gRPC service.
pub(super) struct Cluster<B> {
    sessions: Sessions<B>,
}

impl<B> Cluster<B> {
    pub(super) fn new(sessions: Sessions<B>) -> Cluster<B> {
        Cluster { sessions }
    }
}

#[tonic::async_trait]
impl<B: Backend> cluster_server::Cluster for Cluster<B> {
    async fn member_add(
        &self,
        request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        let answer = backend.member_add(request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        let member = MemberId(request.into_inner().id);
        Ok(Response::new(backend.member_remove(member).await?))
    }

    async fn member_update(
        &self,
        request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        let answer = backend.member_update(request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        let linearizable = request.into_inner().linearizable;
        Ok(Response::new(backend.member_list(linearizable).await?))
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        let member = MemberId(request.into_inner().id);
        Ok(Response::new(backend.member_promote(member).await?))
    }
}
