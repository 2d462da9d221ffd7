//! gRPC's keepalive in both directions, as grpc-go's servers do it.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Port, within};
use crate::Limits;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, 0, 0, 0, 0, 0], payload].concat()
}

/// The next frame's type, flags and payload; `None` at the end of the connection.
async fn next(socket: &mut TcpStream) -> Option<(u8, u8, Vec<u8>)> {
    let mut head = [0; 9];
    within(socket.read_exact(&mut head)).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    within(socket.read_exact(&mut payload)).await.ok()?;
    Some((head[3], head[4], payload))
}

async fn connected(port: &Port) -> TcpStream {
    let mut socket = port.connect().await;
    let begin = [PREFACE, &frame(SETTINGS, &[])].concat();
    socket.write_all(&begin).await.unwrap();
    socket
}

#[tokio::test]
async fn too_many_pings_end_a_connection_with_grpc_gos_goaway() {
    let limits = Limits {
        keepalive_min: Some(Duration::from_secs(3_600)),
        ..Limits::default()
    };
    let port = Port::with(limits).await;
    let mut socket = connected(&port).await;
    let mut acknowledged = 0;
    for _ in 0..3 {
        socket.write_all(&frame(PING, &[7; 8])).await.unwrap();
        // Each is read alone, and the first three are answered.
        while next(&mut socket).await.expect("it goes on").0 != PING {}
        acknowledged += 1;
    }
    assert_eq!(acknowledged, 3);
    socket.write_all(&frame(PING, &[7; 8])).await.unwrap();
    let goaway = next(&mut socket).await;
    let expected = b"\0\0\0\0\0\0\0\x0btoo_many_pings".to_vec();
    assert_eq!(goaway, Some((GOAWAY, 0, expected)));
    assert_eq!(next(&mut socket).await, None);
}

#[tokio::test]
async fn a_silent_client_is_pinged_and_then_disconnected() {
    let limits = Limits {
        keepalive_interval: Some(Duration::from_millis(100)),
        // Long enough for the answers below on a loaded machine.
        keepalive_timeout: Duration::from_secs(3),
        ..Limits::default()
    };
    let port = Port::with(limits).await;
    let mut socket = connected(&port).await;
    let mut pings = 0;
    let mut answers = 2;
    while let Some((kind, flags, payload)) = next(&mut socket).await {
        if kind != PING || flags & ACK != 0 {
            continue;
        }
        pings += 1;
        if 0 < answers {
            answers -= 1;
            let mut ack = frame(PING, &payload);
            ack[4] = ACK;
            socket.write_all(&ack).await.unwrap();
        }
    }
    assert_eq!(pings, 3, "the third had no answer");
}
