//! JWT tokens of Debian's etcd at Keelson, and of Keelson at etcd: both have the same keys, users
//! and revision of auth.

use anyhow::{Context, Result, ensure};
use keelson_proto::etcdserverpb::auth_client::AuthClient;
use keelson_proto::etcdserverpb::kv_client::KvClient;
use keelson_proto::etcdserverpb::{
    AuthEnableRequest, AuthUserAddRequest, AuthUserGrantRoleRequest, AuthenticateRequest,
    PutRequest,
};
use keelson_tests::proc::cluster::{Cluster, Plan};
use keelson_tests::proc::{binary, client};
use tonic::{Request, Status};

/// The keys of the edge's tests.
const KEYS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../store/edge/src/v3/auth/jwt/keys"
);

/// Adds root, enables auth and logs in: the token.
async fn token(url: &str) -> Result<String> {
    let mut auth = AuthClient::new(client::lazy(url));
    let (name, password) = ("root".to_owned(), "pw".to_owned());
    auth.user_add(AuthUserAddRequest {
        name: name.clone(),
        password: password.clone(),
        ..AuthUserAddRequest::default()
    })
    .await?;
    let (user, role) = (name.clone(), name.clone());
    auth.user_grant_role(AuthUserGrantRoleRequest { user, role })
        .await?;
    auth.auth_enable(AuthEnableRequest {}).await?;
    let login = auth.authenticate(AuthenticateRequest { name, password });
    Ok(login.await?.into_inner().token)
}

async fn put(url: &str, token: &str) -> Result<(), Status> {
    let mut request = Request::new(PutRequest {
        key: "a".into(),
        ..PutRequest::default()
    });
    let token = token.parse().expect("tokens are ASCII");
    request.metadata_mut().insert("token", token);
    let mut kv = KvClient::new(client::lazy(url));
    kv.put(request).await.map(drop)
}

#[tokio::test]
async fn tokens_of_either_server_are_valid_at_the_other() -> Result<()> {
    let Some(etcd) = binary::etcd_or_skip()? else {
        return Ok(());
    };
    let flag = format!(
        "--auth-token=jwt,pub-key={KEYS}/p256-pub.pem,priv-key={KEYS}/p256.pem,sign-method=ES256"
    );
    let plan = |binary| Plan::new(binary, 1).flag(&flag).flag("--bcrypt-cost=4");
    let ours = binary::ours()?;
    let starts = (plan(&ours), plan(&etcd));
    let (ours, theirs) = tokio::join!(Cluster::start(&starts.0), Cluster::start(&starts.1));
    let (ours, theirs) = (ours?, theirs?);
    let urls = [&ours.members[0].client_url, &theirs.members[0].client_url];
    let tokens = [token(urls[0]).await?, token(urls[1]).await?];
    for url in urls {
        for token in &tokens {
            let put = put(url, token).await;
            put.with_context(|| format!("{token} at {url}\n{}", ours.log_tails()))?;
        }
        let (claims, signature) = tokens[1].rsplit_once('.').context("no signature")?;
        let refused = put(url, &format!("{claims}x.{signature}")).await;
        ensure!(refused.is_err_and(|status| status.message() == "etcdserver: invalid auth token"));
    }
    Ok(())
}
