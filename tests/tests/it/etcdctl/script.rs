//! The commands.

/// etcdctl's commands, one on each line.
///
/// - Its standard input follows ` <<< `, with `\n` for the ends of lines.
/// - A command with ` ~ TEXT` is interrupted once it has printed that text, its last.
/// - With `& ` before it that is done at the next line `stop`.
/// - `{lease}` is the last lease that was granted, `{added}` the last member that was added.
pub(super) const SCRIPT: &str = r#"
put a 1
put a 2 --prev-kv
put b 2
put a/1 one
put a/2 two
put a/3 three -w json
get a
get a -w json
get a -w fields
get a --print-value-only
get a --hex
get --prefix a/
get --prefix a/ --keys-only
get --prefix a/ --limit 2
get --prefix a/ --sort-by=VALUE --order=DESCEND
get --prefix a/ --sort-by=MODIFY --order=ASCEND
get a a/3
get --from-key a/2
get --rev 2 a
get --rev 3 a
get --rev 99 a
get absent
get --consistency=s a
put --ignore-value a --prev-kv
put --ignore-value absent
put --ignore-lease absent x
put --lease=123 a b
put fromstdin <<< value from standard input
del absent
del a --prev-kv
del --prefix a/ --prev-kv
txn <<< value("b") = "2"\n\nput b 3\nget b\n\nput b 4\n\n
txn <<< mod("b") > "99"\n\nput b 5\n\nget b\ndel b\n\n
txn <<< create("b") = "0"\nversion("b") < "1"\n\nput b 6\n\nput c 7\nget b\n\n
txn <<< \nput d 1\nput d 2\n\n\n
txn -w json <<< \nput d 1\nget d\n\n\n
get d -w fields
compaction 3
compaction 3
compaction 999
get --rev 2 b
get --prefix b --rev 4
endpoint status -w table
endpoint status
endpoint status -w fields
endpoint status -w json
endpoint health
endpoint hashkv
member list
member list -w table
member list -w json
member list -w fields
alarm list
lease grant 1000
lease list
put l/1 one --lease={lease}
get l/1 -w fields
get --prefix l/ -w json
lease timetolive {lease}
lease timetolive {lease} --keys
lease timetolive {lease} --keys -w json
lease timetolive {lease} -w fields
put l/2 two --lease={lease}
lease list -w json
lease keep-alive --once {lease}
lease keep-alive --once {lease} -w json
lease keep-alive {lease} ~ keepalived
lease keep-alive --once 77
lease timetolive 77
lease grant
lease grant x
lease grant 9000000001
lease revoke
lease revoke 77
put l/3 three --lease=77
lease revoke {lease}
lease revoke {lease}
lease timetolive {lease}
lease list
get --prefix l/
put w/1 one
put w/2 two
put w/1 three
del w/2
txn <<< \n\nput w/3 x\ndel w/1\n\n\n
put w/end END
watch --rev 4 --prefix w/ ~ END
watch --rev 4 --prefix w/ --prev-kv ~ END
watch --rev 4 --prefix w/ --prev-kv -w json ~ dy9lbmQ=
watch --rev 4 w/ w0 ~ END
watch --from-key w/
watch --rev 4 w/end -- printenv ETCD_WATCH_EVENT_TYPE ETCD_WATCH_KEY ~ "w/end"
watch --rev 4 --prefix w/ -- printenv ETCD_WATCH_VALUE ~ "END"
watch --rev 2 --prefix w/
watch w/2 w/1
watch
watch -i <<< watch --rev 4 --prefix w/ --prev-kv\n ~ END
watch -i <<< watch --rev 4 w/end -- printenv ETCD_WATCH_REVISION ETCD_WATCH_KEY\n ~ "w/end"
lock locked printenv ETCD_LOCK_REV
lock locked printenv ETCD_LOCK_KEY
lock locked --ttl 30 false
& lock locked ~ locked/
get --prefix locked --keys-only
stop
get --prefix locked --keys-only
elect --listen
& elect chosen first ~ first
get --prefix chosen
elect --listen chosen ~ first
stop
get --prefix chosen
alarm disarm
defrag
version
move-leader 77
member remove 77
member promote 77
member update 77 --peer-urls=http://127.0.0.1:9
member update 77
member add x
member add x --peer-urls=nonsense
member add x --learner --peer-urls=http://127.0.0.1:9
member add y --learner --peer-urls=http://127.0.0.1:9
member update {added} --peer-urls=http://127.0.0.1:19
member promote {added}
member remove {added}
member remove {added}
member list
"#;
