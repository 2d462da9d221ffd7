//! Calls whose answers are counted and not decoded: the load shares the machine with the servers.

use anyhow::{Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use http_body_util::{BodyExt, Full};
use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::{PutRequest, RequestOp, TxnRequest};
use prost::Message;
use tonic::body::Body;
use tower::Service;

use crate::cluster::wire::{self, Wire};

/// Operations of a transaction: etcd's limit.
const TXN_OPS: usize = 128;

/// Transactions in flight.
const IN_FLIGHT: usize = 16;

/// Makes a call, and returns the bytes of its answer.
///
/// # Errors
/// The server refuses.
pub async fn call(mut wire: Wire, url: &str, method: &str, message: &impl Message) -> Result<u64> {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.encoded_len() as u32);
    message.encode(&mut frame)?;
    let request = http::Request::post(format!("{url}/etcdserverpb.{method}"))
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(Full::new(frame.freeze())))?;
    let response = wire.call(request).await?;
    let refusal = response.headers().get("grpc-status").cloned();
    ensure!(refusal.is_none_or(|status| status == "0"), "{response:?}");
    let (mut body, mut bytes) = (response.into_body(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        if let Some(trailers) = frame.trailers_ref() {
            let status = trailers.get("grpc-status");
            ensure!(status.is_none_or(|status| status == "0"), "{trailers:?}");
        }
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(bytes)
}

/// Puts all of these keys, in transactions. A key may come with a lease.
///
/// # Errors
/// The server refuses.
pub async fn put_all(
    url: &str,
    keys: impl Iterator<Item = (Bytes, i64)>,
    value_bytes: usize,
) -> Result<()> {
    let wire = wire::open(url).await?;
    let value = Bytes::from(vec![b'v'; value_bytes]);
    let mut puts = keys.map(|(key, lease)| RequestOp {
        request: Some(Request::RequestPut(PutRequest {
            key,
            lease,
            value: value.clone(),
            ..PutRequest::default()
        })),
    });
    let txns = std::iter::from_fn(|| {
        let success: Vec<_> = puts.by_ref().take(TXN_OPS).collect();
        (!success.is_empty()).then(|| TxnRequest {
            success,
            ..TxnRequest::default()
        })
    });
    let calls = stream::iter(txns).map(|txn| {
        let wire = wire.clone();
        async move { call(wire, url, "KV/Txn", &txn).await }
    });
    let calls = calls.buffer_unordered(IN_FLIGHT);
    calls.try_for_each(|_| async { Ok(()) }).await
}
