//! The leaders of an election, one after another.

use std::net::SocketAddr;

use futures_util::stream;
use keelson_core::lock::{first_key, keys};
use keelson_port::Drain;
use keelson_proto::etcdserverpb::ResponseHeader;
use keelson_proto::mvccpb::KeyValue;
use keelson_proto::v3electionpb::LeaderResponse;
use tokio_stream::Stream;
use tonic::Status;

use crate::Error;
use crate::account::client;
use crate::backend::Backend;
use crate::v3::changes::{Change, Changes};
use crate::v3::session::{Queue, failure};
use crate::v3::unless_drained;
use crate::v3::unread::{NextShare, Unread};

/// Follows the first key of a queue.
pub(super) struct Observer<B> {
    backend: B,
    queue: Queue,
    /// The changes of the leader's key; `None` if there is no leader known.
    leading: Option<Changes>,
    unread: Unread,
    /// The client whose connection has the answers.
    client: Option<SocketAddr>,
    share: NextShare,
}

impl<B: Backend> Observer<B> {
    /// An observer for the client of the call that is being served.
    pub(super) fn new(backend: B, queue: Queue, unread: Unread) -> Observer<B> {
        Observer {
            backend,
            queue,
            leading: None,
            unread,
            client: client(),
            share: NextShare::default(),
        }
    }

    /// The share of each answer.
    pub(super) fn share(&self) -> NextShare {
        self.share.clone()
    }

    /// The leader, and each of its values and each later leader. It ends with the first error.
    pub(super) fn leaders(
        self,
        drain: Drain,
    ) -> impl Stream<Item = Result<LeaderResponse, Status>> + Send {
        stream::unfold(Some((self, drain)), |state| async {
            let (mut observer, drain) = state?;
            match unless_drained(&drain, observer.next_with_share()).await {
                Ok(leader) => Some((Ok(leader), Some((observer, drain)))),
                Err(error) => Some((Err(failure(error)), None)),
            }
        })
    }

    /// The next leader, once its answer has a share of the room for answers that are not read.
    async fn next_with_share(&mut self) -> Result<LeaderResponse, Error> {
        let leader = self.next().await?;
        let share = self.unread.next(self.client, &leader, &self.share);
        share.await?;
        Ok(leader)
    }

    async fn next(&mut self) -> Result<LeaderResponse, Error> {
        loop {
            let Some(changes) = &mut self.leading else {
                return self.find().await;
            };
            match changes.next().await? {
                Change::Put(kv, revision) => return Ok(self.leader(kv, revision)),
                Change::Deleted | Change::Compacted => self.leading = None,
            }
        }
    }

    /// The leader; without one, the first key that is put.
    async fn find(&mut self) -> Result<LeaderResponse, Error> {
        loop {
            let found = self.backend.range(first_key(&self.queue.name)).await?;
            let revision = found.header.unwrap_or_default().revision;
            if let Some(kv) = found.kvs.into_iter().next() {
                return Ok(self.follow(kv, revision));
            }
            let (from, to) = keys(&self.queue.name);
            let mut puts = Changes::new(&self.backend).of_puts(from, to, revision + 1);
            match puts.next().await? {
                Change::Put(kv, _) => {
                    let revision = kv.mod_revision;
                    return Ok(self.follow(kv, revision));
                }
                Change::Deleted | Change::Compacted => {}
            }
        }
    }

    fn follow(&mut self, kv: KeyValue, revision: i64) -> LeaderResponse {
        let changes = Changes::new(&self.backend).of_key(kv.key.clone(), revision + 1);
        self.leading = Some(changes);
        self.leader(kv, revision)
    }

    fn leader(&self, kv: KeyValue, revision: i64) -> LeaderResponse {
        LeaderResponse {
            header: Some(ResponseHeader {
                revision,
                ..self.backend.header()
            }),
            kv: Some(kv),
        }
    }
}
