//! `v3electionpb.Election`: etcd's `server/etcdserver/api/v3election`.

mod observe;

use std::pin::Pin;

use bytes::Bytes;
use keelson_core::lock::{created_at, delete, first_key, put, when};
use keelson_port::Drain;
use keelson_proto::etcdserverpb::ResponseHeader;
use keelson_proto::v3electionpb::election_server;
use keelson_proto::v3electionpb::*;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use self::observe::Observer;
use super::auth::Sessions;
use super::session::{Queue, failure, session, take};
use super::unless_drained;
use super::unread::Unread;
use crate::Error;
use crate::backend::Backend;

/// etcd's texts.
const NO_LEADER: &str = "election: no leader";
const MISSING_LEADER: &str = "\"leader\" field must be provided";

/// The gRPC service.
pub(super) struct Election<B> {
    sessions: Sessions<B>,
    unread: Unread,
    drain: Drain,
}

impl<B: Backend> Election<B> {
    pub(super) fn new(sessions: Sessions<B>, unread: Unread, drain: Drain) -> Election<B> {
        Election {
            sessions,
            unread,
            drain,
        }
    }

    /// Replaces the value of a leader's key.
    async fn replace(
        backend: &B,
        leader: &LeaderKey,
        value: Bytes,
    ) -> Result<ResponseHeader, Status> {
        let put = put(leader.key.clone(), value, leader.lease);
        let own = created_at(leader.key.clone(), leader.rev);
        let txn = when(own, vec![put], Vec::new());
        let answer = backend.txn(txn).await.map_err(failure)?;
        match answer.succeeded {
            true => Ok(answer.header.unwrap_or_default()),
            false => Err(Error::NotElected.into()),
        }
    }
}

fn given(leader: Option<LeaderKey>) -> Result<LeaderKey, Status> {
    leader.ok_or_else(|| Status::unknown(MISSING_LEADER))
}

#[tonic::async_trait]
impl<B: Backend> election_server::Election for Election<B> {
    async fn campaign(
        &self,
        request: Request<CampaignRequest>,
    ) -> Result<Response<CampaignResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        let CampaignRequest { name, lease, value } = request.into_inner();
        let queue = Queue::admit(name, &self.unread)?;
        let value = self.unread.kept(&value)?;
        let name = queue.name.clone();
        let taken = take(&backend, queue, lease, Some(value)).await;
        let taken = taken.map_err(failure)?;
        let place = taken.place;
        let leader = LeaderKey {
            name,
            key: place.key().clone(),
            rev: place.created(),
            lease: place.lease(),
        };
        if !taken.is_first {
            unless_drained(&self.drain, place.wait())
                .await
                .map_err(failure)?
                .ok_or(Error::NotElected)?;
        }
        place.keep();
        Ok(Response::new(CampaignResponse {
            // As in etcd, that of the transaction.
            header: Some(taken.header),
            leader: Some(leader),
        }))
    }

    async fn proclaim(
        &self,
        request: Request<ProclaimRequest>,
    ) -> Result<Response<ProclaimResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        let ProclaimRequest { leader, value } = request.into_inner();
        let mut leader = given(leader)?;
        // As in etcd: without a lease the key gets one of a new session.
        leader.lease = session(&backend, leader.lease).await.map_err(failure)?;
        let header = Self::replace(&backend, &leader, value).await?;
        Ok(Response::new(ProclaimResponse {
            header: Some(header),
        }))
    }

    async fn leader(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<LeaderResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        let first = first_key(&request.into_inner().name);
        let found = backend.range(first).await.map_err(failure)?;
        let kv = found.kvs.into_iter().next();
        self.unread.read(LeaderResponse {
            header: found.header,
            kv: Some(kv.ok_or_else(|| Status::unknown(NO_LEADER))?),
        })
    }

    type ObserveStream = Pin<Box<dyn Stream<Item = Result<LeaderResponse, Status>> + Send>>;

    async fn observe(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let backend = self.sessions.of(&request).await?;
        let queue = Queue::admit(request.into_inner().name, &self.unread)?;
        let observer = Observer::new(backend, queue, self.unread.clone());
        let share = observer.share();
        let leaders: Self::ObserveStream = Box::pin(observer.leaders(self.drain.clone()));
        let mut response = Response::new(leaders);
        response.extensions_mut().insert(share);
        Ok(response)
    }

    async fn resign(
        &self,
        request: Request<ResignRequest>,
    ) -> Result<Response<ResignResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        let leader = given(request.into_inner().leader)?;
        let own = created_at(leader.key.clone(), leader.rev);
        let txn = when(own, vec![delete(leader.key)], Vec::new());
        // As in etcd, to resign without having been elected is no error.
        let answer = backend.txn(txn).await.map_err(failure)?;
        Ok(Response::new(ResignResponse {
            header: answer.header,
        }))
    }
}
