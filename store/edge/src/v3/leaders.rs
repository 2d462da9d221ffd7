//! The leaders of an election, one after another.

use keelson_core::lock::{first_key, keys};
use keelson_proto::etcdserverpb::ResponseHeader;
use keelson_proto::mvccpb::KeyValue;
use keelson_proto::v3electionpb::LeaderResponse;

use super::changes::{Change, Changes};
use super::session::Queue;
use crate::Error;
use crate::backend::Backend;

/// Follows the first key of a queue.
pub struct Leaders<B> {
    backend: B,
    queue: Queue,
    /// The changes of the leader's key; `None` if there is no leader known.
    leading: Option<Changes>,
}

impl<B: Backend> Leaders<B> {
    /// Those of the queue.
    pub fn new(backend: B, queue: Queue) -> Leaders<B> {
        Leaders {
            backend,
            queue,
            leading: None,
        }
    }

    /// The next leader or value: first the present leader. A dropped future leaves the leaders as
    /// they were, or at the one of the next call.
    ///
    /// # Errors
    /// Those of a read and of a watch.
    pub async fn next(&mut self) -> Result<LeaderResponse, Error> {
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
