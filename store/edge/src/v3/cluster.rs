//! `etcdserverpb.Cluster`.

use keelson_core::MemberId;
use keelson_proto::etcdserverpb::cluster_server;
use keelson_proto::etcdserverpb::*;
use tonic::{Request, Response, Status};

use crate::backend::Backend;

/// The gRPC service.
pub(crate) struct Cluster<B> {
    backend: B,
}

impl<B> Cluster<B> {
    pub(crate) fn new(backend: B) -> Cluster<B> {
        Cluster { backend }
    }
}

#[tonic::async_trait]
impl<B: Backend> cluster_server::Cluster for Cluster<B> {
    async fn member_add(
        &self,
        request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        Ok(Response::new(
            self.backend.member_add(request.into_inner()).await?,
        ))
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        let member = MemberId(request.into_inner().id);
        Ok(Response::new(self.backend.member_remove(member).await?))
    }

    async fn member_update(
        &self,
        request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        Ok(Response::new(
            self.backend.member_update(request.into_inner()).await?,
        ))
    }

    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        let linearizable = request.into_inner().linearizable;
        Ok(Response::new(self.backend.member_list(linearizable).await?))
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        let member = MemberId(request.into_inner().id);
        Ok(Response::new(self.backend.member_promote(member).await?))
    }
}
