//! `keelson util snapshot restore`.

use std::path::Path;

use clap::Parser;
use keelson_store::snapshot::{self, InputError, RestoreError, RestoreOptions};

use super::input::{Input, OpenError};
use crate::commands::new_member::{NewEngine, NewMember, NewMemberError};

/// The default of --bump-revision: more than a cluster writes
/// between two backups, and what etcd's documentation recommends.
const BUMP_DEFAULT: u64 = 1_000_000_000;

/// Far from the end of the revisions, of which there are 2^63.
const BUMP_MAX: u64 = 1 << 60;

/// Make a data directory from a snapshot of Keelson or etcd, for a member of a new cluster. Run it
/// for each member, with the same snapshot and the same --initial-cluster.
///
/// Clients have seen later revisions than the snapshot's, and would take its newer ones for old. So
/// the revision rises by --bump-revision, and all before counts as compacted; --bump-revision=0
/// leaves the revision as it is in the snapshot.
#[derive(Debug, Parser)]
pub(super) struct RestoreArguments {
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    member: NewMember,
    #[command(flatten)]
    engine: NewEngine,
    /// Accept a snapshot whose checksum is missing or wrong, such as a copy of member/snap/db.
    #[arg(long)]
    skip_hash_check: bool,
    /// Added to the revision; 0 for nothing.
    #[arg(long, default_value_t = BUMP_DEFAULT,
        value_parser = clap::value_parser!(u64).range(..=BUMP_MAX))]
    bump_revision: u64,
    /// Whether everything up to the raised revision counts as compacted.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        default_value = "true", action = clap::ArgAction::Set)]
    mark_compacted: bool,
    /// Ignored: etcd's option for its memory map.
    #[arg(long, hide = true)]
    initial_memory_map_size: Option<u64>,
}

/// Why no data directory was made.
#[derive(Debug, thiserror::Error)]
pub(super) enum RestoreCommandError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error(transparent)]
    Member(#[from] NewMemberError),
}

impl RestoreArguments {
    /// Restores, and returns what is to be printed.
    pub(super) async fn run(self) -> Result<String, RestoreCommandError> {
        let config = self.engine.of(self.member.config()?);
        // Beside the data directory, where the room for the snapshot is.
        let opened = self.input.open(beside(&config.data_dir)).await?;
        let file = &opened.file;
        if !self.skip_hash_check {
            file.check_sum()?;
        }
        let options = RestoreOptions {
            bump_revision: self.bump_revision,
            mark_compacted: self.mark_compacted && 0 < self.bump_revision,
        };
        let restored = snapshot::restore(file, &config, options)?;
        let (cluster, member) = restored.identity;
        let mut text = format!(
            "restored into {}: member {member:x} ({}) of cluster {cluster:x}, revision {}\n",
            config.data_dir.display(),
            config.name,
            restored.revision
        );
        text += &match (options.bump_revision, options.mark_compacted) {
            (0, _) => "The revision is the snapshot's: clients that have seen later ones must be \
                       restarted.\n"
                .to_owned(),
            (by, true) => format!(
                "It is raised by {by}, and all before is compacted, so that no client takes new \
                 data for old; --bump-revision=0 turns this off.\n"
            ),
            (by, false) => format!("It is raised by {by}.\n"),
        };
        for member in restored.dropped {
            text += &format!("The snapshot's member {member}.\n");
        }
        Ok(text)
    }
}

/// The nearest directory above the path that exists.
fn beside(path: &Path) -> &Path {
    let mut above = path.ancestors().skip(1);
    let found = above.find(|dir| dir.is_dir());
    found.unwrap_or(Path::new("."))
}
