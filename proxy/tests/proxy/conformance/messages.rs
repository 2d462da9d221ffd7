//! Requests: RFC 9113, 8.

use super::*;

pub(super) fn of_messages() -> Vec<Case> {
    let said = |length: &str, parts: &[usize]| {
        let mut sent = begun(1, &[("content-length", length)]);
        for (place, part) in parts.iter().enumerate() {
            let end = if place + 1 == parts.len() { END } else { 0 };
            sent.extend(frame(DATA, end, 1, &vec![b'x'; *part]));
        }
        sent
    };
    let ended_by = |trailers: &[(&str, &str)]| {
        let data = frame(DATA, 0, 1, b"x");
        [
            begun(1, &[]),
            data,
            frame(HEADERS, WHOLE, 1, &block(trailers)),
        ]
        .concat()
    };
    vec![
        case("8.1", "a request", with(&[]), Served(1)),
        case("8.1", "trailers", ended_by(&[("x", "y")]), Served(1)),
        case(
            "8.1",
            "trailers in capitals",
            ended_by(&[("X-Y", "z")]),
            Refused(1),
        ),
        case(
            "8.1",
            "trailers in the middle",
            {
                [
                    begun(1, &[]),
                    frame(HEADERS, END_HEADERS, 1, &block(&[("x", "y")])),
                ]
                .concat()
            },
            Refused(1),
        ),
        case(
            "8.1.1",
            "content-length is more than DATA",
            said("9", &[5]),
            Refused(1),
        ),
        case(
            "8.1.1",
            "content-length is less than DATA",
            said("3", &[5]),
            Refused(1),
        ),
        case(
            "8.1.1",
            "content-length is not the sum",
            said("5", &[3, 3]),
            Refused(1),
        ),
        case(
            "8.1.1",
            "content-length is right",
            said("6", &[3, 3]),
            Served(1),
        ),
        case(
            "8.1.1",
            "content-length without a body",
            with(&[("content-length", "5")]),
            Refused(1),
        ),
        case(
            "8.1.1",
            "content-length twice",
            with(&[("content-length", "0"), ("content-length", "5")]),
            Refused(1),
        ),
        case(
            "8.1.1",
            "content-length that is no number",
            with(&[("content-length", "x")]),
            Refused(1),
        ),
        case(
            "8.2.1",
            "a name in capitals",
            with(&[("X-Y", "z")]),
            Refused(1),
        ),
        case(
            "8.2.1",
            "NUL in a value",
            with(&[("x", "a\0b")]),
            Refused(1),
        ),
        case("8.2.1", "LF in a value", with(&[("x", "a\nb")]), Refused(1)),
        case(
            "8.2.1",
            "a space before a value",
            with(&[("x", " y")]),
            Refused(1),
        ),
        case(
            "8.2.1",
            "a tab after a value",
            with(&[("x", "y\t")]),
            Refused(1),
        ),
        case(
            "8.2.1",
            "a space in a value",
            with(&[("x", "y z")]),
            Served(1),
        ),
        case("8.2.1", "an empty value", with(&[("x", "")]), Served(1)),
        case(
            "8.2.1",
            "NUL in authority",
            only(&[METHOD, SCHEME, PATH, (":authority", "a\0b")]),
            Refused(1),
        ),
        case(
            "8.2.1",
            "NUL in authority, whose name is in the table",
            named(b"\x01\x03a\0b"),
            Refused(1),
        ),
        case(
            "8.2.1",
            "CR in authority, whose name is in the table",
            named(b"\x01\x03a\rb"),
            Refused(1),
        ),
        case(
            "8.2.1",
            "CR in authority",
            only(&[METHOD, SCHEME, PATH, (":authority", "a\rb")]),
            Refused(1),
        ),
        case(
            "8.2.1",
            "LF in authority",
            only(&[METHOD, SCHEME, PATH, (":authority", "a\nb")]),
            Refused(1),
        ),
        case(
            "8.2.2",
            "connection",
            with(&[("connection", "keep-alive")]),
            Refused(1),
        ),
        case(
            "8.2.2",
            "transfer-encoding",
            with(&[("transfer-encoding", "chunked")]),
            Refused(1),
        ),
        case(
            "8.2.2",
            "keep-alive",
            with(&[("keep-alive", "timeout=5")]),
            Refused(1),
        ),
        case("8.2.2", "upgrade", with(&[("upgrade", "h2c")]), Refused(1)),
        case(
            "8.2.2",
            "proxy-connection",
            with(&[("proxy-connection", "keep-alive")]),
            Refused(1),
        ),
        case("8.2.2", "te: gzip", with(&[("te", "gzip")]), Refused(1)),
        case(
            "8.2.2",
            "te: trailers",
            with(&[("te", "trailers")]),
            Served(1),
        ),
        case(
            "8.3",
            "a pseudo-field after others",
            only(&[METHOD, SCHEME, AUTHORITY, ("x", "y"), PATH]),
            Refused(1),
        ),
        case(
            "8.3",
            "an unknown pseudo-field",
            with_first(":x"),
            Refused(1),
        ),
        case(
            "8.3",
            "an answer's pseudo-field",
            with_first(":status"),
            Refused(1),
        ),
        case(
            "8.3.1",
            "no :method",
            only(&[SCHEME, PATH, AUTHORITY]),
            Refused(1),
        ),
        case(
            "8.3.1",
            "no :scheme",
            only(&[METHOD, PATH, AUTHORITY]),
            Refused(1),
        ),
        case(
            "8.3.1",
            "no :path",
            only(&[METHOD, SCHEME, AUTHORITY]),
            Refused(1),
        ),
        case(
            "8.3.1",
            "an empty :path",
            only(&[METHOD, SCHEME, AUTHORITY, (":path", "")]),
            Refused(1),
        ),
        case(
            "8.3.1",
            ":scheme twice",
            only(&[METHOD, SCHEME, SCHEME, PATH, AUTHORITY]),
            Refused(1),
        ),
        case(
            "8.3.1",
            ":path twice",
            only(&[METHOD, SCHEME, PATH, PATH, AUTHORITY]),
            Refused(1),
        ),
        case(
            "8.3.1",
            "no :authority",
            only(&[METHOD, SCHEME, PATH]),
            Served(1),
        ),
    ]
}

/// A request whose fields end with these bytes.
fn named(last: &[u8]) -> Vec<u8> {
    let block = block(&[METHOD, SCHEME, PATH]);
    frame(HEADERS, WHOLE, 1, &[&block[..], last].concat())
}

fn with_first(name: &str) -> Vec<u8> {
    only(&[(name, "200"), METHOD, SCHEME, PATH, AUTHORITY])
}

/// Cases that hyper's h2 accepts: it drops the pseudo-fields of trailers and an empty `:scheme`.
/// CONNECT is for the service to refuse there; a proxy refuses it.
pub(super) fn of_proxies() -> Vec<Case> {
    let pseudo = block(&[(":path", "/")]);
    let trailers = [
        begun(1, &[]),
        frame(DATA, 0, 1, b"x"),
        frame(HEADERS, WHOLE, 1, &pseudo),
    ];
    let no_scheme = only(&[METHOD, (":scheme", ""), PATH, AUTHORITY]);
    let connect = only(&[(":method", "CONNECT"), AUTHORITY]);
    [
        ("8.1", "trailers with a pseudo-field", trailers.concat()),
        ("8.3.1", "an empty :scheme", no_scheme),
        ("8.5", "CONNECT", connect),
    ]
    .map(|(section, what, sent)| case(section, what, sent, Refused(1)))
    .into()
}
