//! A new member of a running cluster: it requests the member list from the others, and finds
//! itself in it by its peer URLs. Its state arrives later, as a snapshot.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use keelson_core::member::{has_run, latest};
use keelson_core::{ClusterId, MemberId};
use keelson_port::ClientTls;
use keelson_proto::etcdserverpb::Member;
use keelson_proto::peer::MembersResponse;
use tokio::time::timeout_at;

use super::bootstrap::Bootstrap;
use crate::config::{Config, InitialClusterState, Url, url};
use crate::open_error::OpenError;

/// The timeout for one founder's answer. Most founders have not started yet.
const FOUNDER_TIMEOUT: Duration = Duration::from_secs(2);

/// The timeout for the confirmations that are required.
const CONFIRMATION_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the member list is requested when no answer contains this member.
const JOIN_ROUNDS: usize = 3;
const JOIN_RETRY: Duration = Duration::from_millis(300);
const RETRY: Duration = Duration::from_millis(500);

/// Requests the member list at the URLs of `--initial-cluster`. A member that lags may lack this
/// member's addition, so all are queried again after a pause.
pub(crate) async fn join(config: &Config, tls: &ClientTls) -> Result<Bootstrap, OpenError> {
    let others = config
        .initial_cluster
        .iter()
        .filter(|(name, _)| *name != config.name);
    let urls: Vec<Url> = others.map(|(_, url)| url.clone()).collect();
    let mut last = OpenError::Join {
        urls: url::join(&urls),
        why: "--initial-cluster names no other member".to_owned(),
    };
    for round in 0..JOIN_ROUNDS {
        if 0 < round {
            tokio::time::sleep(JOIN_RETRY).await;
        }
        let (answers, why) = request_until_listed(config, &urls, tls).await;
        for answer in latest(&answers) {
            match myself(config, &answer.members) {
                Ok(me) => {
                    let same = |other: &&MembersResponse| other.cluster_id == answer.cluster_id;
                    for answer in answers.iter().filter(same) {
                        refuse_lost(config, me, &answer.members)?;
                    }
                    let cluster = ClusterId(answer.cluster_id);
                    return Ok(Bootstrap::joining(cluster, me, answer.members.clone()));
                }
                Err(error) => last = error,
            }
        }
        if let (Some(why), true) = (why, answers.is_empty()) {
            let urls = url::join(&urls);
            return Err(OpenError::Join { urls, why });
        }
    }
    Err(last)
}

/// The answers from these URLs, and the last error. Once one answer contains this member, the
/// rest get only a short timeout. They are still awaited, since a member that lags may lack what
/// this member published when it ran.
async fn request_until_listed(
    config: &Config,
    urls: &[Url],
    tls: &ClientTls,
) -> (Vec<MembersResponse>, Option<String>) {
    let mut pending: FuturesUnordered<_> = urls
        .iter()
        .map(|url| async move {
            let urls = std::slice::from_ref(url);
            (url, crate::peer::request_members(urls, tls).await)
        })
        .collect();
    let until = tokio::time::Instant::now() + FOUNDER_TIMEOUT;
    let (mut answers, mut why) = (Vec::new(), None);
    let mut is_listed = false;
    while !pending.is_empty() {
        let next = match is_listed {
            true => timeout_at(until, pending.next()).await.ok().flatten(),
            false => pending.next().await,
        };
        match next {
            Some((_, Ok(answer))) => {
                is_listed |= myself(config, &answer.members).is_ok();
                answers.push(answer);
            }
            Some((url, Err(status))) => why = Some(format!("{url}: {}", status.message())),
            None => break,
        }
    }
    (answers, why)
}

/// Refuses a member whose client URLs are published: it has run, voted and acknowledged entries.
/// Without its data it must not return under its id.
fn refuse_lost(config: &Config, me: MemberId, members: &[Member]) -> Result<(), OpenError> {
    match has_run(me, members) {
        true => Err(OpenError::LostItsData {
            id: format!("{:x}", me.0),
            dir: config.data_dir.clone(),
        }),
        false => Ok(()),
    }
}

/// Refuses a founder that has lost its data: it may have voted and acknowledged entries. The
/// running founders detect it by its published client URLs; in a cluster that is just being
/// founded none are published. As in etcd, a founder that does not respond is ignored, unless
/// this host has registered before.
pub(crate) async fn refuse_amnesia(config: &Config, tls: &ClientTls) -> Result<(), OpenError> {
    let (Some(me), InitialClusterState::New) =
        (config.founding_member_id(), config.initial_cluster_state)
    else {
        return Ok(());
    };
    let mut founders = BTreeMap::<&str, Vec<Url>>::new();
    for (name, url) in &config.initial_cluster {
        founders.entry(name).or_default().push(url.clone());
    }
    let needed = match config.must_be_vouched_for {
        true => vouchers(founders.len()),
        false => 0,
    };
    founders.remove(config.name.as_str());
    let until = Instant::now() + CONFIRMATION_TIMEOUT;
    loop {
        let mut answers = request_all(founders.values(), tls).await;
        answers.retain(|answer| answer.cluster_id == config.founding_cluster_id().0);
        if has_run(me, answers.iter().flat_map(|answer| &answer.members)) {
            return Err(OpenError::AlreadyBootstrapped {
                id: format!("{:x}", me.0),
                dir: config.data_dir.clone(),
            });
        }
        let confirmed = answers.iter().filter(|answer| !answer.founding).count();
        if needed <= confirmed || all_are_empty(&answers, founders.len()) {
            return Ok(());
        }
        if founders.len() < needed || until <= Instant::now() {
            return Err(OpenError::NotVouchedFor {
                id: format!("{:x}", me.0),
                dir: config.data_dir.clone(),
                confirmed,
                needed,
            });
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Whether every other founder responded and none holds data. The cluster's data is then lost
/// everywhere, and it is founded anew.
fn all_are_empty(answers: &[MembersResponse], others: usize) -> bool {
    0 < others && answers.len() == others && answers.iter().all(|answer| answer.empty)
}

/// The number of other founders that must report that a founder has never run. If its URLs were
/// published, a majority has the entry, possibly including itself; this number of others
/// intersects the rest of any majority. Each reports its applied state, so a founder that loses
/// its disk within moments of its first start may be missed.
fn vouchers(founders: usize) -> usize {
    let majority = founders / 2 + 1;
    founders - majority + 1
}

async fn request_all(
    founders: impl Iterator<Item = &Vec<Url>>,
    tls: &ClientTls,
) -> Vec<MembersResponse> {
    let requests = founders.map(|urls| async move {
        let answer = crate::peer::request_members(urls, tls);
        let answered = tokio::time::timeout(FOUNDER_TIMEOUT, answer).await;
        answered.ok()?.ok()
    });
    let answers = futures_util::future::join_all(requests).await;
    answers.into_iter().flatten().collect()
}

/// The member that `member add` announced with this host's peer URLs.
fn myself(config: &Config, members: &[Member]) -> Result<MemberId, OpenError> {
    let mine = |member: &&Member| {
        let announced = member
            .peer_ur_ls
            .iter()
            .filter_map(|url| Url::parse(url).ok());
        let mut announced = announced.peekable();
        announced.peek().is_some()
            && announced.all(|url| config.initial_advertise_peer_urls.contains(&url))
    };
    let found = members.iter().find(mine).map(|member| MemberId(member.id));
    found.ok_or_else(|| OpenError::Join {
        urls: url::join(&config.initial_advertise_peer_urls),
        why: format!(
            "the cluster has no member with exactly these peer URLs; call `etcdctl member add {} \
             --peer-urls={}` first",
            config.name,
            url::join(&config.initial_advertise_peer_urls)
        ),
    })
}

#[cfg(test)]
mod tests;
