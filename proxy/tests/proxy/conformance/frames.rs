//! Frames, streams, settings and windows: RFC 9113, 4 to 6.

use super::*;

pub(super) fn of_frames() -> Vec<Case> {
    let open = || begun(1, &[]);
    let one = |frame: Vec<u8>| [open(), frame].concat();
    let reset = |stream| frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    let window = |stream, by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    let most = (1 << 31) - 1;
    vec![
        case(
            "4.1",
            "an unknown frame",
            [frame(99, 7, 5, b"x"), with(&[])].concat(),
            Served(1),
        ),
        case("5.1", "idle: DATA", frame(DATA, 0, 1, b"x"), Ends),
        case("5.1", "idle: RST_STREAM", reset(1), Ends),
        case("5.1", "idle: WINDOW_UPDATE", window(1, 1), Ends),
        case(
            "5.1",
            "half-closed: DATA",
            [with(&[]), frame(DATA, END, 1, b"x")].concat(),
            Refused(1),
        ),
        case(
            "5.1",
            "closed by RST: DATA",
            one([reset(1), frame(DATA, END, 1, b"x")].concat()),
            Refused(1),
        ),
        case(
            "5.1.1",
            "an even stream",
            frame(HEADERS, WHOLE, 2, &fields(&[])),
            Ends,
        ),
        case(
            "5.1.1",
            "a lower stream",
            [begun(5, &[]), frame(HEADERS, WHOLE, 3, &fields(&[]))].concat(),
            Ends,
        ),
        case("6.1", "DATA of no stream", frame(DATA, 0, 0, b"x"), Ends),
        case(
            "6.1",
            "more padding than frame",
            one(frame(DATA, PADDED, 1, b"\x09x")),
            Ends,
        ),
        case(
            "6.1",
            "padding",
            one(frame(DATA, PADDED | END, 1, b"\x02x\0\0")),
            Served(1),
        ),
        case(
            "6.2",
            "HEADERS of no stream",
            frame(HEADERS, WHOLE, 0, &fields(&[])),
            Ends,
        ),
        case(
            "6.3",
            "PRIORITY of no stream",
            frame(PRIORITY, 0, 0, &[0; 5]),
            Ends,
        ),
        case(
            "6.3",
            "PRIORITY of 4 bytes",
            one(frame(PRIORITY, 0, 1, &[0; 4])),
            Refused(1),
        ),
        case(
            "6.3",
            "PRIORITY",
            [frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]), with(&[])].concat(),
            Served(1),
        ),
        case(
            "6.4",
            "RST_STREAM of 3 bytes",
            one(frame(RST_STREAM, 0, 1, &[0; 3])),
            Ends,
        ),
        case("6.4", "RST_STREAM of no stream", reset(0), Ends),
        case(
            "6.5",
            "SETTINGS of 5 bytes",
            frame(SETTINGS, 0, 0, &[0; 5]),
            Ends,
        ),
        case(
            "6.5",
            "SETTINGS of a stream",
            frame(SETTINGS, 0, 1, &[]),
            Ends,
        ),
        case(
            "6.5",
            "acknowledged with something",
            frame(SETTINGS, END, 0, &[0; 6]),
            Ends,
        ),
        case("6.5.2", "ENABLE_PUSH 2", setting(2, 2), Ends),
        case("6.5.2", "a window of 2^31", setting(4, 1 << 31), Ends),
        case("6.5.2", "frames of 16383", setting(5, 16_383), Ends),
        case(
            "6.5.2",
            "an unknown setting",
            [setting(99, 7), with(&[])].concat(),
            Served(1),
        ),
        case("6.7", "PING of 7 bytes", frame(PING, 0, 0, &[0; 7]), Ends),
        case("6.7", "PING of a stream", frame(PING, 0, 1, &[0; 8]), Ends),
        case(
            "6.8",
            "GOAWAY of a stream",
            frame(GOAWAY, 0, 1, &[0; 8]),
            Ends,
        ),
        case(
            "6.9",
            "the connection's window grows by 0",
            window(0, 0),
            Ends,
        ),
        case(
            "6.9",
            "a stream's window grows by 0",
            one(window(1, 0)),
            Refused(1),
        ),
        case(
            "6.9.1",
            "the connection's window overflows",
            window(0, most),
            Ends,
        ),
        case(
            "6.9.1",
            "a stream's window overflows",
            one(window(1, most)),
            Refused(1),
        ),
        case(
            "6.10",
            "CONTINUATION of nothing",
            frame(CONTINUATION, END_HEADERS, 1, &[]),
            Ends,
        ),
        case(
            "6.10",
            "a block that is interrupted",
            {
                [
                    frame(HEADERS, END, 1, &fields(&[])),
                    frame(PING, 0, 0, &[0; 8]),
                ]
                .concat()
            },
            Ends,
        ),
        case(
            "6.10",
            "a block in two",
            {
                let fields = fields(&[]);
                let (first, second) = fields.split_at(7);
                [
                    frame(HEADERS, END, 1, first),
                    frame(CONTINUATION, END_HEADERS, 1, second),
                ]
                .concat()
            },
            Served(1),
        ),
    ]
}
