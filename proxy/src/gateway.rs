//! `gateway start`: relays TCP connections to members without reading them.
//!
//! As in etcd, endpoints are used in turn, and one that cannot be reached is skipped until it can
//! be. Unlike etcd's, when all are down they are tried all the same before a client's connection is
//! closed.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time;
use tracing::{debug, info, warn};

use crate::address::{Address, AddressError};
use crate::relay;
use crate::sockets;
use keelson_port::LogThrottle;

/// The pause after a failed accept; mostly the process has no free file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The configuration of a gateway.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// `--endpoints`: `host:port`, or URLs.
    pub endpoints: Vec<String>,
    /// `--retry-delay`, 1 min: between two attempts to reach endpoints that are down.
    pub retry_delay: Duration,
    /// The time in which an endpoint must accept a connection.
    pub dial_timeout: Duration,
}

impl GatewayConfig {
    /// etcd's defaults.
    pub fn new(endpoints: Vec<String>) -> GatewayConfig {
        GatewayConfig {
            endpoints,
            retry_delay: Duration::from_secs(60),
            dial_timeout: Duration::from_secs(1),
        }
    }
}

/// A gateway that could not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// An endpoint cannot be parsed.
    #[error(transparent)]
    Endpoint(#[from] AddressError),
    /// The list is empty.
    #[error("no endpoints found")]
    NoEndpoints,
    /// An endpoint is one of the gateway's own listeners.
    #[error("the endpoint {0} is this gateway's own address; name a member's in --endpoints")]
    Loop(String),
}

/// Relays connections until `shutdown`, which closes them. `ready` is called after the
/// configuration is checked.
pub async fn serve_gateway(
    config: GatewayConfig,
    listeners: Vec<TcpListener>,
    ready: impl FnOnce(),
    shutdown: impl Future<Output = ()>,
) -> Result<(), GatewayError> {
    let gateway = Arc::new(Gateway::new(&config)?);
    let own = listeners.iter().filter_map(|one| one.local_addr().ok());
    let own: Vec<_> = own.collect();
    for remote in &gateway.remotes {
        if remote.address.leads_to(&own).await {
            return Err(GatewayError::Loop(remote.address.to_string()));
        }
    }
    ready();
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(&gateway).recover());
    for listener in listeners {
        tasks.spawn(accept(listener, Arc::clone(&gateway)));
    }
    shutdown.await;
    tasks.shutdown().await;
    Ok(())
}

struct Gateway {
    remotes: Vec<Remote>,
    /// The endpoint to try first.
    next: AtomicUsize,
    retry_delay: Duration,
    dial_timeout: Duration,
    /// For messages that no endpoint accepts connections.
    none_usable: Mutex<LogThrottle>,
    /// Each connection takes two descriptors. Others wait in the kernel's backlog.
    permits: Arc<Semaphore>,
}

struct Remote {
    address: Address,
    down: AtomicBool,
}

impl Gateway {
    fn new(config: &GatewayConfig) -> Result<Gateway, GatewayError> {
        let addresses = config.endpoints.iter().map(|one| Address::of_endpoint(one));
        let addresses: Vec<_> = addresses.collect::<Result<_, _>>()?;
        if addresses.is_empty() {
            return Err(GatewayError::NoEndpoints);
        }
        let remotes = addresses.into_iter().map(|address| Remote {
            address,
            down: AtomicBool::new(false),
        });
        let permits = keelson_port::connections_max() / 2;
        Ok(Gateway {
            remotes: remotes.collect(),
            next: AtomicUsize::new(0),
            retry_delay: config.retry_delay,
            dial_timeout: config.dial_timeout,
            none_usable: Mutex::default(),
            permits: Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))),
        })
    }

    /// Connects to the first endpoint that accepts; those that are down are tried last.
    async fn connect(&self) -> io::Result<TcpStream> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.remotes.len();
        let order = (0..count).map(|step| &self.remotes[first.wrapping_add(step) % count]);
        let (down, up): (Vec<_>, Vec<_>) = order.partition(|one| one.down.load(Ordering::Relaxed));
        let mut last = io::Error::from(io::ErrorKind::NotConnected);
        for remote in up.into_iter().chain(down) {
            match remote.address.connect(self.dial_timeout).await {
                Ok(socket) => {
                    remote.down.store(false, Ordering::Relaxed);
                    return Ok(socket);
                }
                // This process has no free descriptor for any endpoint.
                Err(error) if sockets::is_out_of_descriptors(&error) => return Err(error),
                Err(error) => {
                    if !remote.down.swap(true, Ordering::Relaxed) {
                        warn!(endpoint = %remote.address, %error, "endpoint is down");
                    }
                    last = error;
                }
            }
        }
        Err(last)
    }

    /// Logs when no endpoint accepts connections, and when one does again.
    fn log(&self, connected: &io::Result<TcpStream>) {
        let mut none_usable = self.none_usable.lock();
        match connected {
            Ok(_) => {
                if let Some(lasted) = none_usable.recovered() {
                    let lasted_seconds = lasted.as_secs();
                    info!(lasted_seconds, "an endpoint accepts connections again");
                }
            }
            Err(error) => {
                if let Some(lasted) = none_usable.failing() {
                    let lasted_seconds = lasted.as_secs();
                    warn!(%error, lasted_seconds, "no endpoint accepts connections");
                }
            }
        }
    }

    /// Tries endpoints that are down from time to time.
    async fn recover(self: Arc<Gateway>) {
        loop {
            time::sleep(self.retry_delay).await;
            for remote in &self.remotes {
                let down = remote.down.load(Ordering::Relaxed);
                if down && remote.address.connect(self.dial_timeout).await.is_ok() {
                    remote.down.store(false, Ordering::Relaxed);
                    info!(endpoint = %remote.address, "endpoint is up again");
                }
            }
        }
    }
}

async fn accept(listener: TcpListener, gateway: Arc<Gateway>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let permit = Arc::clone(&gateway.permits).acquire_owned().await;
            listener.accept().await.map(|(socket, _)| (socket, permit))
        };
        tokio::select! {
            accepted = accepted => match accepted {
                Ok((socket, permit)) => {
                    let joined = join(socket, Arc::clone(&gateway));
                    connections.spawn(async move {
                        joined.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    warn!(%error, "cannot accept connections");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn join(mut near: TcpStream, gateway: Arc<Gateway>) {
    // Boxed: otherwise it would enlarge the future of every connection.
    let connected = Box::pin(gateway.connect()).await;
    gateway.log(&connected);
    let Ok(mut far) = connected else { return };
    if let Err(error) = near.set_nodelay(true) {
        debug!(%error, "cannot set socket options");
    }
    if let Err(error) = relay::relay(&mut near, &mut far).await {
        debug!(%error, "a connection ended");
    }
}
