//! `etcdserverpb.Maintenance`.

use keelson_core::MemberId;
use keelson_core::state::auth::Access;
use keelson_proto::etcdserverpb::alarm_request::AlarmAction;
use keelson_proto::etcdserverpb::maintenance_server;
use keelson_proto::etcdserverpb::*;
use tokio_stream::StreamExt;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use super::auth::Sessions;
use crate::Error;
use crate::backend::Backend;

/// The gRPC service.
pub(super) struct Maintenance<B> {
    sessions: Sessions<B>,
}

impl<B: Backend> Maintenance<B> {
    pub(super) fn new(sessions: Sessions<B>) -> Maintenance<B> {
        Maintenance { sessions }
    }
}

/// A member's status with its problems listed, for operators.
pub(crate) fn status<B: Backend>(backend: &B) -> StatusResponse {
    let mut status = backend.status();
    if status.leader == MemberId::NONE.0 {
        status.errors.push(Error::NoLeader.to_string());
    }
    status
        .errors
        .extend(backend.alarms().iter().map(alarm_text));
    status
}

/// An alarm as Go prints the message, including the blank at its end.
fn alarm_text(alarm: &AlarmMember) -> String {
    let mut text = String::new();
    if alarm.member_id != 0 {
        text += &format!("memberID:{} ", alarm.member_id);
    }
    if alarm.alarm != AlarmType::None as i32 {
        text += &format!("alarm:{} ", alarm_name(alarm));
    }
    text
}

/// The alarm's name, or its number if it has none.
pub(crate) fn alarm_name(alarm: &AlarmMember) -> String {
    AlarmType::try_from(alarm.alarm).map_or_else(
        |_| alarm.alarm.to_string(),
        |known| known.as_str_name().to_owned(),
    )
}

#[tonic::async_trait]
impl<B: Backend> maintenance_server::Maintenance for Maintenance<B> {
    async fn alarm(
        &self,
        request: Request<AlarmRequest>,
    ) -> Result<Response<AlarmResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        let mut request = request.into_inner();
        // As in etcd, no alarm is activated that is of no kind. Deactivating it has no effect, and
        // needs the same right.
        if request.action() == AlarmAction::Activate && request.alarm() == AlarmType::None {
            request.set_action(AlarmAction::Deactivate);
        }
        Ok(Response::new(backend.alarm(request).await?))
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        backend.authorize(Access::AnyUser)?;
        Ok(Response::new(status(&backend)))
    }

    async fn defragment(
        &self,
        request: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        backend.defragment().await?;
        Ok(Response::new(DefragmentResponse::default()))
    }

    async fn hash(&self, request: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        Ok(Response::new(backend.hash().await?))
    }

    async fn hash_kv(
        &self,
        request: Request<HashKvRequest>,
    ) -> Result<Response<HashKvResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        let revision = request.into_inner().revision;
        Ok(Response::new(backend.hash_kv(revision).await?))
    }

    type SnapshotStream = BoxStream<SnapshotResponse>;

    async fn snapshot(
        &self,
        request: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let backend = self.sessions.of(&request).await?;
        let parts = backend.snapshot().map(|part| part.map_err(Status::from));
        Ok(Response::new(Box::pin(parts)))
    }

    async fn move_leader(
        &self,
        request: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        let target = MemberId(request.into_inner().target_id);
        Ok(Response::new(backend.move_leader(target).await?))
    }

    async fn downgrade(
        &self,
        request: Request<DowngradeRequest>,
    ) -> Result<Response<DowngradeResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        Ok(Response::new(
            backend.downgrade(request.into_inner()).await?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_read_as_etcd_prints_them() {
        let alarm = AlarmMember {
            member_id: 17,
            alarm: AlarmType::Nospace as i32,
        };
        assert_eq!(alarm_text(&alarm), "memberID:17 alarm:NOSPACE ");
    }
}
