//! Relays before the members' peer ports: links between members that can be cut, each direction by
//! itself.
//!
//! Members advertise the relays' ports. Which member has connected to a relay is found by the
//! process that owns the other end of the connection, in `/proc`. A link that is cut holds its
//! bytes back, as TCP does when packets are lost.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::cluster::Cluster;
use super::ports;

/// The interval at which the owner of a connection is looked for, and how often that is done.
const POLL: Duration = Duration::from_millis(10);
const LOOKS: usize = 500;

/// Bytes that are carried at once.
const PIECE: usize = 64 << 10;

/// One direction: from one member to another, by their numbers.
pub type Link = (usize, usize);

/// The relays of a cluster. Dropping them ends all connections.
#[derive(Debug)]
pub struct Relays {
    links: Arc<Links>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Links {
    cut: watch::Sender<BTreeSet<Link>>,
    /// The members' processes.
    pids: Mutex<Vec<Option<u32>>>,
}

impl Relays {
    /// Puts a relay before each member's peer port. The members must not run yet.
    ///
    /// # Errors
    /// No free ports.
    pub async fn before(cluster: &mut Cluster) -> Result<Relays> {
        let links = Arc::new(Links {
            cut: watch::Sender::default(),
            pids: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        let ports = ports::free(cluster.members.len())?;
        for (number, (member, port)) in cluster.members.iter_mut().zip(ports).enumerate() {
            let address = member.peer_url.trim_start_matches("http://");
            let listener = TcpListener::bind(address).await?;
            member.listen_for_peers_at(&format!("http://127.0.0.1:{port}"));
            tasks.spawn(relay(listener, number, port, Arc::clone(&links)));
        }
        Ok(Relays {
            links,
            _tasks: tasks,
        })
    }

    /// Takes note of the members' processes, after some of them have been started.
    pub fn meet(&self, cluster: &Cluster) {
        let pids = cluster.members.iter().map(|member| member.pid());
        *self.links.pids.lock().expect("no panic") = pids.collect();
    }

    /// Cuts these links, and restores all others.
    pub fn cut(&self, links: impl IntoIterator<Item = Link>) {
        self.links.cut.send_replace(links.into_iter().collect());
    }
}

impl Links {
    /// Waits while the link is cut.
    async fn open(&self, link: Link) {
        let mut cut = self.cut.subscribe();
        // The sender lives as long as `self`.
        let _ = cut.wait_for(|cut| !cut.contains(&link)).await;
    }

    /// The member whose process has a connection from one local port to another.
    async fn owner(&self, from: u16, to: u16) -> Option<usize> {
        for _ in 0..LOOKS {
            let pids = self.pids.lock().expect("no panic").clone();
            let inode = inode(from, to)?;
            let owns = |pid: &Option<u32>| pid.is_some_and(|pid| has_socket(pid, &inode));
            if let Some(number) = pids.iter().position(owns) {
                return Some(number);
            }
            tokio::time::sleep(POLL).await;
        }
        None
    }
}

/// The inode of a socket of 127.0.0.1, as a link in `/proc/PID/fd` names it.
fn inode(local: u16, remote: u16) -> Option<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let (local, remote) = (format!(":{local:04X}"), format!(":{remote:04X}"));
    table.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let here = fields.next()?.ends_with(&local);
        let there = fields.next()?.ends_with(&remote);
        let inode = fields.nth(6)?;
        (here && there).then(|| format!("socket:[{inode}]"))
    })
}

fn has_socket(pid: u32, socket: &str) -> bool {
    let Ok(open) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    let mut targets = open.flatten().map(|entry| std::fs::read_link(entry.path()));
    targets.any(|target| target.is_ok_and(|target| target.as_os_str() == socket))
}

/// Accepts the connections to a member, whose own port is `port`.
async fn relay(listener: TcpListener, to: usize, port: u16, links: Arc<Links>) {
    let mut connections = JoinSet::new();
    let here = listener.local_addr().map_or(0, |address| address.port());
    while let Ok((socket, from)) = listener.accept().await {
        let links = Arc::clone(&links);
        let from = from.port();
        connections.spawn(async move {
            let owner = links.owner(from, here).await;
            let from = owner.context("a connection of no member")?;
            carry(socket, (from, to), port, &links).await
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(socket: TcpStream, (from, to): Link, port: u16, links: &Links) -> Result<()> {
    // A handshake needs both directions.
    links.open((from, to)).await;
    links.open((to, from)).await;
    let member = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    for socket in [&socket, &member] {
        socket.set_nodelay(true)?;
    }
    let ((from_client, to_client), (from_member, to_member)) =
        (socket.into_split(), member.into_split());
    tokio::try_join!(
        pump(from_client, to_member, (from, to), links),
        pump(from_member, to_client, (to, from), links),
    )?;
    Ok(())
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    link: Link,
    links: &Links,
) -> Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let count = from.read(&mut piece).await?;
        links.open(link).await;
        if count == 0 {
            return Ok(to.shutdown().await?);
        }
        to.write_all(&piece[..count]).await?;
    }
}
