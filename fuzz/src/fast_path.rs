//! Any bytes as a client's connection to a proxy: members receive the same requests by the fast
//! path and by hyper, or the fast path declines.

use keelson_proxy::fuzzing::{PassedRequest, Proxy};
use tokio::runtime::Builder;

/// The target.
pub fn run(bytes: &[u8]) {
    let proxy = Proxy::default();
    let fast = proxy.by_fast_path(bytes);
    if fast.is_empty() {
        return;
    }
    let runtime = Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime without sockets");
    let _entered = runtime.enter();
    let hyper = proxy.by_hyper(bytes);
    let count = fast.len();
    for (number, (passed, last)) in fast.into_iter().enumerate() {
        let passed = Request::of(passed);
        let (same, ends) = match hyper.get(number) {
            Some((passed, ends)) => (Some(Request::of(passed.clone())), *ends),
            None => (None, true),
        };
        assert_eq!(Some(passed), same, "request {number} by hyper");
        assert_eq!(last, ends, "the connection after request {number}");
        assert!(!last || hyper.len() == count, "a request after the last");
    }
}

/// A request whose fields are in order, with names in lower case.
#[derive(Debug, PartialEq)]
struct Request {
    /// Whether it is a watch; `None`: it is not forwarded whole.
    watch: Option<bool>,
    line: String,
    fields: Vec<String>,
    body: String,
}

impl Request {
    fn of(passed: PassedRequest) -> Request {
        let (watch, bytes) = match passed {
            PassedRequest::Forwarded(bytes) => (Some(false), bytes),
            PassedRequest::Watched(bytes) => (Some(true), bytes),
            PassedRequest::Streamed(bytes) => (None, bytes),
            PassedRequest::Own => Default::default(),
        };
        // One character a byte.
        let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let mut fields: Vec<String> = lines.map(field).collect();
        // Stable: the order of fields of the same name matters.
        fields.sort_by(|one, two| name(one).cmp(name(two)));
        Request {
            watch,
            line,
            fields,
            body: body.to_owned(),
        }
    }
}

fn field(line: &str) -> String {
    let (name, value) = line.split_once(": ").unwrap_or((line, ""));
    format!("{}: {value}", name.to_ascii_lowercase())
}

fn name(field: &str) -> &str {
    field.split(':').next().unwrap_or_default()
}
