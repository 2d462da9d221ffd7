//! Field compression: RFC 7541.

use super::*;

/// A request on a stream whose field block ends with these bytes.
fn ending(stream: u32, last: &[u8]) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, &[&fields(&[])[..], last].concat())
}

/// A request whose field block begins with these bytes.
fn beginning(first: &[u8]) -> Vec<u8> {
    frame(HEADERS, WHOLE, 1, &[first, &fields(&[])[..]].concat())
}

pub(super) fn of_hpack() -> Vec<Case> {
    let ends = [
        ("2.3.3", "index 0", &b"\x80"[..]),
        ("2.3.3", "an index beyond the tables", b"\xbe"),
        ("2.3.3", "a large index", b"\xff\xff\xff\x7f"),
        (
            "2.3.3",
            "the name of an index beyond the tables",
            b"\x7f\x00\x01a",
        ),
        ("4.2", "a size update after fields", b"\x20"),
        ("5.1", "an integer without an end", b"\xff\xff"),
        (
            "5.1",
            "an integer that is too large",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ),
        ("5.2", "a name that is cut", b"\x00\x05ab"),
        ("5.2", "a value that is cut", b"\x00\x01x\x05ab"),
        ("5.2", "no value", b"\x00\x01x"),
        ("5.2", "EOS in a string", b"\x00\x01x\x84\xff\xff\xff\xff"),
        ("5.2", "a whole byte of padding", b"\x00\x01x\x82\x1f\xff"),
        ("5.2", "padding with a zero", b"\x00\x01x\x81\x1e"),
    ];
    let mut cases: Vec<_> = ends
        .into_iter()
        .map(|(section, what, last)| case(section, what, ending(1, last), Ends))
        .collect();
    let served = [
        ("5.2", "a Huffman code", &b"\x00\x01x\x81\x1f"[..]),
        ("6.2.1", "a literal with indexing", b"\x40\x01x\x01y"),
        (
            "6.2.1",
            "a literal that is indexed, and its index",
            b"\x40\x01x\x01y\xbe",
        ),
        ("6.2.2", "a literal without indexing", b"\x00\x01x\x01y"),
        ("6.2.3", "a literal never indexed", b"\x10\x01x\x01y"),
        ("6.1", "an indexed field", b"\x90"),
    ];
    for (section, what, last) in served {
        cases.push(case(section, what, ending(1, last), Served(1)));
    }
    cases.extend([
        case("4.2", "a size update", beginning(b"\x20"), Served(1)),
        case(
            "4.2",
            "two size updates",
            beginning(b"\x20\x3f\xe1\x1f"),
            Served(1),
        ),
        case(
            "6.3",
            "a table of more than SETTINGS_HEADER_TABLE_SIZE",
            beginning(b"\x3f\xe2\x1f"),
            Ends,
        ),
        case(
            "2.3.2",
            "the table lasts from block to block",
            [ending(1, b"\x40\x01x\x01y"), ending(3, b"\xbe")].concat(),
            Served(3),
        ),
        case(
            "4.3",
            "a smaller table evicts entries",
            {
                let evicts = [&b"\x20"[..], &fields(&[]), b"\xbe"].concat();
                [
                    ending(1, b"\x40\x01x\x01y"),
                    frame(HEADERS, WHOLE, 3, &evicts),
                ]
                .concat()
            },
            Ends,
        ),
        case(
            "4.4",
            "an entry that is too large empties the table",
            {
                let large = [&b"\x3f\x01"[..], &fields(&[]), b"\x40\x01x\x01y\xbe"].concat();
                frame(HEADERS, WHOLE, 1, &large)
            },
            Ends,
        ),
    ]);
    cases
}
