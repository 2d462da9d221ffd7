//! Reads of the model, at any index.

use std::ops::Bound;

use bytes::Bytes;

use super::{Event, HISTORY, Node, State, Tree, TreeError, code, prefixes, refusal, stem};

const SECOND_NS: i128 = 1_000_000_000;

impl Tree {
    /// The answer to a get whose X-Etcd-Index is `index`.
    pub fn get(
        &self,
        path: &[u8],
        recursive: bool,
        index: u64,
        now_ns: i64,
    ) -> Result<Node, TreeError> {
        let found = self.find(path, index)?;
        let mut node = show(path, found, now_ns);
        if found.is_dir() {
            node.nodes = self.list(path, recursive, index, now_ns);
        }
        Ok(node)
    }

    /// `Store.internalGet`.
    pub(super) fn find(&self, path: &[u8], index: u64) -> Result<&State, TreeError> {
        for way in prefixes(path) {
            match self.was(way, index) {
                Some(state) if way.len() == path.len() => return Ok(state),
                Some(state) if state.is_dir() => {}
                Some(_) => return Err(refusal(code::NOT_DIR, way, index)),
                None => return Err(refusal(code::KEY_NOT_FOUND, way, index)),
            }
        }
        unreachable!("the whole path is the last prefix")
    }

    fn list(&self, dir: &[u8], recursive: bool, index: u64, now_ns: i64) -> Vec<Node> {
        let stem = stem(dir);
        let mut nodes = Vec::new();
        for (path, state) in self.below(dir, index) {
            let name = &path[stem.len()..];
            if name.contains(&b'/') || name.starts_with(b"_") {
                continue;
            }
            let mut node = show(path, state, now_ns);
            if recursive && state.is_dir() {
                node.nodes = self.list(path, recursive, index, now_ns);
            }
            nodes.push(node);
        }
        nodes
    }

    /// Everything below a path, hidden or not.
    pub(super) fn below(&self, path: &[u8], index: u64) -> impl Iterator<Item = (&Bytes, &State)> {
        let stem = stem(path);
        let from = Bound::Excluded(Bytes::from(stem.clone()));
        let later = self.paths.range::<Bytes, _>((from, Bound::Unbounded));
        let below = later.take_while(move |(path, _)| path.starts_with(&stem));
        below.filter_map(move |(path, _)| Some((path, self.was(path, index)?)))
    }

    /// `EventHistory.scan`, as on a member whose tree is at `index`.
    pub fn scan(
        &self,
        path: &[u8],
        recursive: bool,
        since: u64,
        index: u64,
    ) -> Result<Option<&Event>, TreeError> {
        let oldest = (index + 1).saturating_sub(HISTORY).max(1);
        if since == 0 {
            return Ok(None);
        }
        if since < oldest {
            let cause = format!("the requested history has been cleared [{oldest}/{since}]");
            return Err(refusal(code::EVENT_INDEX_CLEARED, cause.as_bytes(), index));
        }
        let mut events = (since..=index).filter_map(|index| self.event(index));
        Ok(events.find(|event| is_for(event, path, recursive)))
    }
}

/// Whether the history has the event for a watcher of the path.
fn is_for(event: &Event, path: &[u8], recursive: bool) -> bool {
    if event.refresh {
        return false;
    }
    let key = &event.node.key;
    let below = recursive && key.starts_with(&stem(path));
    let dir = event.prev.as_ref().filter(|prev| prev.dir);
    let ended = ["delete", "expire"].contains(&event.action);
    let above = ended && dir.is_some_and(|dir| path.starts_with(&dir.key));
    key == path || below || above
}

/// Whether a watcher of the path is sent the event as it happens: etcd's `watcherHub.notify`. The
/// event is at `key`, and `removed` lists what was deleted with it. No watcher is sent a refresh.
pub fn concerns(key: &[u8], removed: &[Bytes], path: &[u8], recursive: bool) -> bool {
    let below = key.strip_prefix(&stem(path)[..]).filter(|_| recursive);
    let is_hidden = |rest: &[u8]| {
        rest.split(|byte| *byte == b'/')
            .any(|name| name.starts_with(b"_"))
    };
    key == path
        || removed.iter().any(|gone| gone == path)
        || below.is_some_and(|rest| !is_hidden(rest))
}

/// A node without children. Seconds are rounded up, and never below 0 (etcd's are).
pub(super) fn show(path: &[u8], state: &State, now_ns: i64) -> Node {
    let ends = state.expires_ns != 0;
    let left = i128::from(state.expires_ns) - i128::from(now_ns);
    let seconds = (left + SECOND_NS - 1).div_euclid(SECOND_NS).max(0);
    Node {
        key: Bytes::copy_from_slice(path),
        value: state.value.clone(),
        dir: state.is_dir(),
        expires_ns: ends.then_some(state.expires_ns),
        ttl: if ends { seconds as i64 } else { 0 },
        nodes: Vec::new(),
        modified: state.modified,
        created: state.created,
    }
}
