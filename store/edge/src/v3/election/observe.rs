//! The leaders of an election, as the answers of a call.

use std::net::SocketAddr;

use futures_util::stream;
use keelson_port::Drain;
use keelson_proto::v3electionpb::LeaderResponse;
use tokio_stream::Stream;
use tonic::Status;

use crate::Error;
use crate::account::client;
use crate::backend::Backend;
use crate::v3::leaders::Leaders;
use crate::v3::session::{Queue, failure};
use crate::v3::unless_drained;
use crate::v3::unread::{NextShare, Unread};

/// The leaders for a client.
pub(super) struct Observer<B> {
    leaders: Leaders<B>,
    unread: Unread,
    /// The client whose connection has the answers.
    client: Option<SocketAddr>,
    share: NextShare,
}

impl<B: Backend> Observer<B> {
    /// An observer for the client of the call that is being served.
    pub(super) fn new(backend: B, queue: Queue, unread: Unread) -> Observer<B> {
        Observer {
            leaders: Leaders::new(backend, queue),
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
        let leader = self.leaders.next().await?;
        let share = self.unread.next(self.client, &leader, &self.share);
        share.await?;
        Ok(leader)
    }
}
