//! One server: carries calls out and masks what always differs.

use keelson_proto::etcdserverpb::auth_client::AuthClient;
use keelson_proto::etcdserverpb::cluster_client::ClusterClient;
use keelson_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_proto::etcdserverpb::watch_client::WatchClient;
use keelson_proto::etcdserverpb::watch_request::RequestUnion;
use keelson_proto::etcdserverpb::*;
use tokio::time::timeout;
use tonic::{Code, Status};

use super::call::{Call, Caller, SESSIONS};
use crate::differential::answer::{self, Answer, PATIENCE, mask};
use crate::differential::token::{Connection, Token};
use crate::proc::client;

/// A server under comparison.
#[derive(Debug)]
pub struct Subject {
    kv: answer::Subject,
    auth: AuthClient<Connection>,
    cluster: ClusterClient<Connection>,
    maintenance: MaintenanceClient<Connection>,
    watch: WatchClient<Connection>,
    token: Token,
    sessions: [Option<String>; SESSIONS],
}

/// The answer as text, without what depends on the member.
macro_rules! masked {
    ($call:expr) => {{
        let mut response = $call.await?.into_inner();
        mask(&mut response.header);
        format!("{response:?}")
    }};
}

impl Subject {
    /// A server at this URL.
    pub fn new(url: &str) -> Subject {
        let token = Token::default();
        let connection = || Connection::new(client::lazy(url), token.clone());
        Subject {
            kv: answer::Subject::connect(url, &token),
            auth: AuthClient::new(connection()),
            cluster: ClusterClient::new(connection()),
            maintenance: MaintenanceClient::new(connection()),
            watch: WatchClient::new(connection()),
            sessions: Default::default(),
            token,
        }
    }

    /// Carries a call out. A missing answer is an answer too.
    pub async fn answer(&mut self, caller: Caller, call: &Call) -> Answer {
        self.token.set(match caller {
            Caller::Nobody => None,
            Caller::Token(token) => Some(token),
            Caller::Session(number) => self.sessions[number].as_deref(),
        });
        if let Call::Kv(operation) = call {
            return self.kv.answer(operation).await;
        }
        let outcome = match timeout(PATIENCE, self.call(call)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Status::deadline_exceeded(format!("none in {PATIENCE:?}"))),
        };
        match outcome {
            Ok(text) => Answer::Text(text),
            Err(status) => Answer::Error(status.code(), status.message().to_owned()),
        }
    }

    async fn call(&mut self, call: &Call) -> Result<String, Status> {
        match call {
            Call::Watch(request) => self.watch(request.clone()).await,
            Call::Login(session, request) => self.log_in(*session, request.clone()).await,
            Call::Members
            | Call::MemberAdd(_)
            | Call::MemberRemove(_)
            | Call::MemberUpdate(_)
            | Call::MemberPromote(_) => self.members(call).await,
            Call::Status | Call::Alarm(_) | Call::Hash | Call::Snapshot | Call::MoveLeader(_) => {
                self.maintain(call).await
            }
            _ => self.accounts(call).await,
        }
    }

    async fn log_in(
        &mut self,
        session: usize,
        request: AuthenticateRequest,
    ) -> Result<String, Status> {
        let mut response = self.auth.authenticate(request).await?.into_inner();
        mask(&mut response.header);
        let token = std::mem::take(&mut response.token);
        let given = !token.is_empty();
        self.sessions[session] = Some(token);
        Ok(format!("{response:?}, token {given}"))
    }

    async fn accounts(&mut self, call: &Call) -> Result<String, Status> {
        let auth = &mut self.auth;
        Ok(match call.clone() {
            Call::Enable => masked!(auth.auth_enable(AuthEnableRequest {})),
            Call::Disable => masked!(auth.auth_disable(AuthDisableRequest {})),
            Call::AuthStatus => masked!(auth.auth_status(AuthStatusRequest {})),
            Call::UserAdd(request) => masked!(auth.user_add(request)),
            Call::UserGet(request) => masked!(auth.user_get(request)),
            Call::UserList => masked!(auth.user_list(AuthUserListRequest {})),
            Call::UserDelete(request) => masked!(auth.user_delete(request)),
            Call::ChangePassword(request) => masked!(auth.user_change_password(request)),
            Call::GrantRole(request) => masked!(auth.user_grant_role(request)),
            Call::RevokeRole(request) => masked!(auth.user_revoke_role(request)),
            Call::RoleAdd(request) => masked!(auth.role_add(request)),
            Call::RoleGet(request) => masked!(auth.role_get(request)),
            Call::RoleList => masked!(auth.role_list(AuthRoleListRequest {})),
            Call::RoleDelete(request) => masked!(auth.role_delete(request)),
            Call::GrantPermission(request) => masked!(auth.role_grant_permission(request)),
            Call::RevokePermission(request) => masked!(auth.role_revoke_permission(request)),
            other => unreachable!("not about accounts: {other:?}"),
        })
    }

    /// Of the members themselves only the number: their ids and URLs differ.
    async fn members(&mut self, call: &Call) -> Result<String, Status> {
        let cluster = &mut self.cluster;
        let list = MemberListRequest { linearizable: true };
        let members = match call.clone() {
            Call::Members => cluster.member_list(list).await?.into_inner().members,
            Call::MemberAdd(request) => cluster.member_add(request).await?.into_inner().members,
            Call::MemberRemove(request) => {
                cluster.member_remove(request).await?.into_inner().members
            }
            Call::MemberUpdate(request) => {
                cluster.member_update(request).await?.into_inner().members
            }
            Call::MemberPromote(request) => {
                cluster.member_promote(request).await?.into_inner().members
            }
            other => unreachable!("not about members: {other:?}"),
        };
        Ok(format!("{} members", members.len()))
    }

    async fn maintain(&mut self, call: &Call) -> Result<String, Status> {
        let maintenance = &mut self.maintenance;
        match call.clone() {
            Call::Status => {
                let status = maintenance.status(StatusRequest::default()).await?;
                return Ok(format!("a leader: {}", status.into_inner().leader != 0));
            }
            Call::Alarm(request) => {
                let mut response = maintenance.alarm(request).await?.into_inner();
                mask(&mut response.header);
                for alarm in &mut response.alarms {
                    alarm.member_id = 0;
                }
                return Ok(format!("{response:?}"));
            }
            Call::Hash => drop(maintenance.hash(HashRequest {}).await?),
            Call::MoveLeader(request) => drop(maintenance.move_leader(request).await?),
            _ => {
                let call = maintenance.snapshot(SnapshotRequest {}).await?;
                drop(call.into_inner().message().await?);
            }
        }
        Ok("done".to_owned())
    }

    async fn watch(&mut self, request: WatchCreateRequest) -> Result<String, Status> {
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(request)),
        };
        // The stream of requests stays open until the answer: its end would end the call.
        let (requests, stream) = tokio::sync::mpsc::channel(1);
        let _ = requests.send(request).await;
        let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
        let call = self.watch.watch(stream).await?;
        let response = call.into_inner().message().await?;
        let mut response = response.ok_or_else(|| Status::unknown("the stream ended"))?;
        mask(&mut response.header);
        Ok(format!("{response:?}"))
    }
}

/// Whether the answer is `permission denied` or `user name is empty`.
pub(super) fn is_refused(answer: &Answer) -> bool {
    let Answer::Error(code, text) = answer else {
        return false;
    };
    match code {
        Code::PermissionDenied | Code::Unauthenticated => true,
        Code::InvalidArgument => text == "etcdserver: user name is empty",
        _ => false,
    }
}
