//! A cluster with auth whose members serve clients.

use std::path::Path;

use keelson_proto::authpb::Permission;
use keelson_proto::authpb::permission::Type;
use keelson_proto::etcdserverpb::auth_client::AuthClient;
use keelson_proto::etcdserverpb::*;
use keelson_store::{Config, Store};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::embedded::{members, open};

/// Members that serve clients, with auth enabled. `alice` may read and write `[a, c)`.
pub(crate) struct AuthCluster {
    pub(crate) stores: Vec<Store>,
    pub(crate) channels: Vec<Channel>,
    /// They have handles of the members.
    pub(crate) serving: Vec<JoinHandle<()>>,
}

impl AuthCluster {
    pub(crate) async fn start(dir: &Path, count: usize) -> anyhow::Result<AuthCluster> {
        AuthCluster::with(dir, count, |_| {}).await
    }

    pub(crate) async fn with(
        dir: &Path,
        count: usize,
        change: impl FnMut(&mut Config),
    ) -> anyhow::Result<AuthCluster> {
        let mut configs = match count {
            1 => vec![Config::single("alone", dir)],
            count => members(dir, count),
        };
        configs.iter_mut().for_each(change);
        let stores = open(configs).await?;
        let (mut channels, mut serving) = (Vec::new(), Vec::new());
        for store in &stores {
            let (channel, task) = serve(store.clone()).await?;
            channels.push(channel);
            serving.push(task);
        }
        let mut auth = AuthClient::new(channels[0].clone());
        auth.role_add(AuthRoleAddRequest { name: "r".into() })
            .await?;
        let grant = AuthRoleGrantPermissionRequest {
            name: "r".into(),
            perm: Some(Permission {
                perm_type: Type::Readwrite.into(),
                key: "a".into(),
                range_end: "c".into(),
            }),
        };
        auth.role_grant_permission(grant).await?;
        for (name, role) in [("root", "root"), ("alice", "r")] {
            let user = AuthUserAddRequest {
                name: name.into(),
                password: "pw".into(),
                ..Default::default()
            };
            auth.user_add(user).await?;
            let grant = AuthUserGrantRoleRequest {
                user: name.into(),
                role: role.into(),
            };
            auth.user_grant_role(grant).await?;
        }
        auth.auth_enable(AuthEnableRequest {}).await?;
        Ok(AuthCluster {
            stores,
            channels,
            serving,
        })
    }

    pub(crate) async fn log_in(
        &self,
        at: usize,
        name: &str,
        password: &str,
    ) -> Result<String, Status> {
        let mut auth = AuthClient::new(self.channels[at].clone());
        let request = AuthenticateRequest {
            name: name.into(),
            password: password.into(),
        };
        Ok(auth.authenticate(request).await?.into_inner().token)
    }

    pub(crate) async fn stop(self) {
        for serving in self.serving {
            serving.abort();
        }
        for store in &self.stores {
            store.shutdown().await;
        }
    }
}

/// Serves a member until it stops.
pub(crate) async fn serve(store: Store) -> anyhow::Result<(Channel, JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let serving = tokio::spawn(async move {
        let served = store.serve(vec![listener], std::future::pending()).await;
        served.expect("until it is aborted");
    });
    let channel = Endpoint::from_shared(url)?.connect().await?;
    Ok((channel, serving))
}

pub(crate) fn with_token<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let token = token.parse().expect("ASCII");
    request.metadata_mut().insert("token", token);
    request
}
