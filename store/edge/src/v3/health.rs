//! `grpc.health.v1.Health`: a member that answers is serving. Only the service "" exists, as in
//! etcd.

use futures_util::stream::{self, StreamExt};
use keelson_proto::health::health_check_response::ServingStatus;
use keelson_proto::health::health_server;
use keelson_proto::health::*;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use keelson_port::Drain;

/// The gRPC service.
pub(super) struct Health {
    drain: Drain,
}

impl Health {
    pub(super) fn new(drain: Drain) -> Health {
        Health { drain }
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status as i32,
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if request.into_inner().service.is_empty() {
            Ok(Response::new(response(ServingStatus::Serving)))
        } else {
            Err(Status::not_found("unknown service"))
        }
    }

    async fn list(
        &self,
        _request: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        let all = (String::new(), response(ServingStatus::Serving));
        Ok(Response::new(HealthListResponse {
            statuses: [all].into(),
        }))
    }

    type WatchStream = BoxStream<HealthCheckResponse>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (now, at_the_end) = if request.into_inner().service.is_empty() {
            (ServingStatus::Serving, ServingStatus::NotServing)
        } else {
            (ServingStatus::ServiceUnknown, ServingStatus::ServiceUnknown)
        };
        let drain = self.drain.clone();
        let end = stream::once(async move {
            drain.begun().await;
            Ok(response(at_the_end))
        });
        let statuses = stream::iter([Ok(response(now))]).chain(end);
        Ok(Response::new(Box::pin(statuses)))
    }
}
