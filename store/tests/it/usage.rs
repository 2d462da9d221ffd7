//! The account of use that `keelson top` shows.

use keelson_proto::etcdserverpb::kv_client::KvClient;
use keelson_proto::etcdserverpb::{RangeRequest, TxnRequest};
use keelson_proto::keelsonpb::usage_client::UsageClient;
use keelson_proto::keelsonpb::{KeySpace, PrefixUse, UsageRequest};
use keelson_store::Config;
use keelson_store::messages::RequestOp;
use keelson_store::messages::request_op::Request;

use crate::embedded::{open, put};
use crate::metrics::serve;

#[tokio::test(flavor = "multi_thread")]
async fn requests_keys_and_bytes_are_counted_by_prefix() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let stores = open(vec![Config::single("alone", dir.path())]).await?;
    let (url, _) = serve(stores[0].clone()).await?;

    let mut kv = KvClient::connect(url.clone()).await?;
    for key in ["/registry/pods/a", "/registry/pods/b", "/registry/nodes/a"] {
        kv.put(put(key, "12345")).await?;
    }
    let range = RangeRequest {
        key: "/registry/pods/".into(),
        range_end: "/registry/pods0".into(),
        ..RangeRequest::default()
    };
    kv.range(range).await?;
    let txn = TxnRequest {
        success: vec![RequestOp {
            request: Some(Request::RequestPut(put("/registry/nodes/a", "1"))),
        }],
        ..TxnRequest::default()
    };
    kv.txn(txn).await?;
    let answer = put_v2(&url, "/v2/keys/deis/builder/x", "value=abc").await?;
    anyhow::ensure!(answer.contains("createdIndex"), "{answer}");

    let mut usage = UsageClient::connect(url).await?;
    let found = usage.get(UsageRequest { sizes: true }).await?.into_inner();
    assert!(found.has_sizes && found.header.is_some());
    let of = |space: KeySpace, prefix: &str| -> Option<&PrefixUse> {
        let mut all = found.prefixes.iter();
        all.find(|one| one.space() == space && *one.prefix == *prefix.as_bytes())
    };
    let pods = of(KeySpace::V3, "/registry/pods/").expect("pods");
    assert_eq!((pods.reads, pods.writes, pods.keys), (1, 2, 2));
    assert_eq!(
        (pods.read_bytes, pods.written_bytes, pods.bytes),
        (42, 42, 42)
    );
    let nodes = of(KeySpace::V3, "/registry/nodes/").expect("nodes");
    assert_eq!((nodes.reads, nodes.writes, nodes.keys), (0, 2, 1));
    let builder = of(KeySpace::V2, "/deis/builder/").expect("a directory of the v2 API");
    assert_eq!((builder.writes, builder.keys, builder.bytes), (1, 1, 18));

    let without = usage.get(UsageRequest { sizes: false }).await?.into_inner();
    assert!(!without.has_sizes && without.prefixes.iter().all(|one| one.keys == 0));
    stores[0].shutdown().await;
    Ok(())
}

/// A PUT of the v2 API; its answer.
async fn put_v2(url: &str, path: &str, form: &str) -> anyhow::Result<String> {
    use http_body_util::{BodyExt, Full};
    use hyper_util::client::legacy::Client;
    use hyper_util::rt::TokioExecutor;
    let client: Client<_, Full<bytes::Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let request = http::Request::put(format!("{url}{path}"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::from(form.to_owned()))?;
    let body = client.request(request).await?.into_body().collect().await?;
    Ok(String::from_utf8(body.to_bytes().to_vec())?)
}

#[tokio::test(flavor = "multi_thread")]
async fn with_auth_the_account_is_for_operators() -> anyhow::Result<()> {
    use keelson_proto::etcdserverpb::auth_client::AuthClient;
    use keelson_proto::etcdserverpb::*;
    let dir = tempfile::tempdir()?;
    let stores = open(vec![Config::single("alone", dir.path())]).await?;
    let (url, _) = serve(stores[0].clone()).await?;
    let mut auth = AuthClient::connect(url.clone()).await?;
    for (name, role) in [
        ("root", Some("root")),
        ("watcher", Some("monitor")),
        ("none", None),
    ] {
        let user = AuthUserAddRequest {
            name: name.into(),
            password: name.into(),
            ..AuthUserAddRequest::default()
        };
        auth.user_add(user).await?;
        if let Some(role) = role {
            let (user, role) = (name.into(), role.into());
            auth.user_grant_role(AuthUserGrantRoleRequest { user, role })
                .await?;
        }
    }
    auth.auth_enable(AuthEnableRequest {}).await?;
    let mut usage = UsageClient::connect(url).await?;
    let request = UsageRequest { sizes: true };
    let refused = usage.get(request).await.expect_err("no user");
    assert_eq!(refused.message(), "etcdserver: user name is empty");
    for (name, is_permitted) in [("watcher", true), ("none", false)] {
        let login = AuthenticateRequest {
            name: name.into(),
            password: name.into(),
        };
        let token = auth.authenticate(login).await?.into_inner().token;
        let mut request = tonic::Request::new(request);
        request.metadata_mut().insert("token", token.parse()?);
        let answer = usage.get(request).await;
        assert_eq!(answer.is_ok(), is_permitted, "{name}: {answer:?}");
    }
    stores[0].shutdown().await;
    Ok(())
}
