//! Many connections on one thread; epoll lists those that are readable.

use std::os::fd::OwnedFd;
use std::time::Instant;

use anyhow::{Context, Result};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use super::connection::Connection;

/// The most readable connections that one call of epoll returns.
const EVENTS: usize = 512;

/// The most bytes of one read of a connection.
const SCRATCH: usize = 16 << 10;

/// The connections.
pub struct Crowd {
    epoll: OwnedFd,
    connections: Vec<Connection>,
    events: Vec<epoll::Event>,
    scratch: Vec<u8>,
}

impl Crowd {
    /// No connections yet.
    ///
    /// # Errors
    /// The limit of open files is reached.
    pub fn new() -> Result<Crowd> {
        Ok(Crowd {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            connections: Vec::new(),
            events: Vec::with_capacity(EVENTS),
            scratch: vec![0; SCRATCH],
        })
    }

    /// Connects one more; returns its number.
    ///
    /// # Errors
    /// The server does not accept.
    pub fn open(&mut self, host: &str) -> Result<usize> {
        let number = self.connections.len();
        self.connections.push(self.connect(host, number)?);
        Ok(number)
    }

    /// Connects this one anew.
    ///
    /// # Errors
    /// The server does not accept.
    pub fn reopen(&mut self, number: usize, host: &str) -> Result<()> {
        // The old socket leaves the kernel's list as it closes.
        self.connections[number] = self.connect(host, number)?;
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// A connection, to send on and to read from.
    pub fn at(&mut self, number: usize) -> &mut Connection {
        &mut self.connections[number]
    }

    /// Waits until connections are readable, or until that instant; puts their numbers in
    /// `ready`.
    ///
    /// # Errors
    /// epoll fails.
    pub fn wait(&mut self, until: Instant, ready: &mut Vec<usize>) -> Result<()> {
        ready.clear();
        self.events.clear();
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).context("a wait of centuries")?;
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            Some(&timeout),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &self.events {
            let number = event.data;
            ready.push(usize::try_from(number.u64()).expect("it was a usize"));
        }
        Ok(())
    }

    /// Reads from a connection, once; false when the peer has closed it.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn receive(&mut self, number: usize) -> Result<bool> {
        self.connections[number].receive(&mut self.scratch)
    }

    fn connect(&self, host: &str, number: usize) -> Result<Connection> {
        let connection = Connection::open(host)?;
        connection.stream.set_nonblocking(true)?;
        let data = EventData::new_u64(number as u64);
        epoll::add(&self.epoll, &connection.stream, data, EventFlags::IN)?;
        Ok(connection)
    }
}
