//! The users of certificates while auth is being enabled.

use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::auth_change::Op;
use keelson_proto::internal::{AuthChange, AuthEnable};
use keelson_store::{Config, Error, StateError};

use super::{open_one, put, user};

/// Such a user has no token that states an index. Its command went into the log without it, and was
/// refused at its entry as one without a user.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_overtakes_the_enabling_of_auth_is_its_users() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = open_one(Config::single("alone", dir.path())).await?;
    store.ready().await;
    let change = |op| store.auth_change(AuthChange { op: Some(op) });
    let added = |name: &str| AuthUserAddRequest {
        name: name.into(),
        ..Default::default()
    };
    for name in ["root", "limited"] {
        change(Op::UserAdd(added(name))).await?;
    }
    let grant = AuthUserGrantRoleRequest {
        user: "root".into(),
        role: "root".into(),
    };
    change(Op::UserGrantRole(grant)).await?;
    let (root, limited) = (
        store.acting_as(user("root")),
        store.acting_as(user("limited")),
    );
    limited.put(put("a")).await?;
    for _ in 0..20 {
        let secret = "s".into();
        // Both are in the log before either is applied, or nearly so.
        let enabling = change(Op::Enable(AuthEnable { secret }));
        let (enabled, written) = tokio::join!(enabling, root.put(put("a")));
        enabled?;
        written?;
        let denied = limited.put(put("a")).await.map(drop);
        assert_eq!(denied, Err(Error::State(StateError::PermissionDenied)));
        change(Op::Disable(AuthDisableRequest {})).await?;
    }
    store.shutdown().await;
    Ok(())
}
