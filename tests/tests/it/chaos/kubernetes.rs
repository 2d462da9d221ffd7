//! The calls of a kube-apiserver while members die: lists in pages at one revision, `RangeStream`,
//! watches from the revision of a list with progress requests, optimistic transactions, events
//! under one lease, and compaction through `compact_rev_key`.

use keelson_model::kv::Request;
use keelson_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keelson_proto::etcdserverpb::lease_client::LeaseClient;
use keelson_proto::etcdserverpb::*;
use keelson_proto::mvccpb::KeyValue;
use keelson_tests::chaos::members::done;
use keelson_tests::chaos::watchers::{WatcherPlan, Watchers};
use keelson_tests::chaos::writers::Writers;

use super::watches::{IMPATIENT, Others, conclude};
use super::*;

/// The watchers of the caches of all API servers.
const WATCHERS: usize = 200;
/// The pairs of a page.
const PAGE: i64 = 5;
/// The key by which API servers elect the one that compacts.
const COMPACT_REV_KEY: &str = "compact_rev_key";

/// The lease of all events, its time to live in seconds, and the events of each phase.
const EVENTS: (i64, i64, usize) = (0x1d, 3_780, 20);

fn everything(revision: i64) -> RangeRequest {
    RangeRequest {
        key: "w/".into(),
        range_end: "w0".into(),
        revision,
        ..RangeRequest::default()
    }
}

/// Lists all keys in pages, all of them at the first one's revision, and by one `RangeStream`.
/// Returns the revision.
async fn list(url: &str) -> Result<i64> {
    let mut kv = client::kv(url).await?;
    let mut request = RangeRequest {
        limit: PAGE,
        ..everything(0)
    };
    let mut paged: Vec<KeyValue> = Vec::new();
    loop {
        let page = kv.range(request.clone()).await?.into_inner();
        if request.revision == 0 {
            request.revision = page.header.context("a header")?.revision;
        }
        paged.extend(page.kvs);
        let last = paged.last().context("there are keys")?;
        request.key = [&last.key[..], b"\0"].concat().into();
        if !page.more {
            break;
        }
    }
    let call = kv.range_stream(everything(request.revision)).await?;
    let (mut pieces, mut streamed) = (call.into_inner(), Vec::new());
    while let Some(piece) = pieces.message().await? {
        streamed.extend(piece.range_response.context("a part of the answer")?.kvs);
    }
    ensure!(
        paged == streamed,
        "{paged:?} in pages, {streamed:?} in a stream"
    );
    Ok(request.revision)
}

/// Puts a key if it is as expected, and reads it otherwise.
fn optimistic(expected: (CompareTarget, TargetUnion), put: PutRequest) -> TxnRequest {
    let op = |request| RequestOp {
        request: Some(request),
    };
    let range = RangeRequest {
        key: put.key.clone(),
        ..RangeRequest::default()
    };
    TxnRequest {
        compare: vec![Compare {
            key: put.key.clone(),
            result: CompareResult::Equal.into(),
            target: expected.0.into(),
            target_union: Some(expected.1),
            ..Compare::default()
        }],
        success: vec![op(request_op::Request::RequestPut(put))],
        failure: vec![op(request_op::Request::RequestRange(range))],
    }
}

/// Creates events, each a key of the lease.
async fn create_events(url: &str, phase: usize, others: &mut Others) -> Result<()> {
    let kv = client::kv(url).await?;
    let (lease, _, count) = EVENTS;
    for number in 0..count {
        let put = PutRequest {
            key: format!("w/events/{phase}/{number:02}").into(),
            value: "event".into(),
            lease,
            ..PutRequest::default()
        };
        let absent = (CompareTarget::Mod, TargetUnion::ModRevision(0));
        let txn = optimistic(absent, put);
        let created = done(&[], || async { kv.clone().txn(txn.clone()).await });
        let created = created.await?.into_inner();
        let revision = match (created.succeeded, &created.responses[..]) {
            (true, _) => created.header.map(|header| header.revision),
            // An earlier try has taken effect.
            (false, [response]) => match &response.response {
                Some(response_op::Response::ResponseRange(range)) => {
                    range.kvs.first().map(|kv| kv.mod_revision)
                }
                _ => None,
            },
            _ => None,
        };
        let revision = revision.context("a revision")?;
        others.writes.push((revision, Request::Txn(txn)));
    }
    Ok(())
}

/// Grants the lease of the events.
async fn grant(url: &str, others: &mut Others) -> Result<()> {
    let (id, ttl, _) = EVENTS;
    let mut leases = LeaseClient::new(client::lazy(url));
    let granted = leases.lease_grant(LeaseGrantRequest { ttl, id }).await?;
    ensure!(granted.into_inner().ttl == ttl);
    others.leases.push((id, ttl));
    Ok(())
}

/// Checks that the lease has the events of so many phases.
async fn check_lease(url: &str, phases: usize) -> Result<()> {
    let (id, ttl, count) = EVENTS;
    let request = LeaseTimeToLiveRequest { id, keys: true };
    let mut leases = LeaseClient::new(client::lazy(url));
    let mut found = leases.lease_time_to_live(request).await?.into_inner();
    found.keys.sort();
    let numbers = (0..phases).flat_map(|phase| (0..count).map(move |number| (phase, number)));
    let expected = numbers.map(|(phase, number)| format!("w/events/{phase}/{number:02}"));
    let expected: Vec<_> = expected.collect();
    ensure!(
        found.granted_ttl == ttl && found.keys == expected,
        "{found:?}"
    );
    Ok(())
}

/// Compacts if no other API server has done so since: the request, if it took effect.
async fn compact(url: &str, version: i64, others: &mut Others) -> Result<()> {
    let mut kv = client::kv(url).await?;
    let now = kv.range(everything(0)).await?.into_inner().header;
    let revision = now.context("a header")?.revision - 20;
    let version = (CompareTarget::Version, TargetUnion::Version(version));
    let txn = optimistic(
        version,
        PutRequest {
            key: COMPACT_REV_KEY.into(),
            value: revision.to_string().into(),
            ..PutRequest::default()
        },
    );
    let swapped = kv.txn(txn.clone()).await?.into_inner();
    ensure!(swapped.succeeded, "the version is not as expected");
    let at = swapped.header.context("a header")?.revision;
    others.writes.push((at, Request::Txn(txn)));
    let request = CompactionRequest {
        revision,
        physical: false,
    };
    kv.compact(request).await?;
    others.compactions.push(request);
    Ok(())
}

#[tokio::test]
async fn kubernetes_watches_have_no_gap_when_two_of_five_members_are_killed() -> Result<()> {
    let ours = binary::ours()?;
    if ours.ends_with("etcd") {
        return Ok(());
    }
    let _alone = alone().await;
    let mut cluster = start(5).await?;
    let urls = cluster.endpoints();
    let leader = cluster.leader().await?;
    let (other, survivor) = ((leader + 1) % 5, (leader + 2) % 5);
    let watch = |start_revision, first| WatcherPlan {
        request: WatchCreateRequest {
            key: "w/".into(),
            range_end: "w0".into(),
            start_revision,
            prev_kv: true,
            progress_notify: true,
            ..WatchCreateRequest::default()
        },
        first,
        patience: IMPATIENT,
    };
    let mut others = Others::default();
    grant(&urls[other], &mut others).await?;
    let writers = Writers::start(&urls, 6, "w/");
    let mut compactions = watch(1, survivor);
    compactions.request.key = COMPACT_REV_KEY.into();
    compactions.request.range_end.clear();
    let first = Watchers::start(&urls, vec![watch(1, survivor), compactions]);
    create_events(&urls[survivor], 0, &mut others).await?;
    writers.progress(100, LIMIT).await?;
    let next = list(&urls[other]).await? + 1;
    let caches = (0..WATCHERS).map(|number| watch(next, number)).collect();
    let caches = Watchers::start(&urls, caches);
    writers.progress(150, LIMIT).await?;
    compact(&urls[survivor], 0, &mut others).await?;
    cluster.kill(leader);
    cluster.kill(other);
    create_events(&urls[survivor], 1, &mut others).await?;
    writers.progress(200, LIMIT).await?;
    compact(&urls[survivor], 1, &mut others).await?;
    list(&urls[survivor]).await?;
    cluster.restart_all().await?;
    writers.progress(100, LIMIT).await?;
    let url = &urls[survivor];
    create_events(&urls[leader], 2, &mut others).await?;
    check_lease(url, 3).await?;
    conclude(url, writers, vec![first, caches], others).await
}
