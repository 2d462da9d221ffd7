//! The identity and the initial state with which a member starts.

use keelson_core::state::Genesis;
use keelson_core::{ClusterId, MemberId};
use keelson_proto::etcdserverpb::Member;
use keelson_proto::internal::{AppliedMark, ConfState};

use crate::config::Config;
use crate::open_error::OpenError;
use crate::wal::Identity;

/// The identity of a member and, for a new one, its initial state.
pub(crate) struct Bootstrap {
    pub(crate) identity: Identity,
    pub(crate) genesis: Option<Genesis>,
}

impl Bootstrap {
    /// A member that starts again, from its log and its state.
    pub(crate) fn restart(identity: Identity) -> Bootstrap {
        Bootstrap {
            identity,
            genesis: None,
        }
    }

    /// The initial state of a founder.
    ///
    /// # Errors
    /// `--initial-cluster` does not fit this member's flags.
    pub(crate) fn founding(config: &Config) -> Result<Bootstrap, OpenError> {
        config.verify_bootstrap(crate::listen::same_address)?;
        let founders = config.founders();
        let member = config.founding_member_id().expect("verified just above");
        let cluster = config.founding_cluster_id();
        let members = founders.iter().map(|founder| Member {
            id: founder.id.0,
            name: founder.name.clone(),
            peer_ur_ls: founder
                .peer_urls
                .iter()
                .map(|url| url.to_string())
                .collect(),
            ..Member::default()
        });
        let conf_state = ConfState {
            voters: founders.iter().map(|founder| founder.id.0).collect(),
            ..ConfState::default()
        };
        // The founding counts as the first entry. So a member that joins later with an empty log is
        // behind the start of the log, and receives the founding members in a snapshot.
        let mark = AppliedMark {
            index: 1,
            term: 1,
            conf_state: Some(conf_state),
            hash: None,
        };
        let genesis = Genesis {
            cluster_id: cluster,
            members: members.collect(),
            mark,
        };
        Ok(Bootstrap {
            identity: Identity { cluster, member },
            genesis: Some(genesis),
        })
    }

    #[cfg(test)]
    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// The initial state of a member that joins that cluster.
    pub(crate) fn joining(cluster: ClusterId, member: MemberId, members: Vec<Member>) -> Bootstrap {
        let genesis = Genesis {
            cluster_id: cluster,
            members,
            mark: AppliedMark::default(),
        };
        Bootstrap {
            identity: Identity { cluster, member },
            genesis: Some(genesis),
        }
    }
}
