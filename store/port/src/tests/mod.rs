//! The port over real sockets.

mod parking;
mod rest;
mod tls;
mod unread;
mod waits;
