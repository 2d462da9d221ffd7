//! The check after the faults: every acknowledged write is on every member, once, and all members
//! are equal.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_proto::etcdserverpb::{HashKvRequest, PutRequest, RangeRequest};

use crate::proc::client;
use crate::proc::cluster::Cluster;
use crate::proc::fleet::{self, WriteResults};

/// The page size of the check's reads, in keys.
const PAGE: i64 = 20_000;

/// The result of the check. Everything but `resolved` should be empty.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// Acknowledged writes that a member lacks or has with another value or revision.
    pub lost: Vec<String>,
    /// Keys that were written more than once, or that no client wrote.
    pub invented: Vec<String>,
    /// Requests that were refused without a reason.
    pub refused: Vec<String>,
    /// Members whose state differs from the first one's.
    pub unequal: Vec<String>,
    /// Writes of unknown outcome that have taken effect.
    pub resolved: usize,
}

impl CheckReport {
    /// Whether there are no violations.
    pub fn good(&self) -> bool {
        [&self.lost, &self.invented, &self.refused, &self.unequal]
            .iter()
            .all(|list| list.is_empty())
    }

    /// The violations, a few of each kind.
    pub fn violations(&self) -> String {
        let kinds = [
            ("lost", &self.lost),
            ("invented", &self.invented),
            ("refused", &self.refused),
            ("unequal", &self.unequal),
        ];
        let mut text = String::new();
        for (kind, list) in kinds.into_iter().filter(|(_, list)| !list.is_empty()) {
            text += &format!("{} {kind}:\n", list.len());
            for item in list.iter().take(5) {
                text += &format!("  {item}\n");
            }
        }
        text
    }
}

/// The contents of a member below a prefix: key -> (value, mod revision, version).
type Held = BTreeMap<Vec<u8>, (Vec<u8>, i64, i64)>;

/// Checks all writes of the fleet below `prefix` on every running member.
///
/// # Errors
/// A member does not answer.
pub async fn verify(cluster: &Cluster, ledger: &WriteResults, prefix: &str) -> Result<CheckReport> {
    let mut verdict = CheckReport {
        refused: ledger.refused.clone(),
        ..Default::default()
    };
    for number in cluster.running() {
        let member = &cluster.members[number];
        catch_up(&member.client_url)
            .await
            .with_context(|| member.log_tail())?;
        let held = scan(&member.client_url, prefix).await?;
        compare(&mut verdict, &member.name, ledger, held);
    }
    verdict.unequal = unequal(cluster).await?;
    Ok(verdict)
}

/// A linearizable read: after it the member has applied everything that was committed before.
async fn catch_up(url: &str) -> Result<()> {
    let mut kv = client::kv(url).await?;
    let request = RangeRequest {
        key: "verify".into(),
        ..Default::default()
    };
    // A restarted member has to read a snapshot and its log first.
    let mut last = None;
    for _ in 0..20 {
        match tokio::time::timeout(Duration::from_secs(10), kv.range(request.clone())).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(status)) => last = Some(anyhow::Error::from(status)),
            Err(_) => last = Some(anyhow::Error::msg("no answer in 10 s")),
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    Err(last.expect("the loop ran")).with_context(|| format!("{url} does not catch up"))
}

/// Reads all keys below the prefix from this member's own state, in pages.
async fn scan(url: &str, prefix: &str) -> Result<Held> {
    let mut kv = client::kv(url).await?;
    let mut held = Held::new();
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().context("a prefix is not empty")? += 1;
    let mut from = prefix.as_bytes().to_vec();
    loop {
        let request = RangeRequest {
            key: from.clone().into(),
            range_end: end.clone().into(),
            limit: PAGE,
            serializable: true,
            ..Default::default()
        };
        let page = kv
            .range(request)
            .await
            .with_context(|| format!("cannot scan {url}"))?;
        let page = page.into_inner();
        for pair in page.kvs {
            from = pair.key.to_vec();
            let row = (pair.value.to_vec(), pair.mod_revision, pair.version);
            held.insert(pair.key.to_vec(), row);
        }
        if !page.more {
            return Ok(held);
        }
        from.push(0);
    }
}

fn compare(verdict: &mut CheckReport, member: &str, ledger: &WriteResults, mut held: Held) {
    for ack in &ledger.acked {
        let expected = (fleet::value(&ack.key).into_bytes(), ack.revision, 1);
        match held.remove(ack.key.as_bytes()) {
            Some(row) if row == expected => {}
            Some((_, revision, version)) if version != 1 => {
                let what = format!("{member}: {} v{version} at {revision}", ack.key);
                verdict.invented.push(what);
            }
            Some((_, revision, _)) => {
                let what = format!("{member}: {} at {revision}, not {}", ack.key, ack.revision);
                verdict.lost.push(what);
            }
            None => verdict
                .lost
                .push(format!("{member}: {} at {}", ack.key, ack.revision)),
        }
    }
    let mut resolved = 0;
    for (key, _) in &ledger.unknown {
        match held.remove(key.as_bytes()) {
            Some((value, _, 1)) if value == fleet::value(key).as_bytes() => resolved += 1,
            Some(row) => verdict.invented.push(format!("{member}: {key} is {row:?}")),
            None => {}
        }
    }
    verdict.resolved = verdict.resolved.max(resolved);
    for key in held.keys() {
        verdict
            .invented
            .push(format!("{member}: {}", String::from_utf8_lossy(key)));
    }
}

/// Members whose hash of the whole store, at one revision, differs from the first one's.
async fn unequal(cluster: &Cluster) -> Result<Vec<String>> {
    let running = cluster.running();
    let first = *running.first().context("no member runs")?;
    let revision = marker(&cluster.members[first].client_url).await?;
    let mut hashes = Vec::new();
    for number in running {
        let member = &cluster.members[number];
        catch_up(&member.client_url).await?;
        let mut maintenance = client::maintenance(&member.client_url).await?;
        let answer = maintenance.hash_kv(HashKvRequest { revision }).await;
        let answer = answer.with_context(|| format!("{} gives no hash", member.name))?;
        let answer = answer.into_inner();
        hashes.push((member.name.as_str(), answer.hash, answer.compact_revision));
    }
    ensure!(!hashes.is_empty());
    let (_, hash, compacted) = hashes[0];
    let differs = hashes
        .iter()
        .filter(|(_, h, c)| (*h, *c) != (hash, compacted));
    Ok(differs
        .map(|(name, h, c)| format!("{name}: {h} at {c}, not {hash} at {compacted}"))
        .collect())
}

/// Writes a marker, whose revision every member reaches and none is beyond.
async fn marker(url: &str) -> Result<i64> {
    let request = PutRequest {
        key: "marker".into(),
        ..Default::default()
    };
    let response = client::kv(url).await?.put(request).await?.into_inner();
    Ok(response
        .header
        .context("the answer has no header")?
        .revision)
}
