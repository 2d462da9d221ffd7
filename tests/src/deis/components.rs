//! The clients of etcd on a Deis host, with their requests. Sources are in the reference on Deis
//! and etcd v2: the section is beside each.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::host::{Component, Wrote};
use crate::http::{Reply, Request};

/// go-etcd's content type: its parameter has no meaning.
const GO_ETCD: &str = "application/x-www-form-urlencoded; param=value";

/// The pause between requests: at least ten times as fast as in production.
const PAUSE: Duration = Duration::from_millis(120);

/// TTL in seconds of keys that are renewed every `PAUSE`; in production 20 s and 10 s. Longer than
/// any outage.
pub const TTL: u64 = 8;

/// TTL in seconds of fleet's lease on the engine role.
const LEASE: u64 = 5;

/// Tolerance for clocks, and for the half second that an expiry may take.
const SLACK: Duration = Duration::from_secs(1);

/// Directories that exist before any component starts, and keys, by their paths.
pub const DIRECTORIES: [&str; 8] = [
    "/deis/services/app",
    "/deis/router/hosts",
    "/deis/domains",
    "/deis/builder/users",
    "/deis/config/app",
    "/deis/logs",
    "/deis/cache",
    "/_coreos.com/fleet/job/deis-router@1.service",
];

/// Keys that exist before and are never written again: Deis loses data when one is not found.
pub const KEYS: [(&str, &str); 6] = [
    ("/deis/platform/version", "1.13.4"),
    ("/deis/database/initId", "d41d8cd98f00b204"),
    ("/deis/store/monSetupComplete", "youBetcha"),
    ("/deis/store/osds/10.21.12.3", "0"),
    ("/deis/services/app/permanent", "10.0.0.1:80"),
    ("/sshHostKey", "-----BEGIN RSA PRIVATE KEY-----"),
];

fn body(reply: &Reply) -> Value {
    reply.json().unwrap_or_default()
}

/// The children of a listing.
fn nodes(reply: &Reply) -> Vec<Value> {
    let listing = body(reply);
    listing["node"]["nodes"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

async fn pause() {
    tokio::time::sleep(PAUSE).await;
}

/// confd 0.10: members once, then its prefixes repeatedly (2.6).
pub async fn confd(mut host: Component) {
    if let Some(reply) = host.read("/v2/members").await {
        let members = body(&reply)["members"].as_array().cloned();
        for member in members.unwrap_or_default() {
            if member["clientURLs"].as_array().is_none_or(Vec::is_empty) {
                host.violation(&format!("a member without client URLs: {member}"));
            }
        }
    }
    let prefixes = [
        "/deis/services",
        "/deis/router",
        "/deis/domains",
        "/deis/platform",
        "/deis/builder/users",
        "/deis/store",
    ];
    while host.ledger.going() {
        for prefix in prefixes {
            let target = format!("/v2/keys{prefix}?quorum=false&recursive=true&sorted=true");
            let Some(reply) = host.read(&target).await else {
                continue;
            };
            let keys: Vec<String> = nodes(&reply)
                .iter()
                .map(|node| node["key"].to_string())
                .collect();
            if !keys.is_sorted() {
                host.violation(&format!("{target}: not sorted: {keys:?}"));
            }
        }
        pause().await;
    }
}

/// Boot scripts with etcdctl 0.4.9 (2.4): sync by `/v2/machines`, gate on `ls`, defaults by `mk`,
/// and gets whose failure makes the script delete data.
pub async fn boot_script(mut host: Component) {
    while host.ledger.going() {
        if let Some(reply) = host.read("/v2/machines").await {
            let text = reply.text();
            if text.split(", ").count() != 5
                || !text.split(", ").all(|url| url.starts_with("http://127."))
            {
                host.violation(&format!("/v2/machines: {text:?}"));
            }
        }
        host.read("/v2/keys/?consistent=true&recursive=false&sorted=false")
            .await;
        for (key, value) in KEYS {
            let target = format!("/v2/keys{key}?consistent=true&recursive=false&sorted=false");
            if let Some(reply) = host.read(&target).await
                && body(&reply)["node"]["value"] != *value
            {
                host.violation(&format!("{key} is {reply}"));
            }
        }
        // `etcd_set_default`: fails unless the one-line error contains "Key already exists".
        let request = Request::put(
            "/v2/keys/deis/platform/version?prevExist=false",
            "value=other",
        );
        if let Wrote::Said(reply) = host.write(&request, &[412]).await
            && (reply.status != 412 || body(&reply)["message"] != "Key already exists")
        {
            host.violation(&format!("mk of a key that exists: {reply}"));
        }
        host.read("/v2/keys/deis/services/app?consistent=true&recursive=false&sorted=false")
            .await;
        pause().await;
    }
}

/// builder with go-etcd (2.3): directories that may exist, empty values, escaped names.
pub async fn builder(mut host: Component) {
    let mut round = 0;
    while host.ledger.going() {
        round += 1;
        let request = Request::new(
            "PUT",
            "/v2/keys/deis/builder/users?dir=true&prevExist=false",
        )
        .header("Content-Type", GO_ETCD)
        .body("");
        if let Wrote::Said(reply) = host.write(&request, &[412]).await
            && body(&reply)["errorCode"] != 105
        {
            host.violation(&format!("mkdir of a directory that exists: {reply}"));
        }
        let (key, value) = (
            format!("/deis/builder/users/u{}@host=1", host.member),
            format!("{}-{round}", host.name),
        );
        let escaped = key.replace('@', "%40").replace('=', "%3D");
        let request = Request::new("PUT", format!("/v2/keys{escaped}"))
            .header("Content-Type", GO_ETCD)
            .body(format!("value={}", value.replace('@', "%40")));
        if let Some(reply) = host.set(&key, &value, &request).await
            && body(&reply)["node"]["key"] != key.as_str()
        {
            host.violation(&format!("wrote {key}: {reply}"));
        }
        let drain = format!("/deis/logs/drain{}", host.member);
        let request = Request::new("PUT", format!("/v2/keys{drain}"))
            .header("Content-Type", GO_ETCD)
            .body("");
        host.set(&drain, "", &request).await;
        host.read("/v2/keys/deis/builder/users?quorum=false&recursive=true&sorted=false")
            .await;
        pause().await;
    }
}

/// builder's endless watch without an index (2.3); each event makes `check-repos` list services.
pub async fn check_repos(mut host: Component) {
    while host.ledger.going() {
        let target = "/v2/keys/deis/services?recursive=true&wait=true";
        let Some(reply) = host.watch(target).await else {
            continue;
        };
        if reply.status != 200 || body(&reply)["node"]["key"].as_str().is_none() {
            host.violation(&format!("a watch says {reply}"));
        }
        host.read("/v2/keys/deis/services/app?quorum=false&recursive=false&sorted=false")
            .await;
    }
}

/// publisher (2.3): a container's address, renewed by plain sets, each after a read.
pub async fn publisher(mut host: Component) {
    let key = format!("/deis/services/app/app_v2.web.{}", host.member + 1);
    let value = format!("10.0.0.{}:49153", host.member + 1);
    while host.ledger.going() {
        host.read("/v2/keys/deis/services/app?quorum=false&recursive=true&sorted=false")
            .await;
        host.heartbeat(&key, &value, TTL).await;
        pause().await;
    }
}

/// router: reads keys whose writer has renewed them in time; it drops an app whose key is missing.
pub async fn router(mut host: Component) {
    while host.ledger.going() {
        for (key, renewed) in host.ledger.renewed() {
            let request = Request::get(format!("/v2/keys{key}"));
            // A member may lag behind the first write of a key, but must not lose it before its TTL
            // ends.
            let told = SLACK < renewed.since.elapsed();
            let Some(reply) = host.ask(&request).await else {
                continue;
            };
            let left = Duration::from_secs(renewed.ttl).saturating_sub(renewed.since.elapsed());
            if reply.status != 200 && SLACK < left && told {
                host.violation(&format!("{key}, alive for {left:?} more: {reply}"));
            }
            if body(&reply)["node"]["ttl"]
                .as_i64()
                .is_some_and(|ttl| ttl <= 0)
            {
                host.violation(&format!("{key}: {reply}"));
            }
        }
        pause().await;
    }
}

/// fleet's engine (3.1): acquires the lease, renews it by its index, loses it by expiry.
pub async fn engine(mut host: Component) {
    let target = "/v2/keys/_coreos.com/fleet/lease/engine-leader";
    let mut held: Option<u64> = None;
    while host.ledger.going() {
        let path = match held {
            Some(index) => format!("{target}?prevIndex={index}"),
            None => format!("{target}?prevExist=false"),
        };
        let request = Request::put(path, format!("value={}&ttl={LEASE}", host.name));
        let sent = Instant::now();
        let wrote = host.write(&request, &[200, 201, 404, 412]).await;
        held = match wrote {
            Wrote::Said(reply) if reply.status < 300 => {
                let until = sent + Duration::from_secs(LEASE) - SLACK;
                if let Some(other) = host.ledger.hold(&host.name, Instant::now(), until) {
                    host.violation(&format!("has the lease that {other} holds: {reply}"));
                }
                body(&reply)["node"]["modifiedIndex"].as_u64()
            }
            _ => None,
        };
        let ask = Request::get(format!(
            "{target}?quorum=false&recursive=false&sorted=false"
        ));
        if let Some(reply) = host.ask(&ask).await
            && !matches!(reply.status, 200 | 404)
        {
            host.violation(&format!("{ask}: {reply}"));
        }
        pause().await;
    }
}

/// fleet's agent (3.1): a heartbeat by update or create, jobs read, a watch with `waitIndex=0`.
pub async fn agent(mut host: Component) {
    let key = format!("/_coreos.com/fleet/machines/m{}/object", host.member);
    let mut exists = false;
    while host.ledger.going() {
        let target = format!("/v2/keys{key}?prevExist={exists}");
        let request = Request::put(
            target,
            format!("value=%7B%22ID%22%3A{}%7D&ttl=30", host.member),
        );
        let sent = Instant::now();
        match host.write(&request, &[200, 201, 404, 412]).await {
            Wrote::Said(reply) => {
                if reply.status < 300 {
                    host.ledger.renew(&key, sent, 30);
                }
                exists = reply.status != 404;
            }
            Wrote::Unknown => exists = true,
        }
        host.read("/v2/keys/_coreos.com/fleet/job?quorum=false&recursive=true&sorted=true")
            .await;
        let target = "/v2/keys/_coreos.com/fleet/job/deis-router@1.service/object?recursive=true";
        host.read(target).await;
        pause().await;
    }
}

/// fleet's event stream (3.1).
pub async fn fleet_watch(mut host: Component) {
    while host.ledger.going() {
        let target = "/v2/keys/_coreos.com/fleet/job?recursive=true&wait=true&waitIndex=0";
        if let Some(reply) = host.watch(target).await
            && reply.status != 200
        {
            host.violation(&format!("fleet's watch says {reply}"));
        }
    }
}

/// Schedules units: one key of the watched directory after the other.
pub async fn scheduler(mut host: Component) {
    let mut round = 0;
    while host.ledger.going() {
        round += 1;
        let key = format!(
            "/_coreos.com/fleet/job/unit{}@{round}.service/target",
            host.member
        );
        let request = Request::put(format!("/v2/keys{key}?prevExist=false"), "value=machine");
        host.set(&key, "machine", &request).await;
        pause().await;
    }
}

/// flannel (3.2): a subnet of its own, and a watch that misses none. Its first read is of a
/// directory that does not exist yet: the watch begins at the error's index.
pub async fn flannel(mut host: Component) {
    let target = "/v2/keys/coreos.com/network/subnets";
    let mut next = 0;
    let mut seen = BTreeSet::new();
    while host.ledger.going() {
        if next == 0 {
            let Some(reply) = host
                .ask(&Request::get(format!("{target}?recursive=true")))
                .await
            else {
                continue;
            };
            next = match reply.status {
                404 => body(&reply)["index"].as_u64().unwrap_or_default() + 1,
                _ => reply.number("x-etcd-index").unwrap_or_default() + 1,
            };
            seen.extend(nodes(&reply).iter().map(|node| node["key"].to_string()));
        }
        let watch = format!("{target}?recursive=true&wait=true&waitIndex={next}");
        let Some(reply) = host.watch(&watch).await else {
            continue;
        };
        if body(&reply)["errorCode"] == 401 {
            next = 0;
            continue;
        }
        let index = body(&reply)["node"]["modifiedIndex"].as_u64();
        match index {
            Some(index) if next <= index => next = index + 1,
            _ => host.violation(&format!("{watch}: {reply}")),
        }
        seen.insert(body(&reply)["node"]["key"].to_string());
    }
    let want = host.ledger.expected();
    let subnets = want
        .iter()
        .filter(|(key, ..)| key.starts_with("/coreos.com/network/subnets/"));
    for (key, acked, _) in subnets {
        // Events after its last answer may be unseen.
        if acked.index < next && !seen.contains(&format!("{key:?}")) {
            host.violation(&format!(
                "{key} at {} was never seen, next {next}",
                acked.index
            ));
        }
    }
}

/// Acquires subnets, as flannel does for a day each.
pub async fn subnets(mut host: Component) {
    let mut round = 0;
    while host.ledger.going() {
        round += 1;
        let key = format!(
            "/coreos.com/network/subnets/10.{}.{round}.0-24",
            host.member
        );
        let value = format!("host{}", host.member);
        let form = format!("value={value}&ttl=86400");
        let request = Request::put(format!("/v2/keys{key}?prevExist=false"), form);
        if let Some(reply) = host.set(&key, &value, &request).await
            && body(&reply)["node"]["expiration"].as_str().is_none()
        {
            host.violation(&format!("no expiration: {reply}"));
        }
        tokio::time::sleep(2 * PAUSE).await;
    }
}

/// The controller with python-etcd (2.7): creates a directory that exists already, with a form
/// body.
pub async fn controller(mut host: Component) {
    let mut round = 0;
    while host.ledger.going() {
        round += 1;
        host.read("/v2/keys/deis").await;
        let request = Request::put("/v2/keys/deis/services/app", "dir=true");
        if let Wrote::Said(reply) = host.write(&request, &[403]).await
            && body(&reply)["errorCode"] != 102
        {
            host.violation(&format!("dir=true over a directory: {reply}"));
        }
        host.read("/v2/keys/deis/services/app/permanent").await;
        let key = format!("/deis/config/app/c{}", host.member);
        let value = format!("{round}");
        let request = Request::put(format!("/v2/keys{key}"), format!("value={value}"));
        host.set(&key, &value, &request).await;
        let request = Request::new("DELETE", "/v2/keys/deis/certs/none?dir=true&recursive=true");
        if let Wrote::Said(reply) = host.write(&request, &[404]).await
            && body(&reply)["errorCode"] != 100
        {
            host.violation(&format!("delete of nothing: {reply}"));
        }
        pause().await;
    }
}

/// logger (2.3): its TTL is in nanoseconds, by mistake, which is five hundred years or fifty.
pub async fn logger(mut host: Component) {
    let key = format!("/deis/logs/host{}", host.member);
    while host.ledger.going() {
        host.heartbeat(&key, "10.0.0.1", 20_000_000_000).await;
        pause().await;
    }
}

/// In-order keys: none is repeated or lost, and each comes after the one before.
pub async fn queue(mut host: Component) {
    let mut round = 0;
    let mut last = String::new();
    while host.ledger.going() {
        round += 1;
        let value = format!("{}-{round}", host.name);
        let request = Request::new("POST", "/v2/keys/deis/queue")
            .form(format!("value={}", value.replace('@', "%40")));
        let key = match host.write(&request, &[201]).await {
            Wrote::Said(reply) => body(&reply)["node"]["key"].as_str().map(str::to_string),
            Wrote::Unknown => None,
        };
        if let Some(key) = &key {
            if *key <= last {
                host.violation(&format!("in order: {key} after {last}"));
            }
            last.clone_from(key);
        }
        host.ledger.queue(&value, key);
        pause().await;
    }
}
