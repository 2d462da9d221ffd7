//! The port over real sockets.

mod hosts;
mod parking;
mod rest;
mod tls;
mod tls_certificates;
mod unread;
mod waits;
