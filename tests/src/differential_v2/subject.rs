//! A server under comparison: one member, perhaps behind a proxy, and a connection to it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::http::{Client, Reply, Request};
use crate::proc::cluster::{Cluster, Plan};
use crate::proc::proxy::{Kind, Proxy};

/// A reply, or the reason for its absence.
pub type Answer = Result<Reply, String>;

/// Time limit for a new member to write its cluster's version: the last write that it makes by
/// itself.
const SETTLED: Duration = Duration::from_secs(20);

/// How a member is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Through {
    /// Directly, on its own port.
    Nothing,
    /// Through a proxy of its own binary.
    Proxy,
}

/// A single member.
#[derive(Debug)]
pub struct Subject {
    /// The proxy that requests go through, if any.
    proxy: Option<Proxy>,
    /// The member.
    pub cluster: Cluster,
    /// Its addresses: for clients, for peers.
    addresses: [String; 2],
    client: Client,
}

impl Subject {
    /// Starts a member, with its data in /dev/shm where that exists: no disk is tested.
    ///
    /// # Errors
    /// It does not start, or does not become idle.
    pub async fn start(binary: &Path, through: Through) -> Result<Subject> {
        let memory = PathBuf::from("/dev/shm");
        let plan = Plan {
            parent: memory.is_dir().then_some(memory),
            ..Plan::new(binary, 1)
        };
        let cluster = Cluster::start(&plan.flag("--enable-v2=true")).await?;
        let member = &cluster.members[0];
        let address = |url: &str| url.trim_start_matches("http://").to_string();
        let mut subject = Subject {
            addresses: [address(&member.client_url), address(&member.peer_url)],
            client: Client::new(&member.client_url),
            proxy: None,
            cluster,
        };
        subject.settle().await?;
        if through == Through::Proxy {
            let mut proxy = Proxy::start(binary, Kind::Proxy, &subject.cluster, &[])?;
            proxy.wait_ready(SETTLED).await?;
            subject.client = Client::new(&proxy.url);
            subject.proxy = Some(proxy);
        }
        Ok(subject)
    }

    /// The URL that requests are sent to.
    fn url(&self) -> &str {
        match &self.proxy {
            Some(proxy) => &proxy.url,
            None => &self.cluster.members[0].client_url,
        }
    }

    /// Checks that it runs.
    ///
    /// # Errors
    /// It has ended.
    pub fn alive(&mut self) -> Result<()> {
        if let Some(proxy) = &mut self.proxy {
            proxy.alive()?;
        }
        self.cluster.members[0].alive()
    }

    async fn settle(&mut self) -> Result<()> {
        let deadline = Instant::now() + SETTLED;
        let version = Request::get("/version");
        loop {
            let reply = self.client.ask(&version).await;
            let cluster = reply.as_ref().ok().and_then(Reply::json);
            let cluster = cluster.map(|json| json["etcdcluster"].to_string());
            // Undecided, or 3.0.0 until all members have published their versions.
            if cluster.is_some_and(|text| text.contains('.') && !text.contains("3.0.0")) {
                return Ok(());
            }
            let late = Instant::now() < deadline;
            ensure!(late, "no cluster version yet: {reply:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Carries the request out. A missing answer is an answer too.
    pub async fn answer(&mut self, request: &Request) -> Answer {
        let request = self.addressed(request);
        let reply = self.client.ask(&request).await;
        reply
            .map(|reply| self.masked(reply))
            .map_err(|error| format!("{error:#}"))
    }

    /// A client for requests whose replies take time.
    pub fn another_client(&self) -> Client {
        Client::new(self.url())
    }

    /// The request with this member's own addresses in it.
    pub fn addressed(&self, request: &Request) -> Request {
        if !request
            .body
            .as_ref()
            .is_some_and(|body| body.contains(&b'{'))
        {
            return request.clone();
        }
        request
            .replaced("{CLIENT}", &self.addresses[0])
            .replaced("{PEER}", &self.addresses[1])
    }

    /// The reply without this member's own addresses.
    pub fn masked(&self, mut reply: Reply) -> Reply {
        if reply.body.windows(4).any(|window| window == b"127.") {
            let text = String::from_utf8_lossy(&reply.body).into_owned();
            let text = text.replace(&self.addresses[0], "{CLIENT}");
            reply.body = text.replace(&self.addresses[1], "{PEER}").into_bytes();
        }
        for (_, value) in &mut reply.headers {
            *value = value.replace(&self.addresses[0], "{CLIENT}");
        }
        reply
    }

    /// The store's index.
    pub async fn index(&mut self) -> Option<u64> {
        let reply = self.answer(&Request::get("/v2/keys")).await.ok()?;
        reply.number("x-etcd-index")
    }

    /// Waits until the store's index has reached `index`; false when it does not in time.
    pub async fn reaches(&mut self, index: u64, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.index().await.is_none_or(|now| now < index) {
            if deadline < Instant::now() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        true
    }
}
