//! Registering, and waiting until everybody has: what both protocols have in common.

use std::io;
use std::time::Duration;

use tracing::{info, warn};

use crate::error::Remedies;
use crate::registration::{self, Registration};
use crate::roster::{Entry, Roster};
use crate::{DiscoveryError, Size};

/// An entry that disappears more often than this is being deleted by somebody.
const REGISTRATIONS_MAX: u32 = 5;

/// Between two looks at the whole list: a service that ignores `wait` must not make us spin.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What became of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is one of the founders.
    Member {
        /// All founders, as `--initial-cluster` has them; the cluster token is the
        /// discovery URL, or the v3 token.
        initial_cluster: String,
        /// How many they are.
        size: Size,
        /// It had registered before, and crashed, or lost its disk. Whoever starts a member with
        /// this set, without data and without a [`Note`], must ask the others first whether it has
        /// been one already: a voter that forgot its log must not vote.
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

impl Outcome {
    /// What to end with when there is no place and `--discovery-fallback=exit`.
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

/// What a host does just before it registers for the first time, so that it knows later that it has
/// crashed and not lost its disk.
pub type Note = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// Where hosts register.
pub(crate) trait Board: Send {
    /// The size, and who has registered; and the store's index at that time.
    fn roster(&mut self) -> impl Future<Output = Result<(Roster, u64), DiscoveryError>> + Send;

    /// Makes our entry, unless there is one with our id.
    fn register(
        &mut self,
        me: &Registration,
    ) -> impl Future<Output = Result<Registered, DiscoveryError>> + Send;

    /// Takes our entry away, if it is still as we know it. One try: a place that nobody looks at is
    /// no harm.
    fn withdraw(&mut self, entry: &Entry) -> impl Future<Output = ()> + Send;

    /// Waits for what happens after `index`.
    fn wait(&mut self, index: u64) -> impl Future<Output = Result<Waited, DiscoveryError>> + Send;

    /// Waits after a failure, longer each time.
    fn pause(&mut self, error: String) -> impl Future<Output = Result<(), DiscoveryError>> + Send;

    /// The discovery URL, for messages.
    fn name(&self) -> String;

    /// What an operator can do, for messages.
    fn remedies(&self) -> Remedies;
}

/// What a registration came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registered {
    /// The entry was made.
    Made,
    /// There is an entry with our id.
    Exists,
}

/// What a wait came to.
#[derive(Debug)]
pub(crate) enum Waited {
    /// Somebody registered; the index to go on from.
    Came(Entry, u64),
    /// Nothing, for as long as we wait at most.
    Quiet,
    /// It cannot be told what happened: look again.
    Lost,
}

/// The founders, for a proxy.
pub(crate) async fn founders(board: &mut impl Board) -> Result<String, DiscoveryError> {
    loop {
        let (mut roster, index) = board.roster().await?;
        if complete(board, &mut roster, index, "").await? {
            return roster.initial_cluster(&board.remedies());
        }
    }
}

/// Checks what we would register before anybody sees it.
pub(crate) fn check(me: &Registration) -> Result<(), DiscoveryError> {
    let value = me.value();
    let parsed = registration::parse(&value).map(drop);
    parsed.map_err(|error| DiscoveryError::InvalidRegistration {
        value,
        reason: error.to_string(),
    })
}

pub(crate) struct Join<B> {
    pub(crate) board: B,
    pub(crate) me: Registration,
    pub(crate) note: Option<Note>,
}

impl<B: Board> Join<B> {
    pub(crate) async fn run(mut self) -> Result<Outcome, DiscoveryError> {
        let id = self.me.hex_id();
        let (mut roster, mut index) = self.board.roster().await?;
        let resumed = roster.find(&id).is_some();
        if resumed {
            self.note = None;
        }
        let mut registrations = 0;
        loop {
            // The full check comes before registering: who is late leaves no trace.
            if roster.is_full_for(&id) {
                return self.full(&roster).await;
            }
            let own = roster.find(&id).cloned();
            if let Some(entry) = own {
                self.claim(&entry)?;
                if complete(&mut self.board, &mut roster, index, &id).await? {
                    return self.member(&roster, resumed);
                }
            } else if registrations < REGISTRATIONS_MAX {
                registrations += 1;
                self.register(registrations).await?;
            } else {
                let url = self.board.name();
                return Err(DiscoveryError::Vanishing { url, id });
            }
            (roster, index) = self.board.roster().await?;
        }
    }

    async fn register(&mut self, attempt: u32) -> Result<(), DiscoveryError> {
        if let Some(note) = self.note.take() {
            note().map_err(DiscoveryError::Note)?;
        }
        match self.board.register(&self.me).await? {
            // The next look tells whether it is ours, and whether it came in time.
            Registered::Made => Ok(()),
            Registered::Exists if attempt == 1 => Ok(()),
            // It did not: we read from a backend that lags.
            Registered::Exists => {
                let error = "the entry is there and not listed yet".to_owned();
                self.board.pause(error).await
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
            initial_cluster: roster.initial_cluster(&self.board.remedies())?,
            size: roster.size(),
            resumed,
        })
    }

    async fn full(&mut self, roster: &Roster) -> Result<Outcome, DiscoveryError> {
        let size = roster.size();
        info!(%size, "discovery: cluster is full");
        let initial_cluster = roster.initial_cluster(&self.board.remedies())?;
        // Everybody who waits saw the founders before this entry, so nobody misses it.
        if let Some(entry) = roster.find(&self.me.hex_id())
            && self.me.is(&entry.value)
        {
            self.board.withdraw(entry).await;
        }
        Ok(Outcome::Full {
            initial_cluster,
            size,
        })
    }
}

/// Waits until all founders are in the roster. False: something else happened, look again.
async fn complete(
    board: &mut impl Board,
    roster: &mut Roster,
    mut index: u64,
    own: &str,
) -> Result<bool, DiscoveryError> {
    announce(roster, own);
    while 0 < roster.missing() {
        let (found, missing) = (roster.founders().len(), roster.missing());
        info!("found {found} peers, waiting for {missing} more");
        match board.wait(index).await? {
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
