//! The frame format and the states of streams: RFC 9113, 4 and 5.

use super::*;

/// The largest frame without SETTINGS_MAX_FRAME_SIZE.
const FRAME_MAX: usize = 16_384;

pub(super) fn window(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

pub(super) fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])
}

/// Frames after the beginning of a request on stream 1.
pub(super) fn open(frames: &[Vec<u8>]) -> Vec<u8> {
    [begun(1, &[]), frames.concat()].concat()
}

/// Frames before a whole request on stream 1.
pub(super) fn before(frames: &[Vec<u8>]) -> Vec<u8> {
    [frames.concat(), with(&[])].concat()
}

pub(super) fn of_framing() -> Vec<Case> {
    let data = |length: usize, flags| frame(DATA, flags, 1, &vec![b'x'; length]);
    let large = [&fields(&[])[..], &[0x20; FRAME_MAX]].concat();
    vec![
        case(
            "4.1",
            "undefined flags",
            frame(HEADERS, WHOLE | 0x42, 1, &fields(&[])),
            Served(1),
        ),
        case(
            "4.1",
            "the reserved bit",
            frame(HEADERS, WHOLE, 1 | 1 << 31, &fields(&[])),
            Served(1),
        ),
        case(
            "4.1",
            "undefined flags of PING",
            before(&[frame(PING, 0xfe, 0, &[0; 8])]),
            Served(1),
        ),
        case(
            "4.2",
            "DATA of 2^14",
            open(&[data(FRAME_MAX, END)]),
            Served(1),
        ),
        case(
            "4.2",
            "DATA of 2^14 + 1",
            open(&[data(FRAME_MAX + 1, END)]),
            Refused(1),
        ),
        case(
            "4.2",
            "HEADERS of 2^14 + 1",
            frame(HEADERS, WHOLE, 1, &large),
            Ends,
        ),
        case(
            "4.2",
            "SETTINGS of 16386",
            frame(SETTINGS, 0, 0, &[0; 16_386]),
            Ends,
        ),
        case(
            "4.2",
            "an unknown frame of 2^14 + 1",
            frame(99, 0, 0, &[0; FRAME_MAX + 1]),
            Ends,
        ),
        case(
            "5.1",
            "idle: CONTINUATION",
            frame(CONTINUATION, END_HEADERS, 1, &fields(&[])),
            Ends,
        ),
        case(
            "5.1",
            "half-closed: HEADERS",
            [with(&[]), frame(HEADERS, WHOLE, 1, &fields(&[]))].concat(),
            Refused(1),
        ),
        case(
            "5.1",
            "half-closed: WINDOW_UPDATE",
            [with(&[]), window(1, 1)].concat(),
            Served(1),
        ),
        case(
            "5.1",
            "half-closed: PRIORITY",
            [with(&[]), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])].concat(),
            Served(1),
        ),
        case(
            "5.1",
            "closed by RST: HEADERS",
            open(&[reset(1), frame(HEADERS, WHOLE, 1, &fields(&[]))]),
            Refused(1),
        ),
        case(
            "5.1",
            "closed by RST: WINDOW_UPDATE",
            open(&[
                reset(1),
                window(1, 1),
                frame(HEADERS, WHOLE, 3, &fields(&[])),
            ]),
            Served(3),
        ),
        case(
            "5.1",
            "closed by RST: RST_STREAM",
            open(&[reset(1), reset(1), frame(HEADERS, WHOLE, 3, &fields(&[]))]),
            Served(3),
        ),
        case(
            "5.1.1",
            "streams are skipped",
            frame(HEADERS, WHOLE, 77, &fields(&[])),
            Served(77),
        ),
        case(
            "5.1.1",
            "the largest stream",
            frame(HEADERS, WHOLE, (1 << 31) - 1, &fields(&[])),
            Served((1 << 31) - 1),
        ),
        case(
            "5.5",
            "an unknown frame of a stream",
            open(&[frame(99, 0, 1, b"x"), data(1, END)]),
            Served(1),
        ),
        case(
            "5.5",
            "an unknown frame in a field block",
            {
                let begun = frame(HEADERS, END, 1, &fields(&[]));
                [
                    begun,
                    frame(99, 0, 1, b""),
                    frame(CONTINUATION, END_HEADERS, 1, b""),
                ]
                .concat()
            },
            Ends,
        ),
    ]
}
