//! Closed-loop clients: each sends the same request again as soon as it has the answer.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::answers::Item;
use super::crowd::Crowd;
use super::{Request, host};
use crate::tally::{Tally, Window};

/// How long a client waits before it connects again, so that a dead server is not hammered.
const BACKOFF: Duration = Duration::from_millis(10);

/// The clients' load.
#[derive(Clone, Debug)]
pub struct ClosedLoop {
    /// Whom they ask, each one of these in turn.
    pub urls: Vec<String>,
    /// What they send.
    pub request: Request,
    /// How many there are; at least one for each URL.
    pub connections: usize,
}

/// A client's state.
struct Client {
    host: String,
    request: Vec<u8>,
    sent: Instant,
    status: u16,
}

impl ClosedLoop {
    /// Runs the load on this thread until the window closes.
    ///
    /// # Errors
    /// Nobody accepts, or what is answered is not HTTP/1.1.
    pub fn run(&self, window: Window) -> Result<Tally> {
        ensure!(!self.urls.is_empty(), "nobody to ask");
        let mut crowd = Crowd::new()?;
        let mut clients = Vec::new();
        for number in 0..self.connections.max(self.urls.len()) {
            let host = host(&self.urls[number % self.urls.len()])?;
            let client = Client {
                host: host.to_string(),
                request: self.request.bytes(host),
                sent: Instant::now(),
                status: 0,
            };
            crowd.open(host)?;
            clients.push(client);
        }
        for (number, client) in clients.iter_mut().enumerate() {
            client.sent = Instant::now();
            crowd.at(number).send(&client.request)?;
        }
        drive(&mut crowd, &mut clients, window)
    }
}

fn drive(crowd: &mut Crowd, clients: &mut [Client], window: Window) -> Result<Tally> {
    let (mut tally, mut ready) = (Tally::default(), Vec::new());
    loop {
        crowd.wait(window.to, &mut ready)?;
        for number in &ready {
            if Instant::now() >= window.to {
                return Ok(tally);
            }
            let client = &mut clients[*number];
            if !crowd.receive(*number).unwrap_or(false) {
                tally.fail("the connection was closed");
                std::thread::sleep(BACKOFF);
                crowd.reopen(*number, &client.host)?;
                client.send(crowd, *number, Instant::now())?;
                continue;
            }
            turn(crowd, client, *number, window, &mut tally)?;
        }
        if Instant::now() >= window.to {
            return Ok(tally);
        }
    }
}

/// Looks at what a client has read; sends again when the answer is complete.
fn turn(
    crowd: &mut Crowd,
    client: &mut Client,
    number: usize,
    window: Window,
    tally: &mut Tally,
) -> Result<()> {
    let mut complete = false;
    while let Some(item) = crowd.at(number).answers.item()? {
        match item {
            Item::Head(status) => client.status = status,
            Item::Data(_) => {}
            Item::End => complete = true,
        }
    }
    if !complete {
        return Ok(());
    }
    let now = Instant::now();
    if now >= window.from && now < window.to {
        match client.status {
            200..=299 => tally.latencies.record(now - client.sent),
            status => tally.fail(format!("HTTP {status}")),
        }
    }
    client.send(crowd, number, now)
}

impl Client {
    fn send(&mut self, crowd: &mut Crowd, number: usize, now: Instant) -> Result<()> {
        self.sent = now;
        crowd.at(number).send(&self.request)
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
                connections: 3,
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
