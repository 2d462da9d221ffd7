//! Streams of one connection: events of 1 MB in one do not hold up the small events in another,
//! over plain connections and TLS, of gRPC and the JSON gateway.

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use keelson_port::{Listener, ServerTls, TlsFiles};
use keelson_proto::etcdserverpb::watch_request::RequestUnion;
use keelson_proto::etcdserverpb::*;
use prost::Message;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::{Port, within};
use crate::{Backend, Limits, More};

const LARGE_BYTES: usize = 1 << 20;
const LARGE_EVENTS: usize = 3;
const SMALL_EVENTS: usize = 10;

/// The form of a watch and its events.
#[derive(Clone, Copy, Debug)]
enum Form {
    Grpc,
    Json,
}

impl Form {
    fn request(self, url: &str, key: &'static str) -> Request<Full<Bytes>> {
        let (path, content_type, body) = match self {
            Form::Json => {
                let key = STANDARD.encode(key);
                let body = format!(r#"{{"create_request":{{"key":"{key}"}}}}"#);
                ("/v3/watch", "application/json", Bytes::from(body))
            }
            Form::Grpc => {
                let create = WatchCreateRequest {
                    key: key.into(),
                    ..WatchCreateRequest::default()
                };
                let request = WatchRequest {
                    request_union: Some(RequestUnion::CreateRequest(create)),
                };
                let mut framed = BytesMut::new();
                framed.put_u8(0);
                framed.put_u32(u32::try_from(request.encoded_len()).unwrap());
                request.encode(&mut framed).unwrap();
                let path = "/etcdserverpb.Watch/Watch";
                (path, "application/grpc", framed.freeze())
            }
        };
        Request::post(format!("{url}{path}"))
            .header("content-type", content_type)
            .body(Full::new(body))
            .unwrap()
    }

    /// A value as it is in an answer.
    fn value(self, value: &str) -> String {
        match self {
            Form::Grpc => value.to_owned(),
            Form::Json => STANDARD.encode(value),
        }
    }
}

async fn put(port: &Port, key: &'static str, value: impl Into<Bytes>) {
    let put = PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    };
    port.fake.put(put).await.unwrap();
}

async fn piece(body: &mut Incoming) -> Bytes {
    let frame = within(body.frame()).await.expect("it goes on").unwrap();
    frame.into_data().expect("a piece")
}

/// Puts small values, and reads the event of each.
async fn small_events(port: &Port, body: &mut Incoming, form: Form) {
    for number in 0..SMALL_EVENTS {
        let value = format!("value {number}");
        put(port, "small", value.clone()).await;
        let expected = form.value(&value);
        let mut read = String::new();
        while !read.contains(&expected) {
            read += &String::from_utf8_lossy(&piece(body).await);
        }
    }
}

/// A watch that is created.
async fn watch(
    send: &mut SendRequest<Full<Bytes>>,
    port: &Port,
    form: Form,
    key: &'static str,
) -> Incoming {
    let request = form.request(&port.url(), key);
    let answer = within(send.send_request(request)).await.unwrap();
    assert_eq!(answer.status(), 200, "{form:?}");
    let mut body = answer.into_body();
    piece(&mut body).await;
    body
}

async fn watches_are_fair(port: &Port, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    port.fake.set(|state| state.takes_large = true);
    let (mut send, connection): (SendRequest<Full<Bytes>>, _) =
        http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(65_535)
            .initial_connection_window_size(655_350)
            .handshake(TokioIo::new(io))
            .await
            .unwrap();
    tokio::spawn(connection);
    for form in [Form::Grpc, Form::Json] {
        let mut large = watch(&mut send, port, form, "large").await;
        let mut small = watch(&mut send, port, form, "small").await;
        for _ in 0..LARGE_EVENTS {
            put(port, "large", vec![b'v'; LARGE_BYTES]).await;
        }
        let mut read = piece(&mut large).await.len();
        // The rest waits for the client.
        small_events(port, &mut small, form).await;
        let whole = async {
            while read < LARGE_EVENTS * LARGE_BYTES {
                read += piece(&mut large).await.len();
            }
        };
        tokio::join!(whole, small_events(port, &mut small, form));
    }
}

#[tokio::test]
async fn large_events_do_not_hold_up_small_ones_of_the_same_connection() {
    let port = Port::start().await;
    watches_are_fair(&port, port.connect().await).await;
}

/// A certificate in files, from which a port reads it, and the same for a client.
#[expect(clippy::disallowed_methods, reason = "certificates are in files")]
fn certificate(dir: &Path) -> (TlsFiles, RootCertStore) {
    let names = vec!["localhost".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    let files = TlsFiles {
        cert: dir.join("cert.pem"),
        key: dir.join("key.pem"),
        ..TlsFiles::default()
    };
    std::fs::write(&files.cert, cert.pem()).unwrap();
    std::fs::write(&files.key, signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    (files, roots)
}

#[tokio::test]
async fn large_events_do_not_hold_up_small_ones_of_the_same_connection_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let (files, roots) = certificate(dir.path());
    let tls = ServerTls::new(files).unwrap();
    let port = Port::serving(move |fake, listeners, shutdown| async move {
        let listeners = listeners
            .into_iter()
            .map(|listener| Listener::new(listener, Some(tls.clone())))
            .collect();
        let more = |_: &_| More::<()>::default();
        crate::serve_clients::<_, ()>(fake, listeners, Limits::default(), more, shutdown).await
    })
    .await;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("localhost").unwrap();
    let socket = connector.connect(name, port.connect().await);
    watches_are_fair(&port, within(socket).await.unwrap()).await;
}
