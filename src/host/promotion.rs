//! The second half of `keelson promote`: the host joined as a learner, and becomes a voter once it
//! is in sync.

use std::path::PathBuf;
use std::time::Duration;

use keelson_store::{Error, Store};
use tracing::{info, warn};

use super::data_dir;

/// The interval of a learner's attempts to become a voter.
const RETRY: Duration = Duration::from_millis(200);

/// Makes this member a voter if `keelson promote` added it, as soon as the leader finds it in sync.
/// Has no effect on any other member: the operator promotes a learner of `member add --learner`.
pub(super) async fn vote_when_in_sync(store: Store, directory: PathBuf) {
    match data_dir::was_promoted(&directory) {
        Ok(true) => {}
        Ok(false) => return,
        Err(error) => return warn!(%error, "cannot check for a pending promotion"),
    }
    store.ready().await;
    while is_learner(&store).await {
        match store.member_promote(store.member_id()).await {
            Ok(_) => info!("this member is in sync and is a voter now"),
            Err(Error::Stopped) => return,
            Err(Error::LearnerNotReady) => {}
            Err(error) => warn!(%error, "this learner could not be promoted yet; trying again"),
        }
        tokio::time::sleep(RETRY).await;
    }
    if let Err(error) = data_dir::forget_promotion(&directory) {
        warn!(%error, "the promotion is done, but its file could not be removed");
    }
}

/// Whether this member is a learner by its own state. Before it has applied its own addition it is
/// not in the list.
async fn is_learner(store: &Store) -> bool {
    let listed = store.member_list(false).await;
    let mut members = listed
        .map_or_else(|_| Vec::new(), |listed| listed.members)
        .into_iter();
    let own = members.find(|member| member.id == store.member_id().0);
    own.is_none_or(|member| member.is_learner)
}
