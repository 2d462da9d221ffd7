//! The command against members of this process.

use std::path::Path;

use keelson_proto::etcdserverpb::PutRequest;
use keelson_store::{Config, Store};
use tokio::net::TcpListener;

use super::*;

#[test]
fn the_command_line_is_sound() {
    use clap::CommandFactory;
    TopArguments::command().debug_assert();
}

async fn member(dir: &Path) -> (Store, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut config = Config::single("m1", dir);
    config.advertise_client_urls = vec![url.parse().unwrap()];
    let store = Store::open(config).await.unwrap();
    store.ready().await;
    store.published().await;
    let served = store.clone();
    tokio::spawn(async move { served.serve(vec![listener], std::future::pending()).await });
    (store, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_members_of_an_endpoint_are_sampled() {
    let dir = tempfile::tempdir().unwrap();
    let (store, url) = member(dir.path()).await;
    let arguments = TopArguments::parse_from(["top"]);
    let access = || arguments.access.access().unwrap();
    let limit = Duration::from_secs(60);
    // The first endpoint does not answer.
    let endpoints = ["http://127.0.0.1:1".to_owned(), url];
    let mut cluster = SampledCluster::find(&endpoints, access(), limit)
        .await
        .unwrap();
    let before = cluster.sample(true).await.unwrap();
    for key in ["/a/b/1", "/a/b/2"] {
        let put = PutRequest {
            key: key.into(),
            value: "12345".into(),
            ..PutRequest::default()
        };
        store.put(put).await.unwrap();
    }
    let now = cluster.sample(true).await.unwrap();
    let activity = Activity::between(&before, &now);
    let row = activity
        .rows
        .iter()
        .find(|row| row.prefix.as_deref() == Some(b"/a/b/"));
    let row = row.expect("a prefix");
    assert_eq!((row.keys, row.bytes), (2, 22));
    assert!(0.0 < row.writes && row.reads == 0.0);
    store.shutdown().await;
    let none = SampledCluster::find(&endpoints[..1], access(), limit).await;
    assert!(none.is_err());
}
