//! The number of keys and bytes of each prefix, counted when they are requested.

use std::collections::BTreeMap;

use keelson_core::state;
use keelson_core::tree::NodeExtern;
use keelson_proto::etcdserverpb::RangeRequest;
use keelson_proto::keelsonpb::{KeySpace, PrefixUse, UsageResponse};

use super::{PREFIXES_MAX, prefix};
use crate::{Error, Store};

/// Bytes of a step, after which other tasks of the thread run.
const STEP_BYTES: usize = 64 * 1024;

/// The largest directory below the root of the v2 tree that is listed at a time, in bytes.
const DIRECTORY_BYTES_MAX: usize = 64 << 20;

/// How often a count is begun again because a compaction has passed its revision.
const ATTEMPTS_MAX: usize = 3;

/// Keys, and their bytes with their values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size {
    keys: u64,
    bytes: u64,
}

impl Size {
    fn add(&mut self, keys: u64, bytes: usize) {
        self.keys += keys;
        self.bytes += bytes as u64;
    }
}

/// The sizes by prefix of one API.
#[derive(Debug, Default)]
struct SpaceSizes {
    prefixes: BTreeMap<Box<[u8]>, Size>,
    others: Size,
}

impl SpaceSizes {
    /// Adds a key. Keys come in order, so the first prefixes have places of their own.
    fn add(&mut self, key: &[u8], value_bytes: usize) {
        let bytes = key.len() + value_bytes;
        let prefix = prefix::of(key);
        if let Some(size) = self.prefixes.get_mut(prefix) {
            size.add(1, bytes);
        } else if self.prefixes.len() < PREFIXES_MAX {
            self.prefixes
                .entry(prefix.into())
                .or_default()
                .add(1, bytes);
        } else {
            self.others.add(1, bytes);
        }
    }
}

/// The sizes of both APIs.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    v3: SpaceSizes,
    v2: SpaceSizes,
}

impl Sizes {
    /// Adds them to the account of use.
    pub(super) fn merge_into(self, usage: &mut UsageResponse) {
        for (space, sizes) in [(KeySpace::V3, self.v3), (KeySpace::V2, self.v2)] {
            for (prefix, size) in sizes.prefixes {
                let is_it = |one: &&mut PrefixUse| one.space() == space && *one.prefix == *prefix;
                match usage.prefixes.iter_mut().find(is_it) {
                    Some(one) => (one.keys, one.bytes) = (size.keys, size.bytes),
                    None => usage.prefixes.push(PrefixUse {
                        space: space.into(),
                        prefix: prefix.into_vec().into(),
                        keys: size.keys,
                        bytes: size.bytes,
                        ..PrefixUse::default()
                    }),
                }
            }
            let others = usage.others.iter_mut();
            for one in others.filter(|one| one.space() == space) {
                (one.keys, one.bytes) = (sizes.others.keys, sizes.others.bytes);
            }
        }
    }
}

impl Store {
    /// Counts all keys at one revision, in steps.
    ///
    /// # Errors
    /// `TooManyRequests` while as many others read all rows; those of the engine.
    pub(super) async fn count_sizes(&self) -> Result<Sizes, Error> {
        let _slot = self.snapshot_slot()?;
        for _ in 0..ATTEMPTS_MAX {
            match self.count_v3().await {
                Err(state::Error::Compacted) => {}
                v3 => {
                    return Ok(Sizes {
                        v3: v3?,
                        v2: self.count_v2(),
                    });
                }
            }
        }
        Err(state::Error::Compacted.into())
    }

    async fn count_v3(&self) -> Result<SpaceSizes, state::Error> {
        let all = RangeRequest {
            key: b"\0".as_slice().into(),
            range_end: b"\0".as_slice().into(),
            serializable: true,
            ..RangeRequest::default()
        };
        let mut sizes = SpaceSizes::default();
        let mut steps = self.view().range_stream(&all, STEP_BYTES)?;
        while let Some(step) = steps.next_chunk()? {
            for pair in &step.kvs {
                sizes.add(&pair.key, pair.value.len());
            }
            if step.header.is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        Ok(sizes)
    }

    /// Hidden nodes are left out. A directory below the root that is too large to be listed counts
    /// as one key.
    fn count_v2(&self) -> SpaceSizes {
        let mut sizes = SpaceSizes::default();
        let root = self.tree_list(prefix::V2_KEYS, false, DIRECTORY_BYTES_MAX);
        for child in &root.map(|(root, _)| root.nodes).unwrap_or_default() {
            match self.tree_list(&child.key, true, DIRECTORY_BYTES_MAX) {
                Ok((child, _)) => count_node(&child, &mut sizes),
                Err(_) => sizes.add(prefix::v2_key(&child.key), 0),
            }
        }
        sizes
    }
}

fn count_node(top: &NodeExtern, sizes: &mut SpaceSizes) {
    let mut open = vec![top];
    while let Some(node) = open.pop() {
        if !node.dir {
            sizes.add(
                prefix::v2_key(&node.key),
                node.value.as_ref().map_or(0, |value| value.len()),
            );
        }
        open.extend(node.nodes.iter().rev());
    }
}
