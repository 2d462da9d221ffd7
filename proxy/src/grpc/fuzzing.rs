//! For the fuzz target: streams whose contents are arbitrary.

use bytes::BytesMut;

use super::events::{EventReader, put_shared};
use super::requests::{self, RequestReader};
use super::responses::ResponseReader;
use crate::policy::resumption::Verdict;

/// What a stream passes of data that comes in these parts: from a client, and from a member.
#[must_use]
pub fn pass(parts: &[&[u8]]) -> [Vec<u8>; 2] {
    [pass_requests(parts), pass_responses(parts)]
}

fn pass_requests(parts: &[&[u8]]) -> Vec<u8> {
    let (mut reader, mut passed) = (RequestReader::default(), vec![]);
    for part in parts {
        let whole = match reader.read(part) {
            Ok(whole) => whole,
            Err(_) => reader.partial.split(),
        };
        for payload in requests::payloads(&whole) {
            let _ = requests::watch_request(payload);
            let _ = requests::keepalive_request(payload);
        }
        passed.extend_from_slice(&whole);
    }
    passed.extend_from_slice(&reader.partial);
    passed
}

fn pass_responses(parts: &[&[u8]]) -> Vec<u8> {
    let (mut reader, mut passed) = (ResponseReader::default(), vec![]);
    let mut readable = true;
    let mut shared = EventReader::default();
    for part in parts {
        shared.receive(part);
        while let Ok(Some(received)) = shared.next() {
            if let Some(response) = &received.shared {
                put_shared(&mut BytesMut::new(), -1, response);
            }
        }
        let mut forward = |part: &[u8]| passed.extend_from_slice(part);
        match readable {
            true => {
                let read = reader.read(part, &mut |_| Verdict::Forward, &mut forward);
                readable = read.is_ok();
            }
            false => forward(part),
        }
    }
    reader.pass(&mut |part| passed.extend_from_slice(part));
    passed
}
