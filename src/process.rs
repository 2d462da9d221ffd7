//! What the process is given by its parent and changes for itself, before there is a thread.

use rustix::fs::Mode;

/// Files that libraries create are the owner's alone, and the limit of open files is what the system
/// allows: systemd and shells leave it at 1024 for programs that use `select`.
pub(crate) fn prepare() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    keelson_store::raise_descriptor_limit();
}
