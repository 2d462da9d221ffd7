//! Answers that wait, over real sockets.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::{Access, Incoming, Limits, Parkable, Serve, park};
use bytes::Bytes;
use futures_util::stream;
use http::header::ACCESS_CONTROL_ALLOW_ORIGIN;
use http::{Request, Response};
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

/// Answers "/wait" with what the test sends, anything else with "done".
#[derive(Clone)]
struct Waiter(Arc<Mutex<Option<mpsc::Receiver<Bytes>>>>);

impl Serve for Waiter {
    type Body = Full<Bytes>;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let parts = Arc::clone(&self.0);
        Box::pin(async move {
            if request.uri().path() != "/wait" {
                return Ok(Response::new(Full::new(Bytes::from_static(b"done"))));
            }
            request.extensions().get::<Parkable>().expect("HTTP/1.1");
            let source = parts.lock().await.take().expect("one wait a test");
            let head = Response::builder()
                .header("x-etcd-index", "7")
                .header(ACCESS_CONTROL_ALLOW_ORIGIN, "*")
                .body(Full::default());
            let parts = stream::unfold(source, |mut source| async move {
                source.recv().await.map(|part| (Ok(part), source))
            });
            Ok(park(head.expect("sound"), parts))
        })
    }
}

struct Port {
    client: TcpStream,
    parts: Option<mpsc::Sender<Bytes>>,
    stop: Option<oneshot::Sender<()>>,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Port {
    async fn start() -> Port {
        Port::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Port {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (parts, source) = mpsc::channel(10);
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let waiter = Waiter(Arc::new(Mutex::new(Some(source))));
        let serving = crate::serve(vec![listener], waiter, limits, stopped);
        Port {
            client: TcpStream::connect(address).await.unwrap(),
            parts: Some(parts),
            stop: Some(stop),
            server: tokio::spawn(serving),
        }
    }

    async fn say(&mut self, text: &str) {
        self.client.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads until what was read ends so.
    async fn until(&mut self, end: &str) -> String {
        let mut read = Vec::new();
        while !read.ends_with(end.as_bytes()) {
            let byte = timeout(PATIENCE, self.client.read_u8()).await;
            let so_far = String::from_utf8_lossy(&read).into_owned();
            read.push(byte.unwrap_or_else(|_| panic!("{so_far}")).unwrap());
        }
        String::from_utf8(read).unwrap()
    }

    async fn part(&self, text: &'static str) {
        let parts = self.parts.as_ref().unwrap();
        parts
            .send(Bytes::from_static(text.as_bytes()))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn the_head_comes_at_once_and_parts_as_they_are_made() {
    let mut port = Port::start().await;
    port.say("GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let head = port.until("\r\n\r\n").await;
    assert!(
        head.starts_with(
            "HTTP/1.1 200 OK\r\nX-Etcd-Index: 7\r\nAccess-Control-Allow-Origin: *\r\n"
        ),
        "{head}"
    );
    assert!(
        head.contains("\r\nTransfer-Encoding: chunked\r\n"),
        "{head}"
    );
    port.part("one\n").await;
    assert_eq!(port.until("one\n\r\n").await, "4\r\none\n\r\n");
    port.part("second\n").await;
    assert_eq!(port.until("second\n\r\n").await, "7\r\nsecond\n\r\n");
}

/// The head was written before the port had mended it: any page could read it.
#[tokio::test]
async fn a_parked_head_has_the_origin_that_may_read_it() {
    for (origin, allowed) in [
        ("", None),
        ("origin: http://b\r\n", None),
        ("origin: http://a\r\n", Some("http://a")),
    ] {
        let mut limits = Limits::default();
        limits.access = Access::new(vec!["http://a".to_owned()], vec![]);
        let mut port = Port::with(limits).await;
        port.say(&format!("GET /wait HTTP/1.1\r\nhost: x\r\n{origin}\r\n"))
            .await;
        let head = port.until("\r\n\r\n").await;
        let mut fields = head.lines();
        let field = fields.find_map(|line| line.strip_prefix("Access-Control-Allow-Origin: "));
        assert_eq!(field, allowed, "{head}");
        port.part("one\n").await;
        assert_eq!(port.until("one\n\r\n").await, "4\r\none\n\r\n");
    }
}

#[tokio::test]
async fn the_connection_goes_on_with_what_was_sent_ahead() {
    let mut port = Port::start().await;
    let next = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    port.say(&format!(
        "{next}GET /wait HTTP/1.1\r\nhost: x\r\n\r\n{next}"
    ))
    .await;
    port.until("done").await;
    port.until("\r\n\r\n").await;
    port.parts = None;
    port.until("0\r\n\r\n").await;
    port.until("done").await;
    port.say(next).await;
    let head = port.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
}

#[tokio::test]
async fn a_client_that_wants_no_more_gets_no_more() {
    let mut port = Port::start().await;
    port.say("GET /wait HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await;
    let head = port.until("\r\n\r\n").await;
    assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
    port.parts = None;
    port.until("0\r\n\r\n").await;
    assert_eq!(port.client.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_client_that_hangs_up_is_noticed() {
    let mut port = Port::start().await;
    port.say("GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await;
    port.until("\r\n\r\n").await;
    drop(port.client);
    let parts = port.parts.unwrap();
    timeout(PATIENCE, parts.closed())
        .await
        .expect("the answer was dropped");
}

#[tokio::test]
async fn waiting_answers_are_cut_at_the_end_of_the_port() {
    let mut port = Port::start().await;
    port.say("GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await;
    port.until("\r\n\r\n").await;
    port.stop.take().unwrap().send(()).unwrap();
    let read = timeout(PATIENCE, port.client.read(&mut [0])).await.unwrap();
    assert_eq!(read.unwrap(), 0, "cut, without a last chunk");
    timeout(PATIENCE, port.server)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}
