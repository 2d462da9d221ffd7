//! The binary from outside, as scripts use it: exit codes, texts, log lines, signals.

#![expect(clippy::unwrap_used, reason = "a test: what fails ends it")]

mod access;
mod defrag;
mod doctor;
mod flags;
mod hangup;
mod member;
mod playground;
mod process;
mod replace;
