//! SIGTERM and SIGINT: the first requests a clean stop, the second ends the process at once. The
//! process then dies of that signal, as etcd does, so that systemd and shells can distinguish it
//! from a failure. Signals that a Go program survives do not end it either. SIGHUP reads TLS files
//! again (`certificates.rs`); without any it ends the process, unless it is ignored (`nohup`).

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rustix::process::Signal as Number;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// A signal that ends the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminated,
}

impl Stop {
    /// Go's name of the signal.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Stop::Interrupt => "interrupt",
            Stop::Terminated => "terminated",
        }
    }

    fn number(self) -> i32 {
        match self {
            Stop::Interrupt => SignalKind::interrupt().as_raw_value(),
            Stop::Terminated => SignalKind::terminate().as_raw_value(),
        }
    }

    /// Ends the process by this signal, without any clean-up.
    pub(crate) fn end_process(self) -> ! {
        // The first process of a container has no default handlers; etcd exits with 0 there.
        if std::process::id() == 1 {
            std::process::exit(0);
        }
        // On success it does not return.
        let _ = signal_hook::low_level::emulate_default_handler(self.number());
        std::process::exit(128 + self.number());
    }
}

/// Signals that Go's runtime catches without further effect, though the kernel would end the
/// process. SIGPIPE is among them, and Rust's runtime ignores it already.
const HARMLESS: [Number; 9] = [
    Number::USR1,
    Number::USR2,
    Number::ALARM,
    Number::XCPU,
    Number::XFSZ,
    Number::VTALARM,
    Number::PROF,
    Number::IO,
    Number::POWER,
];

/// Makes the signals of [`HARMLESS`] harmless. Children get the defaults back.
pub(crate) fn make_harmless() -> io::Result<()> {
    for signal in HARMLESS {
        // A handler that sets an unread flag: an ignored signal would be inherited by children.
        signal_hook::flag::register(signal.as_raw(), Arc::default())?;
    }
    Ok(())
}

/// SIGHUP has come.
static HANGUP: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From now on SIGHUP is remembered and does not end the process: it has files to read again, and
/// may not have read them yet.
pub(crate) fn remember_hangup() -> io::Result<()> {
    signal_hook::flag::register(Number::HUP.as_raw(), Arc::clone(&HANGUP)).map(drop)
}

/// Whether SIGHUP has come since the last call, if it is remembered.
pub(crate) fn has_hung_up() -> bool {
    HANGUP.swap(false, Ordering::Relaxed)
}

/// Stops this process as SIGTERM would, and ends it when the clean stop takes too long.
pub(crate) fn stop_this_process() -> ! {
    let _ = signal_hook::low_level::raise(Stop::Terminated.number());
    std::thread::sleep(Duration::from_secs(10));
    std::process::exit(1);
}

/// The signals, caught from the creation of this value on.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(crate) fn catch() -> io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) -> Stop {
        tokio::select! {
            _ = self.interrupt.recv() => Stop::Interrupt,
            _ = self.terminate.recv() => Stop::Terminated,
        }
    }
}
