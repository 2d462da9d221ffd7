//! `gateway start`: TCP connections to members, unread.
//!
//! As etcd's: endpoints take turns, one that cannot be reached is left out until it can be. Unlike
//! etcd's, when all are out they are tried all the same before a client is turned away.

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

/// After an accept that failed: out of file descriptors, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a gateway is told.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// `--endpoints`: `host:port`, or URLs.
    pub endpoints: Vec<String>,
    /// `--retry-delay`, 1 min: how often endpoints that are out are tried.
    pub retry_delay: Duration,
    /// For an endpoint to take a connection.
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
    /// An endpoint is none.
    #[error(transparent)]
    Endpoint(#[from] AddressError),
    /// There is none.
    #[error("no endpoints found")]
    NoEndpoints,
    /// Connections would go round and round.
    #[error("the endpoint {0} is this gateway's own address; name a member's in --endpoints")]
    Loop(String),
}

/// Forwards connections until `shutdown`, which cuts them. `ready` is called once it is known that it can.
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
    /// Whose turn it is.
    turn: AtomicUsize,
    retry_delay: Duration,
    dial_timeout: Duration,
    /// All are out.
    away: Mutex<LogThrottle>,
    /// Each connection takes two descriptors; more wait in the kernel's backlog.
    places: Arc<Semaphore>,
}

struct Remote {
    address: Address,
    out: AtomicBool,
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
            out: AtomicBool::new(false),
        });
        let places = keelson_port::connections_max() / 2;
        Ok(Gateway {
            remotes: remotes.collect(),
            turn: AtomicUsize::new(0),
            retry_delay: config.retry_delay,
            dial_timeout: config.dial_timeout,
            away: Mutex::default(),
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
        })
    }

    /// A connection to the first that takes one; those that are out come last.
    async fn connect(&self) -> io::Result<TcpStream> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = self.remotes.len();
        let order = (0..count).map(|step| &self.remotes[turn.wrapping_add(step) % count]);
        let (out, well): (Vec<_>, Vec<_>) = order.partition(|one| one.out.load(Ordering::Relaxed));
        let mut last = io::Error::from(io::ErrorKind::NotConnected);
        for remote in well.into_iter().chain(out) {
            match remote.address.connect(self.dial_timeout).await {
                Ok(socket) => {
                    remote.out.store(false, Ordering::Relaxed);
                    return Ok(socket);
                }
                // No endpoint would do better.
                Err(error) if sockets::is_out_of_descriptors(&error) => return Err(error),
                Err(error) => {
                    if !remote.out.swap(true, Ordering::Relaxed) {
                        warn!(endpoint = %remote.address, %error, "endpoint is out");
                    }
                    last = error;
                }
            }
        }
        Err(last)
    }

    /// Says when no endpoint takes connections, and when one does again.
    fn tell(&self, connected: &io::Result<TcpStream>) {
        let mut away = self.away.lock();
        match connected {
            Ok(_) => {
                if let Some(lasted) = away.recovered() {
                    let lasted_seconds = lasted.as_secs();
                    info!(lasted_seconds, "an endpoint takes connections again");
                }
            }
            Err(error) => {
                if let Some(lasted) = away.failing() {
                    let lasted_seconds = lasted.as_secs();
                    warn!(%error, lasted_seconds, "no endpoint takes connections");
                }
            }
        }
    }

    /// Looks at those that are out from time to time.
    async fn recover(self: Arc<Gateway>) {
        loop {
            time::sleep(self.retry_delay).await;
            for remote in &self.remotes {
                let out = remote.out.load(Ordering::Relaxed);
                if out && remote.address.connect(self.dial_timeout).await.is_ok() {
                    remote.out.store(false, Ordering::Relaxed);
                    info!(endpoint = %remote.address, "endpoint is back");
                }
            }
        }
    }
}

async fn accept(listener: TcpListener, gateway: Arc<Gateway>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let place = Arc::clone(&gateway.places).acquire_owned().await;
            listener.accept().await.map(|(socket, _)| (socket, place))
        };
        tokio::select! {
            accepted = accepted => match accepted {
                Ok((socket, place)) => {
                    let joined = join(socket, Arc::clone(&gateway));
                    connections.spawn(async move {
                        joined.await;
                        drop(place);
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
    // In a box: it would make room for itself in every connection.
    let connected = Box::pin(gateway.connect()).await;
    gateway.tell(&connected);
    let Ok(mut far) = connected else { return };
    if let Err(error) = near.set_nodelay(true) {
        debug!(%error, "cannot set socket options");
    }
    if let Err(error) = relay::relay(&mut near, &mut far).await {
        debug!(%error, "a connection ended");
    }
}
