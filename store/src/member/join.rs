//! A new member of a cluster that runs already: it asks the others who they are and which of them it
//! is. Its state comes later, as a snapshot.

use keelson_core::{ClusterId, MemberId};
use keelson_proto::etcdserverpb::Member;

use super::recover::Found;
use crate::config::{Config, Url, url};
use crate::open_error::OpenError;

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
