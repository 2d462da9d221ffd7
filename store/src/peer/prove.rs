//! Verifies that a call comes from the member that it names.
//!
//! Member ids, the cluster id and the boot count can be read by any host. So each incarnation of
//! a member makes a random key and sends it with its calls. The receiver checks at the member's
//! peer URL, which is in the replicated membership, whether the key was issued there.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use keelson_core::MemberId;
use keelson_port::ClientTls;
use keelson_proto::peer::MembersRequest;
use parking_lot::Mutex;
use tokio_stream::StreamExt;
use tonic::{Code, Status};

use super::Introduction;
use super::snapshots::request_from;
use crate::config::Url;

/// The timeout of one check.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The checks in progress: at most one for each member, regardless of the number of calls in its
/// name.
#[derive(Default)]
pub(super) struct Proofs {
    in_progress: Mutex<BTreeSet<MemberId>>,
    tls: ClientTls,
}

struct CheckGuard<'a> {
    proofs: &'a Proofs,
    member: MemberId,
}

impl Drop for CheckGuard<'_> {
    fn drop(&mut self) {
        self.proofs.in_progress.lock().remove(&self.member);
    }
}

impl Proofs {
    /// `tls` is for https URLs.
    pub(super) fn new(tls: ClientTls) -> Proofs {
        Proofs {
            in_progress: Mutex::default(),
            tls,
        }
    }

    /// Checks the call at each of the caller's URLs, until one confirms it.
    ///
    /// # Errors
    /// The key is another's, no URL answers, or a check of the same member is in progress.
    pub(super) async fn prove(&self, caller: &Introduction, urls: &[Url]) -> Result<(), Status> {
        let from = caller.from;
        if !self.in_progress.lock().insert(from) {
            return Err(Status::aborted(format!(
                "another call of member {from} is being verified"
            )));
        }
        let _guard = CheckGuard {
            proofs: self,
            member: from,
        };
        // In parallel, so that a URL without an answer does not use up the time of the others.
        let mut checks: FuturesUnordered<_> = urls
            .iter()
            .map(|url| confirm(caller, url, &self.tls))
            .collect();
        let mut refused = unverified(caller, "it has no peer URL");
        while let Some(answer) = checks.next().await {
            match answer {
                Ok(()) => return Ok(()),
                // A denial by the member itself takes precedence over an error of another URL.
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

/// Whether the member at that URL has issued the key of the call.
async fn confirm(caller: &Introduction, url: &Url, tls: &ClientTls) -> Result<(), Status> {
    let request = MembersRequest { key: caller.key };
    let urls = std::slice::from_ref(url);
    let answer = match tokio::time::timeout(TIMEOUT, request_from(urls, tls, request)).await {
        Ok(answer) => answer.map_err(|status| status.message().to_owned()),
        Err(_) => Err(format!("no answer in {} s", TIMEOUT.as_secs())),
    };
    let answer = answer.map_err(|why| unverified(caller, format_args!("{url}: {why}")))?;
    // Releases without keys do not include their id.
    let has_no_keys = answer.member_id == 0 && answer.cluster_id == caller.cluster.0;
    match has_no_keys || answer.member_id == caller.from.0 && answer.key_is_mine {
        true => Ok(()),
        false => Err(Status::failed_precondition(format!(
            "the call names member {} as its caller, but that member did not make it",
            caller.from
        ))),
    }
}
