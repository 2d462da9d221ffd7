//! Member and cluster ids, computed as etcd computes them: members with the same flags derive the
//! same ids without communication. etcd `api/membership/{member,cluster}.go`.

use keelson_core::{ClusterId, MemberId};
use sha1::{Digest, Sha1};

use super::Url;

/// First eight bytes of SHA-1 over the sorted peer URLs, the cluster token and, for a member added
/// at run time, the moment of adding in decimal seconds since 1970.
pub fn member_id(peer_urls: &[Url], token: &str, added_unix_seconds: Option<u64>) -> MemberId {
    let mut texts: Vec<&str> = peer_urls.iter().map(Url::as_str).collect();
    texts.sort_unstable();
    let mut hash = Sha1::new();
    for text in texts {
        hash.update(text);
    }
    hash.update(token);
    if let Some(seconds) = added_unix_seconds {
        hash.update(seconds.to_string());
    }
    MemberId(first_eight_bytes(hash))
}

/// First eight bytes of SHA-1 over the sorted member ids, each in eight big endian bytes.
///
/// Only the founding members count: the id does not change with later members.
pub fn cluster_id(members: impl IntoIterator<Item = MemberId>) -> ClusterId {
    let mut members: Vec<MemberId> = members.into_iter().collect();
    members.sort_unstable();
    let mut hash = Sha1::new();
    for member in members {
        hash.update(member.0.to_be_bytes());
    }
    ClusterId(first_eight_bytes(hash))
}

fn first_eight_bytes(hash: Sha1) -> u64 {
    let digest = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One founding member: its URLs, and the id that etcd 3.4.23 computed for it.
    type Founder = (&'static str, u64);

    #[track_caller]
    fn check(token: &str, founders: &[Founder], cluster: u64) {
        let mut ids = Vec::new();
        for (urls, expected) in founders {
            let id = member_id(&Url::parse_list(urls).expect(urls), token, None);
            assert_eq!(id, MemberId(*expected), "{urls}");
            ids.push(id);
        }
        ids.reverse();
        assert_eq!(cluster_id(ids), ClusterId(cluster));
    }

    // Printed by `etcdctl member list` and in the log of a running etcd 3.4.23.
    #[test]
    fn single_members_have_the_ids_etcd_gives_them() {
        check(
            "etcd-cluster",
            &[("http://localhost:2380", 0x8e9e05c52164694d)],
            0xcdf818194e3a8c32,
        );
        check(
            "etcd-cluster",
            &[("http://127.0.7.1:2380", 0xb315201c1e1f8b61)],
            0xc5ba930b832eb909,
        );
    }

    #[test]
    fn urls_are_sorted_and_the_token_counts() {
        let two = "http://127.0.8.1:7001,http://127.0.8.1:2380";
        check("tok-1", &[(two, 0x7de6951e9aa16caa)], 0x3468018ab05f359c);
        check(
            "",
            &[("http://127.0.8.1:2390", 0x86aed63bdda3333d)],
            0x1ad33f964e4e58a1,
        );
        check(
            "etcd-cluster",
            &[("http://[::1]:2390", 0x0373252a4d94880c)],
            0x8dd1e027c5c21b68,
        );
    }

    #[test]
    fn three_members_make_one_cluster_and_port_80_stays_in_the_text() {
        let founders = [
            ("http://127.0.8.1:2380", 0x32e1c373b914ae22),
            ("http://127.0.8.2:2380", 0x2afd0d87aa1a11b8),
            ("http://127.0.8.3:80", 0x1572959a3e1ffd3a),
        ];
        check("etcd-cluster", &founders, 0xe9557ef69c730348);
    }

    #[test]
    fn the_moment_of_adding_counts() {
        let urls = Url::parse_list("http://127.0.8.1:2380").expect("good");
        let added = member_id(&urls, "token", Some(1_700_000_000));
        assert_ne!(added, member_id(&urls, "token", None));
        assert_eq!(added, member_id(&urls, "token1700000000", None));
    }
}
