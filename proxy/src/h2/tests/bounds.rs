//! The bounds of a client's frames and of the memory for its requests.

use bytes::BufMut;
use keelson_port::http2::frame::ErrorCode;

use super::*;

#[tokio::test(start_paused = true)]
async fn who_gives_up_everything_at_once_is_sent_away() {
    for (count, expected) in [(2000, None), (2001, Some("goaway 11"))] {
        let mut sent = settings();
        for n in 0..count {
            frame::put_headers(&mut sent, 2 * n + 1, [&call("/a.B/C", &[]), &[]], false);
            frame::put_rst_stream(&mut sent, 2 * n + 1, ErrorCode::CANCEL);
        }
        assert_eq!(ends(&sent).await.last().map(String::as_str), expected);
    }
}

/// A call, and a stream error for which it is reset here.
fn wrong_calls() -> [fn(&mut BytesMut, u32); 4] {
    fn begin(sent: &mut BytesMut, stream: u32, more: &[(&str, &str)]) {
        let path = "/etcdserverpb.Watch/Watch";
        frame::put_headers(sent, stream, [&call(path, more), &[]], false);
    }
    [
        |sent, stream| {
            begin(sent, stream, &[]);
            frame::put_window_update(sent, stream, 0);
        },
        |sent, stream| {
            begin(sent, stream, &[("content-length", "3")]);
            frame::put_data(sent, stream, b"data", false);
        },
        |sent, stream| {
            begin(sent, stream, &[("content-length", "5")]);
            frame::put_data(sent, stream, b"data", true);
        },
        |sent, stream| {
            begin(sent, stream, &[]);
            frame::put_headers(sent, stream, [&call("/a.B/C", &[]), &[]], true);
        },
    ]
}

/// CVE-2025-8671: a reset that a client provokes costs a member as much as one that it sends.
#[tokio::test(start_paused = true)]
async fn who_has_everything_reset_at_once_is_sent_away() {
    for (way, put) in wrong_calls().into_iter().enumerate() {
        for (count, expected) in [(2000, "reset 3999 1"), (2001, "goaway 11")] {
            let mut sent = settings();
            for n in 0..count {
                put(&mut sent, 2 * n + 1);
            }
            let ends = ends_of(&received_from(waiting_proxy(), &sent).await);
            let last = ends.last().map(String::as_str);
            assert_eq!(last, Some(expected), "{way}");
        }
    }
}

/// The same for calls whose `grpc-timeout` has passed at once.
#[tokio::test(start_paused = true)]
async fn who_has_everything_expire_at_once_is_sent_away() {
    for (count, expected) in [(2000, "fields"), (2001, "goaway 11")] {
        let mut sent = settings();
        for n in 0..count {
            let fields = call("/etcdserverpb.Watch/Watch", &[("grpc-timeout", "1m")]);
            frame::put_headers(&mut sent, 2 * n + 1, [&fields, &[]], true);
        }
        let ends = ends_of(&received_from_in(waiting_proxy(), Duration::from_secs(1), &sent).await);
        let last = ends.last().map_or("", String::as_str);
        assert!(last.starts_with(expected), "{last}");
        assert!(2000 <= ends.len());
    }
}

/// Without a connected member no part of a body can be forwarded: a body beyond the budget is
/// refused.
#[tokio::test(start_paused = true)]
async fn bodies_that_have_not_come_whole_are_kept_within_bounds() {
    let proxy = waiting_proxy();
    let bound = 8 * 1024 * 1024;
    let mut sent = settings();
    for n in 0..1000 {
        let fields = call("/etcdserverpb.KV/Put", &[]);
        frame::put_headers(&mut sent, 2 * n + 1, [&fields, &[]], false);
        frame::put_data(&mut sent, 2 * n + 1, &[0; frame::MAX_FRAME_SIZE], false);
    }
    while_open(&proxy, &sent, |received| {
        assert!((bound / 2..=bound).contains(&proxy.kept_bodies.bytes()));
        let ends = ends_of(received);
        let refused = ends.iter().filter(|end| end.starts_with("fields")).count();
        assert_eq!(refused, 1000 - bound / frame::MAX_FRAME_SIZE);
        assert!(has(received, "etcdserver: too many requests"));
    })
    .await;
}

/// S3 of the security review: 141 bytes a stream were 62 KB.
#[tokio::test(start_paused = true)]
async fn a_bomb_of_fields_takes_a_bounded_room_and_gives_it_back() {
    let proxy = waiting_proxy();
    let mut sent = settings();
    let large = "v".repeat(3900);
    let plain = call("/etcdserverpb.KV/Range", &[]);
    // One table entry, and 15 references to it a stream.
    let mut block = BytesMut::from(&plain[..]);
    block.put_slice(b"\x40\x01x\x7f\xbd\x1d");
    block.put_slice(large.as_bytes());
    frame::put_headers(&mut sent, 1, [&block, &[]], false);
    for n in 1..1000 {
        frame::put_headers(&mut sent, 2 * n + 1, [&plain, &b"\xbe".repeat(15)], false);
    }
    while_open(&proxy, &sent, |received| {
        let bound = 8 * 1024 * 1024;
        assert!((bound / 2..=bound).contains(&proxy.kept.bytes()));
        let ends = ends_of(received);
        let refused = ends.iter().filter(|end| end.starts_with("fields")).count();
        assert!((800..1000).contains(&refused), "{refused}");
    })
    .await;
    assert_eq!(proxy.kept.bytes(), 0);
}

/// For calls with and without END_STREAM, and for other requests.
#[tokio::test(start_paused = true)]
async fn what_is_kept_of_requests_is_given_back_however_they_end() {
    let proxy = waiting_proxy();
    let mut sent = settings();
    for n in 0..300 {
        let path = ["/etcdserverpb.KV/Put", "/etcdserverpb.Watch/Watch"][n as usize % 2];
        frame::put_headers(&mut sent, 2 * n + 1, [&call(path, &[]), &[]], false);
        // The beginning of a message.
        let mut data = [0; 1000];
        data[3] = 4;
        frame::put_data(&mut sent, 2 * n + 1, &data, n % 3 == 0);
        if n % 5 == 0 {
            frame::put_rst_stream(&mut sent, 2 * n + 1, ErrorCode::CANCEL);
        }
    }
    for n in 300..400 {
        let mut block = BytesMut::new();
        for (name, value) in [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/v2/keys/a"),
        ] {
            hpack::put_field(&mut block, name.as_bytes(), value.as_bytes(), false);
        }
        frame::put_headers(&mut sent, 2 * n + 1, [&block, &[]], true);
    }
    while_open(&proxy, &sent, |_| {
        assert!(100_000 < proxy.kept.bytes());
        assert!(100_000 < proxy.kept_bodies.bytes());
        assert!(100_000 < proxy.kept_streams.bytes());
    })
    .await;
    // Aborted tasks end when they are polled.
    let mut turns = 0..10_000;
    let kept = || proxy.kept.bytes() + proxy.kept_bodies.bytes() + proxy.kept_streams.bytes();
    while 0 < kept() {
        turns.next().expect("all is given back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The seconds after which a client that sends only `sent` is disconnected, and the error code.
async fn sent_away_after(sent: &[u8]) -> Option<(u64, String)> {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let serving = tokio::spawn(serve(waiting_proxy(), server));
    client.write_all(sent).await.unwrap();
    let began = tokio::time::Instant::now();
    let mut received = vec![];
    let minutes = Duration::from_secs(300);
    let reading = tokio::time::timeout(minutes, client.read_to_end(&mut received)).await;
    let after = began.elapsed().as_secs();
    drop(client);
    serving.await.unwrap();
    reading.ok()?.unwrap();
    ends_of(&received).pop().map(|last| (after, last))
}

#[tokio::test(start_paused = true)]
async fn what_is_begun_has_to_end() {
    let begun = settings();
    let with = |more: &[u8]| [&begun[..], more].concat();
    let mut watch = settings();
    let path = "/etcdserverpb.Watch/Watch";
    frame::put_headers(&mut watch, 1, [&call(path, &[]), &[]], false);
    let cases: [(Vec<u8>, u64, &str); 8] = [
        (b"PRI ".to_vec(), 15, "goaway 4"),
        (PREFACE.to_vec(), 15, "goaway 4"),
        // Half a frame.
        (with(b"\0\0\x06"), 15, "goaway 11"),
        (with(b"\0\0\x06\x04\0\0\0\0\0"), 15, "goaway 11"),
        // A field block without an end.
        (with(b"\0\0\x01\x01\0\0\0\0\x01\x83"), 15, "goaway 11"),
        (
            [&watch[..], b"\0\0\x06\0\0\0\0\0\x01x"].concat(),
            60,
            "goaway 11",
        ),
        // An idle connection, and a call without a time limit.
        (with(b""), 0, ""),
        (watch.to_vec(), 0, ""),
    ];
    for (sent, after, how) in cases {
        let found = sent_away_after(&sent).await;
        let expected = (0 < after).then(|| (after, how.to_owned()));
        assert_eq!(found, expected, "{sent:?}");
    }
}

/// Appends the n-th frame of a kind.
type Put = fn(&mut BytesMut, u32);

/// S4: each SETTINGS frame cost a walk over all streams.
#[tokio::test(start_paused = true)]
async fn a_flood_of_frames_that_are_no_request_is_answered_with_goodbye() {
    let settings_frame = |sent: &mut BytesMut, n: u32| {
        frame::put_settings(
            sent,
            &[(frame::setting::INITIAL_WINDOW_SIZE, 65_535 + n % 2)],
        );
    };
    let ping = |sent: &mut BytesMut, _: u32| frame::put_ping(sent, *b"abcdefgh", false);
    let priority =
        |sent: &mut BytesMut, _: u32| sent.put_slice(b"\0\0\x05\x02\0\0\0\0\x01\0\0\0\0\x10");
    let empty = |sent: &mut BytesMut, _: u32| frame::put_data(sent, 1, &[], false);
    let cases: [(Put, u32); 4] = [
        (settings_frame, 99),
        (ping, 20_000),
        (priority, 20_000),
        (empty, 20_000),
    ];
    for (put, bound) in cases {
        for more in [0, 1] {
            let mut sent = settings();
            frame::put_headers(&mut sent, 1, [&call("/a.B/C", &[]), &[]], false);
            for n in 0..bound + more {
                put(&mut sent, n);
            }
            let ends = ends_of(&received_from(waiting_proxy(), &sent).await);
            let expected = if more == 1 { vec!["goaway 11"] } else { vec![] };
            assert_eq!(ends, expected);
        }
    }
}
