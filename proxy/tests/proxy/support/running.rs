//! A proxy on a port of the kernel's choice.

use std::net::SocketAddr;
use std::time::Duration;

use keelson_port::Listener;
use keelson_proxy::{MembersFrom, ProxyConfig};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::{Fake, get, until};

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) ready: oneshot::Receiver<()>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// These members' client URLs, and no more than two seconds of patience.
pub(crate) fn config(members: &[&Fake]) -> ProxyConfig {
    let urls = members.iter().map(|member| member.url()).collect();
    let mut config = ProxyConfig::new(MembersFrom::Clients(urls));
    config.request_timeout = Duration::from_secs(2);
    config.failure_wait = Duration::from_secs(1);
    config.refresh_interval = Duration::from_millis(200);
    config
}

impl Running {
    /// With these members, once it has found them.
    pub(crate) async fn before(members: &[&Fake]) -> Running {
        let running = Running::start(config(members)).await;
        running.knows(members.len()).await
    }

    pub(crate) async fn start(config: ProxyConfig) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Running::start_on(listener, config)
    }

    pub(crate) fn start_on(listener: TcpListener, config: ProxyConfig) -> Running {
        let address = listener.local_addr().unwrap();
        Running::start_at(address, listener.into(), config)
    }

    /// With a listener of this address.
    pub(crate) fn start_at(
        address: SocketAddr,
        listener: Listener,
        config: ProxyConfig,
    ) -> Running {
        let (stop, stopped) = oneshot::channel::<()>();
        let (readied, ready) = oneshot::channel();
        let task = tokio::spawn(async move {
            let shutdown = async { drop(stopped.await) };
            let ready = move || {
                let _ = readied.send(());
            };
            keelson_proxy::serve(config, vec![listener], ready, shutdown)
                .await
                .unwrap();
        });
        Running {
            address,
            ready,
            stop,
            task,
        }
    }

    /// Returns once so many endpoints are usable.
    pub(crate) async fn knows(self, count: usize) -> Running {
        let what = format!("the proxy knows {count} endpoints");
        until(&what, async || {
            let config = get(self.address, "/v2/config/local/proxy").await;
            config.body.matches("http://").count() == count
        })
        .await;
        self
    }

    /// Returns once writes go to this endpoint.
    pub(crate) async fn follows(&self, url: &str) {
        let line = format!("keelson_proxy_endpoint_leads{{endpoint={url:?}}} 1");
        self.has_metric(&line).await;
    }

    /// Returns once this endpoint counts as degraded.
    pub(crate) async fn puts_last(&self, url: &str) {
        let line = format!("keelson_proxy_endpoint_up{{endpoint={url:?}}} 0.5");
        self.has_metric(&line).await;
    }

    /// Returns once so many requests with this method have come, calls included.
    pub(crate) async fn has_got(&self, method: &str, count: u64) {
        let line = format!("etcd_proxy_requests_total{{method={method:?}}} {count}");
        self.has_metric(&line).await;
    }

    async fn has_metric(&self, line: &str) {
        let what = format!("the metric {line}");
        until(&what, async || {
            let metrics = get(self.address, "/metrics").await.body;
            metrics.lines().any(|one| one == line)
        })
        .await;
    }

    pub(crate) async fn stop(self) {
        drop(self.stop);
        self.task.await.unwrap();
    }
}
