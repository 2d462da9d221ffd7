//! The entries with which running hashes are compared, and the fence of a member that differs.

use std::sync::atomic::Ordering;

use keelson_proto::internal::HashCheck;
use keelson_proto::internal::hash_check::Step;

use super::running::{Divergence, HashOutcome};
use super::{ReadView, Response, StateMachine};
use crate::Index;
use crate::state::Error;

impl StateMachine {
    pub(super) fn apply_hash_check(
        &mut self,
        check: &HashCheck,
        index: Index,
        outcome: &mut Option<HashOutcome>,
    ) -> Response {
        let hash = &mut self.hash;
        *outcome = Some(match check.step() {
            Step::Begin => hash.begin(check.scheme, index),
            Step::Compare => hash.compare(check.scheme, index),
            Step::Verdict => hash.judge(check.scheme, Index(check.index), check.value),
        });
        self.publish_divergence();
        Response::Empty
    }

    /// The divergence for which this state serves no client.
    pub fn divergence(&self) -> Option<Divergence> {
        self.hash.divergence()
    }

    /// Publishes to readers whether they may read.
    pub(super) fn publish_divergence(&self) {
        let divergence = self.hash.divergence();
        *self.shared.divergence.lock() = divergence;
        self.shared
            .fenced
            .store(divergence.is_some(), Ordering::SeqCst);
    }
}

impl ReadView {
    /// The divergence for which this member serves no client, if there is one.
    pub fn divergence(&self) -> Option<Divergence> {
        *self.shared.divergence.lock()
    }

    /// Whether this member serves no client, since its state differs from the majority's. Called
    /// for every request.
    pub fn is_fenced(&self) -> bool {
        self.shared.fenced.load(Ordering::SeqCst)
    }

    /// The same, as an error.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn require_unfenced(&self) -> Result<(), Error> {
        match self.is_fenced() {
            true => Err(Error::Corrupt),
            false => Ok(()),
        }
    }
}
