//! A parser that splits a stream of bytes into HTTP/1.1 replies: heads, bodies, chunks.

use anyhow::{Context, Result, bail, ensure};

/// The most bytes of a head, or of a line between chunks.
const HEAD_BYTES_MAX: usize = 1 << 20;

/// The next part of a reply.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// The head: its status, and its bytes without the empty line.
    Head(u16, &'a [u8]),
    /// The whole body, or one chunk of it; of a body that ends with the connection, what arrived.
    Data(&'a [u8]),
    /// The reply is complete.
    End,
}

/// Turns bytes into replies, without IO.
#[derive(Debug, Default)]
pub struct ReplyParser {
    bytes: Vec<u8>,
    /// Where the unparsed bytes begin.
    at: usize,
    state: State,
    /// The next reply is to a HEAD: it has a body's headers and no body.
    to_head: bool,
}

/// The part that is expected next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    Body(usize),
    ChunkSize,
    Chunk(usize),
    Trailers,
    UntilClose,
    End,
}

/// The first index of a part, and the one after its last.
type Span = (usize, usize);

/// The result of a step.
enum Found {
    /// More bytes are needed.
    Wait,
    /// Nothing to report.
    On,
    Head(u16, Span),
    Data(Span),
    End,
}

impl ReplyParser {
    /// Adds bytes that arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.at == self.bytes.len() {
            self.bytes.clear();
            self.at = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next reply has no body, since the request is a HEAD.
    pub fn expect_no_body(&mut self) {
        self.to_head = true;
    }

    /// Whether all bytes so far have been parsed.
    pub fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// The connection was closed: completes a body that ends with it.
    ///
    /// # Errors
    /// The reply is cut; the text states where.
    pub fn close(&mut self) -> Result<()> {
        match self.state {
            State::UntilClose => self.state = State::End,
            State::Head => bail!("cut within the head"),
            State::Body(_) => bail!("cut within the body"),
            State::Chunk(_) => bail!("cut within a chunk"),
            State::ChunkSize | State::Trailers => bail!("cut between chunks"),
            State::End => {}
        }
        Ok(())
    }

    /// The next item, if it is complete.
    ///
    /// # Errors
    /// These bytes are not HTTP/1.1.
    pub fn item(&mut self) -> Result<Option<Item<'_>>> {
        loop {
            match self.step()? {
                Found::Wait => return Ok(None),
                Found::On => {}
                Found::Head(status, (from, to)) => {
                    return Ok(Some(Item::Head(status, &self.bytes[from..to])));
                }
                Found::Data((from, to)) => return Ok(Some(Item::Data(&self.bytes[from..to]))),
                Found::End => return Ok(Some(Item::End)),
            }
        }
    }

    /// One step of the grammar.
    fn step(&mut self) -> Result<Found> {
        let (found, next) = match self.state {
            State::Head => match self.until(b"\r\n\r\n")? {
                None => return Ok(Found::Wait),
                Some((from, to)) => {
                    let (status, next) = parse_head(&self.bytes[from..to])?;
                    // 100 Continue and other interim responses come before the reply.
                    let last = 200 <= status;
                    let next = match last && std::mem::take(&mut self.to_head) {
                        true => State::End,
                        false => next,
                    };
                    match last {
                        true => (Found::Head(status, (from, to)), next),
                        false => (Found::On, State::Head),
                    }
                }
            },
            State::Body(length) => match self.take(length, 0) {
                None => return Ok(Found::Wait),
                Some(body) => (Found::Data(body), State::End),
            },
            State::ChunkSize => match self.until(b"\r\n")? {
                None => return Ok(Found::Wait),
                Some((from, to)) => (Found::On, chunk_size(&self.bytes[from..to])?),
            },
            State::Chunk(size) => match self.take(size, b"\r\n".len()) {
                None => return Ok(Found::Wait),
                Some(chunk) => (Found::Data(chunk), State::ChunkSize),
            },
            State::Trailers => match self.until(b"\r\n")? {
                None => return Ok(Found::Wait),
                Some((from, to)) if from == to => (Found::On, State::End),
                Some(_) => (Found::On, State::Trailers),
            },
            State::UntilClose if self.is_empty() => return Ok(Found::Wait),
            State::UntilClose => {
                let rest = (self.at, self.bytes.len());
                self.at = rest.1;
                (Found::Data(rest), State::UntilClose)
            }
            State::End => (Found::End, State::Head),
        };
        self.state = next;
        Ok(found)
    }

    /// Takes the bytes before `mark`, and the mark.
    fn until(&mut self, mark: &[u8]) -> Result<Option<Span>> {
        let rest = &self.bytes[self.at..];
        let Some(length) = rest.windows(mark.len()).position(|bytes| bytes == mark) else {
            ensure!(rest.len() < HEAD_BYTES_MAX, "an endless head");
            return Ok(None);
        };
        let from = self.at;
        self.at = from + length + mark.len();
        Ok(Some((from, from + length)))
    }

    /// Takes `length` bytes and `after` more, which are not reported.
    fn take(&mut self, length: usize, after: usize) -> Option<Span> {
        let from = self.at;
        let end = from.checked_add(length)?.checked_add(after)?;
        if self.bytes.len() < end {
            return None;
        }
        self.at = end;
        Some((from, from + length))
    }
}

/// The status, and how the end of the body is determined.
fn parse_head(head: &[u8]) -> Result<(u16, State)> {
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let version = ["HTTP/1.1 ", "HTTP/1.0 "];
    let rest = version
        .iter()
        .find_map(|version| first.strip_prefix(version));
    let rest = rest.with_context(|| format!("not HTTP/1: {first:?}"))?;
    let status = rest.get(..3).and_then(|code| code.parse::<u16>().ok());
    let status = status.with_context(|| format!("no status: {first:?}"))?;
    let mut body = State::UntilClose;
    for line in lines {
        let (name, value) = line.split_once(':').context("a header without a colon")?;
        if name.eq_ignore_ascii_case("transfer-encoding") {
            body = State::ChunkSize;
        } else if name.eq_ignore_ascii_case("content-length") && body == State::UntilClose {
            body = State::Body(value.trim().parse().context("content-length")?);
        }
    }
    match status {
        204 | 304 => Ok((status, State::End)),
        _ => Ok((status, body)),
    }
}

/// The state after the line with a chunk's size.
fn chunk_size(line: &[u8]) -> Result<State> {
    let text = std::str::from_utf8(line)?;
    let digits = text.split(';').next().unwrap_or_default().trim();
    let size = usize::from_str_radix(digits, 16);
    Ok(
        match size.with_context(|| format!("not a chunk's size: {text}"))? {
            0 => State::Trailers,
            size => State::Chunk(size),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All items of the bytes, which arrive in pieces of `piece`.
    fn items(bytes: &[u8], piece: usize) -> Result<Vec<String>> {
        let (mut replies, mut items) = (ReplyParser::default(), Vec::new());
        for part in bytes.chunks(piece) {
            replies.push(part);
            while let Some(item) = replies.item()? {
                items.push(match item {
                    Item::Head(status, _) => status.to_string(),
                    Item::Data(data) => String::from_utf8_lossy(data).into_owned(),
                    Item::End => "end".to_string(),
                });
            }
        }
        Ok(items)
    }

    #[test]
    fn sized_and_chunked_replies_in_pieces_of_any_size() {
        let bytes = b"HTTP/1.1 200 OK\r\nA: b\r\ncontent-length: 3\r\n\r\nfoo\
            HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n\
            3\r\nbar\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\n\
            HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let expected = [
            "200",
            "foo",
            "end",
            "404",
            "bar",
            "0123456789",
            "end",
            "204",
            "end",
            "200",
            "",
            "end",
        ];
        for piece in 1..=bytes.len() {
            assert_eq!(items(bytes, piece).unwrap(), expected);
        }
    }

    #[test]
    fn a_body_ends_with_the_connection_where_no_length_is_stated() {
        let mut replies = ReplyParser::default();
        replies.push(b"HTTP/1.0 200 OK\r\n\r\nfoo");
        assert!(matches!(replies.item().unwrap(), Some(Item::Head(200, _))));
        assert_eq!(replies.item().unwrap(), Some(Item::Data(b"foo")));
        assert_eq!(replies.item().unwrap(), None);
        replies.close().unwrap();
        assert_eq!(replies.item().unwrap(), Some(Item::End));
        replies.push(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nfo");
        assert!(matches!(replies.item().unwrap(), Some(Item::Head(200, _))));
        assert_eq!(replies.item().unwrap(), None);
        assert!(replies.close().is_err());
    }

    #[test]
    fn a_reply_to_head_has_no_body_and_interim_replies_are_passed_over() {
        let mut replies = ReplyParser::default();
        replies.expect_no_body();
        replies.push(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n");
        assert!(matches!(replies.item().unwrap(), Some(Item::Head(200, _))));
        assert_eq!(replies.item().unwrap(), Some(Item::End));
        assert!(replies.is_empty());
    }

    #[test]
    fn bytes_that_are_not_replies_are_errors() {
        for bad in [
            &b"HTTP/2 200\r\n\r\n"[..],
            b"HTTP/1.1 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ] {
            assert!(items(bad, 7).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
