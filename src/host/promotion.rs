//! The second half of `keelson promote`: the host joined as a learner, and votes once it is in sync.

use std::path::PathBuf;
use std::time::Duration;

use keelson_store::{Error, Store};
use tracing::{info, warn};

/// Between two attempts of a learner to become a voter.
const RETRY: Duration = Duration::from_millis(200);

/// Makes this member a voter if `keelson promote` added it, as soon as the leader finds it in sync. Does
/// nothing on any other member: a learner of `member add --learner` is its operator's to promote.
pub(super) async fn vote_when_in_sync(store: Store, data_dir: PathBuf) {
    match keelson_proxy::was_promoted(&data_dir) {
        Ok(true) => {}
        Ok(false) => return,
        Err(error) => return warn!(%error, "this member remains a learner if it is one"),
    }
    store.ready().await;
    while is_learner(&store).await {
        match store.member_promote(store.member_id()).await {
            Ok(_) => info!("this member is in sync and votes"),
            Err(Error::Stopped) => return,
            Err(Error::LearnerNotReady) => {}
            Err(error) => warn!(%error, "this member is a learner and could not be promoted yet"),
        }
        tokio::time::sleep(RETRY).await;
    }
    if let Err(error) = keelson_proxy::forget_promotion(&data_dir) {
        warn!(%error, "the promotion is done and its file remains");
    }
}

/// By this member's own state. One that has not applied its own add yet is not in the list.
async fn is_learner(store: &Store) -> bool {
    let listed = store.member_list(false).await;
    let mut members = listed
        .map_or_else(|_| Vec::new(), |listed| listed.members)
        .into_iter();
    let own = members.find(|member| member.id == store.member_id().0);
    own.is_none_or(|member| member.is_learner)
}
