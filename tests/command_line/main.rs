//! The binary from outside: what scripts see of it - exit codes, texts, log lines, signals.

mod flags;
mod member;
mod playground;
mod process;
