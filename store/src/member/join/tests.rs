//! Joining members and founders, with peers that answer only member lists.

use keelson_proto::etcdserverpb::{HashKvRequest, HashKvResponse};
use keelson_proto::peer::peer_server::{Peer, PeerServer};
use keelson_proto::peer::{
    Envelope, MembersRequest, SnapshotChunk, SnapshotReceived, StreamClosed,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};

use super::*;

/// A peer that answers with the cluster's members and refuses other calls.
struct Answers(Vec<Member>, u64);

#[tonic::async_trait]
impl Peer for Answers {
    async fn hash_kv(&self, _: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        unreachable!("nothing compares hashes here")
    }

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

/// The configuration of the third of three members, with that URL.
fn third(others: [&Url; 2], me: &Url) -> Config {
    let urls = [others[0], others[1], me];
    let named = ["m1", "m2", "m3"].into_iter().zip(urls);
    Config {
        initial_advertise_peer_urls: vec![me.clone()],
        initial_cluster: named
            .map(|(name, url)| (name.to_owned(), url.clone()))
            .collect(),
        ..Config::single("m3", "nowhere")
    }
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
    let config = third([&behind, &ahead], &new);
    assert!(join(&config, &ClientTls::default()).await.is_ok());
    let config = Config {
        initial_cluster: vec![("m1".to_owned(), behind), ("m3".to_owned(), new)],
        ..config
    };
    let refused = join(&config, &ClientTls::default())
        .await
        .map(drop)
        .expect_err("not added");
    assert!(refused.to_string().contains("member add m3"), "{refused}");
}

/// The first answer lacked the new member.
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
        let config = third(others, &me);
        let refused = join(&config, &ClientTls::default()).await.err();
        assert!(matches!(refused, Some(OpenError::LostItsData { .. })));
    }
}

/// A member that lags still lists the predecessor at the same URL.
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
    let unlisted = member_that_answers(at_my_url(0xa4)).await;
    for (others, expected) in [
        ([&behind, &ahead], Some(0xa4)),
        ([&ahead, &behind], Some(0xa4)),
        ([&behind, &removed], None),
        ([&removed, &unlisted], Some(0xa4)),
    ] {
        let config = third(others, &me);
        let joined = join(&config, &ClientTls::default()).await.ok();
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

/// The founders waited 2 s for each other, and registered ones started only if another founder
/// was running already.
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

/// No other founder could hold the data.
#[tokio::test]
async fn a_lone_founder_that_has_been_there_before_is_refused() {
    let mut config = Config::single("m1", "nowhere");
    refuse_amnesia(&config, &ClientTls::default())
        .await
        .expect("it is new");
    config.must_be_vouched_for = true;
    let refused = refuse_amnesia(&config, &ClientTls::default()).await;
    assert!(matches!(
        refused,
        Err(OpenError::NotVouchedFor {
            confirmed: 0,
            needed: 1,
            ..
        })
    ));
}
