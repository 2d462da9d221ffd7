//! Closed-loop clients: each sends the same request again as soon as it has the answer.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use keelson_tests::http::{Item, Request};

use super::crowd::Crowd;
use super::host;
use crate::tally::{Tally, Window};

/// How long a client waits before it connects again, so that a dead server is not hammered.
const BACKOFF: Duration = Duration::from_millis(10);

/// The clients' load.
#[derive(Clone, Debug)]
pub struct ClosedLoop {
    /// The URLs that clients send to, each in turn.
    pub urls: Vec<String>,
    /// The request that clients send.
    pub request: Request,
    /// The number of clients, with one request in flight each. With more URLs than clients, each
    /// client takes its share of them in turn.
    pub clients: usize,
}

/// One of a client's connections.
struct Line {
    host: String,
    request: Vec<u8>,
    sent: Instant,
    status: u16,
}

impl ClosedLoop {
    /// Runs the load on this thread until the window closes.
    ///
    /// # Errors
    /// The server does not accept, or its answer is not HTTP/1.1.
    pub fn run(&self, window: Window) -> Result<Tally> {
        ensure!(!self.urls.is_empty() && self.clients > 0, "nobody to ask");
        let mut crowd = Crowd::new()?;
        let mut lines = Vec::new();
        for number in 0..self.connections() {
            let host = host(&self.urls[number % self.urls.len()])?;
            let line = Line {
                host: host.to_string(),
                request: self.request.encode(host),
                sent: Instant::now(),
                status: 0,
            };
            crowd.open(host)?;
            lines.push(line);
        }
        for (number, line) in lines.iter_mut().take(self.clients).enumerate() {
            line.send(&mut crowd, number, Instant::now())?;
        }
        drive(&mut crowd, &mut lines, self.clients, window)
    }

    /// As many for each client, and at least one for each URL.
    fn connections(&self) -> usize {
        self.clients * self.urls.len().div_ceil(self.clients).max(1)
    }
}

fn drive(crowd: &mut Crowd, lines: &mut [Line], clients: usize, window: Window) -> Result<Tally> {
    let (mut tally, mut ready) = (Tally::default(), Vec::new());
    loop {
        crowd.wait(window.to, &mut ready)?;
        for number in &ready {
            if Instant::now() >= window.to {
                return Ok(tally);
            }
            let line = &mut lines[*number];
            if !crowd.receive(*number).unwrap_or(false) {
                tally.fail("the connection was closed");
                std::thread::sleep(BACKOFF);
                crowd.reopen(*number, &line.host)?;
                line.send(crowd, *number, Instant::now())?;
                continue;
            }
            if let Some(now) = line.turn(crowd, *number, window, &mut tally)? {
                let next = (number + clients) % lines.len();
                lines[next].send(crowd, next, now)?;
            }
        }
        if Instant::now() >= window.to {
            return Ok(tally);
        }
    }
}

impl Line {
    fn send(&mut self, crowd: &mut Crowd, number: usize, now: Instant) -> Result<()> {
        self.sent = now;
        crowd.at(number).send(&self.request)
    }

    /// Looks at what was read; returns the time if that completes the answer.
    fn turn(
        &mut self,
        crowd: &mut Crowd,
        number: usize,
        window: Window,
        tally: &mut Tally,
    ) -> Result<Option<Instant>> {
        let mut complete = false;
        while let Some(item) = crowd.at(number).replies.item()? {
            match item {
                Item::Head(status, _) => self.status = status,
                Item::Data(_) => {}
                Item::End => complete = true,
            }
        }
        let now = Instant::now();
        if complete && now >= window.from && now < window.to {
            match self.status {
                200..=299 => tally.latencies.record(now - self.sent),
                status => tally.fail(format!("HTTP {status}")),
            }
        }
        Ok(complete.then_some(now))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// A server for `connections` clients, a thread each; ends with them.
    fn serve(connections: usize, answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming().take(connections) {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut bytes = [0; 1024];
                    while stream.read(&mut bytes).is_ok_and(|length| length > 0) {
                        if stream.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        url
    }

    #[test]
    fn one_client_goes_round_all_urls() {
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let bad = "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n";
        let load = ClosedLoop {
            urls: vec![serve(1, ok), serve(1, bad)],
            request: Request::get("/"),
            clients: 1,
        };
        let window = Window::after(Duration::ZERO, Duration::from_millis(200));
        let tally = load.run(window).unwrap();
        assert!(tally.errors > 3 && tally.latencies.total().abs_diff(tally.errors) <= 1);
    }

    #[test]
    fn clients_ask_again_and_again() {
        for (answer, good) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true),
            (
                "HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                false,
            ),
        ] {
            let load = ClosedLoop {
                urls: vec![serve(3, answer)],
                request: Request::get("/"),
                clients: 3,
            };
            let window = Window::after(Duration::ZERO, Duration::from_millis(200));
            let tally = load.run(window).unwrap();
            let (done, failed) = (tally.latencies.total(), tally.errors);
            assert!(if good {
                done > 3 && failed == 0
            } else {
                done == 0 && failed > 3
            });
        }
    }
}
