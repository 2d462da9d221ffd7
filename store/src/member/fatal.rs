//! The end of a member after an error it cannot survive: a failed fsync, a damaged engine, a full
//! disk.
//!
//! Nothing is retried: after a failed fsync the content of the disk is undefined (fsyncgate). The
//! process ends at once, so that no other thread acknowledges more. An embedder's handler may
//! return; then nothing more is appended, applied, flushed, sent or answered: every owner checks
//! `is_raised` before it continues.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Error, StateError};

#[cfg(test)]
pub(crate) mod tests;

/// The handler for an error that the member cannot survive. `src/` ends the process. An
/// embedder's handler may return, but the member answers no more requests.
pub type FatalHandler = Arc<dyn Fn(&str) + Send + Sync>;

/// Calls the handler; shared by the member's threads.
#[derive(Clone)]
pub(crate) struct Fatal {
    handler: FatalHandler,
    raised: Arc<AtomicBool>,
}

impl Fatal {
    pub(crate) fn new(handler: FatalHandler) -> Fatal {
        Fatal {
            handler,
            raised: Arc::default(),
        }
    }

    /// Whether the member must stop all work.
    pub(crate) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }

    /// Reports the error and ends the member. It returns only if the embedder's handler does; the
    /// calling thread must then stop.
    pub(crate) fn raise(&self, doing: &str, error: &dyn std::fmt::Display) {
        self.raised.store(true, Ordering::Release);
        let text = format!("{doing}: {error}");
        tracing::error!(error = %text, "the member stops after a fatal error");
        (self.handler)(&text);
    }

    /// The outcome of a read. A storage engine that fails, or lacks a row, ends the member as it
    /// does while entries are applied: what this member would read next is as likely to be wrong.
    pub(crate) fn of_read<T, E: Into<Error>>(&self, read: Result<T, E>) -> Result<T, Error> {
        read.map_err(|error| {
            let error = error.into();
            if let Error::State(StateError::Engine(cause)) = &error {
                self.raise("reading the state", cause);
            }
            error
        })
    }

    /// Ends the member after a panic, which has left some state inconsistent.
    pub(crate) fn raise_panic(&self, doing: &str) {
        self.raise(doing, &"a panic; stderr has its message");
    }

    /// Runs `work`, and ends the member if it panics, since the state is then inconsistent.
    /// Release builds of the binary abort at once; in an embedder's process a panic unwinds.
    pub(crate) fn guard<T>(&self, doing: &str, work: impl FnOnce() -> T) -> T {
        let mut guard = Guard {
            fatal: self,
            doing,
            is_done: false,
        };
        let done = work();
        guard.is_done = true;
        done
    }
}

struct Guard<'a> {
    fatal: &'a Fatal,
    doing: &'a str,
    is_done: bool,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.fatal.raise_panic(self.doing);
        }
    }
}

/// A handler that ends the process with status 1.
pub fn end_process() -> FatalHandler {
    Arc::new(|text| {
        // Not with `eprintln!`: a test's harness would keep the text, and lose it with the process.
        let _ = writeln!(std::io::stderr(), "keelson: fatal: {text}");
        std::process::exit(1);
    })
}
