//! Why a replacement stopped, each with its remedy.

use std::time::Duration;

use keelson_proto::etcdserverpb::Member;

use crate::commands::access::AccessError;

#[derive(Debug, thiserror::Error)]
pub(super) enum ReplaceError {
    #[error("{0}")]
    Access(#[from] AccessError),
    #[error("the cluster refuses to {what}: {text}; {remedy}{again}")]
    User {
        what: &'static str,
        text: String,
        remedy: &'static str,
        again: String,
    },
    #[error(
        "there is no member {member} (members: {listed}). If it was removed before, give the peer \
         URLs of its successor with --peer-urls"
    )]
    NotFound { member: String, listed: String },
    #[error(
        "{member} may still run: {doubt}. Stop it, or make sure that it does not run and repeat \
         this command with --force"
    )]
    MayRun {
        member: String,
        doubt: LivenessDoubt,
    },
    #[error(
        "the voter {name} ({id:x}) has the successor's peer URL ({urls}). If it is to be replaced, \
         give its name or id, else --peer-urls with the successor's own"
    )]
    Taken { name: String, id: u64, urls: String },
    #[error("several members are named {0}: give the id that `etcdctl member list` shows")]
    Ambiguous(String),
    #[error(
        "no member answers with a majority of the cluster: {0}. Check --endpoints, and that most \
         members run; without a majority no member can be replaced"
    )]
    NoAnswer(String),
    #[error(
        "the cluster refuses to {what}: a voter does not answer the leader{silent}. Start it, or \
         replace it as well, then repeat this command{again}"
    )]
    Unhealthy {
        what: &'static str,
        silent: String,
        again: String,
    },
    #[error(
        "the cluster refuses to {what}: too few of the other voters were ever started. Remove \
         members that never started (`etcdctl member remove ID`). A cluster of one has no other \
         copy of its data: restore it from a backup"
    )]
    NotEnoughStarted { what: &'static str },
    #[error(
        "the cluster has a learner already{named}. Promote or remove it first, or raise the \
         leader's --max-learners"
    )]
    TooManyLearners { named: String },
    #[error(
        "the cluster refuses the peer URLs {0}: each must be a URL such as http://10.0.0.3:2380"
    )]
    BadUrls(String),
    #[error("the cluster refuses to {what}: {text}")]
    Refused { what: &'static str, text: String },
    #[error(
        "{name} was not started, or is not in sync, after {waited:?}. It stays a learner; repeat \
         this command to continue{again}"
    )]
    NotInTime {
        name: String,
        waited: Duration,
        again: String,
    },
}

/// Why a member that does not answer here is not taken for lost.
#[derive(Debug, thiserror::Error)]
pub(super) enum LivenessDoubt {
    #[error("its client URL {url} leads to another member ({id:x}) from this host")]
    OtherMember { url: String, id: u64 },
    #[error("its client URL {0} answers, and refuses the user")]
    Refused(String),
    #[error("its client URLs ({0}) lead to this host only")]
    Loopback(String),
    #[error(
        "its client URLs ({0}) do not answer here, but the leader counts no voter as silent. If it \
         was stopped a moment ago, repeat this command"
    )]
    Active(String),
}

impl LivenessDoubt {
    /// The doubt about this member, in an error.
    pub(super) fn about(self, member: &Member) -> ReplaceError {
        ReplaceError::MayRun {
            member: names([member]),
            doubt: self,
        }
    }
}

impl ReplaceError {
    pub(super) fn not_found(member: &str, members: &[Member]) -> ReplaceError {
        ReplaceError::NotFound {
            member: member.to_owned(),
            listed: names(members),
        }
    }
}

/// The names, or ids of members that were never started.
pub(super) fn names<'a>(members: impl IntoIterator<Item = &'a Member>) -> String {
    let names = members.into_iter().map(|member| match &*member.name {
        "" => format!("{:x}", member.id),
        name => name.to_owned(),
    });
    names.collect::<Vec<_>>().join(", ")
}
