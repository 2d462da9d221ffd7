//! Sessions with a fake member.

use std::sync::Arc;

use futures_util::FutureExt;
use keelson_core::lock::{first_key, keys};
use keelson_core::state::auth::Caller;
use keelson_port::Drain;
use keelson_proto::internal::auth_change::Op;
use keelson_proto::internal::{AuthChange, AuthEnable};
use keelson_proto::v3electionpb::election_server::Election as _;
use keelson_proto::v3electionpb::{CampaignRequest, LeaderRequest};
use keelson_proto::v3lockpb::LockRequest;
use keelson_proto::v3lockpb::lock_server::Lock as _;
use tokio::runtime::Handle;
use tonic::Request;

use super::*;
use crate::tests::fake::Fake;
use crate::tests::within;
use crate::v3::auth::Sessions;
use crate::v3::election::Election;
use crate::v3::lock::Lock;

fn fake() -> Fake {
    Fake::new(([127, 0, 0, 1], 2379).into())
}

async fn granted(fake: &Fake, ids: impl IntoIterator<Item = i64>) {
    for id in ids {
        fake.lease_grant(LeaseGrantRequest { id, ttl: 60 })
            .await
            .unwrap();
    }
}

async fn taken(fake: &Fake, lease: i64) -> Taken<Fake> {
    take(fake, l(), lease, None).await.unwrap()
}

fn l() -> Queue {
    Queue::admit(b"l", &Unread::default()).unwrap()
}

/// The keys of the queue, after everything in the background has ended.
async fn queue(fake: &Fake) -> Vec<Bytes> {
    let tasks = Handle::current().metrics();
    within(async {
        while tasks.num_alive_tasks() != 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    queue_now(fake).await
}

async fn queue_now(fake: &Fake) -> Vec<Bytes> {
    let (key, range_end) = keys(b"l");
    let all = RangeRequest {
        key,
        range_end,
        ..RangeRequest::default()
    };
    let found = fake.range(all).await.unwrap().kvs.into_iter();
    found.map(|kv| kv.key).collect()
}

#[tokio::test(start_paused = true)]
async fn a_session_that_a_call_created_is_renewed_while_the_call_waits() {
    let fake = fake();
    let first = taken(&fake, 0).await;
    let second = taken(&fake, 0).await;
    assert!(first.is_first && !second.is_first);
    // The fake holds renewals back, and counts those.
    fake.hold(true);
    let waiting = tokio::spawn(async move { second.place.wait().await });
    // The clock stands still but for timers.
    let ttl = Duration::from_secs(60);
    let renewed = tokio::time::timeout(ttl, fake.held(1)).await;
    renewed.expect("a renewal before the lease ends");
    assert!(!waiting.is_finished());
    // The place is given up while the renewal has no answer.
    drop(first);
    assert!(waiting.await.unwrap().unwrap().is_some());
}

/// A client that had no answer repeated its call, which was given the lock; then the end of the
/// first call took the lock away.
#[tokio::test]
async fn a_cancelled_call_leaves_the_key_that_a_later_call_of_its_session_holds() {
    let fake = fake();
    granted(&fake, [7, 8]).await;
    let cancelled = taken(&fake, 7).await;
    let again = taken(&fake, 7).await;
    assert!(again.is_first);
    assert_eq!(again.place.created(), cancelled.place.created());
    again.place.keep();
    drop(cancelled);
    assert_eq!(queue(&fake).await, ["l/7"]);
    assert!(!taken(&fake, 8).await.is_first);
}

#[tokio::test]
async fn a_cancelled_call_leaves_the_key_that_an_earlier_call_of_its_session_holds() {
    let fake = fake();
    granted(&fake, [7]).await;
    taken(&fake, 7).await.place.keep();
    drop(taken(&fake, 7).await);
    assert_eq!(queue(&fake).await, ["l/7"]);
}

#[tokio::test]
async fn a_session_all_of_whose_calls_are_cancelled_loses_its_place() {
    let fake = fake();
    granted(&fake, [7, 8]).await;
    let first = taken(&fake, 8).await;
    let cancelled = (taken(&fake, 7).await, taken(&fake, 7).await);
    drop(cancelled.0);
    assert_eq!(queue(&fake).await, ["l/7", "l/8"]);
    drop(cancelled.1);
    assert_eq!(queue(&fake).await, ["l/8"]);
    drop(first);
    assert!(queue(&fake).await.is_empty());
}

/// Only the last call has the key as it is; the others are not ended by those that give up.
#[tokio::test]
async fn a_call_that_waits_keeps_its_place_when_an_earlier_call_is_cancelled() {
    let fake = fake();
    granted(&fake, [7, 8]).await;
    let first = taken(&fake, 8).await;
    let cancelled = taken(&fake, 7).await;
    let waits = taken(&fake, 7).await;
    drop(cancelled);
    queue(&fake).await;
    let mut turn = Box::pin(waits.place.wait());
    assert!(turn.as_mut().now_or_never().is_none());
    drop(first);
    assert!(within(turn).await.unwrap().is_some());
}

#[tokio::test]
async fn a_later_call_replaces_the_value_only_with_one_of_its_own() {
    let fake = fake();
    granted(&fake, [7]).await;
    for (value, expected) in [(Some("a"), "a"), (Some("b"), "b"), (None, "b")] {
        let value = value.map(Bytes::from);
        let taken = take(&fake, l(), 7, value).await.unwrap();
        taken.place.keep();
        let found = fake.range(first_key(b"l")).await.unwrap().kvs;
        assert_eq!((&found[0].value, found[0].lease), (&expected.into(), 7));
    }
}

/// Without a runtime nothing was undone, and an embedder's lease may be renewed without end.
#[tokio::test]
async fn a_place_that_is_dropped_by_a_thread_of_no_runtime_is_given_up() {
    let fake = fake();
    granted(&fake, [7]).await;
    let taken = taken(&fake, 7).await;
    let dropped = std::thread::spawn(move || drop(taken));
    dropped.join().unwrap();
    assert!(queue(&fake).await.is_empty());
}

/// After five attempts the key was left to the lease, which an embedder renews without end.
#[tokio::test(start_paused = true)]
async fn a_place_is_given_up_after_a_minute_without_a_leader() {
    let fake = fake();
    granted(&fake, [7]).await;
    let taken = taken(&fake, 7).await;
    fake.set(|state| state.leaderless = true);
    drop(taken);
    tokio::time::sleep(Duration::from_secs(60)).await;
    fake.set(|state| state.leaderless = false);
    assert_eq!(queue_now(&fake).await, ["l/7"]);
    tokio::time::sleep(2 * Duration::from_secs(10)).await;
    assert!(queue_now(&fake).await.is_empty());
}

/// The name of the queue in a buffer, and whether the buffer is still in use.
fn tracked() -> (Bytes, impl Fn() -> bool) {
    struct Buffer(Arc<[u8; 1]>);
    impl AsRef<[u8]> for Buffer {
        fn as_ref(&self) -> &[u8] {
            &*self.0
        }
    }
    let owner = Arc::new(*b"l");
    let buffer = Bytes::from_owner(Buffer(Arc::clone(&owner)));
    (buffer, move || 1 < Arc::strong_count(&owner))
}

/// A name of one byte kept a message of 2 MB alive, most of it in a field that is ignored.
#[tokio::test]
async fn a_call_that_waits_does_not_keep_the_buffer_of_its_request() {
    let fake = fake();
    let (unread, drain) = (Unread::default(), Drain::default());
    let first = taken(&fake, 0).await;
    let (name, is_kept) = tracked();
    let request = LockRequest { name, lease: 0 };
    let locks = Lock::new(Sessions::new(&fake), unread.clone(), drain.clone());
    let lock = tokio::spawn(async move { locks.lock(Request::new(request)).await });
    within(async {
        while queue_now(&fake).await.len() < 2 || is_kept() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (name, is_kept) = tracked();
    let request = CampaignRequest {
        name,
        ..CampaignRequest::default()
    };
    let elections = Election::new(Sessions::new(&fake), unread, drain);
    let observed = LeaderRequest {
        name: request.name.clone(),
    };
    let observed = elections.observe(Request::new(observed)).await.unwrap();
    let campaign = tokio::spawn(async move { elections.campaign(Request::new(request)).await });
    within(async {
        while queue_now(&fake).await.len() < 3 || is_kept() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!lock.is_finished() && !campaign.is_finished());
    drop((first, observed));
    assert!(within(lock).await.unwrap().is_ok());
}

/// Requests that were cancelled at once went on without a bound.
#[tokio::test]
async fn calls_that_are_cancelled_keep_their_share_until_their_places_are_given_up() {
    let fake = fake();
    granted(&fake, [7]).await;
    let unread = Unread::within(100 * CALL_BYTES);
    let locks = Lock::new(Sessions::new(&fake), unread.clone(), Drain::default());
    let begin = || {
        let request = LockRequest {
            name: "l".into(),
            lease: 7,
        };
        let mut call = locks.lock(Request::new(request));
        call.as_mut()
            .now_or_never()
            .map(|answered| answered.unwrap_err())
    };
    fake.hold(true);
    let refused = (0..101).find_map(|_| begin()).expect("not bounded");
    assert_eq!(refused.message(), "etcdserver: too many requests");
    fake.hold(false);
    queue(&fake).await;
    fake.hold(true);
    assert!(begin().is_none());
}

/// The key remained in the queue as long as the client's session.
#[tokio::test]
async fn a_place_whose_call_had_no_answer_in_time_is_given_up() {
    let fake = fake();
    granted(&fake, [7, 8]).await;
    fake.set(|state| state.late = true);
    fake.hold(true);
    let late = take(&fake, l(), 7, None).await;
    assert_eq!(late.err(), Some(Error::Timeout));
    within(fake.held(1)).await;
    fake.set(|state| state.late = false);
    // Its deletion is held back.
    let again = tokio::spawn({
        let fake = fake.clone();
        async move { taken(&fake, 8).await }
    });
    within(fake.held(2)).await;
    fake.hold(false);
    again.await.unwrap().place.keep();
    assert_eq!(queue(&fake).await, ["l/8"]);
}

/// The key is that of the client's next call then.
#[tokio::test]
async fn a_late_answer_leaves_the_place_of_the_next_call_of_its_session() {
    let fake = fake();
    granted(&fake, [7]).await;
    fake.set(|state| state.late = true);
    fake.hold(true);
    assert!(take(&fake, l(), 7, None).await.is_err());
    fake.set(|state| state.late = false);
    let again = tokio::spawn({
        let fake = fake.clone();
        async move { taken(&fake, 7).await }
    });
    within(fake.held(2)).await;
    fake.hold(false);
    let again = again.await.unwrap();
    assert!(again.is_first);
    again.place.keep();
    assert_eq!(queue(&fake).await, ["l/7"]);
}

/// The values of campaigns that had no outcome yet were in no budget: 1.5 MB for each call.
#[tokio::test]
async fn the_values_of_candidates_are_within_the_budget_until_they_are_in_the_log() {
    let fake = fake();
    granted(&fake, [7]).await;
    let unread = Unread::within(4 << 20);
    let elections = Election::new(Sessions::new(&fake), unread.clone(), Drain::default());
    let begin = || {
        let request = CampaignRequest {
            name: "l".into(),
            lease: 7,
            value: vec![b'v'; 60 << 10].into(),
        };
        let mut call = elections.campaign(Request::new(request));
        let answer = call.as_mut().now_or_never();
        answer.map(|answered| answered.unwrap_err())
    };
    fake.hold(true);
    let refused = (0..70).find_map(|_| begin()).expect("not bounded");
    assert_eq!(refused.message(), "etcdserver: too many requests");
    fake.hold(false);
    queue(&fake).await;
    fake.hold(true);
    assert!(begin().is_none());
}

/// The request was refused for want of rights, and the key stayed as long as its lease.
#[tokio::test]
async fn a_place_is_given_up_though_its_user_has_lost_all_rights() {
    let fake = fake();
    granted(&fake, [7]).await;
    let add = |name: &str| {
        Op::UserAdd(AuthUserAddRequest {
            name: name.to_owned(),
            hashed_password: "x".to_owned(),
            ..Default::default()
        })
    };
    let grant = AuthUserGrantRoleRequest {
        user: "root".to_owned(),
        role: "root".to_owned(),
    };
    let enable = AuthEnable {
        secret: Bytes::from_static(b"s"),
    };
    let changes = [add("root"), Op::UserGrantRole(grant), Op::Enable(enable)];
    for op in changes {
        let change = AuthChange { op: Some(op) };
        fake.auth_change(change).await.unwrap();
    }
    let root = fake.acting_as(Caller::User {
        name: "root".to_owned(),
        since: 0,
    });
    let (key, lease) = (taken(&root, 7).await, taken(&root, 0).await);
    assert_eq!(queue_now(&fake).await.len(), 2);
    let changed = AuthUserChangePasswordRequest {
        name: "root".to_owned(),
        hashed_password: "y".to_owned(),
        ..Default::default()
    };
    let changed = AuthChange {
        op: Some(Op::UserChangePassword(changed)),
    };
    fake.auth_change(changed).await.unwrap();
    let expired = |taken: Taken<Fake>| {
        let mut place = taken.place;
        // As a token from before the change of the password.
        place.backend = fake.acting_as(Caller::User {
            name: "root".to_owned(),
            since: 1,
        });
    };
    expired(key);
    expired(lease);
    assert!(queue(&fake).await.is_empty());
}
