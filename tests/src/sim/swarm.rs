//! Swarm testing: the seed first decides which kinds of fault exist in this run, then how often
//! they occur. Runs with every kind of fault hide what a few of them would show. Groce et al.,
//! "Swarm testing", 2012; the ranges are close to TigerBeetle's.

use keelson_core::member::FlushPolicy;

use super::dice::Dice;
use super::lease::Leases;
use super::load::Bounds;
use super::mutant::Mutant;
use super::troubles::Troubles;
use super::watch::StreamPlan;

/// The number of records that fills a memtable early: more than most runs write.
const FLUSH_RECORDS: usize = 200;
/// The same in bytes.
const FLUSH_BYTES: u64 = 1 << 20;

/// The parameters of a run. Probabilities are between 0 and 1; times are in milliseconds.
#[derive(Clone, Debug)]
pub struct Swarm {
    /// Voters at the start.
    pub members: u64,
    /// Clients, each with one request in flight.
    pub clients: u64,
    /// The number of keys that they share.
    pub keys: u64,
    /// A client's longest pause between two requests.
    pub think_ms: u64,
    /// A client's timeout.
    pub patience_ms: u64,
    /// Probability that a batch of messages is lost.
    pub drop: f64,
    /// Probability that a batch arrives twice.
    pub duplicate: f64,
    /// The largest usual delay.
    pub delay_ms: u64,
    /// Probability that a batch is much later than usual.
    pub straggle: f64,
    /// The largest additional delay.
    pub straggle_ms: u64,
    /// The transport delivers late batches instead of dropping them.
    pub reorder: bool,
    /// Links are cut.
    pub partitions: bool,
    /// Links are cut in one direction only.
    pub one_way: bool,
    /// Processes die.
    pub crashes: bool,
    /// Sometimes all processes die at once.
    pub crash_all: bool,
    /// Processes stop for a while, as with SIGSTOP.
    pub pauses: bool,
    /// Peers notice a death at once.
    pub notices: bool,
    /// Peers are notified of deaths that did not happen.
    pub false_notices: bool,
    /// The longest usual sync.
    pub sync_ms: u64,
    /// Probability that a sync takes up to fifty times as long.
    pub slow_sync: f64,
    /// The longest time to apply a batch of entries.
    pub apply_ms: u64,
    /// The interval of flushes of the memtable.
    pub flush_every_ms: u64,
    /// The longest time until a snapshot's sender reads the next piece.
    pub piece_ms: u64,
    /// Clients delete and compact all the time, while followers need snapshots.
    pub churn: bool,
    /// Members apply entries wrongly.
    pub corruption: bool,
    /// Members join and leave.
    pub membership: bool,
    /// The operator adds members that never start.
    pub ghosts: bool,
    /// Members refuse changes that endanger the quorum.
    pub strict_reconfig_check: bool,
    /// Leadership is transferred.
    pub transfers: bool,
    /// Clients compact.
    pub compaction: bool,
    /// The shortest and the longest time between two faults.
    pub fault_every_ms: (u64, u64),
    /// Entries kept for followers that fall behind.
    pub catch_up_entries: u64,
    /// The same in bytes.
    pub catch_up_bytes: usize,
    /// A leader's bound on uncommitted bytes.
    pub uncommitted_bytes_max: u64,
    /// Bound on the bytes of one append message.
    pub append_bytes_max: u64,
    /// The heartbeat interval.
    pub heartbeat_ms: u64,
    /// The election timeout.
    pub election_ms: u64,
    /// A member's memory bounds; the product's own if not set.
    pub bounds: Option<Bounds>,
    /// Members use pre-votes.
    pub pre_vote: bool,
    /// The number of clients that use the v2 API.
    pub tree_clients: u64,
    /// The number of further clients that watch the v2 tree.
    pub watchers: u64,
    /// Clients with v3 watches.
    pub streams: StreamPlan,
    /// Sometimes a client writes so much to the v2 tree that its history is soon full.
    pub bursts: bool,
    /// The largest deviation of a member's clock, to either side.
    pub skew_ms: u64,
    /// The grace that a new leader gives to nodes of the v2 tree of earlier terms.
    pub ttl_grace_ms: u64,
    /// Leases and their holders.
    pub leases: Leases,
    /// The number of users that the clients are; 0: there is no auth.
    pub users: u64,
    /// Faults of disks and snapshots.
    pub troubles: Troubles,
}

impl Swarm {
    /// Draws a run.
    pub(super) fn draw(dice: &mut Dice) -> Swarm {
        let mut swarm = Swarm {
            members: dice.pick(&[3, 3, 3, 4, 5, 5, 7]).expect("not empty"),
            clients: dice.between(2, 10),
            keys: dice.between(1, 8),
            think_ms: dice.pick(&[50, 200, 400]).expect("not empty"),
            patience_ms: dice.between(1_500, 6_000),
            delay_ms: dice.pick(&[1, 5, 20, 60]).expect("not empty"),
            reorder: dice.chance(0.5),
            crash_all: dice.chance(0.3),
            one_way: dice.chance(0.5),
            notices: dice.chance(0.7),
            sync_ms: dice.pick(&[1, 5, 20]).expect("not empty"),
            apply_ms: dice.pick(&[0, 5, 50]).expect("not empty"),
            flush_every_ms: dice.pick(&[50, 100, 1_000]).expect("not empty"),
            catch_up_entries: dice.pick(&[5, 20, 100, 5_000]).expect("not empty"),
            catch_up_bytes: dice.pick(&[2_000, 1 << 20]).expect("not empty"),
            uncommitted_bytes_max: dice.pick(&[2_000, 1 << 20]).expect("not empty"),
            append_bytes_max: dice.pick(&[1, 500, 64 << 10]).expect("not empty"),
            pre_vote: dice.chance(0.9),
            ..Swarm::calm()
        };
        // A requirement of raft-rs.
        let least = swarm.append_bytes_max + 1;
        swarm.uncommitted_bytes_max = swarm.uncommitted_bytes_max.max(least);
        swarm.draw_faults(dice);
        swarm
    }

    /// A run without faults: the conditions of the second phase.
    pub(super) fn calm() -> Swarm {
        Swarm {
            members: 3,
            clients: 4,
            keys: 4,
            think_ms: 100,
            patience_ms: 5_000,
            drop: 0.0,
            duplicate: 0.0,
            delay_ms: 2,
            straggle: 0.0,
            straggle_ms: 1,
            reorder: false,
            partitions: false,
            one_way: false,
            crashes: false,
            crash_all: false,
            pauses: false,
            notices: true,
            false_notices: false,
            sync_ms: 2,
            slow_sync: 0.0,
            apply_ms: 1,
            flush_every_ms: 100,
            piece_ms: 1,
            churn: false,
            corruption: false,
            membership: false,
            ghosts: false,
            strict_reconfig_check: true,
            transfers: false,
            compaction: false,
            fault_every_ms: (500, 6_000),
            catch_up_entries: 100,
            catch_up_bytes: 1 << 20,
            uncommitted_bytes_max: 1 << 20,
            append_bytes_max: 64 << 10,
            heartbeat_ms: 100,
            election_ms: 1_000,
            bounds: None,
            pre_vote: true,
            tree_clients: 0,
            watchers: 0,
            streams: StreamPlan::default(),
            bursts: false,
            skew_ms: 0,
            ttl_grace_ms: 0,
            leases: Leases::default(),
            users: 0,
            troubles: Troubles::default(),
        }
    }

    /// Takes the rates of `calm`, and keeps what cannot change while members run.
    pub(super) fn calm_down(&mut self) {
        let calm = Swarm::calm();
        *self = Swarm {
            members: self.members,
            clients: self.clients,
            keys: self.keys,
            catch_up_entries: self.catch_up_entries,
            catch_up_bytes: self.catch_up_bytes,
            uncommitted_bytes_max: self.uncommitted_bytes_max,
            append_bytes_max: self.append_bytes_max,
            pre_vote: self.pre_vote,
            bounds: self.bounds,
            corruption: self.corruption,
            membership: self.membership,
            ghosts: self.ghosts,
            strict_reconfig_check: self.strict_reconfig_check,
            tree_clients: self.tree_clients,
            watchers: self.watchers,
            streams: self.streams.calm(),
            skew_ms: self.skew_ms,
            ttl_grace_ms: self.ttl_grace_ms,
            leases: self.leases,
            users: self.users,
            troubles: self.troubles.calm(),
            ..calm
        };
    }

    /// When members flush to their engines, and how far these may lag behind.
    pub(super) fn flushes(&self, mutant: Option<Mutant>) -> FlushPolicy {
        let bounds = self
            .bounds
            .filter(|_| mutant != Some(Mutant::MemoryUnbounded));
        FlushPolicy {
            interval_ms: self.flush_every_ms,
            records: FLUSH_RECORDS,
            bytes: FLUSH_BYTES,
            backlog_bytes_max: bounds.map_or(u64::MAX, |bounds| bounds.backlog),
        }
    }

    /// Decides whether the cluster begins with too few voters to lose one, with learners beside
    /// them; from dice of its own.
    pub(super) fn draw_few(&mut self, dice: &mut Dice) {
        if dice.chance(0.15) {
            self.members = dice.pick(&[1, 1, 2]).expect("not empty");
            // A second voter that is never started would cost the quorum.
            (self.membership, self.ghosts) = (true, false);
        }
    }

    /// Makes a run in which this mutant is likely to matter.
    pub(super) fn aim_at(&mut self, mutant: Mutant) {
        match mutant.is_of_the_tree() {
            true => {
                self.tree_clients = self.clients;
                (self.watchers, self.skew_ms) = (self.watchers.max(1), 300);
            }
            false => (self.tree_clients, self.watchers) = (0, 0),
        }
        self.streams.aim_at(mutant);
        (self.leases, self.users) = (Leases::default(), 0);
        match mutant {
            Mutant::FlushTorn | Mutant::FlushWithoutMark => {
                (self.crashes, self.fault_every_ms) = (true, (100, 1_000));
                (self.flush_every_ms, self.sync_ms, self.think_ms) = (50, 20, 50);
            }
            Mutant::VoteNotSynced | Mutant::HardStateForgotten => {
                (self.crashes, self.fault_every_ms) = (true, (100, 500));
            }
            // Clients time out while the leader's log, which holds their requests, waits for its
            // disk.
            Mutant::RetrySilently => {
                (self.patience_ms, self.think_ms, self.keys) = (100, 50, 2);
                (self.sync_ms, self.slow_sync) = (20, 0.1);
            }
            Mutant::ReadWithoutQuorum => {
                (self.partitions, self.fault_every_ms) = (true, (500, 2_000));
            }
            Mutant::MemoryUnbounded => {
                self.load();
                (self.crashes, self.partitions) = (false, false);
                self.fault_every_ms = (500, 2_000);
            }
            Mutant::HistoryForgotten => {
                (self.crashes, self.fault_every_ms) = (true, (100, 1_000));
            }
            Mutant::GraceForgotten | Mutant::GraceAtElection => {
                (self.crashes, self.fault_every_ms) = (true, (500, 2_000));
                (self.ttl_grace_ms, self.think_ms, self.apply_ms) = (5_000, 20, 50);
            }
            // Without another watcher, and with many changes between the scan and the registration.
            Mutant::WatcherCountedLate => (self.watchers, self.think_ms) = (1, 50),
            // A member that its watchers stay with falls behind.
            Mutant::ResumeForgotten | Mutant::ResumeRepeats | Mutant::SnapshotUnseenByWatches => {
                (self.partitions, self.pauses, self.crashes) = (true, true, false);
                (self.catch_up_entries, self.think_ms, self.watchers) = (5, 50, 3);
                self.fault_every_ms = (100, 1_000);
            }
            Mutant::LeaseExpiredByOldLeader | Mutant::RenewalUnconfirmed => self.aim_at_leases(),
            Mutant::LockGivenTwice | Mutant::LockGivenUpForAll => self.aim_at_locks(),
            Mutant::OwnSessionEnds | Mutant::OwnSessionStays => self.aim_at_locks(),
            Mutant::ProclaimUnchecked | Mutant::ObservedLocally => {
                self.aim_at_locks();
                self.leases.elections = true;
            }
            mutant if mutant.is_of_auth() => self.aim_at_auth(mutant),
            Mutant::ChangesUnchecked => {
                (self.membership, self.ghosts) = (true, true);
                self.strict_reconfig_check = false;
                (self.partitions, self.pauses, self.crashes) = (false, false, false);
                self.fault_every_ms = (100, 500);
            }
            Mutant::PlaceKept => {
                (self.crashes, self.membership) = (true, false);
                (self.catch_up_entries, self.think_ms, self.piece_ms) = (5, 20, 50);
                self.fault_every_ms = (100, 500);
            }
            Mutant::NumbersRestart => {
                (self.membership, self.ghosts) = (true, false);
                (self.partitions, self.pauses, self.crashes) = (false, false, false);
                self.fault_every_ms = (50, 200);
                self.think_ms = 50;
            }
            Mutant::SnapshotWithoutTombstones | Mutant::EventLostAtCompaction => self.churn(),
            Mutant::SnapshotUnchecked => {
                self.churn();
                self.troubles.garble = 1.0;
            }
            Mutant::DamageRepaired
            | Mutant::BeganUnchecked
            | Mutant::EngineDamagePassed
            | Mutant::LostDiskVotes => {
                (self.membership, self.ghosts) = (false, false);
                self.troubles.damage = true;
                self.troubles.lost_disks = mutant == Mutant::LostDiskVotes;
                (self.crashes, self.partitions, self.pauses) = (false, false, false);
                (self.fault_every_ms, self.think_ms) = ((100, 1_000), 50);
                self.flush_every_ms = 50;
            }
            Mutant::LossIgnored => {
                (self.membership, self.ghosts, self.crashes) = (false, false, false);
                (self.partitions, self.pauses, self.transfers) = (false, false, false);
                (self.troubles.damage, self.think_ms, self.sync_ms) = (true, 50, 5);
                self.fault_every_ms = (1_000, 3_000);
            }
            Mutant::HashOfSnapshotForgotten | Mutant::VerdictIgnored | Mutant::VerdictOfLeader => {
                self.aim_at_corruption();
            }
            Mutant::SnapshotIgnored
            | Mutant::SnapshotStale
            | Mutant::SnapshotWithoutTree
            | Mutant::SnapshotWithoutMembership => {
                (self.crashes, self.membership) = (true, true);
                (self.catch_up_entries, self.think_ms) = (5, 50);
            }
            // Many entries are applied between a flush's beginning and its end.
            Mutant::TruncateTooFar => {
                (self.crashes, self.clients, self.apply_ms) = (true, 10, 1);
                (self.sync_ms, self.slow_sync, self.flush_every_ms) = (20, 0.1, 50);
                (self.catch_up_entries, self.think_ms) = (5, 20);
            }
            _ => {}
        }
    }

    fn draw_faults(&mut self, dice: &mut Dice) {
        if dice.chance(0.6) {
            self.drop = dice.between(0, 100) as f64 / 1_000.0;
        }
        if dice.chance(0.5) {
            self.duplicate = dice.between(0, 200) as f64 / 1_000.0;
        }
        if dice.chance(0.5) {
            self.straggle = dice.between(0, 100) as f64 / 1_000.0;
            self.straggle_ms = dice.pick(&[100, 1_000, 6_000]).expect("not empty");
        }
        if dice.chance(0.3) {
            self.slow_sync = dice.between(0, 50) as f64 / 1_000.0;
        }
        self.partitions = dice.chance(0.5);
        self.crashes = dice.chance(0.7);
        self.pauses = dice.chance(0.3);
        self.false_notices = dice.chance(0.2);
        self.membership = dice.chance(0.4);
        self.ghosts = self.membership && dice.chance(0.4);
        // Without the check there are more changes.
        self.strict_reconfig_check = self.ghosts || dice.chance(0.5);
        self.transfers = dice.chance(0.3);
        self.compaction = dice.chance(0.6);
        self.fault_every_ms = dice.pick(&[(500, 6_500), (100, 2_000)]).expect("not empty");
    }
}
