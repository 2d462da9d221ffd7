//! Clients behind proxies, while members die and restart.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keelson_proto::etcdserverpb::RangeRequest;
use keelson_tests::bring_up::{Host, Load};
use keelson_tests::environment;
use keelson_tests::http::{Client, Request};
use keelson_tests::proc::cluster::{Cluster, Plan};
use keelson_tests::proc::fleet::Fleet;
use keelson_tests::proc::{binary, client};
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const MEMBERS: usize = 5;

/// The number of rounds in an ordinary run, and in a long one.
const ROUNDS: usize = 4;
const SOAK: usize = 60;

/// How long two members stay down.
const DOWN: Duration = Duration::from_millis(1_500);

fn proxy(cluster: &Cluster, name: &str) -> Result<Host> {
    Host::proxy(&binary::ours()?, cluster, name)
}

#[tokio::test]
async fn no_read_fails_and_no_write_is_done_twice_while_two_of_five_die() -> Result<()> {
    let soak = environment::setting("KEELSON_SOAK").is_some();
    let rounds = if soak { SOAK } else { ROUNDS };
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut cluster = Cluster::start(&Plan::new(&binary::ours()?, MEMBERS)).await?;
    let mut proxies = [proxy(&cluster, "p1")?, proxy(&cluster, "p2")?];
    for proxy in &mut proxies {
        proxy.start()?;
        proxy.serves().await?;
    }
    let urls: Vec<String> = proxies
        .iter()
        .map(|proxy| proxy.client_url.clone())
        .collect();
    let load = Load::start(&urls).await?;
    let fleet = Fleet::patient(&urls, 4, "fleet/", Duration::from_secs(20));
    for round in 0..rounds {
        let victims = victims(&cluster, round, &mut rng).await?;
        for victim in victims {
            cluster.kill(victim);
        }
        tokio::time::sleep(DOWN).await;
        load.progress(50)
            .await
            .with_context(|| cluster.log_tails())?;
        cluster.restart_all().await?;
        load.progress(50)
            .await
            .with_context(|| cluster.log_tails())?;
    }
    let seen = load.stop().await?;
    println!(
        "{} reads, {} writes, {} uncertain",
        seen.reads, seen.writes, seen.uncertain
    );
    let member = &cluster.endpoints()[0];
    let logs = || proxies.iter().map(Host::log_tail).collect::<String>();
    seen.verify(member).await.with_context(logs)?;
    verify_fleet(fleet, member).await.with_context(logs)
}

/// Writes go to the leader and reads to any member: some of the proxies prefer one that lags
/// slightly.
#[tokio::test]
async fn what_was_written_is_read_at_once() -> Result<()> {
    let cluster = Cluster::start(&Plan::new(&binary::ours()?, 3)).await?;
    for name in ["p1", "p2", "p3", "p4"] {
        let mut proxy = proxy(&cluster, name)?;
        proxy.start()?;
        proxy.serves().await?;
        let mut client = Client::new(&proxy.client_url);
        for key in 0..200 {
            let path = format!("/v2/keys/{name}/{key}");
            let made = client.ask(&Request::put(path.clone(), "value=1")).await?;
            ensure!(made.status == 201, "{made}");
            let read = client.ask(&Request::get(path)).await?;
            ensure!(read.status == 200, "{name}, {key}: {read}");
        }
    }
    Ok(())
}

/// Two of the members, in every other round the leader among them.
async fn victims(cluster: &Cluster, round: usize, rng: &mut impl Rng) -> Result<Vec<usize>> {
    let leader = cluster.leader().await?;
    let others = (0..MEMBERS).filter(|member| *member != leader);
    Ok(match round.is_multiple_of(2) {
        true => [leader].into_iter().chain(others.choose(rng)).collect(),
        false => others.choose_multiple(rng, 2),
    })
}

/// Checks puts over gRPC, each of its own key: what was acknowledged is there, and a key that was
/// put twice would have version 2.
async fn verify_fleet(fleet: Fleet, member: &str) -> Result<()> {
    let ledger = fleet.stop().await;
    println!(
        "{} puts, {} uncertain",
        ledger.acked.len(),
        ledger.unknown.len()
    );
    ensure!(ledger.refused.is_empty(), "{:?}", ledger.refused);
    let request = RangeRequest {
        key: "fleet/".into(),
        range_end: "fleet0".into(),
        ..Default::default()
    };
    let there = client::kv(member).await?.range(request).await?.into_inner();
    let twice = there.kvs.iter().find(|kv| kv.version != 1);
    ensure!(twice.is_none(), "{twice:?}");
    let keys: std::collections::BTreeSet<&[u8]> = there.kvs.iter().map(|kv| &kv.key[..]).collect();
    let lost = ledger
        .acked
        .iter()
        .find(|ack| !keys.contains(ack.key.as_bytes()));
    ensure!(lost.is_none(), "{lost:?} is lost");
    Ok(())
}

/// All members are down for seconds: requests meanwhile are held, and answered afterwards.
#[tokio::test]
async fn requests_are_held_while_all_members_are_away() -> Result<()> {
    let mut cluster = Cluster::start(&Plan::new(&binary::ours()?, 3)).await?;
    // A long timeout, since members of a debug build are slow on a busy machine.
    let mut proxy = proxy(&cluster, "p1")?.with("ETCD_ELECTION_TIMEOUT", "20000");
    proxy.start()?;
    proxy.serves().await?;
    let url = proxy.client_url.clone();
    let mut client = Client::patient(&url, Duration::from_secs(60));
    let made = client.ask(&Request::put("/v2/keys/a", "value=1")).await?;
    let created = made.number("x-etcd-index").context("an index")?;
    let wait = format!("/v2/keys/a?wait=true&waitIndex={}", created + 1);
    let waiting = client.open(&Request::get(wait)).await?;
    for member in 0..3 {
        cluster.kill(member);
    }
    let begin = Instant::now();
    let held = [
        Request::get("/v2/keys/a"),
        Request::get("/v2/keys/a?quorum=true"),
        Request::put("/v2/keys/b", "value=2"),
        Request::new("POST", "/v2/keys/q").form("value=3"),
        Request::new("DELETE", "/v2/keys/a"),
    ];
    let held: Vec<_> = held.into_iter().map(|request| ask(&url, request)).collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(
        held.iter().all(|answer| !answer.is_finished()),
        "answered by nobody"
    );
    cluster.restart_all().await?;
    for (answer, statuses) in
        held.into_iter()
            .zip([&[200, 404], &[200, 404], &[201; 2], &[201; 2], &[200; 2]])
    {
        let (request, reply) = answer.await?;
        let reply = reply.with_context(|| format!("{request}\n{}", proxy.log_tail()))?;
        ensure!(statuses.contains(&reply.status), "{request}: {reply}");
    }
    println!("held for {:?}", begin.elapsed());
    // The wait went on at another member, and received the event: the key's end.
    let mut waiting = waiting;
    let event = async {
        while !waiting.more().await? {}
        anyhow::Ok(String::from_utf8_lossy(&waiting.head.body).into_owned())
    };
    let event = tokio::time::timeout(Duration::from_secs(20), event).await??;
    ensure!(event.contains("\"action\":\"delete\""), "{event}");
    let kept = client
        .ask(&Request::get("/v2/keys/q?recursive=true"))
        .await?;
    ensure!(
        kept.text().matches("\"value\":\"3\"").count() == 1,
        "{kept}"
    );
    Ok(())
}

type Answer = (Request, Result<keelson_tests::http::Reply>);

fn ask(url: &str, request: Request) -> tokio::task::JoinHandle<Answer> {
    let mut client = Client::once(url, Duration::from_secs(60));
    tokio::spawn(async move {
        let reply = client.ask(&request).await;
        (request, reply)
    })
}

/// No member comes back: 503 with etcd 2's text, once, and not before the time is up.
#[tokio::test]
async fn held_requests_end_with_503_when_nobody_comes() -> Result<()> {
    let mut cluster = Cluster::start(&Plan::new(&binary::ours()?, 1)).await?;
    let mut proxy = proxy(&cluster, "p1")?.with("ETCD_ELECTION_TIMEOUT", "500");
    proxy.start()?;
    proxy.serves().await?;
    cluster.kill(0);
    let begin = Instant::now();
    let write = ask(&proxy.client_url, Request::put("/v2/keys/b", "value=2"));
    let read = ask(&proxy.client_url, Request::get("/v2/keys/b"));
    for answer in [write, read] {
        let (request, reply) = answer.await?;
        let reply = reply?;
        let words = "{\"message\":\"proxy: zero endpoints currently available\"}";
        ensure!(
            reply.status == 503 && reply.text() == words,
            "{request}: {reply}"
        );
    }
    let took = begin.elapsed();
    ensure!((5..15).contains(&took.as_secs()), "after {took:?}");
    Ok(())
}
