//! Hosts that are started with the same discovery URL.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::{Host, Role, Service};
use crate::http::{Client, Request};

/// The hosts, and their discovery service.
#[derive(Debug)]
pub struct Platform {
    /// In the order of their names, which is independent of their roles.
    pub hosts: Vec<Host>,
    /// The discovery service.
    pub service: Service,
    /// The discovery URL that every host is given.
    pub token: String,
    // Declared after the hosts: their processes end before their directory is removed.
    dir: TempDir,
}

impl Platform {
    /// Our service, a token for `members`, and `hosts` hosts that are not started yet.
    ///
    /// # Errors
    /// The service does not come up.
    pub async fn ours(keelson: &Path, hosts: usize, members: usize) -> Result<Platform> {
        let dir = tempfile::tempdir()?;
        let service = Service::ours(keelson, dir.path()).await?;
        Platform::at(service, dir, keelson, keelson, hosts, members)
    }

    /// Hosts of any binary, with any service.
    ///
    /// # Errors
    /// No token, or no ports.
    pub fn at(
        service: Service,
        dir: TempDir,
        keelson: &Path,
        binary: &Path,
        hosts: usize,
        members: usize,
    ) -> Result<Platform> {
        let token = service.token(keelson, members)?;
        let hosts = (1..=hosts).map(|number| {
            let host = Host::new(binary, dir.path(), &format!("h{number}"))?;
            Ok(host.with("ETCD_DISCOVERY", &token))
        });
        Ok(Platform {
            hosts: hosts.collect::<Result<_>>()?,
            service,
            token,
            dir,
        })
    }

    /// The directory of all hosts.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts the hosts that do not run, in this order.
    ///
    /// # Errors
    /// A binary cannot be started.
    pub fn start(&mut self, order: &[usize]) -> Result<()> {
        for number in order {
            if !self.hosts[*number].running() {
                self.hosts[*number].start()?;
            }
        }
        Ok(())
    }

    /// Waits until every running host answers.
    ///
    /// # Errors
    /// One does not.
    pub async fn serves(&mut self) -> Result<()> {
        for number in 0..self.hosts.len() {
            if self.hosts[number].running() {
                let served = self.hosts[number].serves().await;
                served.with_context(|| self.log_tails())?;
            }
        }
        Ok(())
    }

    /// The role of each host.
    pub fn roles(&self) -> Vec<Role> {
        self.hosts.iter().map(Host::role).collect()
    }

    /// Checks that `members` hosts are members, that these alone are registered, that every host
    /// lists them, and that all others are proxies and report it.
    ///
    /// # Errors
    /// One of these does not hold.
    /// Anything else.
    pub async fn has_members(&self, members: usize) -> Result<()> {
        let roles = self.roles();
        let count = roles.iter().filter(|role| **role == Role::Member).count();
        ensure!(count == members, "{roles:?}\n{}", self.log_tails());
        let named = |role: Role| {
            let hosts = self.hosts.iter().filter(move |host| host.role() == role);
            hosts.map(|host| host.name.clone())
        };
        let names: BTreeSet<String> = named(Role::Member).collect();
        let registered = self.service.registered(&self.token).await?;
        ensure!(
            registered == names,
            "{registered:?} are registered, {names:?} are members"
        );
        for host in &self.hosts {
            let known = members_of(&host.client_url).await?;
            ensure!(known == names, "{}: {known:?}, not {names:?}", host.name);
            let mut client = Client::new(&host.client_url);
            let own = client.ask(&Request::get("/v2/config/local/proxy")).await?;
            let status = if host.role() == Role::Proxy { 200 } else { 404 };
            ensure!(own.status == status, "{}: {own}", host.name);
        }
        Ok(())
    }

    /// The ends of all logs.
    pub fn log_tails(&self) -> String {
        let tails: String = self.hosts.iter().map(Host::log_tail).collect();
        format!(
            "{tails}--- the discovery service ---\n{}",
            self.service.log()
        )
    }
}

/// The names of the members in a host's member list.
async fn members_of(url: &str) -> Result<BTreeSet<String>> {
    let reply = Client::new(url).ask(&Request::get("/v2/members")).await?;
    let json = reply.json().with_context(|| format!("{url}: {reply}"))?;
    let members = json["members"].as_array().cloned();
    let members = members.with_context(|| format!("{url}: {reply}"))?;
    let name = |member: &serde_json::Value| member["name"].as_str().map(str::to_owned);
    Ok(members.iter().filter_map(name).collect())
}
