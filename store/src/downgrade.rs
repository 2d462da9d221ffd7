//! A downgrade of the cluster by one minor version: etcd's checks, in etcd's order.

use keelson_core::state::auth::Access;
use keelson_core::state::{self, version_below};
use keelson_proto::etcdserverpb::downgrade_request::DowngradeAction;
use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::Downgrade;
use keelson_proto::internal::command::Op;

use crate::{Error, Store, version};

impl Store {
    /// Checks, begins or cancels a downgrade of the cluster to the minor version below. While one
    /// is in progress nothing is proposed that the release before this one does not understand.
    ///
    /// # Errors
    /// etcd's: a target that is no version or not the one below, a downgrade in progress or none,
    /// no cluster version yet; and those of [`Store::put`].
    pub async fn downgrade(&self, request: DowngradeRequest) -> Result<DowngradeResponse, Error> {
        let version = match DowngradeAction::try_from(request.action) {
            Ok(DowngradeAction::Validate) => self.check_downgrade(&request.version).await?.0,
            Ok(DowngradeAction::Enable) => {
                let (version, target) = self.check_downgrade(&request.version).await?;
                self.propose(Op::Downgrade(Downgrade { target })).await?;
                tracing::info!("the downgrade of the cluster to {} begins", request.version);
                version
            }
            Ok(DowngradeAction::Cancel) => {
                self.authorize_now(Access::Root).await?;
                self.read_index().await?;
                if self.view().downgrade().is_none() {
                    return Err(state::Error::NoDowngrade.into());
                }
                let target = String::new();
                self.propose(Op::Downgrade(Downgrade { target })).await?;
                tracing::info!("the downgrade of the cluster is cancelled");
                self.view().cluster_version().unwrap_or_default()
            }
            // etcd's `ErrUnknownMethod`.
            Err(_) => return Err(Error::Internal("etcdserver: unknown method".to_owned())),
        };
        Ok(DowngradeResponse {
            header: self.header(),
            version,
        })
    }

    /// The cluster version, and the target if a downgrade to it may begin.
    async fn check_downgrade(&self, target: &str) -> Result<(String, String), Error> {
        self.authorize_now(Access::Root).await?;
        let target = version::parse_cluster(target).ok_or(Error::WrongDowngradeFormat)?;
        self.read_index().await?;
        let view = self.view();
        let version = view.cluster_version().ok_or(Error::NoClusterVersion)?;
        if version_below(&version).as_ref() != Some(&target) {
            return Err(state::Error::InvalidDowngradeTarget.into());
        }
        match view.downgrade() {
            Some(_) => Err(state::Error::DowngradeInProgress.into()),
            None => Ok((version, target)),
        }
    }

    /// The downgrade in progress, as `Status` states it.
    pub(crate) fn downgrade_info(&self) -> DowngradeInfo {
        let target = self.view().downgrade();
        DowngradeInfo {
            enabled: target.is_some(),
            target_version: target.unwrap_or_default(),
        }
    }
}
