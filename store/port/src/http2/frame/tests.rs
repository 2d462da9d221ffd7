//! Frames that are written and read back.

use bytes::BytesMut;

use super::write::put_headers_in;
use super::*;

/// The frames in `bytes` as text, read in pieces of several sizes.
fn frames_in(sent: &[u8], pieces: usize) -> Result<Vec<String>, ConnectionError> {
    let mut frames = FrameReader::default();
    let mut read = vec![];
    let size = sent.len().div_ceil(pieces).max(1);
    for piece in sent.chunks(size) {
        frames.read(piece, |event| {
            read.push(format!("{event:?}"));
            Ok(())
        })?;
    }
    Ok(read)
}

#[test]
fn what_is_written_is_heard_however_it_is_cut() {
    let mut sent = BytesMut::new();
    put_settings(&mut sent, &[(setting::INITIAL_WINDOW_SIZE, 7)]);
    put_settings_ack(&mut sent);
    put_ping(&mut sent, *b"abcdefgh", false);
    put_ping(&mut sent, *b"abcdefgh", true);
    put_headers(&mut sent, 1, [b"ab", b"c"], false);
    put_headers_in(&mut sent, 3, [b"abc", b"defg"], true, 3);
    put_data(&mut sent, 1, b"data", true);
    put_rst_stream(&mut sent, 5, ErrorCode::CANCEL);
    put_window_update(&mut sent, 0, 9);
    put_goaway(&mut sent, 3, ErrorCode::NO_ERROR, "bye");
    let expected = [
        "Settings(Settings([0, 4, 0, 0, 0, 7]))",
        "SettingsAck",
        "Ping([97, 98, 99, 100, 101, 102, 103, 104])",
        "PingAck([97, 98, 99, 100, 101, 102, 103, 104])",
        "Headers { stream: 1, end: false, block: [97, 98, 99] }",
        "Headers { stream: 3, end: true, block: [97, 98, 99, 100, 101, 102, 103] }",
        "Data { stream: 1, end: true, data: [100, 97, 116, 97], flow_controlled_len: 4 }",
        "RstStream { stream: 5, code: ErrorCode(8) }",
        "WindowUpdate { stream: 0, increment: 9 }",
        "GoAway { last: 3, code: ErrorCode(0) }",
    ];
    for pieces in 1..sent.len() {
        assert_eq!(frames_in(&sent, pieces).unwrap(), expected, "{pieces}");
    }
}

#[test]
fn padding_and_priorities_are_taken_off() {
    let cases: [(&[u8], &str); 4] = [
        (
            b"\0\0\x06\0\x08\0\0\0\x01\x02abc\0\0",
            "Data { stream: 1, end: false, data: [97, 98, 99], flow_controlled_len: 6 }",
        ),
        (
            b"\0\0\x07\x01\x24\0\0\0\x01\0\0\0\0\x10ab",
            "Headers { stream: 1, end: false, block: [97, 98] }",
        ),
        (
            b"\0\0\x09\x01\x2d\0\0\0\x01\x01\0\0\0\0\x10ab\0",
            "Headers { stream: 1, end: true, block: [97, 98] }",
        ),
        (
            b"\0\0\x01\x2a\0\0\0\0\x01x\0\0\0\x04\x01\0\0\0\0",
            "Ignored SettingsAck",
        ),
    ];
    for (sent, expected) in cases {
        assert_eq!(frames_in(sent, 1).unwrap().join(" "), expected);
    }
}

#[test]
fn what_is_wrong_ends_the_connection() {
    let cases: [(&[u8], ErrorCode); 12] = [
        (b"\0\x40\x01\0\0\0\0\0\x01", ErrorCode::FRAME_SIZE_ERROR),
        (b"\0\0\0\0\0\0\0\0\0", ErrorCode::PROTOCOL_ERROR),
        (b"\0\0\x01\0\x08\0\0\0\x01\x01", ErrorCode::PROTOCOL_ERROR),
        (b"\0\0\0\0\x08\0\0\0\x01", ErrorCode::FRAME_SIZE_ERROR),
        (b"\0\0\x01\x01\x24\0\0\0\x01x", ErrorCode::FRAME_SIZE_ERROR),
        (b"\0\0\x03\x03\0\0\0\0\x01abc", ErrorCode::FRAME_SIZE_ERROR),
        (b"\0\0\x01\x04\0\0\0\0\0x", ErrorCode::FRAME_SIZE_ERROR),
        (b"\0\0\0\x04\0\0\0\0\x01", ErrorCode::PROTOCOL_ERROR),
        (b"\0\0\x04\x08\0\0\0\0\0\0\0\0\0", ErrorCode::PROTOCOL_ERROR),
        (b"\0\0\0\x09\x04\0\0\0\x01", ErrorCode::PROTOCOL_ERROR),
        (
            b"\0\0\0\x01\0\0\0\0\x01\0\0\0\0\0\0\0\0\x01",
            ErrorCode::PROTOCOL_ERROR,
        ),
        (
            b"\0\0\0\x01\0\0\0\0\x01\0\0\0\x09\0\0\0\0\x03",
            ErrorCode::PROTOCOL_ERROR,
        ),
    ];
    for (sent, code) in cases {
        assert_eq!(frames_in(sent, 1).unwrap_err().code, code, "{sent:?}");
    }
}

#[test]
fn a_block_without_end_ends_the_connection() {
    let mut frames = FrameReader::default();
    let ignore = |_: Frame<'_>| Ok(());
    frames.read(b"\0\0\0\x01\0\0\0\0\x01", ignore).unwrap();
    let more = b"\0\0\0\x09\0\0\0\0\x01";
    let ended = (0..FIELD_BLOCK_BYTES_MAX).find_map(|_| frames.read(more, ignore).err());
    assert_eq!(ended.unwrap().code, ErrorCode::ENHANCE_YOUR_CALM);
}

proptest::proptest! {
    #[test]
    fn whatever_arrives_is_survived(sent: Vec<u8>, pieces in 1..9_usize) {
        let whole = frames_in(&sent, 1);
        proptest::prop_assert_eq!(frames_in(&sent, pieces).is_err(), whole.is_err());
    }
}
