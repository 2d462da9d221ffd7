//! The data with which a process begins: its own, or the other members'. The product's code
//! decides; the simulator provides the members that answer.

use keelson_core::MemberId;
use keelson_core::member::{StartKind, has_run, latest};
use keelson_core::state::Genesis;
use keelson_proto::internal::AppliedMark;
use keelson_proto::peer::MembersResponse;

use super::mutant::Mutant;
use super::storage::CLUSTER;
use super::world::World;

/// The result of looking for that data.
pub(super) enum Start {
    /// It starts with its own data, or else with this genesis.
    With(Option<Genesis>),
    /// No member that has the data answers. The process ends, and is started again later.
    Later,
    /// It must not go on, for this reason.
    Refused(String),
}

impl World {
    /// The data with which a member's process begins.
    pub(super) fn beginning(&self, id: MemberId) -> Start {
        let Some(member) = self.members.get(&id) else {
            return Start::Later;
        };
        let kind = match member.storage.start_kind() {
            Ok(kind) => kind,
            Err(error) => return Start::Refused(error.to_string()),
        };
        let answers = match kind {
            StartKind::Restart => return Start::With(None),
            StartKind::StateWithoutLog => return Start::Refused("there is no log".to_owned()),
            StartKind::Fresh | StartKind::LogWithoutState => self.answers(id),
        };
        let votes_again = self.mutant == Some(Mutant::LostDiskVotes);
        if !votes_again && has_run(id, answers.iter().flat_map(|answer| &answer.members)) {
            return Start::Refused("it has run before, and its data is not there".to_owned());
        }
        if member.has_lost_disk && !votes_again {
            // None of the members that answer has its client URLs: as in etcd, it would be
            // admitted.
            return Start::Later;
        }
        if let Some(founding) = &member.founding {
            return Start::With(Some(founding.clone()));
        }
        let has_it = |answer: &&MembersResponse| answer.members.iter().any(|it| it.id == id.0);
        match latest(&answers).find(has_it) {
            Some(answer) => Start::With(Some(Genesis {
                cluster_id: CLUSTER,
                members: answer.members.clone(),
                mark: AppliedMark::default(),
            })),
            None => Start::Later,
        }
    }

    /// The answers of the members that are connected with this one in both directions.
    pub(super) fn answers(&self, id: MemberId) -> Vec<MembersResponse> {
        let now = self.clock.now_ms();
        let others = self.members.values().filter(|other| {
            let cut = self.net.is_cut(id, other.id) || self.net.is_cut(other.id, id);
            other.id != id && other.paused_until <= now && !cut
        });
        let answers = others.filter_map(|other| {
            let view = other.life.as_ref()?.applier.state().view();
            Some(MembersResponse {
                cluster_id: CLUSTER.0,
                member_id: other.id.0,
                applied: view.applied_index().0,
                members: view.members(),
                ..MembersResponse::default()
            })
        });
        answers.collect()
    }
}
