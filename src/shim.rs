//! Stands in for `keelson_store::Store` until it is there; to be deleted with the `use` in
//! `member.rs`. It answers nothing: it lets listeners, log lines and signals be tried.

use std::future::Future;
use std::io;

use keelson_proto::etcdserverpb::{ResponseHeader, StatusResponse};
use keelson_store::Config;
use tokio::net::TcpListener;

#[derive(Clone)]
pub(crate) struct Store {
    header: ResponseHeader,
}

impl Store {
    pub(crate) async fn open(config: Config) -> Result<Store, io::Error> {
        let header = ResponseHeader {
            cluster_id: config.founding_cluster_id().0,
            member_id: config.founding_member_id().unwrap_or_default().0,
            ..ResponseHeader::default()
        };
        Ok(Store { header })
    }

    pub(crate) fn status(&self) -> StatusResponse {
        StatusResponse {
            header: Some(self.header),
            ..StatusResponse::default()
        }
    }

    pub(crate) async fn ready(&self) {}

    pub(crate) async fn serve(
        &self,
        listeners: Vec<TcpListener>,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let _held = listeners;
        shutdown.await;
        Ok(())
    }

    pub(crate) async fn shutdown(&self) {}
}
