//! A data directory that is made from rows, for a member that then starts from it.
//!
//! The state comes first and the log last: what an interruption leaves is a directory that no
//! member starts from.

use std::path::PathBuf;
use std::sync::Arc;

use keelson_core::engine::Engine;
use keelson_core::state::Genesis;
use keelson_core::{HardState, LastIncluded, MemberId};

use super::restore::RestoreError;
use crate::Config;
use crate::disk::{Disk, RealDisk};
use crate::engine::generation::{Fresh, Generations};
use crate::member::bootstrap::Bootstrap;
use crate::member::recover::{EngineOptions, Layout, make_private};
use crate::wal::{Identity, Wal, WalConfig};

/// A directory without a log.
pub(crate) struct NewDirectory {
    layout: Layout,
    generations: Generations<RealDisk>,
    fresh: Fresh,
    /// Its identity in the new cluster.
    pub(crate) identity: Identity,
    /// The members of the new cluster.
    pub(crate) genesis: Genesis,
    /// The empty engine. Every clone must be dropped before the end.
    pub(crate) engine: Arc<dyn Engine>,
}

impl NewDirectory {
    /// Begins the data directory of `config`, which must be empty.
    ///
    /// # Errors
    /// Those of [`RestoreError`].
    pub(crate) fn begin(config: &Config) -> Result<NewDirectory, RestoreError> {
        let layout = Layout::of(config);
        refuse_used([&config.data_dir, &layout.wal])?;
        NewDirectory::begin_in(config, layout)
    }

    /// The same, in a data directory that may have files other than a member's.
    ///
    /// # Errors
    /// Those of [`RestoreError`].
    pub(crate) fn begin_beside(config: &Config) -> Result<NewDirectory, RestoreError> {
        NewDirectory::check_beside(config)?;
        NewDirectory::begin_in(config, Layout::of(config))
    }

    /// Refuses directories of a member that hold anything.
    pub(crate) fn check_beside(config: &Config) -> Result<(), RestoreError> {
        let layout = Layout::of(config);
        refuse_used([&config.data_dir.join("member"), &layout.wal])
    }

    fn begin_in(config: &Config, layout: Layout) -> Result<NewDirectory, RestoreError> {
        let bootstrap = Bootstrap::founding(config)?;
        make_private(config)?;
        let mut generations = Generations::open(Arc::new(RealDisk), &layout.snap)?;
        let fresh = generations.begin()?;
        let options = EngineOptions::of(config);
        let engine = crate::engine::open(options.kind, &fresh.dir, options.map_bytes)?;
        Ok(NewDirectory {
            layout,
            generations,
            fresh,
            identity: bootstrap.identity,
            genesis: bootstrap.genesis.unwrap_or_default(),
            engine,
        })
    }

    /// Makes the directory one that a member starts from. Its state is at that place in the log.
    ///
    /// # Errors
    /// Those of [`RestoreError`].
    pub(crate) fn finish(mut self, mark: LastIncluded) -> Result<(), RestoreError> {
        drop(self.engine);
        self.generations.switch(&self.fresh, mark)?;
        let config = WalConfig::default();
        let disk = Arc::new(RealDisk);
        let created = Wal::create_or_open(disk, &self.layout.wal, self.identity, config);
        let (mut wal, _) = created?;
        let hard_state = HardState {
            term: mark.term,
            vote: MemberId::NONE,
            commit: mark.index,
        };
        wal.append(Some(hard_state), &[], Some(mark))?;
        wal.sync()?;
        Ok(())
    }
}

/// Refuses directories that hold anything.
pub(super) fn refuse_used(dirs: [&PathBuf; 2]) -> Result<(), RestoreError> {
    for dir in dirs {
        let is_empty = match RealDisk.exists(dir) {
            Ok(false) => true,
            Ok(true) => RealDisk.list(dir).is_ok_and(|names| names.is_empty()),
            Err(_) => false,
        };
        if !is_empty {
            return Err(RestoreError::NotEmpty(dir.clone()));
        }
    }
    Ok(())
}
