//! What the addresses show: voters that fail together, and proxies that reach no member.

use std::collections::BTreeMap;

use super::super::facts::{Facts, MemberFacts};
use super::super::finding::Severity::*;
use super::Findings;

/// Proxies among the endpoints that no member is in reach of.
pub(super) fn proxies(found: &mut Findings, facts: &Facts) {
    for (endpoint, usable) in &facts.proxies {
        if *usable == 0 {
            let fault = format!("the proxy {endpoint} reaches none of its members");
            let remedy = "start the members, or admit the host of the proxy to their client port \
                          (2379) and peer port (2380); it then serves by itself";
            found.add(Critical, "proxy", None, fault, remedy);
        }
    }
}

/// Voters on one host whose loss is the loss of the majority.
pub(super) fn one_host(found: &mut Findings, facts: &Facts) {
    let voters = facts.voters().count();
    let mut hosts: BTreeMap<&str, Vec<&MemberFacts>> = BTreeMap::new();
    for voter in facts.voters() {
        let host = voter.client_urls.iter().find_map(|url| host_of(url));
        if let Some(host) = host {
            hosts.entry(host).or_default().push(voter);
        }
    }
    for (host, members) in hosts {
        let left = voters - members.len();
        if 1 < members.len() && left < voters / 2 + 1 {
            let names: Vec<_> = members.iter().map(|member| member.label()).collect();
            let fault = format!(
                "{} of {voters} voters are on one host, {host} ({}): its loss stops all writes",
                members.len(),
                names.join(", ")
            );
            let remedy = "replace all but one of them by members on other hosts: remove one, add \
                          one, and wait until it is in sync";
            found.add(Warning, "placement", None, fault, remedy);
        }
    }
}

/// The host of a URL; none for a loopback address, which each host has, and for a socket's path.
fn host_of(url: &str) -> Option<&str> {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"))?;
    let authority = rest.split('/').next()?;
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None => authority
            .rsplit_once(':')
            .map_or(authority, |(host, _)| host),
    };
    let is_loopback = host.starts_with("127.") || host == "localhost" || host == "::1";
    (!is_loopback && !host.is_empty()).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_those_of_urls() {
        for (url, host) in [
            ("http://10.0.0.1:2379", Some("10.0.0.1")),
            ("https://a.example/", Some("a.example")),
            ("https://[fd00::1]:2379", Some("fd00::1")),
            ("http://[::1]:2379", None),
            ("http://localhost:2379", None),
            ("unix://m1.socket", None),
        ] {
            assert_eq!(host_of(url), host, "{url}");
        }
    }
}
