//! Answers whose client does not read them.

use keelson_port::http2::frame::{ErrorCode, setting};

use super::*;
use crate::grpc_methods::Kind;
use crate::h2::call::{Call, CallHead};
use crate::h2::owner::{ClientSession, Owner};

/// A client's session with an empty send window, and `count` calls of it.
fn shut(proxy: &Arc<Context>, path: &str, calls: u32) -> (Arc<ClientSession>, Vec<Arc<Call>>) {
    let session = Arc::new(ClientSession::new([1000, 1000]));
    let mut bytes = BytesMut::new();
    frame::put_settings(&mut bytes, &[(setting::INITIAL_WINDOW_SIZE, 0)]);
    let taken = FrameReader::default().read(&bytes, |event| {
        if let Frame::Settings(settings) = event {
            session.recv_settings(&settings)?;
        }
        Ok(())
    });
    taken.unwrap();
    let begin = |n| {
        let head = CallHead {
            fields: bytes::Bytes::new(),
            kind: Kind::of(path),
            timeout: None,
        };
        let call = Call::new(proxy, &session, 2 * n + 1, head);
        session.accept(2 * n + 1, Owner::Client(Arc::clone(&call)), true);
        call
    };
    let calls = (0..calls).map(begin).collect();
    (session, calls)
}

fn taken(session: &ClientSession) -> Vec<String> {
    let mut received = BytesMut::new();
    session.take(&mut received, std::task::Waker::noop());
    ends_of(&received)
}

/// A member sends as much of each answer as the stream's window holds, 128 KiB.
#[tokio::test]
async fn answers_that_are_not_read_take_a_bounded_room_and_give_it_back() {
    for (path, code) in [
        ("/etcdserverpb.KV/Range", ErrorCode::ENHANCE_YOUR_CALM),
        ("/etcdserverpb.Watch/Watch", ErrorCode::INTERNAL_ERROR),
    ] {
        let proxy = proxy();
        let (session, calls) = shut(&proxy, path, 1000);
        for _ in 0..8 {
            for call in &calls {
                call.answer(&[0; frame::MAX_FRAME_SIZE], false);
                assert!(proxy.unread.bytes() <= 32 * 1024 * 1024);
            }
        }
        let ends = taken(&session);
        let broken = format!(" {}", code.0);
        assert!(ends.iter().all(|end| end.ends_with(&broken)), "{ends:?}");
        assert_eq!(ends.len() + session.streams(), 1000);
        assert!(256 <= session.streams());
        // Another client has a budget of its own.
        let (other, of_other) = shut(&proxy, path, 1);
        of_other[0].answer(&[0; frame::MAX_FRAME_SIZE], false);
        assert!(taken(&other).is_empty());
        // The budget of answers that are read or reset is released.
        let before = proxy.unread.bytes();
        let released = other.recv_window_update(1, 10_000).unwrap();
        assert_eq!(released.len(), 1);
        of_other[0].reached_client(released[0].1);
        assert_eq!(proxy.unread.bytes(), before - 10_000);
        drop((released, session.close(), other.close(), calls, of_other));
        assert_eq!(proxy.unread.bytes(), 0);
    }
}
