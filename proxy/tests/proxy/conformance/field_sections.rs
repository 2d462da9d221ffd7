//! The fields of requests: RFC 9113, 8.2 to 8.5.

use super::*;

pub(super) fn of_field_sections() -> Vec<Case> {
    let mut cases = vec![
        case(
            "8.1",
            "a body",
            [begun(1, &[]), frame(DATA, END, 1, b"x")].concat(),
            Served(1),
        ),
        case(
            "8.1",
            "two trailer sections",
            {
                let trailers = |flags| frame(HEADERS, flags, 1, &block(&[("x", "y")]));
                [begun(1, &[]), trailers(END_HEADERS), trailers(WHOLE)].concat()
            },
            Refused(1),
        ),
        case(
            "8.1",
            "DATA after trailers",
            {
                let trailers = frame(HEADERS, WHOLE, 1, &block(&[("x", "y")]));
                [begun(1, &[]), trailers, frame(DATA, END, 1, b"x")].concat()
            },
            Refused(1),
        ),
        case(
            "8.1.1",
            "a negative content-length",
            with(&[("content-length", "-1")]),
            Refused(1),
        ),
        case(
            "8.1.1",
            "a content-length of 0",
            with(&[("content-length", "0")]),
            Served(1),
        ),
        case(
            "8.1.1",
            "a content-length beyond 64 bits",
            with(&[("content-length", "99999999999999999999")]),
            Refused(1),
        ),
        case(
            "8.2.3",
            "cookies apart",
            with(&[("cookie", "a=b"), ("cookie", "c=d")]),
            Served(1),
        ),
        case(
            "8.3.1",
            "host beside authority",
            with(&[("host", "localhost")]),
            Served(1),
        ),
        case(
            "8.3.1",
            "GET",
            only(&[(":method", "GET"), SCHEME, PATH, AUTHORITY]),
            Served(1),
        ),
        case(
            "8.3.1",
            "https",
            only(&[METHOD, (":scheme", "https"), PATH, AUTHORITY]),
            Served(1),
        ),
    ];
    for (what, name) in [
        ("an empty name", ""),
        ("a space in a name", "x y"),
        ("a space before a name", " x"),
        ("a space after a name", "x "),
        ("a colon in a name", "x:y"),
        ("NUL in a name", "x\0y"),
        ("CR in a name", "x\ry"),
        ("LF in a name", "x\ny"),
        ("DEL in a name", "x\x7fy"),
        ("a letter beyond ASCII in a name", "x\u{e9}"),
        ("a bracket in a name", "x(y)"),
        ("a comma in a name", "x,y"),
    ] {
        cases.push(case("8.2.1", what, with(&[(name, "z")]), Refused(1)));
    }
    for (what, value) in [
        ("CR in a value", "a\rb"),
        ("CR LF in a value", "a\r\nb: c"),
        ("a tab before a value", "\ty"),
        ("a space after a value", "y "),
        ("a value of a space", " "),
    ] {
        cases.push(case("8.2.1", what, with(&[("x", value)]), Refused(1)));
    }
    for (what, value) in [
        ("a tab in a value", "a\tb"),
        ("a letter beyond ASCII in a value", "\u{e9}"),
    ] {
        cases.push(case("8.2.1", what, with(&[("x", value)]), Served(1)));
    }
    for (what, all) in [
        (":method twice", [METHOD, METHOD, SCHEME, PATH, AUTHORITY]),
        (
            ":authority twice",
            [METHOD, SCHEME, PATH, AUTHORITY, AUTHORITY],
        ),
        (
            ":method after others",
            [SCHEME, PATH, AUTHORITY, ("x", "y"), METHOD],
        ),
        (
            ":scheme after others",
            [METHOD, PATH, AUTHORITY, ("x", "y"), SCHEME],
        ),
        (
            ":authority after others",
            [METHOD, SCHEME, PATH, ("x", "y"), AUTHORITY],
        ),
        (
            "an empty pseudo-field",
            [(":", "x"), METHOD, SCHEME, PATH, AUTHORITY],
        ),
        (
            "a pseudo-field in capitals",
            [(":Path", "/x"), METHOD, SCHEME, PATH, AUTHORITY],
        ),
    ] {
        cases.push(case("8.3", what, only(&all), Refused(1)));
    }
    for (what, all) in [
        (
            "an empty :method",
            [(":method", ""), SCHEME, PATH, AUTHORITY],
        ),
        (
            "a space in :method",
            [(":method", "P UT"), SCHEME, PATH, AUTHORITY],
        ),
        (
            "a space in :path",
            [METHOD, SCHEME, (":path", "/a b"), AUTHORITY],
        ),
        (
            "NUL in :path",
            [METHOD, SCHEME, (":path", "/a\0b"), AUTHORITY],
        ),
        (
            "LF in :path",
            [METHOD, SCHEME, (":path", "/a\nb"), AUTHORITY],
        ),
        (
            "CR LF in :path",
            [METHOD, SCHEME, (":path", "/a\r\nb"), AUTHORITY],
        ),
        (
            "a :path without a slash",
            [METHOD, SCHEME, (":path", "a"), AUTHORITY],
        ),
    ] {
        cases.push(case("8.3.1", what, only(&all), Refused(1)));
    }
    let connect = (":method", "CONNECT");
    cases.push(case(
        "8.5",
        "CONNECT with a path",
        only(&[connect, SCHEME, PATH, AUTHORITY]),
        Refused(1),
    ));
    cases
}
