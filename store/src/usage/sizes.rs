//! The number of keys and bytes of each prefix, counted when they are requested.

use std::collections::HashMap;

use keelson_core::state;
use keelson_proto::etcdserverpb::RangeRequest;
use keelson_proto::keelsonpb::{KeySpace, PrefixUse, UsageResponse};

use super::prefix;
use super::table::{Sum, Table};
use crate::{Error, Store};

/// Bytes of a step, after which other tasks of the thread run.
const STEP_BYTES: usize = 64 * 1024;

/// The largest listing of the first two levels of the v2 tree, without what is below, in bytes.
const LISTING_BYTES_MAX: usize = 16 << 20;

/// The nodes of the v2 tree that are counted at a time, some milliseconds: changes of the tree wait
/// meanwhile.
const NODES_MAX: usize = 20_000;

/// How often a count is begun again because a compaction has passed its revision.
const ATTEMPTS_MAX: usize = 3;

/// Keys, and their bytes with their values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size {
    keys: u64,
    bytes: u64,
}

impl Size {
    fn of(key: &[u8], value_bytes: usize) -> Size {
        Size {
            keys: 1,
            bytes: (key.len() + value_bytes) as u64,
        }
    }
}

impl Sum for Size {
    fn add(&mut self, other: Size) {
        self.keys += other.keys;
        self.bytes += other.bytes;
    }

    fn weight(&self) -> u64 {
        self.bytes
    }
}

/// The sizes of both APIs.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    v3: Table<Size>,
    v2: Table<Size>,
}

impl Sizes {
    /// Adds them to the account of use.
    pub(super) fn merge_into(&self, usage: &mut UsageResponse) {
        for (space, sizes) in [(KeySpace::V3, &self.v3), (KeySpace::V2, &self.v2)] {
            let mut sums: HashMap<&[u8], Size> = sizes.sums().into_iter().collect();
            let of_space = |one: &&mut PrefixUse| one.space() == space;
            for one in usage.prefixes.iter_mut().filter(of_space) {
                if let Some(size) = sums.remove(&*one.prefix) {
                    (one.keys, one.bytes) = (size.keys, size.bytes);
                }
            }
            usage
                .prefixes
                .extend(sums.into_iter().map(|(prefix, size)| PrefixUse {
                    space: space.into(),
                    prefix: prefix.to_vec().into(),
                    keys: size.keys,
                    bytes: size.bytes,
                    ..PrefixUse::default()
                }));
            for one in usage.others.iter_mut().filter(of_space) {
                let others = sizes.others();
                (one.keys, one.bytes) = (others.keys, others.bytes);
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
            match self.inner.storage.fatal.of_read(self.count_v3().await) {
                Err(Error::State(state::Error::Compacted)) => {}
                v3 => {
                    let v3 = v3?;
                    let v2 = self.count_v2().await;
                    return Ok(Sizes { v3, v2 });
                }
            }
        }
        Err(state::Error::Compacted.into())
    }

    async fn count_v3(&self) -> Result<Table<Size>, state::Error> {
        let all = RangeRequest {
            key: b"\0".as_slice().into(),
            range_end: b"\0".as_slice().into(),
            serializable: true,
            ..RangeRequest::default()
        };
        let mut sizes = Table::default();
        let mut steps = self.view().range_stream(&all, STEP_BYTES)?;
        while let Some(step) = steps.next_chunk()? {
            for pair in &step.kvs {
                let size = Size::of(&pair.key, pair.value.len());
                sizes.add(prefix::of(&pair.key), size);
            }
            if step.header.is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        Ok(sizes)
    }

    /// One directory at a time, from the second level on with all below it, if that is little.
    /// Hidden nodes are left out, and directories that are gone meanwhile, or whose own listing is
    /// too large.
    async fn count_v2(&self) -> Table<Size> {
        let mut sizes = Table::default();
        let mut open = vec![(prefix::V2_KEYS.to_vec(), 0)];
        while let Some((path, depth)) = open.pop() {
            let Ok((listed, _)) = self.tree_list(&path, false, LISTING_BYTES_MAX) else {
                continue;
            };
            for child in &listed.nodes {
                let key = prefix::v2_key(&child.key);
                if !child.dir {
                    let value = child.value.as_ref();
                    let size = Size::of(key, value.map_or(0, |value| value.len()));
                    sizes.add(prefix::of(key), size);
                } else if depth + 1 < prefix::DEPTH {
                    open.push((child.key.to_vec(), depth + 1));
                } else {
                    match self.view().tree_size(&child.key, NODES_MAX) {
                        Ok(Some((keys, bytes))) => {
                            // Without the first part of each path, which is no part of a key.
                            let bytes = bytes - keys * prefix::V2_KEYS.len() as u64;
                            let inside = [key, b"/"].concat();
                            sizes.add(prefix::of(&inside), Size { keys, bytes });
                        }
                        Ok(None) => open.push((child.key.to_vec(), depth + 1)),
                        Err(_) => {}
                    }
                    tokio::task::yield_now().await;
                }
            }
            tokio::task::yield_now().await;
        }
        sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_prefixes_have_places() {
        let mut sizes = Sizes::default();
        for number in 0..5_000_u32 {
            sizes
                .v3
                .add(format!("/{number:05}/").as_bytes(), Size::of(b"k", 1));
        }
        let large = Size {
            keys: 7,
            bytes: 1 << 30,
        };
        sizes.v3.add(b"/zzz/", large);
        let mut usage = UsageResponse {
            others: vec![PrefixUse::default()],
            ..UsageResponse::default()
        };
        sizes.merge_into(&mut usage);
        let found = usage.prefixes.iter().find(|one| &*one.prefix == b"/zzz/");
        assert_eq!(found.map(|one| (one.keys, one.bytes)), Some((7, 1 << 30)));
        let keys: u64 = usage.prefixes.iter().map(|one| one.keys).sum();
        assert_eq!(keys + usage.others[0].keys, 5_007);
    }
}
