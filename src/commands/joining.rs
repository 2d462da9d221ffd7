//! What the operator starts a new member with.

use std::fmt::Write as _;

use keelson_proto::etcdserverpb::Member;

/// The variables for the host that becomes member `id`, as `etcdctl member add` prints them.
pub(super) fn variables(id: u64, name: &str, members: &[Member]) -> String {
    let mut cluster = Vec::new();
    let mut advertised = String::new();
    for member in members {
        let is_new = member.id == id;
        let name = if is_new { name } else { &member.name };
        cluster.extend(member.peer_ur_ls.iter().map(|url| format!("{name}={url}")));
        if is_new {
            advertised = member.peer_ur_ls.join(",");
        }
    }
    let mut text = String::new();
    for (variable, value) in [
        ("NAME", name),
        ("INITIAL_CLUSTER", &cluster.join(",")),
        ("INITIAL_ADVERTISE_PEER_URLS", &advertised),
        ("INITIAL_CLUSTER_STATE", "existing"),
    ] {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "ETCD_{variable}=\"{value}\"");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_are_those_of_member_add() {
        let member = |id, name: &str, url: &str| Member {
            id,
            name: name.to_owned(),
            peer_ur_ls: vec![url.to_owned()],
            ..Member::default()
        };
        let members = [member(1, "m1", "http://a:1"), member(2, "", "http://b:1")];
        let expected = "ETCD_NAME=\"m2\"\n\
             ETCD_INITIAL_CLUSTER=\"m1=http://a:1,m2=http://b:1\"\n\
             ETCD_INITIAL_ADVERTISE_PEER_URLS=\"http://b:1\"\n\
             ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n";
        assert_eq!(variables(2, "m2", &members), expected);
    }
}
