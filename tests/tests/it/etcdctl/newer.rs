//! The commands for etcdctl 3.5.1: one of each, and those that 3.4 does not have, or prints
//! otherwise.

/// As the other scripts. Users come last.
pub(super) const NEWER: &str = r#"
put a 1
put a 2 --prev-kv -w json
put b 2
get a -w fields
get a --prefix --count-only
get a --prefix --count-only -w fields
get a b --keys-only
get --from-key a
get --from-key b -w json
get --rev 99 a
del b --prev-kv
txn <<< value("a") = "2"\n\nput c 3\nget a\n\nput a 4\n\n
compaction 3
get --rev 2 a
endpoint status -w table
endpoint status
endpoint status -w fields
endpoint status -w json
endpoint health
endpoint health -w json
endpoint hashkv
member list
member list -w table
member list -w json
alarm list
alarm disarm
lease grant 1000
put l/1 one --lease={lease}
lease timetolive {lease} --keys
lease timetolive {lease} --keys -w json
lease keep-alive --once {lease}
lease keep-alive --once 77
lease list
lease revoke {lease}
lease revoke 77
put w/1 one
put w/end END
watch --rev 5 --prefix w/ --prev-kv ~ END
watch --rev 5 --prefix w/ -w json ~ RU5E
watch --rev 2 --prefix w/
watch -i <<< watch --rev 5 --prefix w/ --prev-kv\n ~ END
lock locked printenv ETCD_LOCK_KEY
& elect chosen first ~ first
elect --listen chosen ~ first
stop
defrag
version
move-leader 77
member remove 77
member promote 77
member update 77
member update 77 --peer-urls=http://127.0.0.1:9
member add x --peer-urls=nonsense
member add x --learner --peer-urls=http://127.0.0.1:9
member add y --learner --peer-urls=http://127.0.0.1:9
member update {added} --peer-urls=http://127.0.0.1:19
member promote {added}
member remove {added}
member remove {added}
member list
auth status
user add root:rootpw
user add root:again
user add alice --new-user-password pw
user add bob --no-password
user grant-role root root
role add r
role grant-permission r readwrite a c
role grant-permission nope read a
user grant-role alice r
user get alice
user get alice --detail
user get nobody
role get r
auth enable
auth status --user root:rootpw
get a
watch a
get a --user alice:wrong
get a --user alice:pw
put d 1 --user alice:pw
user list --user alice:pw
role list --user root:rootpw
user delete alice --user root:rootpw
get a --user alice:pw
auth disable --user root:rootpw
auth status
"#;
