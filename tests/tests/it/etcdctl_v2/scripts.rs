//! The commands for etcdctl.

/// etcdctl's commands, one on each line; `'` quotes words with spaces, and its standard input
/// follows ` <<< `.
pub(crate) const KEYS: &str = r#"
ls
get /a
set /a 1
set /a 2
set a 3
-o json set /a 4
-o extended set /a 5
get /a
get a
-o json get /a
-o extended get /a
get --quorum /a
get --sort /a
set /spaces 'two words'
get /spaces
set /stdin <<< from standard input
get /stdin
set /empty ''
get /empty
set /ttl value --ttl 1000
set /swap 1 --swap-with-value 0
set /a 6 --swap-with-value 5
set /a 7 --swap-with-value wrong
set /a 8 --swap-with-index 9
set /a 8 --swap-with-index 999
mk /made 1
mk /made 2
mk /made/below 3
mk /ttl2 1 --ttl 1000
mk --in-order /queue one
mk --in-order /queue two
-o json mk --in-order /queue three
mkdir /dir
mkdir /dir
mkdir /deep/er/est
mkdir /short --ttl 1000
setdir /dir
setdir /dir2 --ttl 1000
setdir /a
updatedir /dir2 --ttl 2000
updatedir /nodir
updatedir /a
update /a 9
update /nokey 1
update /a 10 --ttl 1000
update /dir 1
set /dir 1
set /dir/x 1
set /dir/y 2
set /dir/_hidden 3
set /_hid/den 4
ls --sort
ls --sort /
ls --sort -p /
ls --sort -r /
ls --sort -r -p /
ls --sort -r --quorum /dir
ls /dir/x
ls /_hid
ls /none
-o json ls --sort -r /dir
-o extended ls --sort /dir
get /dir
get /dir/x/y
rm /dir
rm --dir /dir
rmdir /dir
rmdir /deep/er/est
rmdir /none
rmdir /a
rm /a
rm /none
rm /stdin --with-value wrong
rm /stdin --with-index 1
rm /stdin --with-value 'from standard input'
rm -r /dir
rm /
rm -r /
-o json rm /made
get
set
set /x
mk /x
ls /a /b
watch
exec-watch /x
--no-sync ls --sort
--no-sync get /spaces
--no-sync set /nosync 1
--no-sync -o json get /nosync
--no-sync rm /nosync
--no-sync mk /spaces 1
--endpoints http://127.0.0.1:1 ls
--endpoints http://127.0.0.1:1 --no-sync get /a
--debug get /spaces
watch --after-index 5 /spaces
watch --recursive --after-index 4 /queue
-o json watch --recursive --after-index 4 /
exec-watch --after-index
"#;

/// Users, roles and their permissions. The last line leaves authentication enabled.
pub(crate) const ACCOUNTS: &str = r#"
user list
role list
auth enable
auth disable
role add reader
role add reader
role grant reader --path '/a/*' --read
role grant reader --path '/a/*' --read
role grant reader --path '/b' --readwrite
role grant reader
role grant none --path '/b' --read
role get reader
role get none
role revoke reader --path '/b' --write
role revoke reader --path '/c' --write
role get reader
user add root:secret
user add one:p
user add one:q
user add two <<< p
user get one
user get none
user grant one --roles reader,none
user grant one --roles reader
user grant none --roles reader
user revoke one --roles none
user passwd two <<< q
user list
set /a/x 1
set /b 1
set /c 1
auth enable
auth enable
user list
-u root:secret user list
-u root:secret role list
-u root:wrong role list
-u one:p role list
-u root:secret role revoke guest --path '/*' --readwrite
get /a/x
set /c 2
-u one:p get /a/x
-u one:wrong get /a/x
-u one:p set /a/x 2
-u one:p get /b
-u one:p set /b 2
-u one:p ls /
-u root:secret get /c
-u root:secret ls --sort -r /
-u one:p user add three:p
-u root:secret user remove two
-u root:secret user remove root
-u root:secret role remove root
-u root:secret role remove reader
-u one:p get /a/x
member list
cluster-health
auth disable
-u one:p auth disable
-u root:secret auth disable
set /c 3
-u root:secret auth enable
"#;

/// Members of a cluster of three; `{PEER}` is an address without a listener, `{NEW}` the id of the
/// member that was added, `{OLD}` that of the last one of the three, `{OWN}` its peer address.
pub(crate) const MEMBERS: &str = r#"
member list
cluster-health
--no-sync member list
member add new http://{PEER}
member list
member add again http://{PEER}
member update {NEW} http://127.0.0.1:1
member list
cluster-health
member update {OLD} http://{OWN}
member update 1234 http://127.0.0.1:2
member update {NEW} notaurl
member update zz http://127.0.0.1:2
member remove {NEW}
member list
member remove {NEW}
member remove 1234
member remove zz
member add
member add bad notaurl
set /after 1
member remove {OLD}
member list
get /after
cluster-health
"#;
