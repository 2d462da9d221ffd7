//! Answers that their client does not read.

use super::*;
use crate::grpc_methods::Kind;
use crate::h2::call::{Asked, Call};
use crate::h2::frame::{Code, setting};
use crate::h2::session::{End, Owner, Session};

/// A client's session on which nothing may be sent, and so many calls of it.
fn shut(proxy: &Arc<Context>, path: &str, calls: u32) -> (Arc<Session>, Vec<Arc<Call>>) {
    let session = Arc::new(Session::new(End::Server, [1000, 1000], bytes::Bytes::new()));
    let mut bytes = BytesMut::new();
    frame::put_settings(&mut bytes, &[(setting::INITIAL_WINDOW, 0)]);
    let taken = Frames::default().take(&bytes, |event| {
        if let Event::Settings(settings) = event {
            session.settings(&settings)?;
        }
        Ok(())
    });
    taken.unwrap();
    let begin = |n| {
        let asked = Asked {
            fields: bytes::Bytes::new(),
            kind: Kind::of(path),
            patience: None,
        };
        let call = Call::new(proxy, &session, 2 * n + 1, asked);
        session.accept(2 * n + 1, Owner::Client(Arc::clone(&call)), true);
        call
    };
    let calls = (0..calls).map(begin).collect();
    (session, calls)
}

fn taken(session: &Session) -> Vec<String> {
    let mut told = BytesMut::new();
    session.take(&mut told, std::task::Waker::noop());
    ends_of(&told)
}

/// A member sends as much of each as its window holds, 128 KiB.
#[tokio::test]
async fn answers_that_are_not_read_take_a_bounded_room_and_give_it_back() {
    for (path, code) in [
        ("/etcdserverpb.KV/Range", Code::ENHANCE_YOUR_CALM),
        ("/etcdserverpb.Watch/Watch", Code::INTERNAL_ERROR),
    ] {
        let proxy = proxy();
        let (session, calls) = shut(&proxy, path, 1000);
        for _ in 0..8 {
            for call in &calls {
                call.answer(&[0; frame::FRAME_BYTES_MAX], false);
                assert!(proxy.unread.bytes() <= 32 * 1024 * 1024);
            }
        }
        let ends = taken(&session);
        let broken = format!(" {}", code.0);
        assert!(ends.iter().all(|end| end.ends_with(&broken)), "{ends:?}");
        assert_eq!(ends.len() + session.streams(), 1000);
        assert!(256 <= session.streams());
        // Another client has room of its own.
        let (other, of_other) = shut(&proxy, path, 1);
        of_other[0].answer(&[0; frame::FRAME_BYTES_MAX], false);
        assert!(taken(&other).is_empty());
        // What is read is given back, and so is what is given up.
        let before = proxy.unread.bytes();
        let flowed = other.grown(1, 10_000).unwrap();
        assert_eq!(flowed.len(), 1);
        of_other[0].reached_client(flowed[0].1);
        assert_eq!(proxy.unread.bytes(), before - 10_000);
        drop((flowed, session.close(), other.close(), calls, of_other));
        assert_eq!(proxy.unread.bytes(), 0);
    }
}
