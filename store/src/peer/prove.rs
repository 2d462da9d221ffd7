//! Whether a call comes from the member in whose name it is made.
//!
//! Member ids, the cluster's id and the count of starts can be read by anybody. So each life of a member
//! makes a key at random and sends it with its calls, and the receiver asks at that member's peer URL,
//! which it has from the replicated membership, whether the key was made there.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use keelson_core::MemberId;
use keelson_proto::peer::MembersRequest;
use parking_lot::Mutex;
use tokio_stream::StreamExt;
use tonic::{Code, Status};

use super::Introduction;
use super::snapshots::ask;
use crate::config::Url;

/// For one question.
const PATIENCE: Duration = Duration::from_secs(3);

/// The questions under way: one for each member at most, whatever strangers send in its name.
#[derive(Default)]
pub(super) struct Proofs(Mutex<BTreeSet<MemberId>>);

struct Asking<'a> {
    proofs: &'a Proofs,
    member: MemberId,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.proofs.0.lock().remove(&self.member);
    }
}

impl Proofs {
    /// Asks at the caller's own URLs, until one confirms the call.
    ///
    /// # Errors
    /// The key is not its, or nothing answers there, or the same question is under way.
    pub(super) async fn prove(&self, caller: &Introduction, urls: &[Url]) -> Result<(), Status> {
        let from = caller.from;
        if !self.0.lock().insert(from) {
            return Err(Status::aborted(format!(
                "another call of member {from} is being verified"
            )));
        }
        let _asking = Asking {
            proofs: self,
            member: from,
        };
        // All URLs at once: one that leads nowhere must not use up the time of the others.
        let mut asked: FuturesUnordered<_> = urls.iter().map(|url| confirm(caller, url)).collect();
        let mut refused = unverified(caller, "it has no peer URL");
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(()) => return Ok(()),
                // What a member says of itself means more than that another URL is silent.
                Err(_) if refused.code() == Code::FailedPrecondition => {}
                Err(why) => refused = why,
            }
        }
        Err(refused)
    }
}

fn unverified(caller: &Introduction, why: impl std::fmt::Display) -> Status {
    Status::unavailable(format!(
        "the call cannot be verified at the peer URL of member {}: {why}",
        caller.from
    ))
}

/// Whether the member at that URL has made the call.
async fn confirm(caller: &Introduction, url: &Url) -> Result<(), Status> {
    let request = MembersRequest { key: caller.key };
    let asked = tokio::time::timeout(PATIENCE, ask(std::slice::from_ref(url), request)).await;
    let answer = match asked {
        Ok(answer) => answer.map_err(|status| status.message().to_owned()),
        Err(_) => Err(format!("no answer in {} s", PATIENCE.as_secs())),
    };
    let answer = answer.map_err(|why| unverified(caller, format_args!("{url}: {why}")))?;
    // A version without keys does not name itself.
    let has_no_keys = answer.member_id == 0 && answer.cluster_id == caller.cluster.0;
    match has_no_keys || answer.member_id == caller.from.0 && answer.key_is_mine {
        true => Ok(()),
        false => Err(Status::failed_precondition(format!(
            "the call claims to be from member {}, which did not make it",
            caller.from
        ))),
    }
}
