//! The port over real sockets.

mod hosts;
mod parking;
mod rest;
mod tls;
mod unread;
mod waits;
