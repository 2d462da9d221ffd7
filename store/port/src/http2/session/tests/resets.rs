//! Resets of calls at a member.

use super::*;

/// At any age of the calls: under load they are old before the member has read them.
#[tokio::test(start_paused = true)]
async fn a_member_gets_no_more_resets_than_it_has_read() {
    let member = session(Role::Client);
    settings(&member, setting::HEADER_TABLE_SIZE, 4096).unwrap();
    member.recv_settings_ack();
    let mut begun = vec![];
    for _ in 0..2500 {
        begun.push(open(&member, b"", true).unwrap().0);
    }
    sent(&member);
    tokio::time::advance(std::time::Duration::from_secs(5)).await;
    for stream in &begun {
        member.reset(*stream, ErrorCode::CANCEL);
    }
    let mut resets = vec![];
    let mut most = 0;
    for _ in 0..10 {
        let frames = sent(&member);
        resets.extend(
            frames
                .iter()
                .filter(|one| one.starts_with("reset"))
                .cloned(),
        );
        let asks = frames.iter().filter(|one| one.starts_with("Settings"));
        most = most.max(resets.len());
        if asks.count() == 0 {
            break;
        }
        assert!(resets.len() <= 2500);
        member.recv_settings_ack();
    }
    // All of them in the end.
    resets.sort();
    resets.dedup();
    assert_eq!(resets.len(), 2500);
    // And the first ones without an acknowledgement.
    assert!(1000 <= most);
}

#[test]
fn resets_wait_until_the_member_has_read_those_before() {
    let member = session(Role::Client);
    settings(&member, setting::HEADER_TABLE_SIZE, 4096).unwrap();
    member.recv_settings_ack();
    for _ in 0..5000 {
        let (stream, _) = open(&member, b"", true).unwrap();
        member.reset(stream, ErrorCode::CANCEL);
        // The unread resets are never more than a quarter of what ends the connection.
    }
    let count = |frames: &[String]| frames.iter().filter(|one| one.starts_with("reset")).count();
    assert_eq!(count(&sent(&member)), 1000);
    assert!(sent(&member).is_empty());
    member.recv_settings_ack();
    assert_eq!(count(&sent(&member)), 500);
}
