//! Steps of watchers that read the history, and what watchers share.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::watches::{Run, contents, request};
use crate::state::auth::Caller;
use crate::watch::WatchLimits;
use keelson_proto::etcdserverpb::{ResponseHeader, WatchCreateRequest};
use keelson_proto::mvccpb::{Event, KeyValue};

fn text(text: &str) -> String {
    text.to_owned()
}

/// Small values that replace large ones: a step had no bound but its number of events.
#[test]
fn a_step_counts_the_pairs_before_its_events() {
    let mut run = Run::new(WatchLimits::default());
    (0..10).for_each(|number| run.put(number, 60_000));
    (0..10).for_each(|number| run.put(number, 1));
    run.stream.create(WatchCreateRequest {
        prev_kv: true,
        ..request(12)
    });
    let expected = vec![
        (0, 21, text("Created")),
        (0, 16, text("5 events")),
        (0, 21, text("5 events")),
    ];
    assert_eq!(contents(&mut run.stream), expected);
}

#[test]
fn no_step_is_read_while_that_is_not_allowed_and_new_events_are_sent() {
    let mut run = Run::new(WatchLimits::default());
    (0..3).for_each(|number| run.put(number, 1));
    run.stream.allow_history(false);
    run.stream.create(request(2));
    run.stream.create(request(0));
    run.stream.request_progress();
    assert!(run.stream.is_behind());
    run.put(1, 1);
    while run.hub.fan_out().unwrap() {}
    let created = text("Created");
    let expected = vec![
        (0, 4, created.clone()),
        (1, 4, created),
        (1, 5, text("1 events")),
    ];
    assert_eq!(contents(&mut run.stream), expected);
    run.stream.allow_history(true);
    let expected = vec![(0, 5, text("4 events")), (-1, 5, text("Progress"))];
    assert_eq!(contents(&mut run.stream), expected);
    assert!(!run.stream.is_behind());
}

/// However many they are: the pair is encoded once, and the pair before it is read once.
#[test]
fn all_streams_send_the_same_bytes_of_an_event() {
    let mut run = Run::new(WatchLimits::default());
    run.put(1, 100);
    let stream = |_| run.hub.stream(Arc::new(Caller::Member), || {});
    let mut streams: Vec<_> = (0..50).map(stream).collect();
    for stream in &mut streams {
        for prev_kv in [true, false] {
            stream.create(WatchCreateRequest {
                prev_kv,
                ..request(0)
            });
        }
        assert_eq!(contents(stream).len(), 2, "created");
    }
    run.put(1, 200);
    while run.hub.fan_out().unwrap() {}
    // All are kept, so that no memory is used twice.
    let mut sent = Vec::new();
    for stream in &mut streams {
        while let Some(message) = stream.next().unwrap() {
            sent.extend(message.response(ResponseHeader::default()).events);
        }
    }
    let places = |pair: fn(&Event) -> Option<&KeyValue>| {
        let pairs = sent.iter().filter_map(pair);
        pairs.map(|kv| kv.value.as_ptr()).collect::<BTreeSet<_>>()
    };
    assert_eq!(sent.len(), 100);
    assert_eq!(places(|event| event.kv.as_ref()).len(), 1);
    assert_eq!(places(|event| event.prev_kv.as_ref()).len(), 1);
}
