//! The load: closed-loop clients on one thread, and the users that they act as.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use anyhow::Result;
use bytes::Bytes;
use http::Uri;
use keelson_proto::authpb::Permission;
use keelson_proto::authpb::permission::Type;
use keelson_proto::etcdserverpb::auth_client::AuthClient;
use keelson_proto::etcdserverpb::*;
use keelson_tests::proc::client;
use tokio::task::LocalSet;
use tonic::metadata::AsciiMetadataValue;
use tonic::{Request, Status};

use super::plan::{Plan, Work};
use crate::cluster::wire::{self, Kv, Wire};
use crate::tally::{Tally, Window};

/// The user of the loads, with the right to the keys of puts. Its password is its name.
const USER: &str = "bench";

/// Distinct keys of the puts.
const KEYS: u64 = 10_000;

/// Clients of one work.
#[derive(Clone, Debug)]
pub struct Load {
    work: Work,
    url: String,
    clients: usize,
    value: Bytes,
    token: Option<AsciiMetadataValue>,
}

impl Load {
    /// The load of a work. A token is needed for puts as a user.
    pub fn new(plan: &Plan, work: Work, url: &str, token: Option<AsciiMetadataValue>) -> Load {
        Load {
            work,
            url: url.to_owned(),
            clients: match work {
                Work::Login => plan.logins,
                Work::Put | Work::PutAsUser => plan.clients,
            },
            value: Bytes::from(vec![b'v'; plan.value_bytes]),
            token,
        }
    }

    /// Runs it on this thread until the window closes.
    ///
    /// # Errors
    /// The server does not accept a connection.
    pub fn run(self, window: Window) -> Result<Tally> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(LocalSet::new().run_until(self.drive(window)))
    }

    async fn drive(self, window: Window) -> Result<Tally> {
        let tally = Rc::new(RefCell::new(Tally::default()));
        let load = Rc::new(self);
        let mut clients = Vec::new();
        for number in 0..load.clients {
            let (wire, origin) = (wire::open(&load.url).await?, load.url.parse::<Uri>()?);
            let (load, tally) = (Rc::clone(&load), Rc::clone(&tally));
            let first = number as u64 * KEYS / load.clients as u64;
            clients.push(tokio::task::spawn_local(async move {
                load.client(wire, origin, first, window, &tally).await;
            }));
        }
        for client in clients {
            client.await?;
        }
        Ok(tally.take())
    }

    async fn client(
        &self,
        wire: Wire,
        origin: Uri,
        first: u64,
        window: Window,
        tally: &RefCell<Tally>,
    ) {
        let mut kv = Kv::with_origin(wire.clone(), origin.clone());
        let mut auth = AuthClient::with_origin(wire, origin);
        for number in first.. {
            let begin = Instant::now();
            let outcome = match self.work {
                Work::Login => auth.authenticate(login(USER)).await.map(drop),
                Work::Put | Work::PutAsUser => kv.put(self.put(number % KEYS)).await.map(drop),
            };
            let end = Instant::now();
            if window.to <= end {
                return;
            }
            if window.from <= end {
                match outcome {
                    Ok(()) => tally.borrow_mut().latencies.record(end - begin),
                    Err(status) => {
                        let reason = format!("{:?}: {}", status.code(), status.message());
                        tally.borrow_mut().fail(reason);
                    }
                }
            }
        }
    }

    fn put(&self, number: u64) -> Request<PutRequest> {
        let mut request = Request::new(PutRequest {
            key: Bytes::from(format!("bench/{number:06}")),
            value: self.value.clone(),
            ..PutRequest::default()
        });
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }
}

fn login(name: &str) -> AuthenticateRequest {
    AuthenticateRequest {
        name: name.to_owned(),
        password: name.to_owned(),
    }
}

/// Adds root and the user of the loads.
///
/// # Errors
/// The server refuses.
pub async fn add_users(url: &str) -> Result<(), Status> {
    let mut auth = AuthClient::new(client::lazy(url));
    auth.role_add(AuthRoleAddRequest { name: USER.into() })
        .await?;
    auth.role_grant_permission(AuthRoleGrantPermissionRequest {
        name: USER.into(),
        perm: Some(Permission {
            perm_type: Type::Readwrite.into(),
            key: "bench/".into(),
            range_end: "bench0".into(),
        }),
    })
    .await?;
    for name in ["root", USER] {
        auth.user_add(AuthUserAddRequest {
            name: name.into(),
            password: name.into(),
            ..AuthUserAddRequest::default()
        })
        .await?;
        let (user, role) = (name.into(), name.into());
        auth.user_grant_role(AuthUserGrantRoleRequest { user, role })
            .await?;
    }
    Ok(())
}

/// Enables auth; the token of the user of the loads.
///
/// # Errors
/// The server refuses.
pub async fn enable(url: &str) -> Result<AsciiMetadataValue> {
    let mut auth = AuthClient::new(client::lazy(url));
    auth.auth_enable(AuthEnableRequest {}).await?;
    let token = auth.authenticate(login(USER)).await?.into_inner().token;
    Ok(token.parse()?)
}

/// Disables auth.
///
/// # Errors
/// The server refuses.
pub async fn disable(url: &str) -> Result<()> {
    let mut auth = AuthClient::new(client::lazy(url));
    let token = auth.authenticate(login("root")).await?.into_inner().token;
    let mut request = Request::new(AuthDisableRequest {});
    request.metadata_mut().insert("token", token.parse()?);
    auth.auth_disable(request).await?;
    Ok(())
}
