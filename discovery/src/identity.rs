//! The id under which a member registers: etcd's own, so that either can read the other's entries.

use sha1::{Digest, Sha1};

/// First eight bytes of SHA-1 over the sorted peer URLs and the cluster token.
///
/// With discovery the token is the whole discovery URL, as the operator wrote it. The same as
/// `keelson-store`'s `config::identity`, which this crate cannot use: it does not depend on the
/// store.
pub fn member_id<U: AsRef<str>>(peer_urls: &[U], token: &str) -> u64 {
    let mut texts: Vec<&str> = peer_urls.iter().map(AsRef::as_ref).collect();
    texts.sort_unstable();
    let mut hash = Sha1::new();
    for text in texts {
        hash.update(text);
    }
    hash.update(token);
    let digest = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    // From `etcdctl member list` of a running etcd 3.4.23.
    #[test]
    fn ids_are_those_etcd_gives() {
        let check = |urls: &[&str], token: &str, id| assert_eq!(member_id(urls, token), id);
        check(
            &["http://localhost:2380"],
            "etcd-cluster",
            0x8e9e_05c5_2164_694d,
        );
        check(
            &["http://127.0.8.1:7001", "http://127.0.8.1:2380"],
            "tok-1",
            0x7de6_951e_9aa1_6caa,
        );
        check(
            &["http://127.0.8.1:2380", "http://127.0.8.1:7001"],
            "tok-1",
            0x7de6_951e_9aa1_6caa,
        );
    }
}
