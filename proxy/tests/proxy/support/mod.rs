//! Fake members, a proxy before them, and a client that sees every byte.

mod callee;
mod client;
mod fake;
mod running;

pub(crate) use callee::{Callee, Fate};
pub(crate) use client::{Client, get, put};
pub(crate) use fake::{Fake, Seen, Step, answer, answer_at};
pub(crate) use running::{Running, config};
