//! Small frames and the accounts of their clients.

use proptest::prelude::*;

use super::*;

/// What hyper's h2 has charged at most, if no handler ever reads.
fn charged(charged: &mut usize, frames: &[String]) -> usize {
    for one in frames {
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
    let member = session(Role::Client);
    let (first, _) = open(&member, b"", false).unwrap();
    let (second, _) = open(&member, b"", false).unwrap();
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
    let member = session(Role::Client);
    let mut spent = 0;
    let (watch, _) = open(&member, b"", false).unwrap();
    for _ in 0..5000 {
        member.data(watch, b"x", false);
        assert!(charged(&mut spent, &sent(&member)) <= 16 * 1024 + 256);
    }
    // It goes on as soon as the member answers.
    member.data(watch, b"message", false);
    member.recv_headers(watch).unwrap();
    assert_eq!(sent(&member).len(), 1);
    member.data(watch, b"message", false);
    assert_eq!(sent(&member), ["data 1 7"]);
    // And ends in any case.
    for _ in 0..100 {
        member.data(watch, b"x", false);
        sent(&member);
    }
    member.data(watch, b"", true);
    let frames = sent(&member);
    assert!(
        frames.last().is_some_and(|one| one.ends_with('.')),
        "{frames:?}"
    );
}

#[test]
fn a_connection_whose_small_frames_may_have_cost_much_is_left() {
    let member = session(Role::Client);
    let mut spent = 0;
    let mut begun = 0;
    while member.has_free_stream() {
        let (stream, _) = open(&member, b"", false).unwrap();
        for _ in 0..15 {
            member.data(stream, b"x", false);
            charged(&mut spent, &sent(&member));
        }
        member.recv_reset(stream);
        begun += 1;
        assert!(begun < 1000, "it is never tired");
    }
    assert!(spent <= 192 * 1024, "{spent}");
    assert_eq!(open(&member, b"", true), Err(NoStream::Full));
    assert!(member.retire());
    assert_eq!(open(&member, b"", true), Err(NoStream::Closed));
}

/// A client's calls, which stay open.
fn calls_of(client: &Account, member: &Session<Account>, count: usize) -> Vec<u32> {
    let calls = (0..count).map(|_| open_of(client, member, b"", false));
    calls.map(|begun| begun.unwrap().0).collect()
}

/// A client that keeps many calls open with one-byte frames, and another one whose lease lives on.
#[test]
fn one_clients_small_frames_do_not_hold_those_of_others() {
    let member = session(Role::Client);
    let (greedy, other) = (Account::default(), Account::default());
    let streams = calls_of(&greedy, &member, 40);
    let (lease, _) = open_of(&other, &member, b"", false).unwrap();
    let mut spent = 0;
    for _ in 0..64 {
        for stream in &streams {
            member.data(*stream, b"x", false);
            charged(&mut spent, &sent(&member));
        }
    }
    for _ in 0..100 {
        member.data(lease, b"keep alive", false);
        let frames = sent(&member);
        assert_eq!(frames, [format!("data {lease} 10")]);
        member.recv_headers(lease).unwrap();
    }
    assert!(spent < 64 * 1024, "{spent}");
    assert!(greedy.used_much());
    assert!(!other.used_much());
}

/// With any number of clients that use their whole part, the first frame of one more fits.
#[test]
fn many_clients_that_take_all_leave_room_for_another() {
    let member = session(Role::Client);
    let clients: Vec<_> = (0..100).map(|_| Account::default()).collect();
    let mut streams = vec![];
    for client in &clients {
        for _ in 0..4 {
            streams.push(open_of(client, &member, b"", false).unwrap().0);
        }
    }
    let other = Account::default();
    let (lease, _) = open_of(&other, &member, b"", false).unwrap();
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
        member.recv_headers(lease).unwrap();
    }
}

/// Data that waited because of other clients is sent without an event of its own client or the
/// member.
#[test]
fn small_pieces_go_once_those_of_other_streams_are_answered() {
    let member = session(Role::Client);
    let (client, other) = (Account::default(), Account::default());
    let streams = calls_of(&client, &member, 30);
    open_of(&other, &member, b"", false).unwrap();
    for _ in 0..60 {
        for stream in &streams {
            member.data(*stream, b"x", false);
            sent(&member);
        }
    }
    let held =
        |member: &Session<Account>| streams.iter().filter(|one| !member.is_clear(**one)).count();
    let before = held(&member);
    assert!(20 < before, "{before}");
    for stream in &streams[..5] {
        member.recv_headers(*stream).unwrap();
    }
    assert!(!sent(&member).is_empty());
    assert_eq!(held(&member), 0);
}

#[test]
fn the_end_of_a_call_is_sent_whatever_its_last_pieces_are() {
    let member = session(Role::Client);
    let (stream, _) = open(&member, b"", false).unwrap();
    for _ in 0..100 {
        member.data(stream, b"x", false);
        sent(&member);
    }
    assert!(!member.is_clear(stream));
    // Too large to be joined to the waiting data.
    member.data(stream, &[0; 4090], false);
    let frames = sent(&member);
    assert!(member.is_clear(stream), "{frames:?}");
    for _ in 0..10 {
        member.data(stream, b"x", false);
    }
    member.data(stream, &[0; 4090], true);
    let frames = sent(&member);
    assert!(
        frames.last().is_some_and(|last| last.ends_with('.')),
        "{frames:?}"
    );
}

proptest! {
    /// In any order of pieces, all data is sent, in frames whose cost is bounded.
    #[test]
    fn pieces_lose_nothing_and_cost_little(
        steps in proptest::collection::vec(
            (0..6_usize, 0..400_usize, any::<bool>(), any::<bool>()), 1..300,
        )
    ) {
        let member = session(Role::Client);
        let mut spent = 0;
        let mut streams = vec![];
        let clients = [Account::default(), Account::default()];
        for n in 0..6 {
            let (stream, _) = open_of(&clients[n % 2], &member, b"", false).unwrap();
            streams.push((stream, 0, false));
        }
        let mut frames = vec![];
        for (place, bytes, takes, answers) in steps {
            let (stream, given, _) = &mut streams[place];
            member.data(*stream, &vec![1; bytes], false);
            *given += bytes;
            if answers && bytes < 20 {
                member.recv_headers(*stream);
                spent = 0;
            }
            if takes {
                let more = sent(&member);
                prop_assert!(charged(&mut spent, &more) <= 400 * 1024);
                frames.extend(more);
            }
        }
        // Once all calls are answered, nothing waits.
        for (stream, ..) in &streams {
            member.recv_headers(*stream);
        }
        frames.extend(sent(&member));
        for (stream, given, _) in &streams {
            prop_assert!(member.is_clear(*stream));
            member.data(*stream, b"", true);
            frames.extend(sent(&member));
            let prefix = format!("data {stream} ");
            let of: Vec<_> = frames.iter().filter_map(|one| one.strip_prefix(&prefix)).collect();
            let bytes = |one: &&str| one.trim_end_matches('.').parse::<usize>().unwrap_or(0);
            let all: usize = of.iter().map(bytes).sum();
            prop_assert_eq!(all, *given);
            prop_assert!(of.last().unwrap().ends_with('.'));
        }
    }
}
