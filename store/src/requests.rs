//! The v3 requests of a `Store`: reads from local state once it is recent enough, and proposals
//! until their outcome or a timeout.

use std::time::{Duration, Instant};

use futures_util::Stream;
use keelson_core::state::auth::Access;
use keelson_core::state::{self, ReadView, Response, check};
use keelson_proto::etcdserverpb::alarm_request::AlarmAction;
use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::AuthChange;
use keelson_proto::internal::command::Op;
use tokio::time::timeout_at;

use crate::long_range;
use crate::submit::{AtTimeout, NoOutcome};
use crate::usage::{TxnUse, Use, prefix};
use crate::{Error, Store};

/// The pause between the first two checks of a compaction. It doubles after each check, up to
/// `LOOK_AGAIN_MAX`.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// The longest pause between two checks of a compaction.
const LOOK_AGAIN_MAX: Duration = Duration::from_millis(100);

/// Bytes of a message of `RangeStream`. One is read and encoded without a pause, and meanwhile its
/// thread serves no other request.
const STREAM_PIECE_BYTES: usize = 128 * 1024;

impl Store {
    /// Reads keys; linearizable unless the request sets `serializable`.
    ///
    /// # Errors
    /// etcd's: bad requests, compacted and future revisions, timeouts. One of the storage engine
    /// ends the member.
    pub async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Error> {
        check::range(&request)?;
        // A read of what is committed would wait for the state that replaces this one.
        self.view().require_unfenced()?;
        if !request.serializable {
            self.read_index().await?;
        }
        let read = self.inner.metrics.ranges.of(self.range_now(request)).await;
        self.inner.storage.fatal.of_read(read)
    }

    /// [`Store::range`] of what is applied.
    async fn range_now(&self, request: RangeRequest) -> Result<RangeResponse, Error> {
        let view = self.view();
        let access = Access::Range(&request);
        let checked = self.check_read(&view, access)?;
        let mut response = match long_range::has_steps(&request) {
            // In a box: the future of a read of one key stays small.
            true => Box::pin(self.inner.long_ranges.read(&view, &request)).await?,
            false => view.range(&request)?,
        };
        self.check_again(&view, access, checked)?;
        self.inner.account.range(&request, &response);
        self.fill(&mut response.header);
        Ok(response)
    }

    /// Reads a range in pieces of about 128 KiB, all at one revision. Only the last piece has a
    /// header, a count and `more`. Memory use does not depend on the length of the range.
    pub fn range_stream(
        &self,
        request: RangeRequest,
    ) -> impl Stream<Item = Result<RangeResponse, Error>> + Send + use<> {
        let begin = Pieces::Begin(request);
        futures_util::stream::try_unfold((self.clone(), begin), |(store, pieces)| async move {
            let mut reading = match pieces {
                Pieces::Begin(request) => store.begin_stream(&request).await?,
                Pieces::Reading(reading) => reading,
            };
            let read = reading.next_chunk();
            let Some(mut piece) = store.inner.storage.fatal.of_read(read)? else {
                return Ok(None);
            };
            if piece.header.is_some() {
                store.fill(&mut piece.header);
            }
            Ok(Some((piece, (store, Pieces::Reading(reading)))))
        })
    }

    async fn begin_stream(&self, request: &RangeRequest) -> Result<state::RangeStream, Error> {
        check::range_stream(request)?;
        self.view().require_unfenced()?;
        if !request.serializable {
            self.read_index().await?;
        }
        let view = self.view();
        let access = Access::Range(request);
        let checked = self.check_read(&view, access)?;
        let piece_bytes = STREAM_PIECE_BYTES.min(self.config().max_request_bytes);
        let reading = view.range_stream(request, piece_bytes);
        let reading = self.inner.storage.fatal.of_read(reading)?;
        self.check_again(&view, access, checked)?;
        self.inner.account.v3(&request.key, Use::read(0));
        Ok(reading)
    }

    /// Checks a read before it begins. Returns the number of the last change of rights.
    fn check_read(&self, view: &ReadView, access: Access<'_>) -> Result<u64, Error> {
        if self.inner.storage.fatal.is_raised() {
            return Err(Error::Stopped);
        }
        let changed = view.auth_changed();
        view.authorize(&self.caller, access)?;
        Ok(changed)
    }

    /// Checks a read again if rights have changed since: it may have found a pair of after the
    /// change, to which its caller has no right.
    fn check_again(&self, view: &ReadView, access: Access<'_>, checked: u64) -> Result<(), Error> {
        match view.auth_changed() == checked {
            true => Ok(()),
            false => Ok(view.authorize(&self.caller, access)?),
        }
    }

    /// The value of one key, read linearizably; for programs that embed a store.
    ///
    /// # Errors
    /// As [`Store::range`].
    pub async fn get(
        &self,
        key: impl Into<bytes::Bytes>,
    ) -> Result<Option<keelson_proto::mvccpb::KeyValue>, Error> {
        let request = RangeRequest {
            key: key.into(),
            ..Default::default()
        };
        Ok(self.range(request).await?.kvs.pop())
    }

    /// Writes one key.
    ///
    /// # Errors
    /// etcd's. After a timeout the write may or may not happen.
    pub async fn put(&self, request: PutRequest) -> Result<PutResponse, Error> {
        check::put(&request)?;
        let cost = state::put_cost(&request);
        let size = request.key.len() + request.value.len();
        // A copy: the key may be a small part of a far larger buffer, which would wait as well.
        let prefix: Box<[u8]> = prefix::of(&request.key).into();
        match self.propose_if_room(Op::Put(request), cost).await? {
            Response::Put(mut response) => {
                self.inner.account.v3(&prefix, Use::written(size));
                self.fill(&mut response.header);
                Ok(response)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Deletes keys.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub async fn delete_range(
        &self,
        request: DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Error> {
        check::delete_range(&request)?;
        let prefix: Box<[u8]> = prefix::of(&request.key).into();
        match self.propose(Op::DeleteRange(request)).await? {
            Response::DeleteRange(mut response) => {
                self.inner.account.v3(&prefix, Use::written(0));
                self.fill(&mut response.header);
                Ok(response)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Evaluates the comparisons and one branch of the transaction atomically.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Error> {
        let answer = self.txn_or_wait(request, AtTimeout::Forget).await;
        answer.map_err(|failed| failed.error)
    }

    /// [`Store::txn`]; after the timeout the outcome may still be waited for.
    pub(crate) async fn txn_or_wait(
        &self,
        request: TxnRequest,
        at_timeout: AtTimeout,
    ) -> Result<TxnResponse, NoOutcome> {
        check::txn(&request, self.config().max_txn_ops)?;
        self.view().require_unfenced()?;
        if check::is_txn_readonly(&request) {
            if !check::is_txn_serializable(&request) {
                self.read_index().await?;
            }
            let view = self.view();
            let access = Access::Txn(&request);
            let checked = self.check_read(&view, access)?;
            let read = view.txn_read(&request);
            let mut response = self.inner.storage.fatal.of_read(read)?;
            self.check_again(&view, access, checked)?;
            TxnUse::of(&request).count(&self.inner.account, response.succeeded);
            self.fill(&mut response.header);
            return Ok(response);
        }
        let (cost, used) = (state::txn_cost(&request), TxnUse::of(&request));
        let op = Op::Txn(request);
        match self.propose_or_wait(op, cost, at_timeout).await? {
            Response::Txn(mut response) => {
                used.count(&self.inner.account, response.succeeded);
                self.fill(&mut response.header);
                Ok(response)
            }
            other => Err(unexpected(&other).into()),
        }
    }

    /// Makes revisions below `request.revision` unreadable. With `physical`, returns once this
    /// member has released their rows. As in etcd, the request's time does not limit that: the
    /// compaction is done, and only the client can end the wait.
    ///
    /// # Errors
    /// As [`Store::put`]; `Stopped` when the member stops before the rows are released.
    pub async fn compact(&self, request: CompactionRequest) -> Result<CompactionResponse, Error> {
        let (revision, physical) = (request.revision, request.physical);
        let response = self.propose(Op::Compaction(request)).await?;
        if physical {
            let finished = || self.view().compaction_finished() >= revision;
            until(finished, || self.is_stopping()).await?;
        }
        match response {
            Response::Compaction(mut response) => {
                self.fill(&mut response.header);
                Ok(response)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Lists, raises or clears alarms.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub async fn alarm(&self, request: AlarmRequest) -> Result<AlarmResponse, Error> {
        if self.view().is_fenced() && request.action == AlarmAction::Get as i32 {
            return self.local_alarms(request).await;
        }
        match self.propose(Op::Alarm(request)).await? {
            Response::Alarm(mut response) => {
                self.fill(&mut response.header);
                Ok(response)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// The alarms of this member's own state, without the log: a fenced member applies nothing.
    async fn local_alarms(&self, request: AlarmRequest) -> Result<AlarmResponse, Error> {
        self.authorize_now(Access::Command(&Op::Alarm(request)))
            .await?;
        let mut alarms = self.view().alarms();
        let all = request.alarm == AlarmType::None as i32;
        alarms.retain(|alarm| all || alarm.alarm == request.alarm);
        let header = self.header();
        Ok(AlarmResponse { header, alarms })
    }

    /// Changes users, roles or permissions. Passwords are hashed already.
    ///
    /// # Errors
    /// etcd's, for changes that its rules do not allow; and those of [`Store::put`].
    pub async fn auth_change(&self, change: AuthChange) -> Result<ResponseHeader, Error> {
        match self.propose(Op::Auth(change)).await? {
            Response::Auth(header) => {
                let mut header = Some(header);
                self.fill(&mut header);
                Ok(header.unwrap_or_default())
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Waits until this member has applied everything that was committed at the time of this call.
    ///
    /// # Errors
    /// `Timeout` and its variants when no quorum responds in time; `TooManyRequests`; `Corrupt` if
    /// this member's state differs from the majority's.
    pub async fn read_index(&self) -> Result<(), Error> {
        self.view().require_unfenced()?;
        let began = Instant::now();
        let deadline = tokio::time::Instant::now() + self.request_timeout();
        let metrics = &self.inner.metrics;
        match timeout_at(deadline, self.inner.reads.join()?).await {
            Ok(Err(error)) => {
                metrics.reads_failed.add(1);
                Err(error)
            }
            // The wait ends as well when the member is fenced.
            Ok(Ok(())) => Ok(self.view().require_unfenced()?),
            Err(_) => {
                metrics.reads_slow.add(1);
                Err(self.timeout_error(began))
            }
        }
    }

    pub(crate) fn view(&self) -> state::ReadView {
        self.inner.shared.view()
    }

    /// Completes a header that has its revision.
    pub(crate) fn fill(&self, header: &mut Option<ResponseHeader>) {
        let header = header.get_or_insert_default();
        header.cluster_id = self.cluster_id().0;
        header.member_id = self.member_id().0;
        header.raft_term = self.inner.shared.shown_term();
    }
}

/// Waits until the rows of a compaction are released.
async fn until(finished: impl Fn() -> bool, is_stopping: impl Fn() -> bool) -> Result<(), Error> {
    let mut pause = LOOK_AGAIN;
    while !finished() {
        if is_stopping() {
            return Err(Error::Stopped);
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(LOOK_AGAIN_MAX);
    }
    Ok(())
}

/// A streamed range before and after its first piece.
enum Pieces {
    Begin(RangeRequest),
    Reading(state::RangeStream),
}

/// A response of another kind than the request: a bug, reported as an error, since a server must
/// not panic.
pub(crate) fn unexpected(response: &Response) -> Error {
    tracing::error!(?response, "an answer of the wrong kind");
    Error::from(state::Error::UnknownCommand)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_long_compaction_does_not_time_out() {
        let begin = Instant::now();
        let finished = || begin.elapsed() >= Duration::from_secs(100);
        assert!(until(finished, || false).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_wait_for_a_compaction() {
        let looks = Cell::new(0);
        let is_stopping = || looks.replace(looks.get() + 1) == 3;
        let outcome = until(|| false, is_stopping).await;
        assert!(matches!(outcome, Err(Error::Stopped)), "{outcome:?}");
    }
}
