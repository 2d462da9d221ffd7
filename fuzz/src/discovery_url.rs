//! Any text as a discovery URL, as an entry, as a list of hosts, and as a path requested from our
//! service, which must not leave its own part of the registry.

use http::Method;
use keelson_discovery::v2::DiscoveryUrl;
use keelson_discovery::{Place, Registration, choose, registration, service};

/// The target.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(url) = DiscoveryUrl::parse(text) {
        assert_eq!(url.as_str(), text);
        assert!(!url.host().is_empty());
    }
    entry(text);
    let size = "2".parse().expect("a size");
    if let Ok(Place::Member { initial_cluster } | Place::Proxy { initial_cluster }) =
        choose(text, size, "a")
    {
        let members = registration::parse(&initial_cluster).expect("parts of what was parsed");
        assert!(members.len() <= 2, "{initial_cluster}");
    }
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        if let Some(path) = service::forwarded(&method, text) {
            own_part(&method, &path);
        }
    }
}

fn entry(text: &str) {
    let Ok(members) = registration::parse(text) else {
        return;
    };
    for (name, urls) in &members {
        let me = Registration::new(name, urls, text);
        assert!(me.is(&me.value()), "{}", me.value());
    }
}

fn own_part(method: &Method, path: &str) {
    let rest = path.strip_prefix("/v2/keys/_etcd/registry/").expect(path);
    let parts: Vec<&str> = rest.split('/').collect();
    let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    assert!(
        parts[0].len() == 32 && parts[0].chars().all(is_hex),
        "{path}"
    );
    let reads = *method == Method::GET;
    match parts[1..] {
        [] => assert!(*method != Method::DELETE, "{path}"),
        ["_config", "size"] => assert!(reads, "{path}"),
        [id] => {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-._~%".contains(c);
            assert!(!id.is_empty() && id.chars().all(plain), "{path}");
            assert!(id != "." && id != "..", "{path}");
            assert!(reads || !id.starts_with('_'), "{path}");
        }
        _ => panic!("{path} is too deep"),
    }
}
