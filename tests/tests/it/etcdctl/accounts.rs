//! The commands about users and roles, and those of users.

/// As `SCRIPT`. Left out is what etcd 3.4 answers without a user and 3.7 refuses: leases, status,
/// members.
pub(super) const ACCOUNTS: &str = r#"
user add root:rootpw
user add root:again
user add alice:pw
user add bob:pw --no-password
user list
user get alice
user get nobody
auth enable
role add root
user grant-role root root
user get root
role add r
role add r
role list
role get r
role get nope
role get root
role grant-permission r read a c
role grant-permission r write b d
role grant-permission r readwrite e
role grant-permission r read z a
role grant-permission r read p --prefix
role grant-permission r write q --from-key
role grant-permission nope read a
role get r
role revoke-permission r e
role revoke-permission r e
role revoke-permission nope e
role get r
user grant-role alice r
user grant-role alice r
user grant-role alice nope
user grant-role nobody r
user revoke-role alice nope
user revoke-role nobody r
put a 1
put b 2
put other 3
auth enable
auth enable
get a
put a 1
del a
get a --user alice:wrong
get a --user nobody:pw
get a --user bob:pw
get a --user alice:pw
get a c --user alice:pw
get a d --user alice:pw
get other --user alice:pw
put b 5 --user alice:pw
put a 5 --user alice:pw
txn --user alice:pw <<< value("b") = "5"\n\nput b 6\n\nget b\n\n
txn --user alice:pw <<< value("other") = "5"\n\nput b 6\n\nget b\n\n
txn --user alice:pw <<< \nput b 6\n\nget other\n\n
--user alice:pw watch other
watch a
put b 6 --prev-kv --user alice:pw
del b d --user alice:pw
del a d --user alice:pw
get --prefix p --user alice:pw
put qq 1 --user alice:pw
user list --user alice:pw
user get alice --user alice:pw
user get root --user alice:pw
role get r --user alice:pw
role get root --user alice:pw
role list --user alice:pw
role add s --user alice:pw
alarm list --user alice:pw
alarm disarm --user alice:pw
member add x --peer-urls http://127.0.0.1:9 --user alice:pw
lease grant 100 --user alice:pw
lease list --user alice:pw
user delete root --user root:rootpw
role delete root --user root:rootpw
user revoke-role root root --user root:rootpw
get a --user root:rootpw
put other 9 --user root:rootpw
compact 3 --user root:rootpw
role list --user root:rootpw
user list --user root:rootpw
role delete r --user root:rootpw
get a --user alice:pw
user delete alice --user root:rootpw
get a --user alice:pw
auth disable --user alice:pw
auth disable
auth disable --user root:rootpw
auth disable
get a
user delete root
user list
"#;
