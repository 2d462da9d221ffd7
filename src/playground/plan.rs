//! The ports of all processes: planned, and checked, before any of them starts.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use super::arguments::Arguments;
use super::secure::Secure;

/// The distance between the ports of two hosts.
const PORT_STEP: u16 = 10;

/// The distance from the first host's client port to the discovery service's port.
const SERVICE_DISTANCE: u16 = 8;

/// Bound on the number of hosts: more would only be slow.
const HOSTS_MAX: u16 = 15;

/// The plan of one host. Its role is not planned: the host decides it by itself.
#[derive(Clone, Debug)]
pub(super) struct HostPlan {
    pub(super) name: String,
    pub(super) client_port: u16,
    pub(super) peer_port: u16,
    pub(super) client_url: String,
    pub(super) data_dir: PathBuf,
    pub(super) log: PathBuf,
    /// etcd's flags only: etcd could be started with them.
    pub(super) flags: Vec<String>,
}

/// A plan that cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlanError {
    #[error(
        "port {port} ({what}) cannot be listened on: {error}. Another process, perhaps an etcd or \
         another playground, holds it: stop it, or choose other ports with --base-port {free}"
    )]
    Taken {
        port: u16,
        what: String,
        error: std::io::Error,
        free: u16,
    },
    #[error("{0} hosts are too many for one machine; give {HOSTS_MAX} or fewer in all")]
    TooMany(u16),
}

/// Refuses a plan that cannot work, before any process starts.
pub(super) fn check(arguments: &Arguments) -> Result<(), PlanError> {
    let hosts = arguments.members + arguments.proxies;
    if HOSTS_MAX < hosts {
        return Err(PlanError::TooMany(hosts));
    }
    let mut wanted = vec![(service_port(arguments), "the discovery service".to_owned())];
    for (name, client, peer) in hosts_and_ports(arguments) {
        wanted.push((client, format!("clients of {name}")));
        wanted.push((peer, format!("peers of {name}")));
    }
    for (port, what) in wanted {
        if let Err(error) = TcpListener::bind(("127.0.0.1", port)) {
            let free = if arguments.base_port < 12_000 {
                12_379
            } else {
                22_379
            };
            return Err(PlanError::Taken {
                port,
                what,
                error,
                free,
            });
        }
    }
    Ok(())
}

/// The port of the discovery service.
pub(super) fn service_port(arguments: &Arguments) -> u16 {
    arguments.base_port + SERVICE_DISTANCE
}

fn hosts_and_ports(arguments: &Arguments) -> impl Iterator<Item = (String, u16, u16)> {
    let base = arguments.base_port;
    (0..arguments.members + arguments.proxies).map(move |number| {
        let client = base + number * PORT_STEP;
        (format!("h{}", number + 1), client, client + 1)
    })
}

/// The hosts' names and data directories.
pub(super) fn data_dirs(arguments: &Arguments, data: &Path) -> Vec<PathBuf> {
    hosts_and_ports(arguments)
        .map(|(name, _, _)| data.join(name))
        .collect()
}

/// A host of an earlier run that this run does not start.
pub(super) fn host_beyond(arguments: &Arguments, data: &Path) -> Option<String> {
    let next = arguments.members + arguments.proxies + 1;
    let mut names = (next..=HOSTS_MAX).map(|number| format!("h{number}"));
    names.find(|name| data.join(name).is_dir())
}

/// The plans of the hosts: the same flags but for names and addresses.
pub(super) fn plan(
    arguments: &Arguments,
    data: &Path,
    discovery: &str,
    secure: Option<&Secure>,
) -> Vec<HostPlan> {
    hosts_and_ports(arguments)
        .map(|(name, client, peer)| one(data, name, [client, peer], discovery, secure))
        .collect()
}

fn one(
    data: &Path,
    name: String,
    [client, peer]: [u16; 2],
    discovery: &str,
    secure: Option<&Secure>,
) -> HostPlan {
    let data_dir = data.join(&name);
    let scheme = scheme(secure.is_some());
    let url = |port| format!("{scheme}://127.0.0.1:{port}");
    let own = secure.map(Secure::flags).unwrap_or_default();
    let flags = [
        ("name", name.clone()),
        ("data-dir", data_dir.display().to_string()),
        ("listen-client-urls", url(client)),
        ("advertise-client-urls", url(client)),
        ("listen-peer-urls", url(peer)),
        ("initial-advertise-peer-urls", url(peer)),
        ("discovery", discovery.to_owned()),
        ("logger", "capnslog".to_owned()),
    ];
    HostPlan {
        client_port: client,
        peer_port: peer,
        data_dir,
        log: data.join(format!("{name}.log")),
        client_url: url(client),
        flags: flags
            .iter()
            .chain(&own)
            .map(|(flag, value)| format!("--{flag}={value}"))
            .collect(),
        name,
    }
}

fn scheme(is_secure: bool) -> &'static str {
    if is_secure { "https" } else { "http" }
}

/// The URL of a port on this machine.
pub(super) fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(members: u16, proxies: u16, base_port: u16) -> Arguments {
        Arguments {
            members,
            proxies,
            base_port,
            data_dir: None,
            secure: false,
            restart: false,
        }
    }

    #[test]
    fn ports_are_ten_apart_and_peers_are_next_door() {
        let plans = plan(&arguments(2, 1, 2379), Path::new("/d"), "http://d/t", None);
        let ports: Vec<_> = plans
            .iter()
            .map(|plan| (plan.client_port, plan.peer_port))
            .collect();
        assert_eq!(ports, [(2379, 2380), (2389, 2390), (2399, 2400)]);
        assert_eq!(plans[2].log, Path::new("/d/h3.log"));
        for plan in plans {
            let discovery = "--discovery=http://d/t".to_owned();
            assert!(plan.flags.contains(&discovery), "{plan:?}");
        }
    }

    #[test]
    fn a_taken_port_is_named_with_a_remedy() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        if 65_000 < port {
            return; // beyond what --base-port takes
        }
        let error = check(&arguments(1, 0, port)).unwrap_err().to_string();
        assert!(
            error.contains(&format!("port {port} (clients of h1)")),
            "{error}"
        );
        assert!(error.contains("--base-port"), "{error}");
    }

    #[test]
    fn fifteen_hosts_are_the_most() {
        let error = check(&arguments(10, 6, 2379)).unwrap_err().to_string();
        assert!(error.contains("15 or fewer in all"), "{error}");
    }
}
