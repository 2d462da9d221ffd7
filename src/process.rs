//! Process-wide settings, made before any thread starts.

use rustix::fs::Mode;

/// Restricts the files that libraries create to their owner, and raises the limit of open files to
/// the hard one: systemd and shells leave it at 1024 for programs that use `select`.
pub(crate) fn prepare() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    keelson_store::raise_descriptor_limit();
}
