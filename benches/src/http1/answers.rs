//! HTTP/1.1 answers cut out of a stream of bytes: heads, bodies, chunks.

use anyhow::{Context, Result, bail, ensure};

/// The most bytes of a head, a body or a chunk that this load's requests are answered with.
const LIMIT: usize = 1 << 20;

/// What came next.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// The head, with its status.
    Head(u16),
    /// The whole body, or one chunk of it.
    Data(&'a [u8]),
    /// The answer is complete.
    End,
}

/// Bytes in, answers out.
#[derive(Debug, Default)]
pub struct Answers {
    bytes: Vec<u8>,
    /// Where what was not looked at yet begins.
    at: usize,
    state: State,
}

/// What is expected next.
#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Head,
    Body(usize),
    ChunkSize,
    Chunk(usize),
    Trailers,
    End,
}

/// Where something is in the bytes.
type Place = (usize, usize);

/// What a step found.
enum Step {
    /// More bytes are needed.
    Wait,
    /// Nothing to report.
    On,
    Head(u16),
    Data(Place),
    End,
}

impl Answers {
    /// Takes bytes that arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.at == self.bytes.len() {
            self.bytes.clear();
            self.at = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next item, if it is complete.
    ///
    /// # Errors
    /// These bytes are not HTTP/1.1 answers of a known length.
    pub fn item(&mut self) -> Result<Option<Item<'_>>> {
        loop {
            match self.step()? {
                Step::Wait => return Ok(None),
                Step::On => {}
                Step::Head(status) => return Ok(Some(Item::Head(status))),
                Step::Data((from, to)) => return Ok(Some(Item::Data(&self.bytes[from..to]))),
                Step::End => return Ok(Some(Item::End)),
            }
        }
    }

    /// One step of the grammar.
    fn step(&mut self) -> Result<Step> {
        let (step, next) = match self.state {
            State::Head => match self.until(b"\r\n\r\n")? {
                None => return Ok(Step::Wait),
                Some((from, to)) => {
                    let (status, next) = parse_head(&self.bytes[from..to])?;
                    (Step::Head(status), next)
                }
            },
            State::Body(length) => match self.take(length, 0) {
                None => return Ok(Step::Wait),
                Some(body) => (Step::Data(body), State::End),
            },
            State::ChunkSize => match self.until(b"\r\n")? {
                None => return Ok(Step::Wait),
                Some((from, to)) => (Step::On, chunk_size(&self.bytes[from..to])?),
            },
            State::Chunk(size) => match self.take(size, b"\r\n".len()) {
                None => return Ok(Step::Wait),
                Some(chunk) => (Step::Data(chunk), State::ChunkSize),
            },
            State::Trailers => match self.until(b"\r\n")? {
                None => return Ok(Step::Wait),
                Some((from, to)) if from == to => (Step::On, State::End),
                Some(_) => (Step::On, State::Trailers),
            },
            State::End => (Step::End, State::Head),
        };
        self.state = next;
        Ok(step)
    }

    /// Takes what is before `mark`, and the mark.
    fn until(&mut self, mark: &[u8]) -> Result<Option<Place>> {
        let rest = &self.bytes[self.at..];
        let Some(length) = rest.windows(mark.len()).position(|bytes| bytes == mark) else {
            ensure!(rest.len() < LIMIT, "no end after {LIMIT} bytes");
            return Ok(None);
        };
        let from = self.at;
        self.at = from + length + mark.len();
        Ok(Some((from, from + length)))
    }

    /// Takes `length` bytes and `after` more, which are not reported.
    fn take(&mut self, length: usize, after: usize) -> Option<Place> {
        let from = self.at;
        if self.bytes.len() - from < length + after {
            return None;
        }
        self.at = from + length + after;
        Some((from, from + length))
    }
}

/// The status, and how the body comes.
fn parse_head(head: &[u8]) -> Result<(u16, State)> {
    let head = std::str::from_utf8(head).context("a head that is no text")?;
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first.strip_prefix("HTTP/1.1 ").and_then(|s| s.get(..3));
    let status = status.and_then(|status| status.parse::<u16>().ok());
    let status = status.with_context(|| format!("no status line: {first}"))?;
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            bail!("no header: {line}");
        };
        if name.eq_ignore_ascii_case("content-length") {
            let length = value.trim().parse::<usize>()?;
            ensure!(length <= LIMIT, "a body of {length} bytes");
            return Ok((status, State::Body(length)));
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Ok((status, State::ChunkSize));
        }
    }
    if status == 204 || status == 304 {
        return Ok((status, State::Body(0)));
    }
    bail!("an answer that does not tell its length: {head}")
}

/// What follows the line with a chunk's size.
fn chunk_size(line: &[u8]) -> Result<State> {
    let text = std::str::from_utf8(line)?;
    let digits = text.split(';').next().unwrap_or_default().trim();
    let size = usize::from_str_radix(digits, 16);
    let size = size.with_context(|| format!("no chunk size: {text}"))?;
    ensure!(size <= LIMIT, "a chunk of {size} bytes");
    Ok(match size {
        0 => State::Trailers,
        size => State::Chunk(size),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All items of the bytes, which arrive in pieces of `piece`.
    fn items(bytes: &[u8], piece: usize) -> Result<Vec<String>> {
        let (mut answers, mut items) = (Answers::default(), Vec::new());
        for part in bytes.chunks(piece) {
            answers.push(part);
            while let Some(item) = answers.item()? {
                items.push(match item {
                    Item::Head(status) => status.to_string(),
                    Item::Data(data) => String::from_utf8_lossy(data).into_owned(),
                    Item::End => "end".to_string(),
                });
            }
        }
        Ok(items)
    }

    #[test]
    fn sized_and_chunked_answers_in_pieces_of_any_size() {
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
            "",
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
    fn bytes_that_are_no_answers_are_errors() {
        for bad in [
            &b"HTTP/2 200\r\n\r\n"[..],
            b"HTTP/1.1 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ] {
            assert!(items(bad, 7).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
