//! Why a cut-over does not open the standby.

use tonic::Status;

use super::follower::FollowError;
use super::tree::TreeFollowError;

/// Why the standby is not opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum CutoverError {
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error(
        "the contents differ at revision {revision}: HashKV {ours} here and {theirs} at the \
         source, compacted {our_compaction} and {their_compaction}. The standby begins anew, from \
         another snapshot"
    )]
    Differs {
        revision: i64,
        ours: u32,
        theirs: u32,
        our_compaction: i64,
        their_compaction: i64,
    },
    #[error(
        "the v2 keys of the source cannot be compared: {0}. keelson follow --without-v2 follows \
         none"
    )]
    Tree(#[from] TreeFollowError),
    #[error(
        "the v2 keys of the source were not read in time. Try again with a longer --timeout; or \
         keelson follow --without-v2 follows none"
    )]
    TreeLate,
    #[error("the source's {0} were not compared in time. Try again with a longer --timeout")]
    Late(&'static str),
    #[error("keelson cutover was stopped")]
    GivenUp,
    #[error(
        "whether the standby is open is not known ({0}), so the source goes on refusing writes. \
         Restart keelson follow: it follows again if the standby is not open, and keelson cutover \
         may be repeated; or etcdctl alarm disarm at the source ends the refusals"
    )]
    Unknown(String),
    #[error(
        "the source is still written to: it is at revision {0} now. Stop its writers, or leave \
         out --no-fence"
    )]
    Written(i64),
}

impl From<Status> for CutoverError {
    fn from(status: Status) -> CutoverError {
        FollowError::from(status).into()
    }
}

impl From<keelson_store::Error> for CutoverError {
    fn from(error: keelson_store::Error) -> CutoverError {
        FollowError::from(error).into()
    }
}
