//! A property test of a client's connection with any frames.

use bytes::BufMut;
use keelson_port::http2::frame::ErrorCode;
use proptest::prelude::*;

use super::*;

/// A frame of a client.
#[derive(Clone, Debug)]
enum Said {
    Call(u32, bool, bool),
    Get(u32),
    Data(u32, usize, bool),
    Reset(u32),
    Window(u32, u32),
    Setting(u16, u32),
    Ping,
    /// A PUT with a `content-length`.
    Put(u32, u64),
    /// Trailers, or malformed fields.
    Trailers(u32, bool),
    Priority(u32, usize),
    Raw(Vec<u8>),
}

fn said() -> impl Strategy<Value = Said> {
    let stream = || (0..8_u32).prop_map(|n| 2 * n + 1);
    prop_oneof![
        4 => (stream(), any::<bool>(), any::<bool>()).prop_map(|(s, u, e)| Said::Call(s, u, e)),
        1 => stream().prop_map(Said::Get),
        4 => (stream(), 0..20_000_usize, any::<bool>()).prop_map(|(s, n, e)| Said::Data(s, n, e)),
        2 => stream().prop_map(Said::Reset),
        1 => (0..16_u32, 0..u32::MAX / 2).prop_map(|(s, by)| Said::Window(s, by)),
        1 => (stream(), 0..30_000_u64).prop_map(|(s, length)| Said::Put(s, length)),
        1 => (stream(), any::<bool>()).prop_map(|(s, fine)| Said::Trailers(s, fine)),
        1 => (0..16_u32, 4..7_usize).prop_map(|(s, length)| Said::Priority(s, length)),
        1 => (0..8_u16, 0..100_000_u32).prop_map(|(n, value)| Said::Setting(n, value)),
        1 => Just(Said::Ping),
        1 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Said::Raw),
    ]
}

fn put(sent: &mut BytesMut, said: &Said) {
    match said {
        Said::Call(stream, unary, end) => {
            let path = match unary {
                true => "/etcdserverpb.KV/Put",
                false => "/etcdserverpb.Watch/Watch",
            };
            frame::put_headers(sent, *stream, [&call(path, &[]), &[]], *end);
        }
        Said::Get(stream) => {
            let mut block = BytesMut::new();
            for (name, value) in [
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/metrics"),
            ] {
                hpack::put_field(&mut block, name.as_bytes(), value.as_bytes(), false);
            }
            frame::put_headers(sent, *stream, [&block, &[]], true);
        }
        Said::Put(stream, length) => {
            let mut block = BytesMut::new();
            let length = length.to_string();
            for (name, value) in [
                (":method", "PUT"),
                (":scheme", "http"),
                (":path", "/v2/keys/a"),
                ("content-length", &length),
            ] {
                hpack::put_field(&mut block, name.as_bytes(), value.as_bytes(), false);
            }
            frame::put_headers(sent, *stream, [&block, &[]], false);
        }
        Said::Trailers(stream, fine) => {
            let mut block = BytesMut::new();
            let name = if *fine { "x" } else { ":x" };
            hpack::put_field(&mut block, name.as_bytes(), b"y", false);
            frame::put_headers(sent, *stream, [&block, &[]], true);
        }
        Said::Priority(stream, length) => {
            sent.put_slice(&[0, 0, *length as u8, 2, 0]);
            sent.put_u32(*stream);
            sent.put_slice(&vec![0; *length]);
        }
        Said::Data(stream, length, end) => {
            for part in vec![b'x'; *length].chunks(frame::MAX_FRAME_SIZE) {
                frame::put_data(sent, *stream, part, false);
            }
            frame::put_data(sent, *stream, &[], *end);
        }
        Said::Reset(stream) => frame::put_rst_stream(sent, *stream, ErrorCode::CANCEL),
        Said::Window(stream, by) => frame::put_window_update(sent, *stream, *by),
        Said::Setting(number, value) => frame::put_settings(sent, &[(*number, *value)]),
        Said::Ping => frame::put_ping(sent, *b"abcdefgh", false),
        Said::Raw(bytes) => sent.put_slice(bytes),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The connection ends with the client's, all bytes sent are HTTP/2, and all memory is
    /// released.
    #[test]
    fn whatever_a_client_says_is_survived(said in proptest::collection::vec(said(), 0..30)) {
        let mut sent = settings();
        for one in &said {
            put(&mut sent, one);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let proxy = proxy();
        let received = runtime.block_on(async {
            let received = received_from(Arc::clone(&proxy), &sent).await;
            // Aborted tasks end when they are polled.
            let mut turns = 0..10_000;
            let kept =
                || proxy.kept.bytes() + proxy.kept_bodies.bytes() + proxy.kept_streams.bytes();
            while 0 < kept() && turns.next().is_some() {
                tokio::task::yield_now().await;
            }
            received
        });
        ends_of(&received);
        prop_assert_eq!(proxy.kept.bytes() + proxy.kept_bodies.bytes(), 0);
        prop_assert_eq!(proxy.kept_streams.bytes() + proxy.unread.bytes(), 0);
    }
}
