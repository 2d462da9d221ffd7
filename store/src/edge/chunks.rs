//! A long range in pieces: the rules of etcd 3.7's `RangeStream`.
//!
//! The first piece has ten keys; the number doubles while pieces stay below half the target and
//! halves when they pass twice the target. All pieces are read at the revision of the first, so
//! that together they are one consistent answer. etcd v3.7.1 `etcdserver/v3_server.go`.

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use keelson_proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use prost::Message;
use tokio_stream::Stream;

use super::backend::Backend;
use super::check;
use crate::Error;

/// How many keys the first piece has.
const FIRST_LIMIT: i64 = 10;

/// Answers `request` in pieces of about `max_request_bytes`, by many short reads.
pub fn chunked<B: Backend>(
    backend: B,
    request: RangeRequest,
) -> impl Stream<Item = Result<RangeResponse, Error>> + Send + use<B> {
    let target = backend.max_request_bytes();
    let start = match check::range_stream(&request) {
        Ok(()) => State::Reading(Cursor::new(request, target)),
        Err(error) => State::Refused(error),
    };
    stream::unfold((backend, start), |(backend, state)| async move {
        let mut cursor = match state {
            State::Reading(cursor) => cursor,
            State::Refused(error) => return Some((Err(error), (backend, State::Done))),
            State::Done => return None,
        };
        let piece = match backend.range(cursor.request()).await {
            Ok(response) => cursor.take(response),
            Err(error) => return Some((Err(error), (backend, State::Done))),
        };
        let next = if cursor.finished {
            State::Done
        } else {
            State::Reading(cursor)
        };
        Some((Ok(piece), (backend, next)))
    })
}

enum State {
    Refused(Error),
    Reading(Cursor),
    Done,
}

/// Where in the range we are.
struct Cursor {
    asked: RangeRequest,
    target_bytes: usize,
    limit: i64,
    sent: i64,
    /// From the first piece: the full count, and the header that the last piece carries.
    first: Option<(i64, Option<ResponseHeader>)>,
    finished: bool,
}

impl Cursor {
    fn new(asked: RangeRequest, target_bytes: usize) -> Cursor {
        Cursor {
            asked,
            target_bytes,
            limit: FIRST_LIMIT,
            sent: 0,
            first: None,
            finished: false,
        }
    }

    /// The read for the next piece.
    fn request(&self) -> RangeRequest {
        let mut request = self.asked.clone();
        if self.asked.count_only {
            return request;
        }
        request.limit = match self.asked.limit {
            limit if limit <= 0 => self.limit,
            limit => self.limit.min(limit - self.sent),
        };
        request
    }

    /// Turns the read's response into a piece, and moves on.
    fn take(&mut self, mut response: RangeResponse) -> RangeResponse {
        let keys = i64::try_from(response.kvs.len()).expect("a response fits into memory");
        self.sent += keys;
        let (count, header) = *self.first.get_or_insert((response.count, response.header));
        let limited = 0 < self.asked.limit;
        self.finished = !response.more || (limited && self.asked.limit <= self.sent);
        if self.finished {
            response.more = limited && response.more;
            response.header = header;
            response.count = count;
            return response;
        }
        self.advance(&response, header);
        response.more = false;
        response.header = None;
        response.count = 0;
        response
    }

    fn advance(&mut self, piece: &RangeResponse, header: Option<ResponseHeader>) {
        let last = piece.kvs.last().expect("a read with more to come has keys");
        self.asked.key = successor(&last.key);
        if self.asked.revision <= 0 {
            self.asked.revision = header.map_or(0, |header| header.revision);
        }
        // The first read has made sure that this member has applied the revision.
        self.asked.serializable = true;
        self.limit = next_limit(self.limit, piece.encoded_len(), self.target_bytes);
    }
}

fn next_limit(limit: i64, piece_bytes: usize, target_bytes: usize) -> i64 {
    if piece_bytes < target_bytes / 2 {
        limit.saturating_mul(2)
    } else if target_bytes.saturating_mul(2) < piece_bytes {
        (limit / 2).max(1)
    } else {
        limit
    }
}

/// The smallest key after `key`.
fn successor(key: &[u8]) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_follows_the_size() {
        assert_eq!(next_limit(10, 499, 1000), 20);
        assert_eq!(next_limit(10, 500, 1000), 10);
        assert_eq!(next_limit(10, 2000, 1000), 10);
        assert_eq!(next_limit(10, 2001, 1000), 5);
        assert_eq!(next_limit(1, 5000, 1000), 1);
    }
}
