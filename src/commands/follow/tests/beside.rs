//! What is followed beside v3 keys: v2 keys that are not answered, and users without a revision.

use keelson_proto::authpb::{Permission, permission};
use keelson_proto::internal::AuthChange;
use keelson_proto::internal::auth_change::Op as AuthOp;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;
use crate::commands::follow::error::CutoverError;
use crate::commands::follow::users::ShownUsers;

/// What a command is answered.
type CutoverAnswer = Result<String, String>;

/// A URL at which the requests of another one are answered, but for those of v2 keys. Their
/// connections are handed over.
async fn without_v2_answers(origin: &str) -> (String, mpsc::UnboundedReceiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let origin = origin.trim_start_matches("http://").to_owned();
    let (unanswered, given) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (unanswered, origin) = (unanswered.clone(), origin.clone());
            tokio::spawn(async move {
                let mut first = [0];
                let read = stream.peek(&mut first).await.unwrap_or_default();
                // gRPC begins with `PRI`.
                if read == 1 && first == *b"G" {
                    let _ = unanswered.send(stream);
                    return;
                }
                if let Ok(mut origin) = TcpStream::connect(origin).await {
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut origin).await;
                }
            });
        }
    });
    (url, given)
}

/// Whether the other side has closed a connection.
fn is_closed(stream: &TcpStream) -> bool {
    let mut bytes = [0; 1024];
    loop {
        match stream.try_read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

/// They waited for the v2 answer until its time was over.
#[tokio::test(flavor = "multi_thread")]
async fn v3_keys_are_followed_while_v2_keys_are_not_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (source, origin) = source(dir.path()).await;
    let (url, mut unanswered) = without_v2_answers(&origin).await;
    let (store, task) = standby(dir.path(), &url).await;
    let request = unanswered.recv().await.unwrap();
    source.put(put("meanwhile", "v", 0)).await.unwrap();
    reaches(&store, source.revision()).await;
    assert!(!is_closed(&request));
    // Nor is the source fenced while that is so.
    let patience = Duration::from_millis(100);
    let cut = cut_over(&dir.path().join("standby"), true, patience).await;
    let refused = cut.unwrap().unwrap_err();
    assert!(refused.contains("not read in time"), "{refused}");
    source.put(put("not fenced", "v", 0)).await.unwrap();
    reaches(&store, source.revision()).await;
    task.abort();
    store.shutdown().await;
    source.shutdown().await;
}

fn grant(key: &'static str) -> AuthOp {
    AuthOp::RoleGrantPermission(AuthRoleGrantPermissionRequest {
        name: "reader".to_owned(),
        perm: Some(Permission {
            perm_type: permission::Type::Read.into(),
            key: key.into(),
            ..Permission::default()
        }),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_shown_of_users_and_roles_is_compared() {
    let dir = tempfile::tempdir().unwrap();
    let (source, url) = source(dir.path()).await;
    let arguments = FollowArguments::parse_from(["follow", "--from", &url]);
    let access = arguments.access.access().unwrap();
    let member = SourceMember::connect(&access, &url).await.unwrap();
    let mut last = ShownUsers::here(&source);
    assert!(!last.has_users());
    let mut differences = Vec::new();
    for op in [
        AuthOp::UserAdd(AuthUserAddRequest {
            name: "alice".to_owned(),
            hashed_password: "hash".to_owned(),
            ..AuthUserAddRequest::default()
        }),
        AuthOp::RoleAdd(AuthRoleAddRequest {
            name: "reader".to_owned(),
        }),
        grant("z"),
        grant("a"),
        AuthOp::UserGrantRole(AuthUserGrantRoleRequest {
            user: "alice".to_owned(),
            role: "reader".to_owned(),
        }),
    ] {
        let op = Some(op);
        source.auth_change(AuthChange { op }).await.unwrap();
        let there = ShownUsers::there(&member).await.unwrap();
        differences.extend(last.difference(&there));
        assert_eq!(there, ShownUsers::here(&source));
        last = there;
    }
    let reader = r#"role "reader""#;
    let alice = r#"user "alice""#;
    assert_eq!(differences, [alice, reader, reader, reader, alice]);
    assert!(last.has_users());
    source.shutdown().await;
}

/// A cut-over that waits for what is to be followed, and its command's end.
async fn pending(url: &str, patience: Duration) -> (Pending, oneshot::Receiver<CutoverAnswer>) {
    let arguments = FollowArguments::parse_from(["follow", "--from", url]);
    let plan = FollowPlan {
        urls: vec![url.to_owned()],
        v2: true,
        hidden: Vec::new(),
        access: Arc::new(arguments.access.access().unwrap()),
    };
    let member = SourceMember::connect(&plan.access, url).await.unwrap();
    let (reply, answer) = oneshot::channel();
    let request = CutoverRequest {
        fence: true,
        patience,
        reply,
    };
    let pending = Pending::begin(request, &plan, &member).await.unwrap();
    (pending, answer)
}

/// The fence stayed for the whole patience of a command that had ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_fence_stays_no_longer_than_its_command() {
    let dir = tempfile::tempdir().unwrap();
    let (source, url) = source(dir.path()).await;
    let hang = || std::future::pending::<Result<(), CutoverError>>();
    let late = || CutoverError::Late("leases");
    let (mut short, answer) = pending(&url, Duration::from_millis(1)).await;
    let error = short.within(late(), hang()).await.unwrap_err();
    assert!(matches!(error, CutoverError::Late(_)), "{error}");
    drop(answer);
    let day = Duration::from_secs(86400);
    let (mut long, answer) = pending(&url, day).await;
    drop(answer);
    let limit = Duration::from_secs(60);
    let ended = timeout(limit, long.within(late(), hang())).await;
    assert!(matches!(ended, Ok(Err(CutoverError::GivenUp))), "{ended:?}");
    let mut long = Some(long);
    timeout(limit, Pending::late(&mut long)).await.unwrap();
    source.shutdown().await;
}
