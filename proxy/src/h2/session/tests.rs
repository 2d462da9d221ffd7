//! What a session lets out, and when.

use std::sync::Arc;
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use http::Request;
use proptest::prelude::*;

use super::*;
use crate::calls::Kind;
use crate::config::{MembersFrom, ProxyConfig};
use crate::h2::frame::{Event, Frames};
use crate::proxy::Proxy;

fn proxy() -> Arc<Proxy> {
    let config = ProxyConfig::new(MembersFrom::Clients(vec![]));
    Arc::new(Proxy::new(config, vec![]))
}

fn session(end: End) -> Arc<Session> {
    Arc::new(Session::new(end, [1000, 4000], Bytes::new()))
}

/// A stream that a client has begun, and that nobody answers.
fn accept(session: &Arc<Session>, stream: u32, heard_all: bool) {
    let (parts, ()) = Request::new(()).into_parts();
    let client = ([127, 0, 0, 1], 1).into();
    let other = Other::new(&proxy(), session, stream, client, (parts, 0)).unwrap();
    session.accept(stream, Owner::Other(other), heard_all);
}

fn begin(session: &Arc<Session>, body: &[u8], whole: bool) -> Result<(u32, usize), NoStream> {
    begin_of(&self::session(End::Server), session, body, whole)
}

/// A call of a certain client.
fn begin_of(
    client: &Arc<Session>,
    session: &Arc<Session>,
    body: &[u8],
    whole: bool,
) -> Result<(u32, usize), NoStream> {
    let asked = super::super::call::Asked {
        fields: Bytes::from_static(b"fields"),
        kind: Kind::of("/etcdserverpb.KV/Range"),
        patience: None,
    };
    let call = Call::new(&proxy(), client, 1, asked);
    session.begin(&call, b"fields", body, whole)
}

/// What has been sent since, in words; data as how much it is.
fn sent(session: &Session) -> Vec<String> {
    let mut told = vec![];
    let mut frames = Frames::default();
    loop {
        let mut buffer = BytesMut::new();
        session.take(&mut buffer, Waker::noop());
        if buffer.is_empty() {
            return told;
        }
        let heard = frames.take(&buffer, |event| {
            told.push(match event {
                Event::Headers { stream, end, .. } => format!("fields {stream}{}", mark(end)),
                Event::Data {
                    stream, end, data, ..
                } => {
                    format!("data {stream} {}{}", data.len(), mark(end))
                }
                Event::Window { stream, by } => format!("window {stream} {by}"),
                Event::Reset { stream, code } => format!("reset {stream} {}", code.0),
                Event::SettingsAck => "ack".to_owned(),
                other => format!("{other:?}"),
            });
            Ok(())
        });
        heard.unwrap();
    }
}

fn mark(end: bool) -> &'static str {
    if end { "." } else { "" }
}

fn settings(session: &Session, number: u16, value: u32) -> Result<usize, Fault> {
    let mut bytes = BytesMut::new();
    frame::put_settings(&mut bytes, &[(number, value)]);
    let mut flowed = Ok(0);
    let taken = Frames::default().take(&bytes, |event| {
        if let Event::Settings(settings) = event {
            flowed = session.settings(&settings).map(amount);
        }
        Ok(())
    });
    taken.and(flowed)
}

fn amount(flowed: Flowed) -> usize {
    flowed.iter().map(|(_, bytes)| bytes).sum()
}

#[test]
fn an_answer_ends_the_stream() {
    let session = session(End::Server);
    accept(&session, 1, true);
    session.fields(1, b"head", false);
    assert_eq!(session.data(1, b"data", false), 4);
    session.fields(1, b"trailers", true);
    assert_eq!(sent(&session), ["fields 1", "data 1 4", "fields 1."]);
    assert_eq!(session.streams(), 0);
    // What comes too late is nobody's.
    assert_eq!(session.data(1, b"data", false), 4);
    session.fields(1, b"trailers", true);
    assert!(sent(&session).is_empty());
}

#[test]
fn an_answer_before_the_end_of_the_request_says_that_the_rest_is_not_wanted() {
    let session = session(End::Server);
    accept(&session, 1, false);
    session.fields(1, b"head", true);
    assert_eq!(sent(&session), ["fields 1.", "reset 1 0"]);
    let member = self::session(End::Client);
    let (stream, gone) = begin(&member, b"first", false).unwrap();
    assert_eq!((stream, gone), (1, 5));
    member.answered(stream);
    assert_eq!(sent(&member), ["fields 1", "data 1 5", "reset 1 8"]);
}

#[test]
fn no_more_is_sent_than_the_windows_hold_and_trailers_come_last() {
    let session = session(End::Server);
    settings(&session, setting::INITIAL_WINDOW, 10).unwrap();
    accept(&session, 1, true);
    assert_eq!(session.data(1, &[0; 25], false), 10);
    session.fields(1, b"trailers", true);
    assert_eq!(sent(&session), ["ack", "data 1 10"]);
    assert!(!session.is_clear(1));
    assert_eq!(amount(session.grown(1, 5).unwrap()), 5);
    assert_eq!(amount(session.grown(0, 5).unwrap()), 0);
    assert_eq!(settings(&session, setting::INITIAL_WINDOW, 15).unwrap(), 5);
    assert_eq!(sent(&session), ["data 1 5", "ack", "data 1 5"]);
    assert_eq!(amount(session.grown(1, 100).unwrap()), 5);
    assert_eq!(sent(&session), ["data 1 5", "fields 1."]);
}

#[test]
fn a_window_that_shrinks_below_nothing_must_grow_first() {
    let session = session(End::Server);
    accept(&session, 1, true);
    assert_eq!(session.data(1, &[0; 100], false), 100);
    settings(&session, setting::INITIAL_WINDOW, 50).unwrap();
    assert_eq!(session.data(1, &[0; 65_500], true), 0);
    sent(&session);
    assert_eq!(amount(session.grown(1, 50).unwrap()), 0);
    assert_eq!(amount(session.grown(1, 7).unwrap()), 7);
}

#[test]
fn an_initial_window_may_grow_as_far_as_the_largest_stream_lets_it() {
    let session = session(End::Server);
    accept(&session, 1, true);
    let most = WINDOW_MAX as u32 - 65_535;
    assert!(session.grown(1, most).is_ok());
    let too_large = settings(&session, setting::INITIAL_WINDOW, 65_536);
    assert_eq!(too_large.unwrap_err().code, Code::FLOW_CONTROL_ERROR);
    // A stream that has ended does not count.
    let session = self::session(End::Server);
    accept(&session, 1, true);
    session.grown(1, most).unwrap();
    session.was_reset(1);
    settings(&session, setting::INITIAL_WINDOW, 1 << 30).unwrap();
}

/// However many streams there are: only those are looked at whose data waits for their windows.
#[test]
fn settings_cost_no_walk_over_the_streams_that_wait_for_nothing() {
    let session = session(End::Server);
    let proxy = proxy();
    for n in 0..20_000 {
        let (parts, ()) = Request::new(()).into_parts();
        let client = ([127, 0, 0, 1], 1).into();
        let stream = 2 * n + 1;
        let Some(other) = Other::new(&proxy, &session, stream, client, (parts, 0)) else {
            break;
        };
        session.accept(stream, Owner::Other(other), true);
    }
    settings(&session, setting::INITIAL_WINDOW, 0).unwrap();
    assert_eq!(session.data(1, b"data", true), 0);
    for n in 0..100_000 {
        settings(&session, setting::INITIAL_WINDOW, n % 2).unwrap();
        if n % 1000 == 0 {
            sent(&session);
        }
    }
    settings(&session, setting::INITIAL_WINDOW, 4).unwrap();
    assert!(session.is_clear(1));
}

#[test]
fn the_connections_window_is_shared_fairly() {
    let session = session(End::Server);
    settings(&session, setting::INITIAL_WINDOW, 1 << 20).unwrap();
    for stream in [1, 3, 5] {
        accept(&session, stream, true);
    }
    assert!(session.data(1, &[0; 70_000], true) <= 65_535);
    assert_eq!(session.data(3, &[0; 20_000], true), 0);
    assert_eq!(session.data(5, &[0; 20_000], true), 0);
    sent(&session);
    assert_eq!(amount(session.grown(0, 4465).unwrap()), 4465);
    assert_eq!(amount(session.grown(0, 20_000).unwrap()), 20_000);
    assert_eq!(amount(session.grown(0, 20_000).unwrap()), 20_000);
    let told = sent(&session);
    let streams: Vec<_> = told.iter().map(|one| &one[..6]).collect();
    // Each in its turn: 20,000 bytes do not go to one alone.
    assert!(
        streams
            .windows(3)
            .any(|three| three[0] != three[1] || three[1] != three[2])
    );
    assert_eq!(told.iter().filter(|one| one.ends_with('.')).count(), 3);
}

#[test]
fn a_reader_that_does_not_read_holds_little() {
    let session = session(End::Server);
    settings(&session, setting::INITIAL_WINDOW, WINDOW_MAX as u32).unwrap();
    session.grown(0, 1 << 30).unwrap();
    accept(&session, 1, true);
    let gone = session.data(1, &[0; 1 << 20], false);
    assert!(gone <= UNSENT_BYTES_MAX, "{gone}");
    assert!(!session.has_room());
    let all: usize = std::iter::from_fn(|| {
        let mut buffer = BytesMut::new();
        let flowed = amount(session.take(&mut buffer, Waker::noop()));
        (!buffer.is_empty()).then_some(flowed)
    })
    .sum();
    assert_eq!(gone + all, 1 << 20);
    assert!(session.has_room());
}

#[test]
fn what_has_gone_on_is_let_in_again() {
    let session = session(End::Server);
    accept(&session, 1, false);
    for (bytes, expected) in [(400, vec![]), (100, vec!["window 1 500"])] {
        session.received(1, bytes, false).unwrap();
        session.consumed(1, bytes as usize);
        assert_eq!(sent(&session), expected);
    }
    session.received(1, 1000, false).unwrap();
    let more = session.received(1, 1, false).err().unwrap();
    assert_eq!(more.code, Code::FLOW_CONTROL_ERROR);
    // Never more than has come.
    session.consumed(1, 1_000_000);
    assert_eq!(sent(&session), ["window 1 1000"]);
    session.break_off(1, Code::CANCEL);
    // What was nobody's, and what a stream held, counts for the connection.
    session.received(1, 500, false).unwrap();
    assert_eq!(sent(&session), ["reset 1 8", "window 0 2000"]);
}

#[test]
fn nothing_is_heard_after_the_end() {
    let session = session(End::Server);
    accept(&session, 1, false);
    session.received(1, 1, true).unwrap();
    let late = session.received(1, 1, false).err().unwrap();
    assert_eq!(late.code, Code::STREAM_CLOSED);
    let member = self::session(End::Client);
    let (stream, _) = begin(&member, b"", true).unwrap();
    let early = member.received(stream, 1, false).err().unwrap();
    assert_eq!(early.code, Code::PROTOCOL_ERROR);
}

#[test]
fn windows_have_an_end() {
    let session = session(End::Server);
    accept(&session, 1, true);
    for stream in [0, 1] {
        let too_large = session.grown(stream, WINDOW_MAX as u32).err().unwrap();
        assert_eq!(too_large.code, Code::FLOW_CONTROL_ERROR);
    }
    let too_large = settings(&session, setting::INITIAL_WINDOW, 1 << 31);
    assert_eq!(too_large.unwrap_err().code, Code::FLOW_CONTROL_ERROR);
    let too_small = settings(&session, setting::FRAME_BYTES_MAX, 16_383);
    assert_eq!(too_small.unwrap_err().code, Code::PROTOCOL_ERROR);
}

#[test]
fn a_member_that_takes_no_more_gets_no_more() {
    let member = session(End::Client);
    settings(&member, setting::CONCURRENT_STREAMS_MAX, 2).unwrap();
    begin(&member, b"", true).unwrap();
    let (second, _) = begin(&member, b"", true).unwrap();
    assert_eq!(begin(&member, b"", true), Err(NoStream::Full));
    member.answered(second);
    begin(&member, b"", true).unwrap();
    member.close_gently();
    assert_eq!(begin(&member, b"", true), Err(NoStream::Closed));
    assert!(!member.is_over());
}

#[test]
fn who_has_no_room_for_a_table_is_told_that_there_is_none() {
    let session = session(End::Server);
    settings(&session, setting::TABLE_BYTES, 100).unwrap();
    accept(&session, 1, true);
    session.fields(1, b"head", false);
    session.fields(1, b"trailers", true);
    let mut buffer = BytesMut::new();
    session.take(&mut buffer, Waker::noop());
    let mut blocks = vec![];
    let taken = Frames::default().take(&buffer, |event| {
        if let Event::Headers { block, .. } = event {
            blocks.push(block.to_vec());
        }
        Ok(())
    });
    taken.unwrap();
    assert_eq!(blocks, [&b"\x20head"[..], b"trailers"]);
}

/// However old the calls are: under load they are old before the member has looked at them.
#[tokio::test(start_paused = true)]
async fn a_member_gets_no_more_resets_than_it_has_read() {
    let member = session(End::Client);
    settings(&member, setting::TABLE_BYTES, 4096).unwrap();
    member.acknowledged();
    let mut begun = vec![];
    for _ in 0..2500 {
        begun.push(begin(&member, b"", true).unwrap().0);
    }
    sent(&member);
    tokio::time::advance(std::time::Duration::from_secs(5)).await;
    for stream in &begun {
        member.reset(*stream, Code::CANCEL);
    }
    let mut resets = vec![];
    let mut most = 0;
    for _ in 0..10 {
        let told = sent(&member);
        resets.extend(told.iter().filter(|one| one.starts_with("reset")).cloned());
        let asks = told.iter().filter(|one| one.starts_with("Settings"));
        most = most.max(resets.len());
        if asks.count() == 0 {
            break;
        }
        assert!(resets.len() <= 2500);
        member.acknowledged();
    }
    // All of them in the end.
    resets.sort();
    resets.dedup();
    assert_eq!(resets.len(), 2500);
    // And the first ones without a word from the member.
    assert!(1000 <= most);
}

#[test]
fn resets_wait_until_the_member_has_read_those_before() {
    let member = session(End::Client);
    settings(&member, setting::TABLE_BYTES, 4096).unwrap();
    member.acknowledged();
    for _ in 0..5000 {
        let (stream, _) = begin(&member, b"", true).unwrap();
        member.reset(stream, Code::CANCEL);
        // What is not known to be read is never more than a quarter of what ends the connection.
    }
    let count = |told: &[String]| told.iter().filter(|one| one.starts_with("reset")).count();
    assert_eq!(count(&sent(&member)), 1000);
    assert!(sent(&member).is_empty());
    member.acknowledged();
    assert_eq!(count(&sent(&member)), 500);
}

/// What hyper's h2 has charged at most, if no handler ever reads.
fn charged(charged: &mut usize, told: &[String]) -> usize {
    for one in told {
        let words: Vec<_> = one.split(' ').collect();
        if let ["data", _, bytes] = words[..]
            && let Ok(bytes) = bytes.parse::<usize>()
        {
            *charged += 256_usize.saturating_sub(bytes);
            *charged = charged.saturating_sub(bytes.saturating_sub(256));
        }
    }
    *charged
}

#[test]
fn pieces_of_a_call_are_joined_before_they_go_to_a_member() {
    let member = session(End::Client);
    let (first, _) = begin(&member, b"", false).unwrap();
    let (second, _) = begin(&member, b"", false).unwrap();
    for _ in 0..50 {
        assert_eq!(member.data(first, b"x", false), 1);
    }
    member.data(second, b"y", false);
    member.data(first, b"x", false);
    member.data(first, b"z", true);
    let expected = ["fields 1", "fields 3", "data 1 50", "data 3 1", "data 1 2."];
    assert_eq!(sent(&member), expected);
    // Written is written.
    member.data(second, b"y", false);
    assert_eq!(sent(&member), ["data 3 1"]);
    member.data(second, b"y", true);
    assert_eq!(sent(&member), ["data 3 1."]);
}

#[test]
fn one_byte_at_a_time_costs_a_members_connection_little() {
    let member = session(End::Client);
    let mut spent = 0;
    let (watch, _) = begin(&member, b"", false).unwrap();
    for _ in 0..5000 {
        member.data(watch, b"x", false);
        assert!(charged(&mut spent, &sent(&member)) <= 16 * 1024 + 256);
    }
    // It goes on as soon as the member answers.
    member.data(watch, b"message", false);
    member.answers(watch).unwrap();
    assert_eq!(sent(&member).len(), 1);
    member.data(watch, b"message", false);
    assert_eq!(sent(&member), ["data 1 7"]);
    // And ends in any case.
    for _ in 0..100 {
        member.data(watch, b"x", false);
        sent(&member);
    }
    member.data(watch, b"", true);
    let told = sent(&member);
    assert!(
        told.last().is_some_and(|one| one.ends_with('.')),
        "{told:?}"
    );
}

#[test]
fn a_connection_whose_small_frames_may_have_cost_much_is_left() {
    let member = session(End::Client);
    let mut spent = 0;
    let mut begun = 0;
    while member.has_place() {
        let (stream, _) = begin(&member, b"", false).unwrap();
        for _ in 0..15 {
            member.data(stream, b"x", false);
            charged(&mut spent, &sent(&member));
        }
        member.was_reset(stream);
        begun += 1;
        assert!(begun < 1000, "it is never tired");
    }
    assert!(spent <= 192 * 1024, "{spent}");
    assert_eq!(begin(&member, b"", true), Err(NoStream::Full));
    assert!(member.retire());
    assert_eq!(begin(&member, b"", true), Err(NoStream::Closed));
}

/// A client that keeps many calls open with one-byte frames, and another one whose lease lives on.
#[test]
fn one_clients_small_frames_do_not_hold_those_of_others() {
    let member = session(End::Client);
    let (greedy, other) = (session(End::Server), session(End::Server));
    let streams: Vec<_> = (0..40)
        .map(|_| begin_of(&greedy, &member, b"", false).unwrap().0)
        .collect();
    let (lease, _) = begin_of(&other, &member, b"", false).unwrap();
    let mut spent = 0;
    for _ in 0..64 {
        for stream in &streams {
            member.data(*stream, b"x", false);
            charged(&mut spent, &sent(&member));
        }
    }
    for _ in 0..100 {
        member.data(lease, b"keep alive", false);
        let told = sent(&member);
        assert_eq!(told, [format!("data {lease} 10")]);
        member.answers(lease).unwrap();
    }
    assert!(spent < 64 * 1024, "{spent}");
    // Its next calls go by a connection of its own.
    assert!(greedy.share.lane().is_some());
    assert!(other.share.lane().is_none());
}

/// However many clients take all that they may: there is room for the first frame of one more.
#[test]
fn many_clients_that_take_all_leave_room_for_another() {
    let member = session(End::Client);
    let clients: Vec<_> = (0..100).map(|_| session(End::Server)).collect();
    let mut streams = vec![];
    for client in &clients {
        for _ in 0..4 {
            streams.push(begin_of(client, &member, b"", false).unwrap().0);
        }
    }
    let other = session(End::Server);
    let (lease, _) = begin_of(&other, &member, b"", false).unwrap();
    let mut spent = 0;
    for _ in 0..64 {
        for stream in &streams {
            member.data(*stream, b"x", false);
            charged(&mut spent, &sent(&member));
        }
    }
    assert!(spent <= 448 * 1024, "{spent}");
    for _ in 0..10 {
        member.data(lease, b"keep alive", false);
        assert_eq!(sent(&member), [format!("data {lease} 10")]);
        member.answers(lease).unwrap();
    }
}

/// What waited because of others goes without another word from its own client or the member.
#[test]
fn small_pieces_go_once_those_of_other_streams_are_answered() {
    let member = session(End::Client);
    let (client, other) = (session(End::Server), session(End::Server));
    let streams: Vec<_> = (0..30)
        .map(|_| begin_of(&client, &member, b"", false).unwrap().0)
        .collect();
    begin_of(&other, &member, b"", false).unwrap();
    for _ in 0..60 {
        for stream in &streams {
            member.data(*stream, b"x", false);
            sent(&member);
        }
    }
    let held = |member: &Session| streams.iter().filter(|one| !member.is_clear(**one)).count();
    let before = held(&member);
    assert!(20 < before, "{before}");
    for stream in &streams[..5] {
        member.answers(*stream).unwrap();
    }
    assert!(!sent(&member).is_empty());
    assert_eq!(held(&member), 0);
}

#[test]
fn the_end_of_a_call_is_sent_whatever_its_last_pieces_are() {
    let member = session(End::Client);
    let (stream, _) = begin(&member, b"", false).unwrap();
    for _ in 0..100 {
        member.data(stream, b"x", false);
        sent(&member);
    }
    assert!(!member.is_clear(stream));
    // Too much to be joined to what waits.
    member.data(stream, &[0; 4090], false);
    let told = sent(&member);
    assert!(member.is_clear(stream), "{told:?}");
    for _ in 0..10 {
        member.data(stream, b"x", false);
    }
    member.data(stream, &[0; 4090], true);
    let told = sent(&member);
    assert!(
        told.last().is_some_and(|last| last.ends_with('.')),
        "{told:?}"
    );
}

#[test]
fn what_the_kernel_never_got_was_never_sent() {
    let member = session(End::Client);
    begin(&member, b"one", true).unwrap();
    let mut buffer = BytesMut::new();
    member.take(&mut buffer, Waker::noop());
    begin(&member, b"two", true).unwrap();
    // One byte of the first call: nobody knows what comes of it.
    member.wrote(1);
    let mut unsent: Vec<_> = member
        .close()
        .into_iter()
        .map(|(_, unsent)| unsent)
        .collect();
    unsent.sort_unstable();
    assert_eq!(unsent, [false, true]);
    assert_eq!(begin(&member, b"", true), Err(NoStream::Closed));
}

#[test]
fn streams_that_were_not_looked_at_come_back() {
    let member = session(End::Client);
    for _ in 0..3 {
        begin(&member, b"", true).unwrap();
    }
    assert_eq!(member.went_away(1).len(), 2);
    assert!(member.awaits());
    assert!(member.answers(1).is_some());
    assert!(!member.awaits());
    assert!(!member.is_open());
}

/// Something that happens to a session.
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
    /// However the pieces come: all goes, in frames whose cost is bounded.
    #[test]
    fn pieces_lose_nothing_and_cost_little(
        steps in proptest::collection::vec(
            (0..6_usize, 0..400_usize, any::<bool>(), any::<bool>()), 1..300,
        )
    ) {
        let member = session(End::Client);
        let mut spent = 0;
        let mut streams = vec![];
        let clients = [session(End::Server), session(End::Server)];
        for n in 0..6 {
            let (stream, _) = begin_of(&clients[n % 2], &member, b"", false).unwrap();
            streams.push((stream, 0, false));
        }
        let mut told = vec![];
        for (place, bytes, takes, answers) in steps {
            let (stream, given, _) = &mut streams[place];
            member.data(*stream, &vec![1; bytes], false);
            *given += bytes;
            if answers && bytes < 20 {
                member.answers(*stream);
                spent = 0;
            }
            if takes {
                let more = sent(&member);
                prop_assert!(charged(&mut spent, &more) <= 400 * 1024);
                told.extend(more);
            }
        }
        // Once all that came is answered, nothing waits for anything.
        for (stream, ..) in &streams {
            member.answers(*stream);
        }
        told.extend(sent(&member));
        for (stream, given, _) in &streams {
            prop_assert!(member.is_clear(*stream));
            member.data(*stream, b"", true);
            told.extend(sent(&member));
            let prefix = format!("data {stream} ");
            let of: Vec<_> = told.iter().filter_map(|one| one.strip_prefix(&prefix)).collect();
            let all: usize = of.iter().map(|one| one.trim_end_matches('.').parse().unwrap_or(0)).sum();
            prop_assert_eq!(all, *given);
            prop_assert!(of.last().unwrap().ends_with('.'));
        }
    }

    /// Whatever happens: the other end's windows are kept, and what is counted as gone has gone.
    #[test]
    fn windows_are_kept(steps in proptest::collection::vec(step(), 1..60)) {
        let session = session(End::Server);
        let mut whole = 65_535_i64;
        let mut initial = 65_535_i64;
        let mut windows = std::collections::BTreeMap::new();
        for stream in [1_u32, 3, 5, 7] {
            accept(&session, stream, true);
            windows.insert(stream, 65_535_i64);
        }
        let mut frames = Frames::default();
        for step in steps {
            match step {
                Step::Data(stream, length, last) => {
                    session.data(stream, &vec![0; length], last);
                }
                Step::Trailers(stream) => session.fields(stream, b"x", true),
                Step::Grown(0, by) => {
                    whole += i64::from(by);
                    session.grown(0, by).unwrap();
                }
                Step::Grown(stream, by) => {
                    *windows.entry(stream).or_default() += i64::from(by);
                    session.grown(stream, by).unwrap();
                }
                Step::Window(to) => {
                    windows.values_mut().for_each(|one| *one += i64::from(to) - initial);
                    initial = i64::from(to);
                    settings(&session, setting::INITIAL_WINDOW, to).unwrap();
                }
                Step::Reset(stream) => drop(session.was_reset(stream)),
                Step::Take => {
                    let mut buffer = BytesMut::new();
                    session.take(&mut buffer, Waker::noop());
                    frames.take(&buffer, |event| {
                        if let Event::Data { stream, flow, .. } = event {
                            whole -= i64::from(flow);
                            *windows.entry(stream).or_default() -= i64::from(flow);
                        }
                        Ok(())
                    }).unwrap();
                    prop_assert!(0 <= whole);
                }
            }
        }
    }
}
