//! The bounds that close a client's connection.

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};

use super::frames::{ACK, CONTINUATION, DATA, END_HEADERS, HEADERS, PING, SETTINGS};
use super::*;
use crate::filtered::Filtered;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, 0], payload].concat()
}

fn begun() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, &[])].concat()
}

fn guarded() -> (DuplexStream, Filtered<Guard, DuplexStream>) {
    let (client, server) = tokio::io::duplex(1 << 20);
    (
        client,
        Filtered::new(server, Guard::new(&Limits::default(), Answering::default())),
    )
}

/// When a client that sends this and then nothing is cut off, in seconds; `None`: not within a day.
async fn cut_after(sent: &[u8]) -> Option<u64> {
    let (mut client, mut server) = guarded();
    client.write_all(sent).await.unwrap();
    let began = Instant::now();
    let mut read = vec![];
    let ended = server.read_to_end(&mut read);
    let day = Duration::from_secs(24 * 3600);
    let error = time::timeout(day, ended).await.ok()?.unwrap_err();
    assert_eq!(read, sent);
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    Some(began.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn what_is_begun_has_to_end() {
    let cases: [(&[u8], Option<u64>); 7] = [
        (b"PRI ", Some(15)),
        (PREFACE, Some(15)),
        // Half a frame of settings, or of anything.
        (&[0, 0, 6, SETTINGS], Some(15)),
        // A block of fields whose end does not come.
        (&frame(HEADERS, 0, b"ab"), Some(15)),
        (&[0, 0, 6, DATA, 0, 0, 0, 0, 1, 1], Some(60)),
        (&frame(HEADERS, END_HEADERS, b"ab"), None),
        (&[], None),
    ];
    for (sent, expected) in cases {
        let sent = match sent.starts_with(b"PRI") {
            true => sent.to_vec(),
            false => [&begun(), sent].concat(),
        };
        assert_eq!(cut_after(&sent).await, expected, "{sent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_byte_now_and_then_is_not_going_on() {
    let (mut client, mut server) = guarded();
    let reading = tokio::spawn(async move { server.read_to_end(&mut vec![]).await });
    client.write_all(&begun()).await.unwrap();
    let mut blocks = frame(HEADERS, 0, b"a");
    blocks.extend(frame(CONTINUATION, 0, b"a").repeat(20));
    for byte in blocks {
        if client.write_all(&[byte]).await.is_err() {
            break;
        }
        time::sleep(Duration::from_secs(1)).await;
    }
    let ended = reading.await.unwrap().unwrap_err();
    assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn a_connection_begins_with_settings() {
    for first in [frame(6, ACK, &[0; 8]), frame(SETTINGS, ACK, &[])] {
        let (mut client, mut server) = guarded();
        client.write_all(&[PREFACE, &first].concat()).await.unwrap();
        let error = server.read_to_end(&mut vec![]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_frames_that_are_no_request_cuts_a_client_off() {
    let cases = [
        (frame(SETTINGS, 0, &[]), 99),
        (frame(6, 0, &[0; 8]), 20_000),
        (frame(2, 0, &[0; 5]), 20_000),
        (frame(DATA, 0, &[]), 20_000),
        (frame(SETTINGS, ACK, &[]), 20_000),
    ];
    for (frame, bound) in cases {
        for more in [0, 1] {
            let (mut client, mut server) = guarded();
            let sent = [begun(), frame.repeat(bound + more)].concat();
            let writing = tokio::spawn(async move {
                let _ = client.write_all(&sent).await;
            });
            let read = server.read_to_end(&mut vec![]).await;
            assert_eq!(read.is_err(), more == 1, "{frame:?}");
            writing.abort();
        }
    }
}

/// A server that writes so much after every frame, to a client that reads all that is written or
/// nothing.
async fn cut_at(written: usize, reads: bool) -> Option<usize> {
    let (client, mut server) = {
        let (client, server) = tokio::io::duplex(1 << 10);
        (
            client,
            Filtered::new(server, Guard::new(&Limits::default(), Answering::default())),
        )
    };
    let (mut read, mut write) = tokio::io::split(client);
    write.write_all(&begun()).await.unwrap();
    server
        .read_exact(&mut vec![0; begun().len()])
        .await
        .unwrap();
    // As much as the client's end holds.
    let filled = server.write_all(&[0; 2048]);
    time::timeout(Duration::from_secs(1), filled)
        .await
        .unwrap_err();
    let one = frame(HEADERS, END_HEADERS, b"a");
    for count in 0..30_000 {
        if reads {
            read.read_exact(&mut vec![0; written]).await.unwrap();
        }
        write.write_all(&one).await.unwrap();
        if server.read_exact(&mut vec![0; one.len()]).await.is_err() {
            return Some(count);
        }
        let offered = [0; 2048];
        let _ =
            std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut server).poll_write(cx, &offered)))
                .await;
    }
    None
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_and_does_not_read_is_cut_off() {
    assert_eq!(cut_at(0, false).await, Some(UNPAID_MAX as usize));
    // A byte now and then is not reading.
    assert_eq!(cut_at(1, true).await, Some(UNPAID_MAX as usize));
    // One that is slow may go on.
    assert_eq!(cut_at(RESET_BYTES, true).await, None);
}

proptest::proptest! {
    /// However the bytes are cut, the same is found.
    #[test]
    fn frames_are_found_however_they_come(sent: Vec<u8>, size in 1..20_usize) {
        let found = |size: usize| {
            let mut guard = Guard::new(&Limits::default(), Answering::default());
            guard.frames.preface = 0;
            let read: io::Result<()> = sent.chunks(size).try_for_each(|part| guard.passed(part));
            (read.is_err(), guard.frames.known, guard.frames.payload, guard.frames.open)
        };
        let (whole, parts) = (found(sent.len().max(1)), found(size));
        proptest::prop_assert_eq!(whole.0, parts.0);
        if !whole.0 {
            proptest::prop_assert_eq!(whole, parts);
        }
    }
}

/// PINGs at an interval, in seconds, to a server with a policy of five seconds: which one ends the
/// connection, of twenty, and the GOAWAY.
async fn pinged(every: u64, answering: &Answering, answered: bool) -> Option<(usize, Vec<u8>)> {
    let (mut client, server) = tokio::io::duplex(1 << 10);
    let limits = Limits {
        keepalive_min: Some(Duration::from_secs(5)),
        ..Limits::default()
    };
    let mut server = Filtered::new(server, Guard::new(&limits, answering.clone()));
    let mut sent = [begun(), frame(HEADERS, END_HEADERS, b"a")].concat();
    let at = sent.len() - 2;
    sent[at] = 7;
    client.write_all(&sent).await.unwrap();
    server.read_exact(&mut vec![0; sent.len()]).await.unwrap();
    for count in 1..=20 {
        time::sleep(Duration::from_secs(every)).await;
        let ping = frame(PING, 0, &[0; 8]);
        client.write_all(&ping).await.unwrap();
        let read = server.read_exact(&mut vec![0; ping.len()]).await;
        if read.is_err() {
            drop(server);
            let mut farewell = vec![];
            client.read_to_end(&mut farewell).await.unwrap();
            return Some((count, farewell));
        }
        if answered {
            answering.open().sends();
        }
    }
    None
}

/// The limits are grpc-go's: the third early PING in a row ends the connection, and the first is
/// never early.
#[tokio::test(start_paused = true)]
async fn a_client_that_pings_too_often_is_calmed_as_by_grpc_go() {
    let goaway = frame(7, 0, b"\0\0\0\x07\0\0\0\x0btoo_many_pings");
    let none = Answering::default();
    assert_eq!(pinged(60, &none, false).await, Some((4, goaway.clone())));
    assert_eq!(pinged(7_200, &none, false).await, None);
    assert_eq!(pinged(1, &none, true).await, None);
    let some = Answering::default();
    let _open = some.open();
    assert_eq!(pinged(4, &some, false).await, Some((4, goaway)));
    assert_eq!(pinged(5, &some, false).await, None);
}

/// A frame of which the socket has taken a part must not have another in its middle.
#[tokio::test(start_paused = true)]
async fn nothing_is_sent_in_the_middle_of_a_frame() {
    let (mut client, server) = tokio::io::duplex(256);
    let limits = Limits {
        keepalive_min: Some(Duration::from_secs(5)),
        ..Limits::default()
    };
    let mut server = Filtered::new(server, Guard::new(&limits, Answering::default()));
    client.write_all(&begun()).await.unwrap();
    server
        .read_exact(&mut vec![0; begun().len()])
        .await
        .unwrap();
    let large = server.write_all(&[1; 512]);
    time::timeout(Duration::from_secs(1), large)
        .await
        .unwrap_err();
    client.read_exact(&mut [0; 200]).await.unwrap();
    client
        .write_all(&frame(PING, 0, &[0; 8]).repeat(4))
        .await
        .unwrap();
    server.read_exact(&mut [0; 100]).await.unwrap_err();
    drop(server);
    let mut rest = vec![];
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, [1; 56]);
}
