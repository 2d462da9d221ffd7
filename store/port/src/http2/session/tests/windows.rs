//! Flow control in both directions.

use proptest::prelude::*;

use super::*;

#[test]
fn no_more_is_sent_than_the_windows_hold_and_trailers_come_last() {
    let session = session(Role::Server);
    settings(&session, setting::INITIAL_WINDOW_SIZE, 10).unwrap();
    accept(&session, 1, true);
    assert_eq!(session.data(1, &[0; 25], false), 10);
    session.fields(1, b"trailers", true);
    assert_eq!(sent(&session), ["ack", "data 1 10"]);
    assert!(!session.is_clear(1));
    assert_eq!(amount(session.recv_window_update(1, 5).unwrap()), 5);
    assert_eq!(amount(session.recv_window_update(0, 5).unwrap()), 0);
    assert_eq!(
        settings(&session, setting::INITIAL_WINDOW_SIZE, 15).unwrap(),
        5
    );
    assert_eq!(sent(&session), ["data 1 5", "ack", "data 1 5"]);
    assert_eq!(amount(session.recv_window_update(1, 100).unwrap()), 5);
    assert_eq!(sent(&session), ["data 1 5", "fields 1."]);
}

#[test]
fn a_window_that_shrinks_below_nothing_must_grow_first() {
    let session = session(Role::Server);
    accept(&session, 1, true);
    assert_eq!(session.data(1, &[0; 100], false), 100);
    settings(&session, setting::INITIAL_WINDOW_SIZE, 50).unwrap();
    assert_eq!(session.data(1, &[0; 65_500], true), 0);
    sent(&session);
    assert_eq!(amount(session.recv_window_update(1, 50).unwrap()), 0);
    assert_eq!(amount(session.recv_window_update(1, 7).unwrap()), 7);
}

#[test]
fn an_initial_window_may_grow_as_far_as_the_largest_stream_lets_it() {
    let session = session(Role::Server);
    accept(&session, 1, true);
    let most = MAX_WINDOW as u32 - 65_535;
    assert!(session.recv_window_update(1, most).is_ok());
    let too_large = settings(&session, setting::INITIAL_WINDOW_SIZE, 65_536);
    assert_eq!(too_large.unwrap_err().code, ErrorCode::FLOW_CONTROL_ERROR);
    // A stream that has ended does not count.
    let session = self::session(Role::Server);
    accept(&session, 1, true);
    session.recv_window_update(1, most).unwrap();
    session.recv_reset(1);
    settings(&session, setting::INITIAL_WINDOW_SIZE, 1 << 30).unwrap();
}

/// With any number of streams, only those with waiting data are visited.
#[test]
fn settings_cost_no_walk_over_the_streams_that_wait_for_nothing() {
    let session = session(Role::Server);
    for n in 0..20_000 {
        accept(&session, 2 * n + 1, true);
    }
    settings(&session, setting::INITIAL_WINDOW_SIZE, 0).unwrap();
    assert_eq!(session.data(1, b"data", true), 0);
    for n in 0..100_000 {
        settings(&session, setting::INITIAL_WINDOW_SIZE, n % 2).unwrap();
        if n % 1000 == 0 {
            sent(&session);
        }
    }
    settings(&session, setting::INITIAL_WINDOW_SIZE, 4).unwrap();
    assert!(session.is_clear(1));
}

#[test]
fn the_connections_window_is_shared_fairly() {
    let session = session(Role::Server);
    settings(&session, setting::INITIAL_WINDOW_SIZE, 1 << 20).unwrap();
    for stream in [1, 3, 5] {
        accept(&session, stream, true);
    }
    assert!(session.data(1, &[0; 70_000], true) <= 65_535);
    assert_eq!(session.data(3, &[0; 20_000], true), 0);
    assert_eq!(session.data(5, &[0; 20_000], true), 0);
    sent(&session);
    assert_eq!(amount(session.recv_window_update(0, 4465).unwrap()), 4465);
    assert_eq!(
        amount(session.recv_window_update(0, 20_000).unwrap()),
        20_000
    );
    assert_eq!(
        amount(session.recv_window_update(0, 20_000).unwrap()),
        20_000
    );
    let frames_sent = sent(&session);
    let streams: Vec<_> = frames_sent.iter().map(|one| &one[..6]).collect();
    // Each in its turn: 20,000 bytes do not go to one alone.
    assert!(
        streams
            .windows(3)
            .any(|three| three[0] != three[1] || three[1] != three[2])
    );
    assert_eq!(
        frames_sent.iter().filter(|one| one.ends_with('.')).count(),
        3
    );
}

#[test]
fn a_reader_that_does_not_read_holds_little() {
    let session = session(Role::Server);
    settings(&session, setting::INITIAL_WINDOW_SIZE, MAX_WINDOW as u32).unwrap();
    session.recv_window_update(0, 1 << 30).unwrap();
    accept(&session, 1, true);
    let gone = session.data(1, &[0; 1 << 20], false);
    assert!(gone <= OUT_BYTES_HIGH, "{gone}");
    assert!(!session.has_room());
    let all: usize = std::iter::from_fn(|| {
        let mut buffer = BytesMut::new();
        let released = amount(session.take(&mut buffer, Waker::noop()));
        (!buffer.is_empty()).then_some(released)
    })
    .sum();
    assert_eq!(gone + all, 1 << 20);
    assert!(session.has_room());
}

#[test]
fn what_has_gone_on_is_let_in_again() {
    let session = session(Role::Server);
    accept(&session, 1, false);
    for (bytes, expected) in [(400, vec![]), (100, vec!["window 1 500"])] {
        session.recv_data(1, bytes, false).unwrap();
        session.release_capacity(1, bytes as usize);
        assert_eq!(sent(&session), expected);
    }
    session.recv_data(1, 1000, false).unwrap();
    let more = session.recv_data(1, 1, false).err().unwrap();
    assert_eq!(more.code, ErrorCode::FLOW_CONTROL_ERROR);
    // Never more than was received.
    session.release_capacity(1, 1_000_000);
    assert_eq!(sent(&session), ["window 1 1000"]);
    session.reset_with_error(1, ErrorCode::CANCEL);
    // Data without a stream, and unreleased data of a stream, count for the connection.
    session.recv_data(1, 500, false).unwrap();
    assert_eq!(sent(&session), ["reset 1 8", "window 0 2000"]);
}

#[test]
fn windows_have_an_end() {
    let session = session(Role::Server);
    accept(&session, 1, true);
    for stream in [0, 1] {
        let too_large = session
            .recv_window_update(stream, MAX_WINDOW as u32)
            .err()
            .unwrap();
        assert_eq!(too_large.code, ErrorCode::FLOW_CONTROL_ERROR);
    }
    let too_large = settings(&session, setting::INITIAL_WINDOW_SIZE, 1 << 31);
    assert_eq!(too_large.unwrap_err().code, ErrorCode::FLOW_CONTROL_ERROR);
    let too_small = settings(&session, setting::MAX_FRAME_SIZE, 16_383);
    assert_eq!(too_small.unwrap_err().code, ErrorCode::PROTOCOL_ERROR);
}

/// An event of a session.
#[derive(Clone, Debug)]
enum Step {
    Data(u32, usize, bool),
    Trailers(u32),
    Grown(u32, u32),
    Window(u32),
    Take,
    Reset(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let stream = || (0..4_u32).prop_map(|n| n * 2 + 1);
    prop_oneof![
        4 => (stream(), 0..40_000_usize, any::<bool>()).prop_map(|(s, n, l)| Step::Data(s, n, l)),
        1 => stream().prop_map(Step::Trailers),
        3 => (0..5_u32, 1..50_000_u32).prop_map(|(s, n)| Step::Grown(s * 2 % 9, n)),
        1 => (0..100_000_u32).prop_map(Step::Window),
        3 => Just(Step::Take),
        1 => stream().prop_map(Step::Reset),
    ]
}

proptest! {
    /// With any events, the peer's windows are respected, and data counted as sent was sent.
    #[test]
    fn windows_are_kept(steps in proptest::collection::vec(step(), 1..60)) {
        let session = session(Role::Server);
        let mut whole = 65_535_i64;
        let mut initial = 65_535_i64;
        let mut windows = std::collections::BTreeMap::new();
        for stream in [1_u32, 3, 5, 7] {
            accept(&session, stream, true);
            windows.insert(stream, 65_535_i64);
        }
        let mut frames = FrameReader::default();
        for step in steps {
            match step {
                Step::Data(stream, length, last) => {
                    session.data(stream, &vec![0; length], last);
                }
                Step::Trailers(stream) => session.fields(stream, b"x", true),
                Step::Grown(0, by) => {
                    whole += i64::from(by);
                    session.recv_window_update(0, by).unwrap();
                }
                Step::Grown(stream, by) => {
                    *windows.entry(stream).or_default() += i64::from(by);
                    session.recv_window_update(stream, by).unwrap();
                }
                Step::Window(to) => {
                    windows.values_mut().for_each(|one| *one += i64::from(to) - initial);
                    initial = i64::from(to);
                    settings(&session, setting::INITIAL_WINDOW_SIZE, to).unwrap();
                }
                Step::Reset(stream) => drop(session.recv_reset(stream)),
                Step::Take => {
                    let mut buffer = BytesMut::new();
                    session.take(&mut buffer, Waker::noop());
                    frames.read(&buffer, |event| {
                        if let Frame::Data { stream, flow_controlled_len, .. } = event {
                            whole -= i64::from(flow_controlled_len);
                            *windows.entry(stream).or_default() -= i64::from(flow_controlled_len);
                        }
                        Ok(())
                    }).unwrap();
                    prop_assert!(0 <= whole);
                }
            }
        }
    }
}
