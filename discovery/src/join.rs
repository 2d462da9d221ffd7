//! Registering, and waiting for the other founders: the part that both protocols share.

use std::io;
use std::time::Duration;

use tracing::{info, warn};

use crate::error::Remedies;
use crate::registration::{self, Registration};
use crate::roster::{Entry, Roster};
use crate::{DiscoveryError, Size};

/// An entry that disappears more often than this is being deleted by something else.
const REGISTRATIONS_MAX: u32 = 5;

/// The pause between two reads of the whole list, so that a service that ignores `wait` does not
/// cause a busy loop.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The result for a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is one of the founders.
    Member {
        /// All founders, as `--initial-cluster` has them; the cluster token is the
        /// discovery URL, or the v3 token.
        initial_cluster: String,
        /// The number of founders.
        size: Size,
        /// The host had registered before, and crashed or lost its disk. A caller that starts a
        /// member with this set, without data and without a [`Note`], must first query the other
        /// members whether it has run before: a voter that lost its log must not vote.
        resumed: bool,
    },
    /// The cluster has its founders without this host, which becomes a proxy or fails.
    Full {
        /// All founders, as `--initial-cluster` has them.
        initial_cluster: String,
        /// The number of founders.
        size: Size,
    },
}

impl Outcome {
    /// The error when there is no place and `--discovery-fallback=exit`.
    pub fn full(&self) -> Option<DiscoveryError> {
        let Outcome::Full {
            initial_cluster,
            size,
        } = self
        else {
            return None;
        };
        Some(DiscoveryError::FullCluster {
            size: size.get(),
            initial_cluster: initial_cluster.clone(),
        })
    }
}

/// Runs just before a host registers for the first time, so that a later start can distinguish
/// a crash from a lost disk.
pub type Note = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// The registry in which hosts register.
pub(crate) trait Protocol: Send {
    /// The size and the registered hosts, and the store's index of that read.
    fn roster(&mut self) -> impl Future<Output = Result<(Roster, u64), DiscoveryError>> + Send;

    /// Creates this host's entry, unless there is one with its id.
    fn register(
        &mut self,
        me: &Registration,
    ) -> impl Future<Output = Result<Registered, DiscoveryError>> + Send;

    /// Deletes this host's entry if it is unchanged. One attempt is enough: a surplus entry does no
    /// harm.
    fn withdraw(&mut self, entry: &Entry) -> impl Future<Output = ()> + Send;

    /// Waits for the first event after `index`.
    fn wait(&mut self, index: u64) -> impl Future<Output = Result<Waited, DiscoveryError>> + Send;

    /// Waits after a failure, longer each time.
    fn pause(&mut self, error: String) -> impl Future<Output = Result<(), DiscoveryError>> + Send;

    /// The discovery URL, for messages.
    fn name(&self) -> String;

    /// The remedies, for messages.
    fn remedies(&self) -> Remedies;
}

/// The result of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registered {
    /// The entry was created.
    Made,
    /// There is an entry with this host's id.
    Exists,
}

/// The result of a wait.
#[derive(Debug)]
pub(crate) enum Waited {
    /// A host registered; the next wait begins at this index.
    Came(Entry, u64),
    /// Nothing happened within the longest wait.
    Quiet,
    /// The event is unknown: the list must be read again.
    Lost,
}

/// The founders, for a proxy.
pub(crate) async fn founders(protocol: &mut impl Protocol) -> Result<String, DiscoveryError> {
    loop {
        let (mut roster, index) = protocol.roster().await?;
        if complete(protocol, &mut roster, index, "").await? {
            return roster.initial_cluster(&protocol.remedies());
        }
    }
}

/// Checks the value to register before any other host can see it.
pub(crate) fn check(me: &Registration) -> Result<(), DiscoveryError> {
    let value = me.value();
    let parsed = registration::parse(&value).map(drop);
    parsed.map_err(|error| DiscoveryError::InvalidRegistration {
        value,
        reason: error.to_string(),
    })
}

pub(crate) struct Join<B> {
    pub(crate) protocol: B,
    pub(crate) me: Registration,
    pub(crate) note: Option<Note>,
}

impl<B: Protocol> Join<B> {
    pub(crate) async fn run(mut self) -> Result<Outcome, DiscoveryError> {
        let id = self.me.hex_id();
        let (mut roster, mut index) = self.protocol.roster().await?;
        let resumed = roster.find(&id).is_some();
        if resumed {
            self.note = None;
        }
        let mut registrations = 0;
        loop {
            // The check for a full roster comes before registering, so that a late host leaves no
            // trace.
            if roster.is_full_for(&id) {
                return self.full(&roster).await;
            }
            let own = roster.find(&id).cloned();
            if let Some(entry) = own {
                self.claim(&entry)?;
                if complete(&mut self.protocol, &mut roster, index, &id).await? {
                    return self.member(&roster, resumed);
                }
            } else if registrations < REGISTRATIONS_MAX {
                registrations += 1;
                self.register(registrations).await?;
            } else {
                let url = self.protocol.name();
                return Err(DiscoveryError::Vanishing { url, id });
            }
            (roster, index) = self.protocol.roster().await?;
        }
    }

    async fn register(&mut self, attempt: u32) -> Result<(), DiscoveryError> {
        if let Some(note) = self.note.take() {
            note().map_err(DiscoveryError::Note)?;
        }
        match self.protocol.register(&self.me).await? {
            // The next read of the roster shows whether the entry is ours, and whether it came in
            // time.
            Registered::Made => Ok(()),
            Registered::Exists if attempt == 1 => Ok(()),
            // The entry is missing from the roster: that read was answered by a backend that lags.
            Registered::Exists => {
                let error = "the entry is there and not listed yet".to_owned();
                self.protocol.pause(error).await
            }
        }
    }

    /// Checks an entry under this host's id: it is ours if its value is.
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
            initial_cluster: roster.initial_cluster(&self.protocol.remedies())?,
            size: roster.size(),
            resumed,
        })
    }

    async fn full(&mut self, roster: &Roster) -> Result<Outcome, DiscoveryError> {
        let size = roster.size();
        info!(%size, "discovery: cluster is full");
        let initial_cluster = roster.initial_cluster(&self.protocol.remedies())?;
        // All hosts that wait saw the founders before this entry, so its removal cannot be missed.
        if let Some(entry) = roster.find(&self.me.hex_id())
            && self.me.is(&entry.value)
        {
            self.protocol.withdraw(entry).await;
        }
        Ok(Outcome::Full {
            initial_cluster,
            size,
        })
    }
}

/// Waits until all founders are in the roster. False if something else happened and the roster must
/// be read again.
async fn complete(
    protocol: &mut impl Protocol,
    roster: &mut Roster,
    mut index: u64,
    own: &str,
) -> Result<bool, DiscoveryError> {
    announce(roster, own);
    while 0 < roster.missing() {
        let (found, missing) = (roster.founders().len(), roster.missing());
        info!("found {found} peers, waiting for {missing} more");
        match protocol.wait(index).await? {
            Waited::Came(entry, after) => {
                let (id, value) = (entry.id.clone(), entry.value.clone());
                if !roster.add(entry) {
                    break;
                }
                info!(id, value, "found peer from discovery service");
                index = after;
            }
            Waited::Quiet => {}
            Waited::Lost => break,
        }
    }
    if roster.missing() == 0 {
        return Ok(true);
    }
    tokio::time::sleep(LOOK_AGAIN).await;
    Ok(false)
}

fn announce(roster: &Roster, own: &str) {
    for entry in roster.founders() {
        let who = if entry.id == own { "self" } else { "peer" };
        info!(
            id = entry.id,
            value = entry.value,
            "found {who} from discovery service"
        );
    }
}
