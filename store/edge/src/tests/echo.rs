//! Services behind the JSON gateway that repeat what they are sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use http::{HeaderMap, Request};
use keelson_port::Drain;
use keelson_proto::etcdserverpb::*;
use prost::Message;
use tonic::body::Body;
use tonic::codec::{EncodeBody, SingleMessageCompressionOverride};
use tonic::{Status, Streaming};
use tonic_prost::{ProstDecoder, ProstEncoder};

use crate::gateway::{CallAnswer, Calls, JsonRoom};
use crate::{Error, Unread};

/// Services that repeat requests.
pub(super) struct Echo {
    pub(super) unread: Unread,
    pub(super) json_room: JsonRoom,
    pub(super) drain: Drain,
    /// The messages of a snapshot that were taken.
    pub(super) sent: Arc<AtomicUsize>,
}

impl Default for Echo {
    fn default() -> Echo {
        Echo {
            unread: Unread::default(),
            json_room: JsonRoom::of_texts(2 << 20),
            drain: Drain::default(),
            sent: Arc::default(),
        }
    }
}

impl Calls for Echo {
    fn has_certificate_users(&self) -> bool {
        false
    }

    async fn answer(&self, request: Request<Body>) -> CallAnswer {
        let (head, body) = request.into_parts();
        match head.uri.path() {
            "/etcdserverpb.Lease/LeaseKeepAlive" => grpc(keep_alive(body)),
            // The watches go on after the last request, as in etcd.
            "/etcdserverpb.Watch/Watch" => {
                let drained = self.drain.clone().begun();
                let end = async {
                    drained.await;
                    Err(Error::Stopped.into())
                };
                grpc(watch(body).chain(stream::once(end)))
            }
            "/etcdserverpb.Maintenance/Snapshot" => grpc(self.snapshot()),
            "/etcdserverpb.Auth/Authenticate" => grpc(stream::iter([Ok(AuthenticateResponse {
                header: None,
                token: text(&head.headers, "token"),
            })])),
            "/v3electionpb.Election/Observe" => Status::unknown("election: no leader").into_http(),
            method => Status::unimplemented(method).into_http(),
        }
    }

    fn message_bytes_max(&self, _method: &str) -> usize {
        1 << 20
    }

    fn unread(&self) -> &Unread {
        &self.unread
    }

    fn json_room(&self) -> &JsonRoom {
        &self.json_room
    }
}

impl Echo {
    /// Two pieces, and an error.
    fn snapshot(&self) -> impl Stream<Item = Result<SnapshotResponse, Status>> + Send + 'static {
        let sent = Arc::clone(&self.sent);
        let pieces = stream::iter([0, 1, 2]).map(move |piece: u64| {
            sent.fetch_add(1, Ordering::SeqCst);
            Ok(SnapshotResponse {
                remaining_bytes: 2 - piece,
                blob: Bytes::from(vec![b'x'; 100_000]),
                ..SnapshotResponse::default()
            })
        });
        pieces.chain(stream::iter([Err(Status::unavailable("gone"))]))
    }
}

fn text(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).map(|value| value.to_str().unwrap());
    value.unwrap_or_default().to_owned()
}

/// An answer of gRPC with these messages.
fn grpc<M: Message + 'static>(
    messages: impl Stream<Item = Result<M, Status>> + Send + 'static,
) -> CallAnswer {
    let encoder = ProstEncoder::<M>::default();
    let plain = SingleMessageCompressionOverride::default();
    let body = EncodeBody::new_server(encoder, messages, None, plain, None);
    http::Response::new(Body::new(body))
}

fn requests<Q: Message + Default + 'static>(body: Body) -> Streaming<Q> {
    Streaming::new_request(ProstDecoder::<Q>::default(), body, None, None)
}

fn keep_alive(body: Body) -> impl Stream<Item = Result<LeaseKeepAliveResponse, Status>> {
    requests::<LeaseKeepAliveRequest>(body).map(|request| {
        let id = request?.id;
        if id == 9 {
            return Err(Status::unavailable("etcdserver: no leader"));
        }
        Ok(LeaseKeepAliveResponse {
            header: None,
            id,
            ttl: if id == 77 { 100 } else { 0 },
        })
    })
}

fn watch(body: Body) -> impl Stream<Item = Result<WatchResponse, Status>> {
    requests::<WatchRequest>(body).map(|request| {
        request?;
        Ok(WatchResponse {
            created: true,
            ..WatchResponse::default()
        })
    })
}
