//! Who listens where: decided, and checked, before anything is started.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use super::arguments::Arguments;

/// From one member's ports to the next's.
const PORT_STEP: u16 = 10;

/// One member to be.
#[derive(Clone, Debug)]
pub(super) struct MemberPlan {
    pub(super) name: String,
    pub(super) client_port: u16,
    pub(super) peer_port: u16,
    pub(super) log: PathBuf,
    /// etcd's flags, nothing else: an etcd could be started with them.
    pub(super) flags: Vec<String>,
}

/// A port that cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlanError {
    #[error(
        "port {port} ({what} of {name}) cannot be listened on: {error}. Another process, perhaps \
         an etcd or another playground, holds it: stop it, or choose other ports with \
         --base-port {free}"
    )]
    Taken {
        port: u16,
        what: &'static str,
        name: String,
        error: std::io::Error,
        free: u16,
    },
}

fn ports(arguments: &Arguments) -> impl Iterator<Item = (String, u16, u16)> {
    let base = arguments.base_port;
    (0..arguments.members).map(move |number| {
        let client = base + number * PORT_STEP;
        (format!("m{}", number + 1), client, client + 1)
    })
}

/// Refuses ports which somebody holds, before the first member starts.
pub(super) fn check_ports(arguments: &Arguments) -> Result<(), PlanError> {
    for (name, client, peer) in ports(arguments) {
        for (port, what) in [(client, "clients"), (peer, "peers")] {
            if let Err(error) = TcpListener::bind(("127.0.0.1", port)) {
                let free = if arguments.base_port < 12_000 {
                    12_379
                } else {
                    22_379
                };
                return Err(PlanError::Taken {
                    port,
                    what,
                    name,
                    error,
                    free,
                });
            }
        }
    }
    Ok(())
}

/// The members, with everything they are told.
pub(super) fn plan(arguments: &Arguments, data: &Path) -> Vec<MemberPlan> {
    let peers: Vec<String> = ports(arguments)
        .map(|(name, _, peer)| format!("{name}={}", url(peer)))
        .collect();
    let cluster = peers.join(",");
    ports(arguments)
        .map(|(name, client, peer)| one(data, name, client, peer, &cluster))
        .collect()
}

fn one(data: &Path, name: String, client: u16, peer: u16, cluster: &str) -> MemberPlan {
    let flags = [
        ("name", name.clone()),
        ("data-dir", data.join(&name).display().to_string()),
        ("listen-client-urls", url(client)),
        ("advertise-client-urls", url(client)),
        ("listen-peer-urls", url(peer)),
        ("initial-advertise-peer-urls", url(peer)),
        ("initial-cluster", cluster.to_owned()),
        ("initial-cluster-token", "keelson-playground".to_owned()),
        ("logger", "capnslog".to_owned()),
    ];
    MemberPlan {
        client_port: client,
        peer_port: peer,
        log: data.join(format!("{name}.log")),
        flags: flags
            .iter()
            .map(|(flag, value)| format!("--{flag}={value}"))
            .collect(),
        name,
    }
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(members: u16, base_port: u16) -> Arguments {
        Arguments {
            members,
            base_port,
            data_dir: None,
            restart: false,
        }
    }

    #[test]
    fn ports_are_ten_apart_and_peers_are_next_door() {
        let plans = plan(&arguments(3, 2379), Path::new("/d"));
        let ports: Vec<_> = plans
            .iter()
            .map(|plan| (plan.client_port, plan.peer_port))
            .collect();
        assert_eq!(ports, [(2379, 2380), (2389, 2390), (2399, 2400)]);
        assert_eq!(plans[2].log, Path::new("/d/m3.log"));
        let cluster = plans[0]
            .flags
            .iter()
            .find(|flag| flag.contains("initial-cluster="));
        assert!(cluster.unwrap().ends_with("m3=http://127.0.0.1:2400"));
    }

    #[test]
    fn a_taken_port_is_named_with_a_remedy() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        if 65_000 < port {
            return; // beyond what --base-port takes
        }
        let error = check_ports(&arguments(1, port)).unwrap_err().to_string();
        assert!(
            error.contains(&format!("port {port} (clients of m1)")),
            "{error}"
        );
        assert!(error.contains("--base-port"), "{error}");
    }
}
