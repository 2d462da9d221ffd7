//! Each type of frame: RFC 9113, 6.

use super::framing::{before, open, window};
use super::*;

const PUSH_PROMISE: u8 = 5;
const WITH_PRIORITY: u8 = 0x20;

pub(super) fn of_frame_types() -> Vec<Case> {
    let data = |length: usize, flags| frame(DATA, flags, 1, &vec![b'x'; length]);
    vec![
        case(
            "6.1",
            "empty DATA",
            open(&[data(0, 0), data(0, END)]),
            Served(1),
        ),
        case(
            "6.1",
            "padding alone",
            open(&[frame(DATA, PADDED | END, 1, &[2, 0, 0])]),
            Served(1),
        ),
        case(
            "6.1",
            "no padding length",
            open(&[frame(DATA, PADDED | END, 1, &[])]),
            Ends,
        ),
        case(
            "6.2",
            "padded HEADERS",
            {
                let padded = [&[2][..], &fields(&[]), &[0, 0]].concat();
                frame(HEADERS, WHOLE | PADDED, 1, &padded)
            },
            Served(1),
        ),
        case(
            "6.2",
            "HEADERS with too much padding",
            frame(HEADERS, WHOLE | PADDED, 1, b"\x09x"),
            Ends,
        ),
        case(
            "6.2",
            "HEADERS with a priority",
            {
                let block = [&[0, 0, 0, 0, 9][..], &fields(&[])].concat();
                frame(HEADERS, WHOLE | WITH_PRIORITY, 1, &block)
            },
            Served(1),
        ),
        case(
            "6.2",
            "no room for a priority",
            frame(HEADERS, WHOLE | WITH_PRIORITY, 1, &[0; 4]),
            Ends,
        ),
        case(
            "6.4",
            "RST_STREAM of 5 bytes",
            open(&[frame(RST_STREAM, 0, 1, &[0; 5])]),
            Ends,
        ),
        case(
            "6.5",
            "empty SETTINGS",
            before(&[frame(SETTINGS, 0, 0, &[])]),
            Served(1),
        ),
        case(
            "6.5",
            "SETTINGS of 7 bytes",
            frame(SETTINGS, 0, 0, &[0; 7]),
            Ends,
        ),
        case(
            "6.5.2",
            "ENABLE_PUSH 1",
            before(&[setting(2, 1)]),
            Served(1),
        ),
        case("6.5.2", "no streams", before(&[setting(3, 0)]), Served(1)),
        case("6.5.2", "no table", before(&[setting(1, 0)]), Served(1)),
        case(
            "6.5.2",
            "the largest window",
            before(&[setting(4, (1 << 31) - 1)]),
            Served(1),
        ),
        case(
            "6.5.2",
            "frames of 2^24 - 1",
            before(&[setting(5, (1 << 24) - 1)]),
            Served(1),
        ),
        case("6.5.2", "frames of 2^24", setting(5, 1 << 24), Ends),
        case(
            "6.6",
            "PUSH_PROMISE",
            open(&[frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])]),
            Ends,
        ),
        case("6.7", "PING of 9 bytes", frame(PING, 0, 0, &[0; 9]), Ends),
        case(
            "6.7",
            "PING that was not asked for",
            before(&[frame(PING, END, 0, &[0; 8])]),
            Served(1),
        ),
        case(
            "6.9",
            "WINDOW_UPDATE of 3 bytes",
            frame(WINDOW_UPDATE, 0, 0, &[0; 3]),
            Ends,
        ),
        case(
            "6.9",
            "WINDOW_UPDATE of 5 bytes",
            open(&[frame(WINDOW_UPDATE, 0, 1, &[0; 5])]),
            Ends,
        ),
        case(
            "6.9",
            "the reserved bit of an increment",
            before(&[window(0, 1 | 1 << 31)]),
            Served(1),
        ),
        case(
            "6.9.1",
            "the largest window of the connection",
            before(&[window(0, (1 << 31) - 1 - 65_535)]),
            Served(1),
        ),
        case(
            "6.9.2",
            "a setting makes a window overflow",
            open(&[window(1, (1 << 31) - 1 - 65_535), setting(4, 65_536)]),
            Ends,
        ),
        case(
            "6.10",
            "CONTINUATION of no stream",
            {
                let begun = frame(HEADERS, END, 1, &fields(&[]));
                [begun, frame(CONTINUATION, END_HEADERS, 0, b"")].concat()
            },
            Ends,
        ),
        case(
            "6.10",
            "CONTINUATION of another stream",
            {
                let begun = frame(HEADERS, END, 1, &fields(&[]));
                [begun, frame(CONTINUATION, END_HEADERS, 3, b"")].concat()
            },
            Ends,
        ),
        case(
            "6.10",
            "HEADERS in a field block",
            {
                [
                    frame(HEADERS, END, 1, &fields(&[])),
                    frame(HEADERS, WHOLE, 3, &fields(&[])),
                ]
                .concat()
            },
            Ends,
        ),
        case(
            "6.10",
            "DATA in a field block",
            [frame(HEADERS, 0, 1, &fields(&[])), data(1, END)].concat(),
            Ends,
        ),
        case(
            "6.10",
            "CONTINUATION after the end",
            [with(&[]), frame(CONTINUATION, END_HEADERS, 1, b"")].concat(),
            Ends,
        ),
        case(
            "6.10",
            "a block in four, two of them empty",
            {
                let fields = fields(&[]);
                let (first, second) = fields.split_at(7);
                let empty = || frame(CONTINUATION, 0, 1, b"");
                let last = frame(CONTINUATION, END_HEADERS, 1, second);
                [frame(HEADERS, END, 1, first), empty(), empty(), last].concat()
            },
            Served(1),
        ),
    ]
}
