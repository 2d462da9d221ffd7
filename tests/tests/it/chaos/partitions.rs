//! Links of the leader that carry nothing, in one direction or in both.

use keelson_tests::chaos::watchers::Watchers;
use keelson_tests::chaos::writers::Writers;
use keelson_tests::proc::relay::{Link, Relays};

use super::watches::{Others, conclude, plans};
use super::*;

const MEMBERS: usize = 3;

/// What a member cannot do.
#[derive(Clone, Copy, Debug)]
enum Cut {
    SendAndReceive,
    Send,
    Receive,
}

impl Cut {
    fn links(self, member: usize) -> Vec<Link> {
        let others = (0..MEMBERS).filter(move |other| *other != member);
        let sends = others.clone().map(|other| (member, other));
        let receives = others.map(|other| (other, member));
        match self {
            Cut::SendAndReceive => sends.chain(receives).collect(),
            Cut::Send => sends.collect(),
            Cut::Receive => receives.collect(),
        }
    }
}

/// Waits until all these members name one of them as the leader.
async fn agreed(cluster: &Cluster, members: &[usize]) -> Result<usize> {
    let at = Instant::now();
    loop {
        let (mut ids, mut leaders) = (Vec::new(), Vec::new());
        for member in members {
            let status = client::status(&cluster.members[*member].client_url).await;
            if let Ok(status) = status {
                ids.push(status.header.map_or(0, |header| header.member_id));
                leaders.push(status.leader);
            }
        }
        leaders.dedup();
        if ids.len() == members.len()
            && let [leader] = leaders[..]
            && let Some(place) = ids.iter().position(|id| *id == leader)
        {
            return Ok(members[place]);
        }
        ensure!(at.elapsed() < LIMIT, "no leader: {}", cluster.log_tails());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Also an acknowledged write that the others do not have, or a read of the leader before, would be
/// found: the order of all writes is known by their revisions.
#[tokio::test]
async fn nothing_is_lost_while_links_of_the_leader_are_cut() -> Result<()> {
    let _alone = alone().await;
    let plan = Plan::new(&binary::ours()?, MEMBERS)
        .flag("--heartbeat-interval=50")
        .flag("--election-timeout=500");
    let mut cluster = Cluster::create(&plan)?;
    let relays = Relays::before(&mut cluster).await?;
    for member in &mut cluster.members {
        member.start()?;
    }
    relays.meet(&cluster);
    cluster.wait_ready(LIMIT).await?;
    let urls = cluster.endpoints();
    let writers = Writers::start(&urls, 4, "w/");
    let watchers = Watchers::start(&urls, plans(MEMBERS));
    writers.progress(100, LIMIT).await?;
    for cut in [Cut::SendAndReceive, Cut::Send, Cut::Receive] {
        let leader = agreed(&cluster, &[0, 1, 2]).await?;
        let others: Vec<usize> = (0..MEMBERS).filter(|other| *other != leader).collect();
        let at = Instant::now();
        relays.cut(cut.links(leader));
        let next = agreed(&cluster, &others).await?;
        println!(
            "{cut:?}: {next} leads instead of {leader} after {:?}",
            at.elapsed()
        );
        writers.progress(100, LIMIT).await?;
        relays.cut([]);
        writers.progress(100, LIMIT).await?;
    }
    conclude(&urls[0], writers, vec![watchers], Others::default()).await
}
