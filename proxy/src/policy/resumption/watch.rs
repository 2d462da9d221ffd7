//! A stream of watches, and the requests that continue it on another member.
//!
//! A watch continues at the revision after the last one that its client has received. The new
//! member is given the watch's id, so the client sees no difference. In a request the id 0 means
//! that the member assigns one, from 0 upwards: the watch with id 0 is created first.

use std::collections::{BTreeMap, VecDeque};

use super::{Progress, ResponseHeader, Verdict};

/// The id in responses that concern no watch of the stream, or all.
const NO_WATCH: i64 = -1;

/// What a watch takes in memory, in addition to its request.
const WATCH_BYTES: usize = 128;

/// A request to create a watch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Create {
    /// The request as the client encoded it: the range, the filters, the options.
    pub(crate) encoded: Box<[u8]>,
    /// 0: the member assigns one.
    pub(crate) watch_id: i64,
    /// 0: from now on.
    pub(crate) start_revision: i64,
}

/// A request of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum StreamRequest {
    Create(Create),
    Cancel(i64),
    Progress,
}

/// What matters of a response.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct StreamResponse {
    pub(crate) header: ResponseHeader,
    pub(crate) watch_id: i64,
    pub(crate) created: bool,
    pub(crate) canceled: bool,
    /// More of the same events follows.
    pub(crate) fragment: bool,
    pub(crate) has_events: bool,
    /// The revision of the last event.
    pub(crate) last_revision: i64,
}

/// The state of a stream.
#[derive(Default)]
pub(crate) struct WatchPositions {
    by_id: BTreeMap<i64, WatchPosition>,
    /// The requests whose answers are awaited, in order.
    pending: VecDeque<Pending>,
    /// A progress request of the client has no answer, or one of the proxy.
    progress_requested: bool,
    own_progress_requested: bool,
    /// Of this watch, a part of a response has been received.
    in_fragments: Option<i64>,
    progress: Progress,
    bytes: usize,
    /// The member states progress before it has sent the events up to it.
    ahead: bool,
    /// The member does not behave as expected, and positions are not certain.
    lost: bool,
}

/// A watch whose creation was answered.
struct WatchPosition {
    create: Create,
    /// The first revision whose events the client does not have.
    next: i64,
    /// The client has cancelled it, and the answer is awaited.
    cancelling: bool,
}

enum Pending {
    Create(Create),
    /// A watch of the client that the new member has not created yet.
    Resumed(i64),
    /// The cancellation of a watch whose creation is pending.
    Cancel(i64),
}

impl WatchPositions {
    /// The client has sent a request.
    pub(crate) fn request(&mut self, request: StreamRequest) {
        match request {
            StreamRequest::Create(create) => {
                self.bytes += create.encoded.len() + WATCH_BYTES;
                self.pending.push_back(Pending::Create(create));
            }
            StreamRequest::Cancel(id) => match self.by_id.get_mut(&id) {
                Some(watch) => watch.cancelling = true,
                None if self.pending.is_empty() => {}
                None => {
                    self.bytes += WATCH_BYTES;
                    self.pending.push_back(Pending::Cancel(id));
                }
            },
            StreamRequest::Progress => self.progress_requested = true,
        }
    }

    /// A member has sent a response.
    pub(crate) fn response(&mut self, response: &StreamResponse) -> Verdict {
        let verdict = match response.created {
            true => self.created(response),
            false => Verdict::Forward,
        };
        if !matches!(verdict, Verdict::Forward | Verdict::Drop) {
            return verdict;
        }
        self.progress.observe(&response.header);
        if response.created {
            return verdict;
        }
        if response.canceled {
            self.remove(response.watch_id);
        }
        if response.fragment {
            self.in_fragments = Some(response.watch_id);
            return verdict;
        }
        self.in_fragments = self.in_fragments.filter(|id| *id != response.watch_id);
        if self.advance(response) {
            Verdict::Drop
        } else {
            verdict
        }
    }

    /// A member has created a watch, or refused to.
    fn created(&mut self, response: &StreamResponse) -> Verdict {
        let verdict = self.progress.check(&response.header);
        if verdict != Verdict::Forward {
            return verdict;
        }
        let (id, refused) = (response.watch_id, response.canceled);
        let verdict = match self.pending.pop_front() {
            Some(Pending::Resumed(expected)) if refused || id != expected => Verdict::Inexact,
            Some(Pending::Resumed(_)) => Verdict::Drop,
            Some(Pending::Create(create)) => {
                self.bytes -= create.encoded.len() + WATCH_BYTES;
                if !refused {
                    self.add(create, response);
                }
                Verdict::Forward
            }
            Some(Pending::Cancel(_)) | None => {
                self.lost = true;
                Verdict::Forward
            }
        };
        while let Some(Pending::Cancel(id)) = self.pending.front() {
            if let Some(watch) = self.by_id.get_mut(id) {
                watch.cancelling = true;
            }
            self.bytes -= WATCH_BYTES;
            self.pending.pop_front();
        }
        verdict
    }

    fn add(&mut self, create: Create, response: &StreamResponse) {
        let id = response.watch_id;
        self.lost |= create.watch_id != 0 && create.watch_id != id;
        self.lost |= id < 0 || self.by_id.contains_key(&id);
        let next = match create.start_revision {
            0 => response.header.revision.saturating_add(1),
            start => start,
        };
        self.remove(id);
        self.bytes += create.encoded.len() + WATCH_BYTES;
        let cancelling = false;
        self.by_id.insert(
            id,
            WatchPosition {
                create,
                next,
                cancelling,
            },
        );
    }

    fn remove(&mut self, id: i64) {
        if let Some(watch) = self.by_id.remove(&id) {
            self.bytes -= watch.create.encoded.len() + WATCH_BYTES;
        }
    }

    /// Events, or a notification of progress: all events up to its revision have been sent. Returns
    /// whether it was requested by the proxy alone.
    fn advance(&mut self, response: &StreamResponse) -> bool {
        let reached = match response.has_events {
            true => response.last_revision,
            false => response.header.revision,
        };
        let next = reached.saturating_add(1);
        let progress = !response.has_events && !response.canceled;
        if progress && response.watch_id == NO_WATCH {
            let of_client = std::mem::take(&mut self.progress_requested);
            if self.ahead {
                return self.own_progress_requested && !of_client;
            }
            let own = std::mem::take(&mut self.own_progress_requested);
            for watch in self.by_id.values_mut() {
                watch.next = watch.next.max(next);
            }
            return own && !of_client;
        } else if let Some(watch) = self.by_id.get_mut(&response.watch_id) {
            watch.next = watch.next.max(next);
        }
        false
    }

    /// The proxy itself requests a notification of progress.
    pub(crate) fn request_progress(&mut self) {
        self.own_progress_requested = true;
    }

    /// Whether the proxy's request for progress has its answer.
    pub(crate) fn has_progress(&self) -> bool {
        !self.own_progress_requested
    }

    /// `ahead`: the member states progress before it has sent the events up to it, as etcd before
    /// 3.4.25 and 3.5.8 (etcd-io/etcd#15220). No position follows from it.
    pub(crate) fn set_ahead(&mut self, ahead: bool) {
        self.ahead = ahead;
    }

    /// The newest state that the client has received.
    pub(crate) fn newest(&self) -> &ResponseHeader {
        &self.progress.newest
    }

    /// The request of a watch.
    pub(crate) fn create(&self, id: i64) -> Option<&Create> {
        self.by_id.get(&id).map(|watch| &watch.create)
    }

    /// The client has all events of a watch before this revision.
    pub(crate) fn advance_to(&mut self, id: i64, next: i64) {
        if let Some(watch) = self.by_id.get_mut(&id) {
            watch.next = watch.next.max(next);
        }
    }

    /// The first revision of a watch that its client does not have.
    pub(crate) fn position(&self, id: i64) -> Option<i64> {
        self.by_id.get(&id).map(|watch| watch.next)
    }

    /// The watches, each with its id, its request and the first revision that the client does not
    /// have. `None`: requests have no answer, or the stream cannot be continued.
    pub(crate) fn settled(&self) -> Option<impl Iterator<Item = (i64, &Create, i64)>> {
        let settled = self.can_resume() && self.pending.is_empty() && !self.progress_requested;
        let cancelling = self.by_id.values().any(|watch| watch.cancelling);
        let all = self.by_id.iter();
        (settled && !cancelling).then(|| all.map(|(id, watch)| (*id, &watch.create, watch.next)))
    }

    /// Whether the stream can be continued exactly.
    pub(crate) fn can_resume(&self) -> bool {
        !self.lost && self.in_fragments.is_none()
    }

    /// The requests that continue the stream on another member.
    pub(crate) fn resume(&mut self) -> Vec<StreamRequest> {
        self.progress.resume();
        self.own_progress_requested = false;
        self.pending
            .retain(|pending| !matches!(pending, Pending::Resumed(_)));
        let mut requests = vec![];
        // In the order of the ids, and so 0 first. None is negative.
        for (id, watch) in self.by_id.iter().rev() {
            self.pending.push_front(Pending::Resumed(*id));
            requests.push(StreamRequest::Create(Create {
                encoded: watch.create.encoded.clone(),
                watch_id: *id,
                start_revision: watch.next,
            }));
        }
        requests.reverse();
        let cancelled = self.by_id.iter().filter(|(_, watch)| watch.cancelling);
        requests.extend(cancelled.map(|(id, _)| StreamRequest::Cancel(*id)));
        requests.extend(self.pending.iter().filter_map(|pending| match pending {
            Pending::Create(create) => Some(StreamRequest::Create(create.clone())),
            Pending::Cancel(id) => Some(StreamRequest::Cancel(*id)),
            Pending::Resumed(_) => None,
        }));
        requests.extend(self.progress_requested.then_some(StreamRequest::Progress));
        requests
    }

    /// The memory that it takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests;
