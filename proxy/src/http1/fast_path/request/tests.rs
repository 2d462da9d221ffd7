//! Which requests the fast path takes, and that members receive the same either way.

use http::Request;
use proptest::prelude::*;

use super::*;
use crate::config::{MembersFrom, ProxyConfig};
use crate::http1::request_head::Origin;
use crate::mode::Mode;

fn context(mode: Mode) -> Context {
    let mut config = ProxyConfig::new(MembersFrom::Clients(vec![]));
    config.mode = mode;
    Context::new(config, vec![])
}

fn client() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 8], 4711))
}

fn parsed(text: &str) -> Option<ParsedRequest> {
    parse(text.as_bytes(), &context(Mode::On), client()).ok()
}

#[test]
fn what_clients_send_is_plain() {
    let text = "PUT /v2/keys/a?prevIndex=7 HTTP/1.1\r\nHost: localhost:4001\r\n\
                User-Agent: Go\r\nContent-Length: 7\r\nKeep-Alive: 5\r\n\
                Connection: close\r\n\r\nvalue=x";
    let ask = parsed(text).unwrap();
    assert_eq!(
        (ask.length(), ask.last, ask.subject),
        (text.len(), true, Subject::Keys)
    );
    assert_eq!(ask.target(), "/v2/keys/a?prevIndex=7");
    assert!(!ask.watches);
    let fields = "Host: localhost:4001\r\nUser-Agent: Go\r\nx-forwarded-for: 10.0.0.8\r\n";
    assert!(ask.fields().starts_with(fields.as_bytes()));
    let outgoing = ask.into_upstream(b"value=x");
    assert!(!outgoing.read);
    assert!(
        outgoing
            .bytes
            .ends_with(b"content-length: 7\r\n\r\nvalue=x")
    );
    let wait = parsed("GET /v2/keys/a?wait=true HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(wait.watches);
}

#[test]
fn what_is_ambiguous_or_asks_for_more_is_declined() {
    for (line, fields) in [
        ("GET /a HTTP/1.0", "Host: x\r\n"),
        ("GET /a HTTP/1.1", ""),
        ("GET /a HTTP/1.1", "Host: x\r\nHost: y\r\n"),
        ("GET /a HTTP/1.1", "Host: a/b c\r\n"),
        ("GET /a HTTP/1.1", "Host: x\r\nExpect: junk\r\n"),
        ("GET http://x/a HTTP/1.1", "Host: x\r\n"),
        ("GET * HTTP/1.1", "Host: x\r\n"),
        ("HEAD /a HTTP/1.1", "Host: x\r\n"),
        ("CONNECT x:1 HTTP/1.1", "Host: x\r\n"),
        ("GET /metrics HTTP/1.1", "Host: x\r\n"),
        ("GET /v2/config/local/proxy?x=1 HTTP/1.1", "Host: x\r\n"),
        (
            "PUT /a HTTP/1.1",
            "Host: x\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            "PUT /a HTTP/1.1",
            "Host: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n",
        ),
        ("PUT /a HTTP/1.1", "Host: x\r\nContent-Length: +1\r\n"),
        ("PUT /a HTTP/1.1", "Host: x\r\nContent-Length: 0x1\r\n"),
        ("PUT /a HTTP/1.1", "Host: x\r\nContent-Length:\r\n"),
        ("PUT /a HTTP/1.1", "Host: x\r\nContent-Length: 65537\r\n"),
        (
            "PUT /a HTTP/1.1",
            "Host: x\r\nContent-Length: 99999999999999999999\r\n",
        ),
        ("PUT /a HTTP/1.1", "Host: x\r\nExpect: 100-continue\r\n"),
        (
            "GET /a HTTP/1.1",
            "Host: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n",
        ),
        (
            "GET /a HTTP/1.1",
            "Host: x\r\nConnection: x-secret\r\nX-Secret: 1\r\n",
        ),
        ("GET /a HTTP/1.1", "Host: x\r\nHost : y\r\n"),
        ("GET /a HTTP/1.1", "Host: x\r\n folded: y\r\n"),
    ] {
        let text = format!("{line}\r\n{fields}\r\n");
        assert!(parsed(&text).is_none(), "{text:?}");
    }
    let whole = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
    for end in 0..whole.len() {
        assert!(parsed(&whole[..end]).is_none());
    }
    let put = "PUT /a HTTP/1.1\r\nHost: x\r\n\r\n";
    let refused = parse(put.as_bytes(), &context(Mode::ReadOnly), client());
    assert!(refused.is_err());
}

/// The port mends no target there, so hyper would refuse what the fast path forwards.
#[test]
fn a_head_with_other_line_ends_is_declined() {
    for text in [
        "\r\nGET /<a> HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /<a> HTTP/1.1\r\nHost: x\n\r\n",
        "GET /<a> HTTP/1.1\nHost: x\n\n",
    ] {
        assert!(parsed(text).is_none(), "{text:?}");
    }
}

#[test]
fn a_request_that_was_here_before_is_declined() {
    let context = context(Mode::On);
    let text = |id: &str| format!("GET /a HTTP/1.1\r\nHost: x\r\nkeelson-proxied-by: {id}\r\n\r\n");
    let own = text(context.id.to_str().unwrap());
    assert!(parse(own.as_bytes(), &context, client()).is_err());
    let others = text("other");
    assert!(parse(others.as_bytes(), &context, client()).is_ok());
}

/// The fields that members receive of the same headers by hyper's way.
fn by_hyper(path: &str, fields: &[(String, String)], context: &Context) -> String {
    let mut request = Request::get(path);
    for (name, value) in fields {
        request = request.header(name, value);
    }
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let origin = Origin {
        client: client(),
        id: &context.id,
    };
    String::from_utf8(RequestHead::of(&parts, origin).fields().into()).unwrap()
}

/// Lines in any order, names in any case.
fn sorted(fields: &str) -> Vec<String> {
    let mut lines: Vec<_> = fields
        .lines()
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap_or((line, ""));
            format!("{}: {value}", name.to_ascii_lowercase())
        })
        .collect();
    lines.sort();
    lines
}

proptest! {
    #[test]
    fn both_ways_send_members_the_same(
        fields in prop::collection::vec(
            ("(X-[A-Za-z]{1,6}|Keep-Alive|TE|Trailer|Proxy-Connection|X-Forwarded-For|\
               Authorization|Keelson-Proxied-By)", "[a-z0-9=]{1,9}"), 0..6),
    ) {
        let context = context(Mode::On);
        let mut fields = fields;
        fields.insert(0, ("Host".to_owned(), "x".to_owned()));
        let line = |(name, value): &(String, String)| format!("{name}: {value}\r\n");
        let lines: String = fields.iter().map(line).collect();
        let text = format!("GET /v2/keys/a HTTP/1.1\r\n{lines}\r\n");
        let forwarded = fields.iter().filter(|(name, _)| name == "X-Forwarded-For").count();
        match parse(text.as_bytes(), &context, client()) {
            Ok(ask) => {
                let plain = String::from_utf8(ask.fields().to_vec()).unwrap();
                let hyper = by_hyper("/v2/keys/a", &fields, &context);
                prop_assert_eq!(sorted(&plain), sorted(&hyper));
            }
            Err(Declined) => prop_assert!(1 < forwarded),
        }
    }

    #[test]
    fn arbitrary_bytes_cause_no_panic(bytes: Vec<u8>) {
        let context = context(Mode::On);
        let head = [b"GET /a HTTP/1.1\r\nHost: x\r\n", &bytes[..], b"\r\n\r\n"].concat();
        for text in [&bytes, &head] {
            if let Ok(ask) = parse(text, &context, client()) {
                prop_assert!(ask.head_bytes <= text.len());
            }
        }
    }
}
