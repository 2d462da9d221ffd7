//! Messages in parts, of any sizes and contents.

use bytes::{BufMut, Bytes, BytesMut};
use keelson_proto::etcdserverpb as pb;
use keelson_proto::mvccpb;
use proptest::prelude::*;
use prost::Message as _;

use super::events::{EventReader, put_shared};
use super::requests::{self, RequestReader};
use super::responses::{ResponseReader, Stopped};
use crate::policy::resumption::{Create, ResponseHeader, StreamRequest, StreamResponse, Verdict};

fn message(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[0], &length[..], payload].concat()
}

/// A response of a member, and what matters of it. `size`: of the value of each event.
fn response(n: i64, events: &[i64], size: usize) -> (Vec<u8>, StreamResponse) {
    let event = |revision: &i64| mvccpb::Event {
        kv: Some(mvccpb::KeyValue {
            key: "a".into(),
            mod_revision: *revision,
            value: Bytes::from(vec![0xff; size]),
            lease: 9,
            ..Default::default()
        }),
        prev_kv: Some(mvccpb::KeyValue {
            mod_revision: 1 << 40,
            ..Default::default()
        }),
        r#type: 1,
    };
    let whole = pb::WatchResponse {
        header: Some(pb::ResponseHeader {
            cluster_id: u64::MAX,
            member_id: 3,
            revision: 300,
            raft_term: 2,
        }),
        watch_id: n,
        created: n % 3 == 0,
        canceled: n % 5 == 0,
        fragment: n % 7 == 0,
        cancel_reason: "x".repeat(size % 300),
        events: events.iter().map(event).collect(),
        ..Default::default()
    };
    let read = StreamResponse {
        header: ResponseHeader {
            cluster_id: u64::MAX,
            member_id: 3,
            revision: 300,
            raft_term: 2,
        },
        watch_id: n,
        created: n % 3 == 0,
        canceled: n % 5 == 0,
        fragment: n % 7 == 0,
        has_events: !events.is_empty(),
        last_revision: events.iter().copied().max().unwrap_or(0),
    };
    (message(&prost_bytes(&whole)), read)
}

fn prost_bytes(message: &impl prost::Message) -> Vec<u8> {
    message.encode_to_vec()
}

proptest! {
    #[test]
    fn responses_are_read_and_forwarded_however_they_are_divided(
        shapes in prop::collection::vec((-1..200_i64, 0..3_usize, 0..100_000_usize), 1..6),
        cuts in prop::collection::vec(1..40_000_usize, 1..20),
    ) {
        let all: Vec<_> = shapes
            .iter()
            .map(|(n, events, size)| response(*n, &[7, 1000, 8][..*events], *size))
            .collect();
        let sent = all.iter().flat_map(|(bytes, _)| bytes.clone()).collect::<Vec<_>>();
        let drops = |response: &StreamResponse| response.watch_id % 2 == 0 && !response.has_events;
        let expected = all.iter().filter(|(_, read)| !drops(read));
        let expected = expected.flat_map(|(bytes, _)| bytes.clone()).collect::<Vec<_>>();
        let (mut reader, mut judged, mut forwarded) = (ResponseReader::default(), vec![], vec![]);
        let (mut rest, mut cuts) = (&sent[..], cuts.iter().cycle());
        let mut dropped = 0;
        while !rest.is_empty() {
            let (part, after) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            rest = after;
            let mut judge = |response: &StreamResponse| {
                judged.push(*response);
                if drops(response) { Verdict::Drop } else { Verdict::Forward }
            };
            let mut forward = |part: &[u8]| forwarded.extend_from_slice(part);
            dropped += reader.read(part, &mut judge, &mut forward).unwrap();
            prop_assert!(reader.collected() <= 64 * 1024);
        }
        let reads: Vec<_> = all.iter().map(|(_, read)| *read).collect();
        prop_assert_eq!(judged, reads);
        prop_assert!(forwarded == expected);
        prop_assert_eq!(dropped, sent.len() - expected.len());
    }

    /// What cannot be read is forwarded all the same.
    #[test]
    fn any_bytes_of_a_member_are_forwarded(sent: Vec<Vec<u8>>) {
        let mut reader = ResponseReader::default();
        let mut forwarded = vec![];
        let mut read = true;
        for part in &sent {
            let mut forward = |part: &[u8]| forwarded.extend_from_slice(part);
            if !read {
                forward(part);
                continue;
            }
            match reader.read(part, &mut |_| Verdict::Forward, &mut forward) {
                Ok(dropped) => prop_assert_eq!(dropped, 0),
                Err(stopped) => {
                    prop_assert_eq!(stopped, Stopped::Unreadable);
                    read = false;
                }
            }
        }
        reader.pass(&mut |part| forwarded.extend_from_slice(part));
        prop_assert_eq!(forwarded, sent.concat());
    }

    #[test]
    fn any_bytes_of_a_client_are_kept_or_returned(sent: Vec<Vec<u8>>) {
        let mut reader = RequestReader::default();
        let mut returned = BytesMut::new();
        for part in &sent {
            match reader.read(part) {
                Ok(whole) => {
                    for payload in requests::payloads(&whole) {
                        let _ = requests::watch_request(payload);
                        let _ = requests::keepalive_request(payload);
                    }
                    returned.unsplit(whole);
                }
                Err(_) => returned.unsplit(reader.partial.split()),
            }
        }
        returned.unsplit(reader.partial.split());
        prop_assert_eq!(returned, sent.concat());
    }

    #[test]
    fn any_payload_is_read_or_refused(payload: Vec<u8>) {
        let _ = requests::watch_request(&payload);
        let _ = requests::keepalive_request(&payload);
    }
}

fn encoded(request: pb::watch_request::RequestUnion) -> Vec<u8> {
    prost_bytes(&pb::WatchRequest {
        request_union: Some(request),
    })
}

#[test]
fn a_resumed_watch_differs_in_its_revision_and_id_alone() {
    let create = pb::WatchCreateRequest {
        key: "a".into(),
        range_end: "b".into(),
        start_revision: -3,
        progress_notify: true,
        filters: vec![1],
        prev_kv: true,
        watch_id: 4,
        fragment: true,
    };
    let sent = encoded(pb::watch_request::RequestUnion::CreateRequest(
        create.clone(),
    ));
    let mut reader = RequestReader::default();
    let whole = reader
        .read(&[message(&sent), message(b"")].concat())
        .unwrap();
    let requests: Vec<_> = requests::payloads(&whole)
        .map(|payload| requests::watch_request(payload).unwrap())
        .collect();
    let [Some(StreamRequest::Create(read)), None] = &requests[..] else {
        panic!("{requests:?}");
    };
    assert_eq!((read.watch_id, read.start_revision), (4, -3));
    let mut out = BytesMut::new();
    let resumed = Create {
        watch_id: 300,
        start_revision: i64::MAX,
        ..read.clone()
    };
    requests::put_watch_request(&mut out, &StreamRequest::Create(resumed));
    let expected = pb::WatchCreateRequest {
        start_revision: i64::MAX,
        watch_id: 300,
        ..create
    };
    let decoded = <pb::WatchRequest as prost::Message>::decode(&out[5..]).unwrap();
    let expected = pb::watch_request::RequestUnion::CreateRequest(expected);
    assert_eq!(decoded.request_union, Some(expected));
    assert_eq!(
        out[..5],
        [
            &[0],
            &u32::try_from(out.len() - 5).unwrap().to_be_bytes()[..]
        ]
        .concat()
    );
}

#[test]
fn what_is_compressed_or_large_or_ambiguous_is_not_read() {
    let mut large = BytesMut::from(&[0][..]);
    large.put_u32(64 * 1024 + 1);
    for sent in [&large[..], &[1, 0, 0, 0, 0], b"create"] {
        let mut reader = RequestReader::default();
        assert!(reader.read(sent).is_err());
        assert_eq!(reader.partial, sent);
    }
    for payload in [&[0x0a, 0, 0x0a, 0][..], &[0x0a, 5], &[0x0b], &[0xff; 12]] {
        assert!(requests::watch_request(payload).is_err(), "{payload:?}");
    }
}

#[test]
fn a_shared_response_differs_in_its_watch_alone() {
    for events in [&[][..], &[7], &[7, 9, 8]] {
        let (bytes, _) = response(1, events, 30);
        let mut reader = EventReader::default();
        for byte in &bytes[..bytes.len() - 1] {
            reader.receive(&[*byte]);
            assert!(reader.next().unwrap().is_none());
        }
        reader.receive(&bytes[bytes.len() - 1..]);
        let received = reader.next().unwrap().unwrap();
        let response = received.shared.unwrap();
        let shared = response.events.as_ref();
        let found = shared.map(|shared| (shared.first, shared.last));
        let expected = events
            .iter()
            .min()
            .copied()
            .zip(events.iter().max().copied());
        assert_eq!(found, expected);
        let mut out = BytesMut::new();
        put_shared(&mut out, 300, &response);
        let mut expected = pb::WatchResponse::decode(&bytes[5..]).unwrap();
        expected.watch_id = 300;
        expected.cancel_reason.clear();
        assert_eq!(pb::WatchResponse::decode(&out[5..]).unwrap(), expected);
    }
}

#[test]
fn of_a_large_response_only_the_numbers_are_kept() {
    let (small, _) = response(1, &[3], 30);
    let (large, _) = response(1, &[7, 9], 200_000);
    let mut reader = EventReader::default();
    let mut received = vec![];
    for part in [&small[..], &large[..], &small[..]].concat().chunks(16_000) {
        reader.receive(part);
        while let Some(one) = reader.next().unwrap() {
            let last = one.response.last_revision;
            received.push((one.shared.is_some(), last, one.bytes < small.len()));
        }
    }
    assert_eq!(
        received,
        [(true, 3, true), (false, 9, true), (true, 3, true)]
    );
}

#[test]
fn a_fragment_is_not_shared() {
    let (bytes, _) = response(7, &[1], 3);
    let mut reader = EventReader::default();
    reader.receive(&bytes);
    assert!(reader.next().is_err());
}

#[test]
fn equal_watches_have_the_same_form_whatever_their_revisions() {
    let form = |id, revision, fragment| {
        let create = pb::WatchCreateRequest {
            key: "a".into(),
            start_revision: revision,
            prev_kv: true,
            watch_id: id,
            fragment,
            ..Default::default()
        };
        requests::shared_form(&prost_bytes(&create))
    };
    let one = form(0, 0, false).unwrap();
    assert_eq!(form(3, -7, false).unwrap(), one);
    assert_eq!(form(0, 0, true), None);
    let without = pb::WatchCreateRequest::decode(&one[..]).unwrap();
    assert!(without.prev_kv && without.key == "a" && without.watch_id == 0);
    assert_eq!(requests::shared_form(&[0x0b]), None);
}
