//! The port over real sockets.

mod parking;
