//! Messages between members, and calls to the peer port that are not from members.

use std::time::Duration;

use keelson_proto::etcdserverpb::*;
use keelson_proto::peer::peer_client::PeerClient;
use keelson_proto::peer::{Envelope, Forward, PeerMessage, ProposalId, peer_message::Message};
use keelson_store::{Config, Store};
use tokio::time::timeout;
use tonic::{Code, Request, Status};

use super::membership::shut_down;
use super::{members, open, put};

/// A timeout that only a hang exceeds.
const LIMIT: Duration = Duration::from_secs(60);

/// Members with election timeouts that a slow machine does not exceed.
fn members_with_long_timeouts(dir: &std::path::Path) -> Vec<Config> {
    let patient = |config| Config {
        election_ms: 3_000,
        heartbeat_ms: 300,
        ..config
    };
    members(dir, 3).into_iter().map(patient).collect()
}

fn port_of(config: &Config) -> String {
    let url = config.initial_advertise_peer_urls[0].to_string();
    let port = url.rsplit(':').next().map(str::to_owned);
    port.expect("a URL with a port")
}

async fn write(store: &Store, times: usize) -> anyhow::Result<()> {
    for number in 0..times {
        timeout(LIMIT, store.put(put("key", &number.to_string()))).await??;
    }
    Ok(())
}

/// A follower that cannot reach the leader can neither write nor read.
async fn all_take_part(stores: &[Store]) -> anyhow::Result<()> {
    for store in stores {
        write(store, 3).await?;
        timeout(LIMIT, store.read_index()).await??;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_new_peer_urls_is_reached_as_before() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let configs = members_with_long_timeouts(dir.path());
    let ports: Vec<String> = configs.iter().map(port_of).collect();
    let stores = open(configs).await?;
    // The sequence number of each link is far from its start by now.
    write(&stores[0], 300).await?;
    let before = stores[0].status();
    for (moved, port) in stores.iter().zip(&ports) {
        let request = MemberUpdateRequest {
            id: moved.member_id().0,
            peer_ur_ls: vec![format!("http://localhost:{port}")],
        };
        let writes = write(&stores[1], 50);
        let (updated, written) = tokio::join!(stores[0].member_update(request), writes);
        updated?;
        written?;
        all_take_part(&stores).await?;
    }
    let after = stores[0].status();
    let standing = |status: &StatusResponse| (status.leader, status.raft_term);
    assert_eq!(
        standing(&before),
        standing(&after),
        "an update deposed the leader"
    );
    shut_down(&stores).await;
    Ok(())
}

/// An address at which no member listens yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_new_url_is_not_there_yet_stays_in_office() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let stores = open(members_with_long_timeouts(dir.path())).await?;
    let before = stores[0].status();
    let request = MemberUpdateRequest {
        id: before.leader,
        peer_ur_ls: vec!["http://127.0.0.1:9".to_owned()],
    };
    stores[0].member_update(request).await?;
    // Longer than the survivors take to replace a leader.
    let until = tokio::time::Instant::now() + Duration::from_millis(1_500);
    while tokio::time::Instant::now() < until {
        write(&stores[0], 1).await?;
    }
    let after = stores[0].status();
    assert_eq!(
        (before.leader, before.raft_term),
        (after.leader, after.raft_term)
    );
    shut_down(&stores).await;
    Ok(())
}

/// The public identity of a member, with an incarnation that is not its own.
struct Stranger {
    url: String,
    cluster: u64,
    from: u64,
    to: u64,
}

impl Stranger {
    async fn call(&self) -> anyhow::Result<Status> {
        let forward = Forward {
            id: Some(ProposalId {
                member: self.from,
                boot: 1 << 62,
                counter: 1,
            }),
            ..Forward::default()
        };
        let envelope = Envelope {
            sequence: u64::MAX,
            messages: vec![PeerMessage {
                message: Some(Message::Forward(forward)),
            }],
        };
        let mut request = Request::new(tokio_stream::iter([envelope]));
        for (name, value) in [
            ("keelson-cluster-id", self.cluster),
            ("keelson-from", self.from),
            ("keelson-to", self.to),
            ("keelson-boot", 1 << 62),
            ("keelson-key", 1),
        ] {
            request.metadata_mut().insert(name, value.into());
        }
        let mut client = PeerClient::connect(self.url.clone()).await?;
        let refused = timeout(LIMIT, client.stream(request)).await?;
        Ok(refused.expect_err("a stranger is refused"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_in_a_members_name_is_refused_and_shuts_no_member_out() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let configs = members(dir.path(), 3);
    let urls: Vec<String> = configs.iter().map(port_of).collect();
    let stores = open(configs).await?;
    write(&stores[0], 10).await?;
    for (to, port) in stores.iter().zip(&urls) {
        for from in stores.iter().map(|store| store.member_id().0).chain([999]) {
            let stranger = Stranger {
                url: format!("http://127.0.0.1:{port}"),
                cluster: to.cluster_id().0,
                from,
                to: to.member_id().0,
            };
            let refused = stranger.call().await?;
            let expected = [Code::FailedPrecondition, Code::Unavailable, Code::Aborted];
            assert!(expected.contains(&refused.code()), "{from}: {refused:?}");
        }
    }
    all_take_part(&stores).await?;
    shut_down(&stores).await;
    Ok(())
}
