//! The progress of a replacement on a terminal. Where the output is piped there is none.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The interval of the animation.
const TICK: Duration = Duration::from_millis(120);

/// A line that shows what the command waits for.
pub(super) struct ProgressLine(ProgressBar);

impl ProgressLine {
    /// indicatif hides it if standard error is no terminal.
    pub(super) fn new() -> ProgressLine {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(TICK);
        ProgressLine(bar)
    }

    pub(super) fn show(&self, text: String) {
        self.0.set_message(text);
    }

    /// Prints a result, which stays and is printed to a pipe as well.
    pub(super) fn print(&self, text: &str) {
        self.0.suspend(|| println!("{text}"));
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
