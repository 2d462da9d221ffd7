//! Streams of watches before members that fail, against a model of a member.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A member's end of one stream.
#[derive(Default)]
struct Member {
    /// The revision that it has applied. Every revision has one event.
    revision: i64,
    /// By id: the next revision of each watch, and whether it is known to the client.
    watches: BTreeMap<i64, i64>,
    next_id: i64,
    /// The responses, each with the first revision of its events.
    queue: VecDeque<(StreamResponse, i64)>,
}

impl Member {
    fn header(&self) -> ResponseHeader {
        ResponseHeader {
            cluster_id: 1,
            revision: self.revision,
            raft_term: 1,
            ..ResponseHeader::default()
        }
    }

    fn take(&mut self, request: &StreamRequest) {
        let answer = StreamResponse {
            header: self.header(),
            ..StreamResponse::default()
        };
        match request {
            StreamRequest::Create(create) => {
                let mut id = create.watch_id;
                if id == 0 {
                    while self.watches.contains_key(&self.next_id) {
                        self.next_id += 1;
                    }
                    id = self.next_id;
                    self.next_id += 1;
                }
                let next = match create.start_revision {
                    0 => self.revision + 1,
                    start => start,
                };
                let used = self.watches.contains_key(&id);
                if !used {
                    self.watches.insert(id, next);
                }
                self.send(StreamResponse {
                    watch_id: id,
                    created: true,
                    canceled: used,
                    ..answer
                });
            }
            StreamRequest::Cancel(id) => {
                if self.watches.remove(id).is_some() {
                    self.send(StreamResponse {
                        watch_id: *id,
                        canceled: true,
                        ..answer
                    });
                }
            }
            StreamRequest::Progress => {
                for id in self.watches.keys().copied().collect::<Vec<_>>() {
                    while self.watches[&id] <= self.revision {
                        self.event(id, 1000);
                    }
                }
                self.send(StreamResponse {
                    watch_id: NO_WATCH,
                    ..answer
                });
            }
        }
    }

    /// Sends events of a watch, of at most so many revisions.
    fn event(&mut self, id: i64, revisions: i64) {
        let Some(next) = self.watches.get_mut(&id) else {
            return;
        };
        let last = self.revision.min(*next + revisions - 1);
        if *next <= last {
            let first = std::mem::replace(next, last + 1);
            let response = StreamResponse {
                header: self.header(),
                watch_id: id,
                has_events: true,
                last_revision: last,
                ..StreamResponse::default()
            };
            self.queue.push_back((response, first));
        }
    }

    fn send(&mut self, response: StreamResponse) {
        self.queue.push_back((response, 0));
    }
}

/// What a client has received.
#[derive(Default)]
struct Client {
    /// The ids or zeros that were requested, in order.
    requested: VecDeque<(i64, i64)>,
    /// By id: the next revision.
    watches: BTreeMap<i64, i64>,
    revision: i64,
}

impl Client {
    /// `first`: the first revision of the events of the response.
    fn receive(&mut self, response: &StreamResponse, first: i64) {
        let id = response.watch_id;
        if response.created {
            let (wanted, start) = self.requested.pop_front().expect("a creation is pending");
            assert!(response.canceled || wanted == 0 || wanted == id);
            assert!(self.revision <= response.header.revision, "it went back");
            if !response.canceled {
                let next = match start {
                    0 => response.header.revision + 1,
                    start => start,
                };
                assert_eq!(self.watches.insert(id, next), None);
            }
        } else if response.canceled {
            assert!(self.watches.remove(&id).is_some());
        } else if response.has_events {
            let next = self.watches.get_mut(&id).expect("a watch of the client");
            assert_eq!(*next, first, "events are lost or repeated");
            *next = response.last_revision + 1;
        } else {
            for next in self.watches.values() {
                assert!(
                    response.header.revision < *next,
                    "a bookmark without its events"
                );
            }
        }
        self.revision = self.revision.max(response.header.revision);
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The id that is requested, and the start relative to the present; 0 for now.
    Create(i64, i64),
    Cancel(i64),
    Progress,
    OwnProgress,
    Write,
    Event(i64, i64),
    Receive,
    /// The new member lags by so many revisions.
    Fail(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..4_i64, -3..3_i64).prop_map(|(id, start)| Step::Create(id, start)),
        1 => (0..4_i64).prop_map(Step::Cancel),
        1 => Just(Step::Progress),
        1 => Just(Step::OwnProgress),
        4 => Just(Step::Write),
        4 => (0..4_i64, 1..4_i64).prop_map(|(id, revisions)| Step::Event(id, revisions)),
        8 => Just(Step::Receive),
        1 => (0..3_i64).prop_map(Step::Fail),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_client_receives_each_event_once_however_members_fail(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let (mut member, mut client) = (Member::default(), Client::default());
        let mut watches = WatchPositions::default();
        let mut revision = 10;
        member.revision = revision;
        for step in steps {
            match step {
                Step::Create(watch_id, start) => {
                    let start_revision = if start == 0 { 0 } else { revision + start };
                    let create = Create { encoded: Box::from([]), watch_id, start_revision };
                    client.requested.push_back((watch_id, start_revision));
                    let request = StreamRequest::Create(create);
                    watches.request(request.clone());
                    member.take(&request);
                }
                Step::Cancel(id) => {
                    watches.request(StreamRequest::Cancel(id));
                    member.take(&StreamRequest::Cancel(id));
                }
                Step::Progress => {
                    watches.request(StreamRequest::Progress);
                    member.take(&StreamRequest::Progress);
                }
                Step::OwnProgress => {
                    watches.request_progress();
                    member.take(&StreamRequest::Progress);
                }
                Step::Write => {
                    revision += 1;
                    member.revision = revision;
                }
                Step::Event(id, revisions) => member.event(id, revisions),
                Step::Receive => {
                    let Some((response, first)) = member.queue.pop_front() else { continue };
                    match watches.response(&response) {
                        Verdict::Forward => client.receive(&response, first),
                        Verdict::Drop => {}
                        Verdict::Lagging => member = begin(&mut watches, revision),
                        Verdict::Inexact => break,
                    }
                }
                Step::Fail(lag) => {
                    if !watches.can_resume() {
                        break;
                    }
                    member = begin(&mut watches, revision - lag);
                }
            }
        }
    }
}

/// The stream on a new member that has applied so many revisions.
fn begin(watches: &mut WatchPositions, revision: i64) -> Member {
    let mut member = Member {
        revision,
        ..Member::default()
    };
    for request in watches.resume() {
        member.take(&request);
    }
    member
}

/// etcd-io/etcd#15220: events up to the stated revision may come later.
#[test]
fn a_statement_ahead_of_its_events_moves_no_position() {
    let mut watches = WatchPositions::default();
    watches.request(StreamRequest::Create(Create {
        encoded: Box::default(),
        watch_id: 0,
        start_revision: 7,
    }));
    watches.response(&StreamResponse {
        created: true,
        ..StreamResponse::default()
    });
    let mut progress = StreamResponse {
        watch_id: NO_WATCH,
        ..StreamResponse::default()
    };
    progress.header.revision = 90;
    watches.set_ahead(true);
    watches.request_progress();
    assert_eq!(watches.response(&progress), Verdict::Drop);
    assert_eq!(
        (watches.position(0), watches.has_progress()),
        (Some(7), false)
    );
    watches.set_ahead(false);
    assert_eq!(watches.response(&progress), Verdict::Drop);
    assert_eq!(
        (watches.position(0), watches.has_progress()),
        (Some(91), true)
    );
}
