//! `keelson util defrag`.

use std::path::PathBuf;

use clap::Parser;
use keelson_store::defrag::{self, StoppedDefragError};

use super::output;

/// Return the room of deleted keys to the disk, in the data directory of a stopped member. A
/// running one does so with `etcdctl defrag`, and serves meanwhile.
#[derive(Debug, Parser)]
pub(super) struct DefragArguments {
    /// The data directory.
    #[arg(long)]
    data_dir: PathBuf,
    /// The directory of its log, if it is another.
    #[arg(long)]
    wal_dir: Option<PathBuf>,
}

impl DefragArguments {
    /// Defragments, and returns what is to be printed.
    pub(super) fn run(self) -> Result<String, StoppedDefragError> {
        let sizes = defrag::defragment_stopped(&self.data_dir, self.wal_dir.as_deref())?;
        let dir = self.data_dir.display();
        Ok(match sizes {
            Some((before, after)) => format!(
                "Finished defragmenting {dir}: {} before, {} now\n",
                output::size(before),
                output::size(after)
            ),
            None => format!("{dir}: its storage engine returns room by itself\n"),
        })
    }
}
