//! Registering, and waiting until everybody has.

use tracing::{info, warn};

use super::Options;
use super::roster::{Entry, Roster};
use super::session::{Registered, Session, Waited};
use crate::registration::{self, Registration};
use crate::{DiscoveryError, Size};

/// An entry that disappears more often than this is being deleted by somebody.
const REGISTRATIONS_MAX: u32 = 5;

/// What became of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is one of the founders.
    Member {
        /// All founders, as `--initial-cluster` has them; the cluster token is the discovery URL.
        initial_cluster: String,
        /// How many they are.
        size: Size,
        /// It had registered before, and crashed, or lost its disk. Whoever starts a member with
        /// this set and without data must ask the others first whether it has been one already: a
        /// voter that forgot its log must not vote.
        resumed: bool,
    },
    /// The cluster has its founders without it: it becomes a proxy, or gives up.
    Full {
        /// All founders, as `--initial-cluster` has them.
        initial_cluster: String,
        /// How many they are.
        size: Size,
    },
}

/// Registers at a discovery URL and waits until the cluster is complete.
///
/// May be called again after a crash at any point: an entry that says what ours would say is ours.
pub async fn join(
    url: &str,
    me: &Registration,
    options: &Options,
) -> Result<Outcome, DiscoveryError> {
    let value = me.value();
    registration::parse(&value).map_err(|error| DiscoveryError::InvalidRegistration {
        value,
        reason: error.to_string(),
    })?;
    let session = Session::new(url, options)?;
    Join { session, me }.run().await
}

/// The founders of the cluster at a discovery URL, for a proxy: waits until they are complete, and
/// registers nothing.
pub async fn cluster_of(url: &str, options: &Options) -> Result<String, DiscoveryError> {
    let mut session = Session::new(url, options)?;
    loop {
        let (mut roster, index) = session.roster().await?;
        if session.complete(&mut roster, index, "").await? {
            return roster.initial_cluster(&session.remedies());
        }
    }
}

struct Join<'a> {
    session: Session<'a>,
    me: &'a Registration,
}

impl Join<'_> {
    async fn run(mut self) -> Result<Outcome, DiscoveryError> {
        let id = self.me.hex_id();
        let (mut roster, mut index) = self.session.roster().await?;
        let resumed = roster.find(&id).is_some();
        let mut registrations = 0;
        loop {
            // The full check comes before registering: who is late leaves no trace.
            if roster.is_full_for(&id) {
                return self.full(&roster).await;
            }
            let own = roster.find(&id).cloned();
            if let Some(entry) = own {
                self.claim(&entry)?;
                if self.session.complete(&mut roster, index, &id).await? {
                    return self.member(&roster, resumed);
                }
            } else if registrations < REGISTRATIONS_MAX {
                registrations += 1;
                self.register(registrations).await?;
            } else {
                let url = self.session.url.as_str().to_owned();
                return Err(DiscoveryError::Vanishing { url, id });
            }
            (roster, index) = self.session.roster().await?;
        }
    }

    async fn register(&mut self, attempt: u32) -> Result<(), DiscoveryError> {
        match self.session.register(self.me).await? {
            Registered::At(created) => self.session.wait_for_own(self.me, created).await,
            // The next look tells whether it is ours.
            Registered::Exists if attempt == 1 => Ok(()),
            // It did not: we read from a backend that lags.
            Registered::Exists => {
                let url = self.session.url.at(&self.me.hex_id(), "");
                let error = "the entry is there and not listed yet".to_owned();
                self.session.pause(&url, error).await
            }
        }
    }

    /// An entry under our id: ours if it says what we say.
    fn claim(&self, entry: &Entry) -> Result<(), DiscoveryError> {
        if self.me.is(&entry.value) {
            return Ok(());
        }
        Err(DiscoveryError::DuplicateId {
            id: entry.id.clone(),
            theirs: entry.value.clone(),
            ours: self.me.value(),
        })
    }

    fn member(&self, roster: &Roster, resumed: bool) -> Result<Outcome, DiscoveryError> {
        info!(
            found = roster.founders().len(),
            "found all needed peers from discovery service"
        );
        if resumed {
            warn!(
                id = self.me.hex_id(),
                "this host had registered before and takes its place"
            );
        }
        Ok(Outcome::Member {
            initial_cluster: roster.initial_cluster(&self.session.remedies())?,
            size: roster.size(),
            resumed,
        })
    }

    async fn full(&mut self, roster: &Roster) -> Result<Outcome, DiscoveryError> {
        let size = roster.size();
        info!(%size, "discovery: cluster is full");
        let initial_cluster = roster.initial_cluster(&self.session.remedies())?;
        // Everybody who waits saw the founders before this entry, so nobody misses it.
        if let Some(entry) = roster.find(&self.me.hex_id())
            && self.me.is(&entry.value)
        {
            self.session.withdraw(entry).await;
        }
        Ok(Outcome::Full {
            initial_cluster,
            size,
        })
    }
}

impl Session<'_> {
    /// Waits until all founders are in the roster. False: something else happened, look again.
    async fn complete(
        &mut self,
        roster: &mut Roster,
        mut index: u64,
        own: &str,
    ) -> Result<bool, DiscoveryError> {
        for entry in roster.founders() {
            let who = if entry.id == own { "self" } else { "peer" };
            info!(
                id = entry.id,
                value = entry.value,
                "found {who} from discovery service"
            );
        }
        while 0 < roster.missing() {
            let (found, missing) = (roster.founders().len(), roster.missing());
            info!("found {found} peers, waiting for {missing} more");
            match self.wait_for_others(index).await? {
                Waited::Event(action, node) => {
                    let came = matches!(action.as_str(), "create" | "set");
                    if !came || !roster.add(&node) {
                        return Ok(false);
                    }
                    info!(
                        id = node.name(),
                        value = node.value,
                        "found peer from discovery service"
                    );
                    index = node.modified_index;
                }
                Waited::Quiet => {}
                Waited::Lost => return Ok(false),
            }
        }
        Ok(true)
    }
}
