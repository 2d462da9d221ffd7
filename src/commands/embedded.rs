//! A store inside the discovery service: its registry needs neither an etcd nor a port.

use std::path::Path;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use keelson_discovery::service::{Body, Registry, RegistryError};
use keelson_store::edge::v2::V2;
use keelson_store::edge::{CallMetrics, Drain, DrainTrigger};
use keelson_store::{Config, OpenError, Store};

/// The v2 keys API of a store with one member.
pub(super) struct Embedded {
    store: Store,
    v2: V2<Store>,
    drain: DrainTrigger,
}

impl Embedded {
    pub(super) async fn open(data_dir: &Path) -> Result<Embedded, OpenError> {
        let store = Store::open(Config::single("discovery", data_dir)).await?;
        store.ready().await;
        let (drain, begun) = Drain::channel();
        Ok(Embedded {
            v2: V2::new(store.clone(), &begun, CallMetrics::default()),
            store,
            drain,
        })
    }

    pub(super) async fn close(&self) {
        self.drain.begin();
        self.store.shutdown().await;
    }
}

impl Registry for Embedded {
    async fn call(&self, request: Request<Bytes>) -> Result<Response<Body>, RegistryError> {
        let answer = self.v2.answer(request.map(Full::new)).await;
        Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()))
    }
}
