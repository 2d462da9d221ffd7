//! Why a flag has no effect, or is refused: what follows "has no effect: ", and the remedy after
//! "is not supported yet; ".

pub(super) const ONE_SNAPSHOT: &str = "the storage engine holds one state, without snapshot files";
pub(super) const LOG_IS_CUT: &str =
    "the log is cut where the storage engine holds everything before";
pub(super) const PAGE_CACHE: &str = "the pages of the storage engine are the kernel's";
pub(crate) const NO_BBOLT: &str = "the storage engine is not bbolt";
pub(super) const ONE_PROCESS: &str = "one process serves a port";
pub(super) const ALWAYS_ON: &str = "it is always on";
pub(super) const OWN_TIMES: &str = "a connection between members that is silent for 6 s is closed";
pub(super) const V2_STAYS: &str = "the V2 API stays; --enable-v2=false turns it off";
pub(super) const ONE_LEVEL: &str = "all parts of the program have the level of --log-level";
pub(super) const CUTS_WATCHES: &str = "a bound on reads would cut watches";
pub(super) const OWN_STEPS: &str = "a compaction goes in small steps between other work";
pub(crate) const NO_PAUSE: &str = "a member serves while it is defragmented";
pub(super) const ENDS_ITSELF: &str =
    "a downgrade ends with the entry by which its last member states its release";
pub(crate) const LEASES_LAST: &str =
    "remaining times of leases outlive a change of leader without checkpoints";
pub(super) const WAITS: &str = "a member serves once it can; requests wait until then";
pub(super) const ONE_ADDRESS: &str = "gRPC is served on --listen-client-urls";

pub(super) const NO_SAMPLING: &str = "every line is written";
/// Of `--enable-grpc-gateway`.
pub(super) const GATEWAY: &str =
    "the JSON gateway is always on; keep clients from /v3 with a firewall or a proxy";
/// Of a user at a v3 discovery cluster.
pub(super) const DISCOVERY: &str =
    "use a discovery cluster without users, on a network you trust or over TLS";
/// Of the v2 API on the v3 store.
pub(super) const OWN_STORE: &str = "the v2 API has its own store";
/// Of the peer lists of etcd 0.4.
pub(super) const PEERS: &str = "list the members in --initial-cluster instead";
