//! The calls of a kube-apiserver while members die: lists in pages at one revision, `RangeStream`,
//! watches from the revision of a list with progress requests, optimistic transactions, and
//! compaction through `compact_rev_key`.

use keelson_model::kv::Request;
use keelson_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keelson_proto::etcdserverpb::*;
use keelson_proto::mvccpb::KeyValue;
use keelson_tests::chaos::watchers::{WatcherPlan, Watchers};
use keelson_tests::chaos::writers::Writers;

use super::watches::{IMPATIENT, Others, conclude};
use super::*;

/// The watchers of the caches of all API servers.
const WATCHERS: usize = 50;
/// The pairs of a page.
const PAGE: i64 = 5;
/// The key by which API servers elect the one that compacts.
const COMPACT_REV_KEY: &str = "compact_rev_key";

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

/// Compacts if no other API server has done so since: the request, if it took effect.
async fn compact(url: &str, version: i64, others: &mut Others) -> Result<()> {
    let mut kv = client::kv(url).await?;
    let now = kv.range(everything(0)).await?.into_inner().header;
    let revision = now.context("a header")?.revision - 20;
    let op = |request| RequestOp {
        request: Some(request),
    };
    let txn = TxnRequest {
        compare: vec![Compare {
            key: COMPACT_REV_KEY.into(),
            result: CompareResult::Equal.into(),
            target: CompareTarget::Version.into(),
            target_union: Some(TargetUnion::Version(version)),
            ..Compare::default()
        }],
        success: vec![op(request_op::Request::RequestPut(PutRequest {
            key: COMPACT_REV_KEY.into(),
            value: revision.to_string().into(),
            ..PutRequest::default()
        }))],
        failure: vec![op(request_op::Request::RequestRange(RangeRequest {
            key: COMPACT_REV_KEY.into(),
            ..RangeRequest::default()
        }))],
    };
    let done = kv.txn(txn.clone()).await?.into_inner();
    ensure!(done.succeeded, "the version is not {version}");
    let at = done.header.context("a header")?.revision;
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
    let writers = Writers::start(&urls, 6, "w/");
    let first = Watchers::start(&urls, vec![watch(1, survivor)]);
    writers.progress(100, LIMIT).await?;
    let next = list(&urls[other]).await? + 1;
    let caches = (0..WATCHERS).map(|number| watch(next, number)).collect();
    let caches = Watchers::start(&urls, caches);
    writers.progress(150, LIMIT).await?;
    compact(&urls[survivor], 0, &mut others).await?;
    cluster.kill(leader);
    cluster.kill(other);
    writers.progress(200, LIMIT).await?;
    compact(&urls[survivor], 1, &mut others).await?;
    list(&urls[survivor]).await?;
    cluster.restart_all().await?;
    writers.progress(100, LIMIT).await?;
    let url = &urls[survivor];
    conclude(url, writers, vec![first, caches], others).await
}
