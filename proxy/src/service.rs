//! The proxy as a service of the port, and its life from start to shutdown.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use http::Request;
use keelson_port::{
    Drain, FastPath, FastPathAnswer, Http2Connection, Incoming, Listener, Serve, Serving,
};

use crate::config::{MembersFrom, ProxyConfig};
use crate::context::Context;
use crate::h2;
use crate::http1::body::AnswerBody;
use crate::http1::{fast_path, hyper};
use crate::policy::members::{self, Peers};

/// A proxy that could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// A listener failed.
    #[error("cannot listen: {0}")]
    Listener(#[from] io::Error),
}

/// Serves on `listeners` until `shutdown`. `ready` is called when the listeners are served, as
/// etcd's proxy notifies systemd when it listens; members may not be known yet.
pub async fn serve(
    config: ProxyConfig,
    listeners: Vec<impl Into<Listener>>,
    ready: impl FnOnce() + Send + 'static,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ProxyError> {
    let listeners = listeners.into_iter().map(Into::into).collect();
    serve_boxed(config, listeners, Box::new(ready), Box::pin(shutdown)).await
}

/// The same without type parameters. All code that a proxy runs is then compiled in this crate and
/// contiguous in the executable, not scattered among code that only members run. Those pages are
/// the larger part of an idle proxy's resident memory.
fn serve_boxed<'a>(
    config: ProxyConfig,
    listeners: Vec<Listener>,
    ready: Box<dyn FnOnce() + Send>,
    shutdown: Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
) -> Pin<Box<dyn Future<Output = Result<(), ProxyError>> + Send + 'a>> {
    Box::pin(run(config, listeners, ready, shutdown))
}

async fn run(
    config: ProxyConfig,
    listeners: Vec<Listener>,
    ready: Box<dyn FnOnce() + Send>,
    shutdown: Pin<Box<dyn Future<Output = ()> + Send + '_>>,
) -> Result<(), ProxyError> {
    let peers = peers(&config);
    let own = listeners.iter().map(|one| one.socket.local_addr());
    let own: io::Result<Vec<_>> = own.filter_map(io::Result::transpose).collect();
    let (limits, expected) = (config.limits.clone(), config.members_expected);
    let (trigger, drain) = Drain::channel();
    let context = Arc::new(Context {
        drain,
        ..Context::new(config, own?)
    });
    if expected || peers.as_ref().is_some_and(Peers::are_kept) {
        context.endpoints.expect_members();
    }
    ready();
    let mut discovery = Box::pin(members::keep(Arc::clone(&context), peers));
    let timed = Arc::clone(&context);
    let mut timer = Box::pin(async move { timed.coarse_timer.run().await });
    let mut serving = std::pin::pin!(keelson_port::serve(
        listeners,
        Service(context),
        limits,
        async move {
            shutdown.await;
            trigger.begin();
        }
    ));
    tokio::select! {
        () = &mut discovery => unreachable!("members are discovered for ever"),
        () = &mut timer => unreachable!("the timer runs for ever"),
        served = &mut serving => Ok(served?),
    }
}

/// The peer URLs; `None`: the client URLs are configured.
fn peers(config: &ProxyConfig) -> Option<Peers> {
    match &config.members {
        MembersFrom::Peers(urls) => Some(Peers::new(
            urls.clone(),
            config.kept_peer_urls.clone(),
            config.save_peer_urls.clone(),
            config.peer_tls.clone(),
        )),
        MembersFrom::Clients(_) => None,
    }
}

/// What the port serves.
struct Service(Arc<Context>);

impl Serve for Service {
    type Body = AnswerBody;
    type Future = hyper::Answering;

    fn fast_path<'a>(
        &'a self,
        connection: FastPath<'a>,
    ) -> Result<FastPathAnswer<'a>, FastPath<'a>> {
        Ok(fast_path::serve(&self.0, connection))
    }

    fn serve_http2<'a>(
        &'a self,
        connection: Http2Connection<'a>,
    ) -> Result<Serving<'a>, Http2Connection<'a>> {
        Ok(Box::pin(h2::serve(Arc::clone(&self.0), connection)))
    }

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.call_from(request, SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    fn call_from(&self, request: Request<Incoming>, client: SocketAddr) -> Self::Future {
        hyper::serve(&self.0, request, client)
    }
}
