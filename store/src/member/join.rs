//! A new member of a cluster that runs already: it asks the others who they are and which of them it
//! is. Its state comes later, as a snapshot.

use std::time::Duration;

use keelson_core::{ClusterId, MemberId};
use keelson_proto::etcdserverpb::Member;

use super::recover::Found;
use crate::config::{Config, InitialClusterState, Url, url};
use crate::open_error::OpenError;

/// How long the other founders may take to say whether they know this one. Most are not there yet.
const AMNESIA_PATIENCE: Duration = Duration::from_secs(2);

/// Asks the cluster's other members, by their URLs in `--initial-cluster`.
pub(crate) async fn join(config: &Config) -> Result<Found, OpenError> {
    let others = config
        .initial_cluster
        .iter()
        .filter(|(name, _)| *name != config.name);
    let urls: Vec<Url> = others.map(|(_, url)| url.clone()).collect();
    let mut why = "--initial-cluster names no other member".to_owned();
    for url in &urls {
        match crate::peer::ask_members(std::slice::from_ref(url)).await {
            Ok(answer) => {
                let me = myself(config, &answer.members)?;
                return Ok(Found::joining(
                    ClusterId(answer.cluster_id),
                    me,
                    answer.members,
                ));
            }
            Err(status) => why = format!("{url}: {}", status.message()),
        }
    }
    Err(OpenError::Join {
        urls: url::join(&urls),
        why,
    })
}

/// A founder that has lost its data must not come back as if it were new: it may have voted, and
/// acknowledged entries. Whoever of the other founders runs already can tell, by the client URLs
/// that it has published; in a cluster that is just being founded, nobody has published any.
pub(crate) async fn refuse_amnesia(config: &Config) -> Result<(), OpenError> {
    let Some(me) = config.founding_member_id() else {
        return Ok(());
    };
    let is_new = config.initial_cluster_state == InitialClusterState::New;
    let others = config
        .initial_cluster
        .iter()
        .filter(|(name, _)| is_new && *name != config.name);
    let asked = others.map(|(_, url)| async move {
        let answer = crate::peer::ask_members(std::slice::from_ref(url));
        tokio::time::timeout(AMNESIA_PATIENCE, answer)
            .await
            .ok()?
            .ok()
    });
    let answers = futures_util::future::join_all(asked).await;
    let mut known = answers
        .into_iter()
        .flatten()
        .flat_map(|answer| answer.members);
    match known.any(|member| member.id == me.0 && !member.client_ur_ls.is_empty()) {
        true => Err(OpenError::AlreadyBootstrapped {
            id: format!("{:x}", me.0),
            dir: config.data_dir.clone(),
        }),
        false => Ok(()),
    }
}

/// The member that `member add` announced with this one's peer URLs.
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
