//! Client URLs that lead to another process on each host.

use std::net::IpAddr;

use http::Uri;
use keelson_proto::etcdserverpb::Member;

/// Whether the member has client URLs that all lead to the host which connects, while another host
/// reaches it at a peer URL: etcd advertises http://localhost:2379 where no flag is given.
pub(super) fn hides(member: &Member) -> bool {
    let leads_here = |url: &String| is_loopback(url);
    !member.client_ur_ls.is_empty()
        && member.client_ur_ls.iter().all(leads_here)
        && !member.peer_ur_ls.iter().all(leads_here)
}

fn is_loopback(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else {
        return false;
    };
    let host = uri.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback() || address.is_unspecified(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_hides_a_member_of_another_host() {
        let member = |peer: &str, clients: &[&str]| Member {
            peer_ur_ls: vec![peer.to_owned()],
            client_ur_ls: clients.iter().map(|url| (*url).to_owned()).collect(),
            ..Member::default()
        };
        let remote = "http://10.0.0.2:2380";
        for url in [
            "http://localhost:2379",
            "https://127.0.0.1:2379",
            "http://[::1]:2379",
            "http://0.0.0.0:2379",
        ] {
            assert!(hides(&member(remote, &[url])), "{url}");
            assert!(!hides(&member(remote, &[url, "http://m2:2379"])), "{url}");
            // Members that all run on this host.
            assert!(!hides(&member("http://127.0.0.1:2380", &[url])), "{url}");
        }
        assert!(!hides(&member(remote, &[])), "it was never started");
        assert!(!hides(&member(remote, &["http://localhost.example:1"])));
    }
}
