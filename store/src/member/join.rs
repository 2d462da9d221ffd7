//! A new member of a cluster that runs already: it asks the others who they are and which of them it
//! is. Its state comes later, as a snapshot.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use keelson_core::member::{has_run, latest};
use keelson_core::{ClusterId, MemberId};
use keelson_proto::etcdserverpb::Member;
use keelson_proto::peer::MembersResponse;
use tokio::time::timeout_at;

use super::recover::Found;
use crate::config::{Config, InitialClusterState, Url, url};
use crate::open_error::OpenError;

/// How long the other founders may take to say whether they know this one. Most are not there yet.
const AMNESIA_PATIENCE: Duration = Duration::from_secs(2);

/// How long those whose word is needed may take to come.
const VOUCHERS_PATIENCE: Duration = Duration::from_secs(10);
/// How often, and how far apart, a cluster is asked for a member that none of those asked has.
const JOIN_ROUNDS: usize = 3;
const JOIN_AGAIN: Duration = Duration::from_millis(300);
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Asks the cluster's other members, by their URLs in `--initial-cluster`. A member that is behind does not
/// have this one's addition yet: then all are asked again after a moment.
pub(crate) async fn join(config: &Config) -> Result<Found, OpenError> {
    let others = config
        .initial_cluster
        .iter()
        .filter(|(name, _)| *name != config.name);
    let urls: Vec<Url> = others.map(|(_, url)| url.clone()).collect();
    let mut last = OpenError::Join {
        urls: url::join(&urls),
        why: "--initial-cluster names no other member".to_owned(),
    };
    for round in 0..JOIN_ROUNDS {
        if 0 < round {
            tokio::time::sleep(JOIN_AGAIN).await;
        }
        let (answers, why) = ask_until_known(config, &urls).await;
        for answer in latest(&answers) {
            match myself(config, &answer.members) {
                Ok(me) => {
                    let same = |other: &&MembersResponse| other.cluster_id == answer.cluster_id;
                    for known in answers.iter().filter(same) {
                        refuse_lost(config, me, &known.members)?;
                    }
                    let cluster = ClusterId(answer.cluster_id);
                    return Ok(Found::joining(cluster, me, answer.members.clone()));
                }
                Err(error) => last = error,
            }
        }
        if let (Some(why), true) = (why, answers.is_empty()) {
            let urls = url::join(&urls);
            return Err(OpenError::Join { urls, why });
        }
    }
    Err(last)
}

/// What the members at these URLs answer, and why the last one that did not failed. Once one of them has
/// this host, the others are waited for a moment only. They are waited for, since one that is behind
/// does not have yet what this member published when it ran.
async fn ask_until_known(config: &Config, urls: &[Url]) -> (Vec<MembersResponse>, Option<String>) {
    let mut asking: FuturesUnordered<_> = urls
        .iter()
        .map(|url| async move {
            (
                url,
                crate::peer::ask_members(std::slice::from_ref(url)).await,
            )
        })
        .collect();
    let until = tokio::time::Instant::now() + AMNESIA_PATIENCE;
    let (mut answers, mut why) = (Vec::new(), None);
    let mut is_known = false;
    while !asking.is_empty() {
        let next = match is_known {
            true => timeout_at(until, asking.next()).await.ok().flatten(),
            false => asking.next().await,
        };
        match next {
            Some((_, Ok(answer))) => {
                is_known |= myself(config, &answer.members).is_ok();
                answers.push(answer);
            }
            Some((url, Err(status))) => why = Some(format!("{url}: {}", status.message())),
            None => break,
        }
    }
    (answers, why)
}

/// A member that has published its client URLs has run, voted and acknowledged entries. Without its
/// data it must not come back under its id.
fn refuse_lost(config: &Config, me: MemberId, members: &[Member]) -> Result<(), OpenError> {
    match has_run(me, members) {
        true => Err(OpenError::LostItsData {
            id: format!("{:x}", me.0),
            dir: config.data_dir.clone(),
        }),
        false => Ok(()),
    }
}

/// A founder that has lost its data must not come back as if it were new: it may have voted, and
/// acknowledged entries. Whoever of the other founders runs already can tell, by the client URLs
/// that it has published; in a cluster that is just being founded, nobody has published any. As in etcd,
/// who does not answer says nothing, unless this host is known to have registered before.
pub(crate) async fn refuse_amnesia(config: &Config) -> Result<(), OpenError> {
    let (Some(me), InitialClusterState::New) =
        (config.founding_member_id(), config.initial_cluster_state)
    else {
        return Ok(());
    };
    let mut founders = BTreeMap::<&str, Vec<Url>>::new();
    for (name, url) in &config.initial_cluster {
        founders.entry(name).or_default().push(url.clone());
    }
    let needed = match config.must_be_vouched_for {
        true => vouchers(founders.len()),
        false => 0,
    };
    founders.remove(config.name.as_str());
    let until = Instant::now() + VOUCHERS_PATIENCE;
    loop {
        let mut answers = ask_all(founders.values()).await;
        answers.retain(|answer| answer.cluster_id == config.founding_cluster_id().0);
        if has_run(me, answers.iter().flat_map(|answer| &answer.members)) {
            return Err(OpenError::AlreadyBootstrapped {
                id: format!("{:x}", me.0),
                dir: config.data_dir.clone(),
            });
        }
        let heard = answers.iter().filter(|answer| !answer.founding).count();
        if needed <= heard || all_are_empty(&answers, founders.len()) {
            return Ok(());
        }
        if founders.len() < needed || until <= Instant::now() {
            return Err(OpenError::NotVouchedFor {
                id: format!("{:x}", me.0),
                dir: config.data_dir.clone(),
                heard,
                needed,
            });
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Every one of the others answered, and none holds anything that could contradict: whatever the cluster
/// once had is gone everywhere, and it is founded anew.
fn all_are_empty(answers: &[MembersResponse], others: usize) -> bool {
    0 < others && answers.len() == others && answers.iter().all(|answer| answer.empty)
}

/// How many of the others must know nothing of a founder's having run. Had its URLs been published, a majority
/// would have that, itself among them, perhaps; so many others meet any majority's rest. (They say what they
/// have applied: a founder that loses its disk within moments of its first start may not be known yet.)
fn vouchers(founders: usize) -> usize {
    let majority = founders / 2 + 1;
    founders - majority + 1
}

async fn ask_all(founders: impl Iterator<Item = &Vec<Url>>) -> Vec<MembersResponse> {
    let asked = founders.map(|urls| async move {
        let answer = crate::peer::ask_members(urls);
        let answered = tokio::time::timeout(AMNESIA_PATIENCE, answer).await;
        answered.ok()?.ok()
    });
    let answers = futures_util::future::join_all(asked).await;
    answers.into_iter().flatten().collect()
}

/// The member that `member add` announced with this one's peer URLs.
fn myself(config: &Config, members: &[Member]) -> Result<MemberId, OpenError> {
    let mine = |member: &&Member| {
        let announced = member
            .peer_ur_ls
            .iter()
            .filter_map(|url| Url::parse(url).ok());
        let mut announced = announced.peekable();
        announced.peek().is_some()
            && announced.all(|url| config.initial_advertise_peer_urls.contains(&url))
    };
    let found = members.iter().find(mine).map(|member| MemberId(member.id));
    found.ok_or_else(|| OpenError::Join {
        urls: url::join(&config.initial_advertise_peer_urls),
        why: format!(
            "the cluster has no member with exactly these peer URLs; call `etcdctl member add {} \
             --peer-urls={}` first",
            config.name,
            url::join(&config.initial_advertise_peer_urls)
        ),
    })
}

#[cfg(test)]
mod tests {
    use keelson_proto::peer::peer_server::{Peer, PeerServer};
    use keelson_proto::peer::{
        Envelope, MembersRequest, SnapshotChunk, SnapshotReceived, StreamClosed,
    };
    use tokio::net::TcpListener;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::{Request, Response, Status, Streaming};

    use super::*;

    /// A member that answers who belongs to the cluster, and nothing else.
    struct Answers(Vec<Member>, u64);

    #[tonic::async_trait]
    impl Peer for Answers {
        async fn stream(
            &self,
            _: Request<Streaming<Envelope>>,
        ) -> Result<Response<StreamClosed>, Status> {
            Err(Status::unimplemented("not here"))
        }

        async fn snapshot(
            &self,
            _: Request<Streaming<SnapshotChunk>>,
        ) -> Result<Response<SnapshotReceived>, Status> {
            Err(Status::unimplemented("not here"))
        }

        async fn members(
            &self,
            _: Request<MembersRequest>,
        ) -> Result<Response<MembersResponse>, Status> {
            Ok(Response::new(MembersResponse {
                cluster_id: 7,
                members: self.0.clone(),
                applied: self.1,
                ..MembersResponse::default()
            }))
        }
    }

    async fn member_that_answers(members: Vec<Member>) -> Url {
        member_that_has_applied(0, members).await
    }

    async fn member_that_has_applied(applied: u64, members: Vec<Member>) -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let serving = tonic::transport::Server::builder()
            .add_service(PeerServer::new(Answers(members, applied)))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serving);
        Url::http("127.0.0.1", port)
    }

    #[tokio::test]
    async fn a_member_that_is_behind_does_not_keep_a_new_one_out() {
        let new = Url::http("127.0.0.1", 9);
        let added = Member {
            id: 0xa3,
            peer_ur_ls: vec![new.to_string()],
            ..Member::default()
        };
        let behind = member_that_answers(Vec::new()).await;
        let ahead = member_that_answers(vec![added]).await;
        let config = Config {
            initial_advertise_peer_urls: vec![new.clone()],
            initial_cluster: vec![
                ("m1".to_owned(), behind.clone()),
                ("m2".to_owned(), ahead),
                ("m3".to_owned(), new.clone()),
            ],
            ..Config::single("m3", "nowhere")
        };
        assert!(join(&config).await.is_ok());
        let config = Config {
            initial_cluster: vec![("m1".to_owned(), behind), ("m3".to_owned(), new)],
            ..config
        };
        let refused = join(&config).await.map(drop).expect_err("not added");
        assert!(refused.to_string().contains("member add m3"), "{refused}");
    }

    /// The first that had its addition decided.
    #[tokio::test]
    async fn a_member_that_has_run_is_refused_although_the_first_that_answers_is_behind() {
        let me = Url::http("127.0.0.1", 9);
        let added = Member {
            id: 0xa3,
            peer_ur_ls: vec![me.to_string()],
            ..Member::default()
        };
        let published = Member {
            client_ur_ls: vec!["http://127.0.0.1:10".to_owned()],
            ..added.clone()
        };
        let behind = member_that_answers(vec![added]).await;
        let ahead = member_that_answers(vec![published]).await;
        for others in [[&behind, &ahead], [&ahead, &behind]] {
            let config = Config {
                initial_advertise_peer_urls: vec![me.clone()],
                initial_cluster: vec![
                    ("m1".to_owned(), others[0].clone()),
                    ("m2".to_owned(), others[1].clone()),
                    ("m3".to_owned(), me.clone()),
                ],
                ..Config::single("m3", "nowhere")
            };
            let refused = join(&config).await.err();
            assert!(matches!(refused, Some(OpenError::LostItsData { .. })));
        }
    }

    /// A member that is behind has its predecessor at the same URL still.
    #[tokio::test]
    async fn a_new_member_joins_as_the_member_that_was_added_last() {
        let me = Url::http("127.0.0.1", 9);
        let at_my_url = |id| {
            vec![Member {
                id,
                peer_ur_ls: vec![me.to_string()],
                ..Member::default()
            }]
        };
        let behind = member_that_has_applied(5, at_my_url(0xa3)).await;
        let ahead = member_that_has_applied(9, at_my_url(0xa4)).await;
        let removed = member_that_has_applied(9, Vec::new()).await;
        let untold = member_that_answers(at_my_url(0xa4)).await;
        for (others, expected) in [
            ([&behind, &ahead], Some(0xa4)),
            ([&ahead, &behind], Some(0xa4)),
            ([&behind, &removed], None),
            ([&removed, &untold], Some(0xa4)),
        ] {
            let config = Config {
                initial_advertise_peer_urls: vec![me.clone()],
                initial_cluster: vec![
                    ("m1".to_owned(), others[0].clone()),
                    ("m2".to_owned(), others[1].clone()),
                    ("m3".to_owned(), me.clone()),
                ],
                ..Config::single("m3", "nowhere")
            };
            let joined = join(&config).await.ok();
            let joined = joined.map(|found| found.identity().member.0);
            assert_eq!(joined, expected);
        }
    }

    #[test]
    fn only_if_all_the_others_are_empty_is_there_nothing_to_lose() {
        let answer = |founding, empty| MembersResponse {
            founding,
            empty,
            ..MembersResponse::default()
        };
        let (founding, founded) = (answer(true, true), answer(false, true));
        let running = answer(false, false);
        assert!(all_are_empty(&[founding.clone(), founding.clone()], 2));
        assert!(all_are_empty(&[founding.clone(), founded], 2));
        assert!(!all_are_empty(&[founding.clone(), running], 2));
        assert!(!all_are_empty(&[founding], 2), "one did not answer");
        assert!(!all_are_empty(&[], 0), "a lone founder has no witness");
    }

    fn founder(name: &str, ports: &[u16], dir: &std::path::Path, has_registered: bool) -> Config {
        let urls = ports.iter().map(|port| Url::http("127.0.0.1", *port));
        let named = urls.enumerate().map(|(at, url)| (format!("m{at}"), url));
        let initial_cluster: Vec<_> = named.collect();
        let mine = initial_cluster.iter().filter(|(other, _)| other == name);
        let mine: Vec<Url> = mine.map(|(_, url)| url.clone()).collect();
        Config {
            listen_peer_urls: mine.clone(),
            initial_advertise_peer_urls: mine,
            initial_cluster,
            must_be_vouched_for: has_registered,
            ..Config::single(name, dir.join(name))
        }
    }

    /// They waited 2 s for each other, and those that had registered before came up only if one of
    /// them ran already.
    #[tokio::test(flavor = "multi_thread")]
    async fn founders_that_are_all_empty_come_up_together() {
        let dir = tempfile::tempdir().expect("a directory");
        for has_registered in [false, true] {
            let bound = [0; 3].map(|port| std::net::TcpListener::bind(("127.0.0.1", port)));
            let ports = bound.map(|socket| {
                let address = socket.and_then(|socket| socket.local_addr());
                address.expect("a port").port()
            });
            let dir = dir.path().join(has_registered.to_string());
            let opening = (0..3).map(|at| {
                let config = founder(&format!("m{at}"), &ports, &dir, has_registered);
                crate::Store::open(config)
            });
            let stores = futures_util::future::join_all(opening).await;
            let stores: Result<Vec<_>, _> = stores.into_iter().collect();
            let stores = stores.expect("they found the cluster");
            futures_util::future::join_all(stores.iter().map(crate::Store::ready)).await;
            futures_util::future::join_all(stores.iter().map(crate::Store::shutdown)).await;
        }
    }

    #[test]
    fn enough_vouch_to_meet_every_majority() {
        let needed: Vec<_> = (1..=7).map(vouchers).collect();
        assert_eq!(needed, [1, 1, 2, 2, 3, 3, 4]);
    }

    #[test]
    fn a_member_that_has_run_and_has_no_data_is_refused_with_the_remedy() {
        let config = Config::single("m1", "lost");
        let mut me = Member {
            id: 0xa1,
            name: "m1".to_owned(),
            ..Member::default()
        };
        let refused = |me: &Member| refuse_lost(&config, MemberId(0xa1), std::slice::from_ref(me));
        refused(&me).expect("it was added, or founded, and never ran");
        me.client_ur_ls = vec!["http://a:2379".to_owned()];
        let text = refused(&me).expect_err("it has run").to_string();
        assert!(
            text.contains("member remove a1") && text.contains("member add"),
            "{text}"
        );
    }

    /// Nobody else could know.
    #[tokio::test]
    async fn a_lone_founder_that_has_been_there_before_is_refused() {
        let mut config = Config::single("m1", "nowhere");
        refuse_amnesia(&config).await.expect("it is new");
        config.must_be_vouched_for = true;
        let refused = refuse_amnesia(&config).await;
        assert!(matches!(
            refused,
            Err(OpenError::NotVouchedFor {
                heard: 0,
                needed: 1,
                ..
            })
        ));
    }
}
