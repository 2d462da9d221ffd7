//! A cluster with proxies in front of it.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use keelson_proto::etcdserverpb::PutRequest;
use keelson_tests::proc::client;
use keelson_tests::proc::cluster::{Cluster, READY_LIMIT};
use keelson_tests::proc::proxy::{Kind, Proxy};

use super::load::{v2_put, v3_key};
use super::plan::{Plan, Way};
use crate::http1::connection;
use crate::server::Server;

/// The processes.
#[derive(Debug)]
pub struct Front {
    // Before the cluster: their data is in its directory.
    /// The proxies.
    pub proxies: Vec<Proxy>,
    /// The members.
    pub cluster: Cluster,
}

impl Front {
    /// Starts members, writes the keys that are read, and starts proxies of the given ways.
    ///
    /// # Errors
    /// One does not start or serve; the text holds the ends of the logs.
    pub async fn start(
        plan: &Plan,
        server: &Server,
        members: usize,
        ways: &[Way],
    ) -> Result<Front> {
        let cluster = server.start(&plan.servers, members).await?;
        let url = &cluster.endpoints()[0];
        let (status, _) = connection::once(url, &v2_put(plan))?;
        ensure!(matches!(status, 200 | 201), "the first PUT: HTTP {status}");
        let put = PutRequest {
            key: Bytes::from_static(v3_key()),
            value: vec![b'v'; plan.value_bytes].into(),
            ..Default::default()
        };
        client::kv(url).await?.put(put).await?;
        let mut front = Front {
            proxies: Vec::new(),
            cluster,
        };
        for way in ways {
            let one = front.proxy(plan, server, *way);
            front.proxies.push(one.with_context(|| way.name())?);
        }
        for proxy in &mut front.proxies {
            proxy.wait_ready(READY_LIMIT).await?;
        }
        Ok(front)
    }

    fn proxy(&self, plan: &Plan, server: &Server, way: Way) -> Result<Proxy> {
        let refresh = format!("--proxy-refresh-interval={}", plan.refresh_interval);
        let (kind, flags) = match way {
            Way::Proxy => (Kind::Proxy, vec![refresh]),
            Way::Gateway => (Kind::Gateway, Vec::new()),
            Way::GrpcProxy => (Kind::GrpcProxy, Vec::new()),
            Way::Direct | Way::Leader | Way::Preferred => {
                anyhow::bail!("{} is no proxy", way.name())
            }
        };
        Proxy::start(&server.binary, kind, &self.cluster, &flags)
    }

    /// The place of the member to which the proxy at that place forwards reads.
    ///
    /// # Errors
    /// A server does not answer.
    pub async fn preferred(&self, proxy: usize) -> Result<usize> {
        let id = member_id(&self.proxies[proxy].url).await?;
        for (place, url) in self.cluster.endpoints().iter().enumerate() {
            if member_id(url).await? == id {
                return Ok(place);
            }
        }
        anyhow::bail!("the proxy forwards to {id:x}, which is not a member of its cluster")
    }

    /// URLs of all proxies.
    pub fn proxy_urls(&self) -> Vec<String> {
        self.proxies.iter().map(|proxy| proxy.url.clone()).collect()
    }

    /// Process ids of all proxies.
    pub fn proxy_pids(&self) -> Vec<u32> {
        self.proxies.iter().map(Proxy::pid).collect()
    }

    /// An error if a process has ended by itself.
    ///
    /// # Errors
    /// One has.
    pub fn alive(&mut self) -> Result<()> {
        self.cluster
            .members
            .iter_mut()
            .try_for_each(|one| one.alive())?;
        self.proxies.iter_mut().try_for_each(Proxy::alive)
    }
}

/// The id of the member that answers at the URL.
async fn member_id(url: &str) -> Result<u64> {
    let status = client::status(url).await?;
    Ok(status
        .header
        .context("an answer without a header")?
        .member_id)
}
