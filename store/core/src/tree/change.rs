//! Changes by requests. The order of the checks is etcd's.

use std::sync::Arc;

use bytes::Bytes;
use keelson_proto::internal::TreeRequest;
use keelson_proto::internal::tree_request::Op;

use super::arena::{ArenaNode, Content, Id, ROOT};
use super::walk::{self, WalkScope};
use super::{Action, ErrorCode, Event, NodeExtern, Tree, TreeError, path};

/// 2000-01-01. etcd ignores an expiry before it, when a node is created: the node never expires.
const EXPIRES_MIN_NS: i64 = 946_684_800_000_000_000;

/// The outcome of a change, without its index.
pub(super) struct Outcome {
    pub(super) action: Action,
    pub(super) node: NodeExtern,
    pub(super) prev: Option<NodeExtern>,
    pub(super) refresh: bool,
    pub(super) removed: Vec<Bytes>,
}

impl Tree {
    /// Applies a request, or returns an error and changes nothing.
    ///
    /// # Errors
    /// Every [`ErrorCode`] but 209 and 401.
    pub fn apply(&mut self, request: &TreeRequest) -> Result<Arc<Event>, TreeError> {
        let path = path::clean(&request.path);
        let outcome = match request.op() {
            Op::Set => self.set(&path, request),
            Op::Create => self.create(&path, request),
            Op::Update => self.update(&path, request),
            Op::CompareAndSwap => self.compare_and_swap(&path, request),
            Op::CreateInOrder => self.create_in_order(&path, request),
            Op::Delete => self.delete(&path, request),
            Op::CompareAndDelete => self.compare_and_delete(&path, request),
        };
        outcome.map(|outcome| self.record(outcome))
    }

    fn set(&mut self, path: &[u8], request: &TreeRequest) -> Result<Outcome, TreeError> {
        let before = match self.find(path) {
            Ok(id) => Some(id),
            Err(miss) if miss.code == ErrorCode::KeyNotFound && !request.refresh => None,
            Err(miss) => return Err(self.refuse(miss.code, miss.at)),
        };
        self.check_writable(path)?;
        let Some(id) = before else {
            return Ok(self.place(path, Action::Set, request));
        };
        let Content::File(value) = &self.arena[id].content else {
            return Err(self.refuse(ErrorCode::NotFile, path));
        };
        let value = match request.refresh {
            true => value.clone(),
            false => Bytes::copy_from_slice(&request.value),
        };
        let key = Bytes::copy_from_slice(path);
        let prev = self.show(id, key.clone(), request.time_ns);
        let index = self.next_index();
        self.arena.change(id, |entry| {
            entry.content = content(request.dir, value);
            (entry.created, entry.modified) = (index, index);
        });
        self.set_deadline(id, first_deadline(request));
        Ok(Outcome {
            refresh: request.refresh,
            prev: Some(prev),
            ..self.made(id, key, Action::Set, request)
        })
    }

    fn create(&mut self, path: &[u8], request: &TreeRequest) -> Result<Outcome, TreeError> {
        self.check_writable(path)?;
        match self.find(path) {
            Ok(_) => Err(self.refuse(ErrorCode::NodeExist, path)),
            Err(miss) if miss.code == ErrorCode::KeyNotFound => {
                Ok(self.place(path, Action::Create, request))
            }
            Err(miss) => Err(self.refuse(miss.code, miss.at)),
        }
    }

    /// Creates a file named by the next index: files in such a directory are ordered by creation.
    fn create_in_order(&mut self, dir: &[u8], request: &TreeRequest) -> Result<Outcome, TreeError> {
        let mut path = path::stem(dir).to_vec();
        path::push(&mut path, format!("{:020}", self.next_index()).as_bytes());
        self.create(&path, request)
    }

    fn update(&mut self, path: &[u8], request: &TreeRequest) -> Result<Outcome, TreeError> {
        self.check_writable(path)?;
        let id = self.expect(path)?;
        if self.is_dir(id) && !request.value.is_empty() {
            return Err(self.refuse(ErrorCode::NotFile, path));
        }
        Ok(self.rewrite(id, path, Action::Update, request))
    }

    fn compare_and_swap(
        &mut self,
        path: &[u8],
        request: &TreeRequest,
    ) -> Result<Outcome, TreeError> {
        self.check_writable(path)?;
        let id = self.compare(path, request)?;
        Ok(self.rewrite(id, path, Action::CompareAndSwap, request))
    }

    fn delete(&mut self, path: &[u8], request: &TreeRequest) -> Result<Outcome, TreeError> {
        self.check_writable(path)?;
        let id = self.expect(path)?;
        if let Some(children) = self.arena[id].children() {
            if !request.dir && !request.recursive {
                return Err(self.refuse(ErrorCode::NotFile, path));
            }
            if !children.is_empty() && !request.recursive {
                return Err(self.refuse(ErrorCode::DirNotEmpty, path));
            }
        }
        let key = Bytes::copy_from_slice(path);
        Ok(self.take_out(id, key, Action::Delete, request.time_ns))
    }

    /// Also for the fixed nodes: as directories they get the same error in etcd.
    fn compare_and_delete(
        &mut self,
        path: &[u8],
        request: &TreeRequest,
    ) -> Result<Outcome, TreeError> {
        let id = self.compare(path, request)?;
        let key = Bytes::copy_from_slice(path);
        Ok(self.take_out(id, key, Action::CompareAndDelete, request.time_ns))
    }

    fn check_writable(&self, path: &[u8]) -> Result<(), TreeError> {
        match path::is_read_only(path) {
            true => Err(self.refuse(ErrorCode::RootReadOnly, b"/")),
            false => Ok(()),
        }
    }

    /// The file at the path, if it is as the request expects.
    fn compare(&self, path: &[u8], request: &TreeRequest) -> Result<Id, TreeError> {
        let id = self.expect(path)?;
        let entry = &self.arena[id];
        let Content::File(value) = &entry.content else {
            return Err(self.refuse(ErrorCode::NotFile, path));
        };
        let (wanted, index) = (&request.prev_value, request.prev_index);
        let mut cause = Vec::new();
        if !wanted.is_empty() && wanted != value {
            cause.extend([&b"["[..], wanted, b" != ", value, b"]"].concat());
        }
        if index != 0 && index != entry.modified {
            let space = if cause.is_empty() { "" } else { " " };
            cause.extend(format!("{space}[{index} != {}]", entry.modified).bytes());
        }
        match cause.is_empty() {
            true => Ok(id),
            false => Err(self.refuse(ErrorCode::TestFailed, &cause)),
        }
    }

    /// Creates a node, and the missing directories of its path, which never expire.
    fn place(&mut self, path: &[u8], action: Action, request: &TreeRequest) -> Outcome {
        let index = self.next_index();
        let mut names = path::names(path).peekable();
        let mut at = ROOT;
        while let Some(name) = names.next() {
            if let Some(child) = self.arena.child(at, name) {
                at = child;
                continue;
            }
            let content = match names.peek() {
                Some(_) => Content::dir(),
                None => content(request.dir, Bytes::copy_from_slice(&request.value)),
            };
            at = self.arena.insert(ArenaNode {
                parent: at,
                name: Bytes::copy_from_slice(name),
                content,
                created: index,
                modified: index,
                expires_ns: 0,
                ttl_set: 0,
            });
        }
        self.set_deadline(at, first_deadline(request));
        self.made(at, Bytes::copy_from_slice(path), action, request)
    }

    fn made(&self, id: Id, key: Bytes, action: Action, request: &TreeRequest) -> Outcome {
        Outcome {
            action,
            node: self.show(id, key, request.time_ns),
            prev: None,
            refresh: false,
            removed: Vec::new(),
        }
    }

    /// Changes an existing node. A directory's own index does not change, regardless of the event.
    fn rewrite(&mut self, id: Id, path: &[u8], action: Action, request: &TreeRequest) -> Outcome {
        let key = Bytes::copy_from_slice(path);
        let prev = self.show(id, key.clone(), request.time_ns);
        let index = self.next_index();
        self.arena.change(id, |entry| {
            if let Content::File(value) = &mut entry.content {
                entry.modified = index;
                if !request.refresh {
                    *value = Bytes::copy_from_slice(&request.value);
                }
            }
        });
        self.set_deadline(id, request.expires_ns);
        let made = self.made(id, key, action, request);
        Outcome {
            node: NodeExtern {
                modified: index,
                ..made.node
            },
            prev: Some(prev),
            refresh: request.refresh,
            ..made
        }
    }

    /// Removes a node and everything below it.
    pub(super) fn take_out(&mut self, id: Id, key: Bytes, action: Action, now_ns: i64) -> Outcome {
        let prev = self.show(id, key.clone(), now_ns);
        let reach = WalkScope {
            recursive: true,
            hidden: true,
        };
        let below = walk::below(&self.arena, id, &key, reach);
        self.forget(id);
        for met in &below {
            self.forget(met.id);
        }
        let node = NodeExtern {
            key,
            dir: prev.dir,
            modified: self.next_index(),
            created: prev.created,
            ..NodeExtern::default()
        };
        Outcome {
            action,
            node,
            prev: Some(prev),
            refresh: false,
            removed: below.into_iter().map(|met| met.key).collect(),
        }
    }

    /// Removes a node, whose children must be removed as well.
    pub(super) fn forget(&mut self, id: Id) {
        let entry = self.arena.remove(id);
        self.deadlines.remove(&(entry.expires_ns, id));
    }

    fn set_deadline(&mut self, id: Id, expires_ns: i64) {
        let before = self.arena[id].expires_ns;
        if before == 0 && expires_ns == 0 {
            return;
        }
        self.deadlines.remove(&(before, id));
        if expires_ns != 0 {
            self.deadlines.insert((expires_ns, id));
        }
        let index = self.next_index();
        self.arena.change(id, |entry| {
            entry.expires_ns = expires_ns;
            entry.ttl_set = if expires_ns == 0 { 0 } else { index };
        });
    }

    /// Advances the index and records the event.
    pub(super) fn record(&mut self, outcome: Outcome) -> Arc<Event> {
        let event = Arc::new(Event {
            action: outcome.action,
            node: outcome.node,
            prev: outcome.prev,
            index: self.next_index(),
            refresh: outcome.refresh,
            removed: outcome.removed,
            encoding: Default::default(),
        });
        self.history.push(Some(&event));
        event
    }

    fn next_index(&self) -> u64 {
        self.index() + 1
    }
}

fn content(dir: bool, value: Bytes) -> Content {
    match dir {
        true => Content::dir(),
        false => Content::File(value),
    }
}

/// The expiry time of a new node.
fn first_deadline(request: &TreeRequest) -> i64 {
    match request.expires_ns < EXPIRES_MIN_NS {
        true => 0,
        false => request.expires_ns,
    }
}
