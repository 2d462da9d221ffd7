//! Changes of the model: one function for each of etcd's.

use std::sync::Arc;

use bytes::Bytes;
use keelson_core::tree::{Action, ErrorCode, Event, NodeExtern, TreeError};
use keelson_proto::internal::tree_request::Op;
use keelson_proto::internal::{TreeExpire, TreeRequest};

use super::read::show;
use super::{State, Tree, prefixes};

/// A change. It is recorded at the next index.
struct Change {
    action: Action,
    node: NodeExtern,
    prev: Option<NodeExtern>,
    refresh: bool,
    removed: Vec<Bytes>,
}

type Changed = Result<Change, TreeError>;

impl Tree {
    /// Carries out a request.
    pub fn apply(&mut self, request: &TreeRequest) -> Result<Arc<Event>, TreeError> {
        let path = &request.path[..];
        let change = match request.op() {
            Op::Set => self.set(path, request),
            Op::Create => self.create(path, request),
            Op::CreateInOrder => {
                let path = [path, format!("/{:020}", self.index + 1).as_bytes()].concat();
                self.create(&path, request)
            }
            Op::Update => self.update(path, request),
            Op::CompareAndSwap => self.compare_and_swap(path, request),
            Op::CompareAndDelete => self.compare_and_delete(path, request),
            Op::Delete => self.delete(path, request),
        }?;
        Ok(self.record(change))
    }

    /// Expires every node whose time has come, except those whose TTL was set up to the spared
    /// index. The earliest come first; those of the same time in the order of their paths.
    pub fn expire(&mut self, request: &TreeExpire) {
        loop {
            let all = self.all(self.index);
            let over = all.filter(|(_, state)| {
                let ends = state.expires_ns != 0 && state.expires_ns <= request.time_ns;
                ends && request.spared_index < state.ttl_set
            });
            let first = over.min_by_key(|(path, state)| (state.expires_ns, *path));
            let Some(path) = first.map(|(path, _)| path.clone()) else {
                return;
            };
            let change = self.take_out(&path, Action::Expire, request.time_ns);
            self.record(change);
        }
    }

    fn set(&mut self, path: &[u8], request: &TreeRequest) -> Changed {
        let now_ns = request.time_ns;
        let before = match self.find(path, self.index) {
            Ok(state) => Some(state.clone()),
            Err(error) if error.code == ErrorCode::KeyNotFound && !request.refresh => None,
            Err(error) => return Err(error),
        };
        let mut value = request.value.clone();
        if let (Some(before), true) = (&before, request.refresh) {
            value = before.value.clone().unwrap_or_default();
        }
        let change = self.internal_create(path, request, value, true, Action::Set)?;
        Ok(Change {
            prev: before.map(|state| show(path, &state, now_ns)),
            refresh: request.refresh,
            ..change
        })
    }

    fn create(&mut self, path: &[u8], request: &TreeRequest) -> Changed {
        let value = request.value.clone();
        self.internal_create(path, request, value, false, Action::Create)
    }

    fn internal_create(
        &mut self,
        path: &[u8],
        request: &TreeRequest,
        value: Bytes,
        replace: bool,
        action: Action,
    ) -> Changed {
        // 2000-01-01: a request for an earlier expiry does not get one.
        let past = request.expires_ns < 946_684_800_000_000_000;
        let expires_ns = if past { 0 } else { request.expires_ns };
        self.writable(path)?;
        let index = self.index + 1;
        let state = |value: Option<Bytes>, expires_ns: i64| State {
            value,
            created: index,
            modified: index,
            expires_ns,
            ttl_set: if expires_ns == 0 { 0 } else { index },
        };
        let mut missing = Vec::new();
        for dir in prefixes(path).filter(|way| way.len() < path.len()) {
            match self.now(dir) {
                Some(state) if state.is_dir() => {}
                Some(_) => return self.refuse(ErrorCode::NotDir, dir),
                None => missing.push(dir),
            }
        }
        match self.now(path) {
            Some(_) if !replace => return self.refuse(ErrorCode::NodeExist, path),
            Some(state) if state.is_dir() => return self.refuse(ErrorCode::NotFile, path),
            _ => {}
        }
        for dir in missing {
            self.put(dir, Some(state(None, 0)));
        }
        let made = state((!request.dir).then_some(value), expires_ns);
        let node = show(path, &made, request.time_ns);
        self.put(path, Some(made));
        Ok(Change::plain(action, node))
    }

    fn update(&mut self, path: &[u8], request: &TreeRequest) -> Changed {
        self.writable(path)?;
        let state = self.find(path, self.index)?.clone();
        if state.is_dir() && !request.value.is_empty() {
            return self.refuse(ErrorCode::NotFile, path);
        }
        Ok(self.rewrite(path, state, request, Action::Update))
    }

    fn compare_and_swap(&mut self, path: &[u8], request: &TreeRequest) -> Changed {
        self.writable(path)?;
        let state = self.compare(path, request)?;
        Ok(self.rewrite(path, state, request, Action::CompareAndSwap))
    }

    fn compare_and_delete(&mut self, path: &[u8], request: &TreeRequest) -> Changed {
        self.compare(path, request)?;
        Ok(self.take_out(path, Action::CompareAndDelete, request.time_ns))
    }

    fn delete(&mut self, path: &[u8], request: &TreeRequest) -> Changed {
        self.writable(path)?;
        let is_dir = self.find(path, self.index)?.is_dir();
        if is_dir && !request.dir && !request.recursive {
            return self.refuse(ErrorCode::NotFile, path);
        }
        if is_dir && !request.recursive && self.below(path, self.index).next().is_some() {
            return self.refuse(ErrorCode::DirNotEmpty, path);
        }
        Ok(self.take_out(path, Action::Delete, request.time_ns))
    }

    fn writable(&self, path: &[u8]) -> Result<(), TreeError> {
        match path {
            b"/" | b"/0" | b"/1" => self.refuse(ErrorCode::RootReadOnly, b"/"),
            _ => Ok(()),
        }
    }

    fn compare(&self, path: &[u8], request: &TreeRequest) -> Result<State, TreeError> {
        let state = self.find(path, self.index)?;
        let Some(value) = &state.value else {
            return self.refuse(ErrorCode::NotFile, path);
        };
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let mut causes = Vec::new();
        if !request.prev_value.is_empty() && request.prev_value != value {
            causes.push(format!(
                "[{} != {}]",
                text(&request.prev_value),
                text(value)
            ));
        }
        if request.prev_index != 0 && request.prev_index != state.modified {
            causes.push(format!("[{} != {}]", request.prev_index, state.modified));
        }
        match causes.is_empty() {
            true => Ok(state.clone()),
            false => self.refuse(ErrorCode::TestFailed, causes.join(" ").as_bytes()),
        }
    }

    /// A directory keeps its own modifiedIndex, though the event shows a new one.
    fn rewrite(
        &mut self,
        path: &[u8],
        old: State,
        request: &TreeRequest,
        action: Action,
    ) -> Change {
        let index = self.index + 1;
        let mut new = old.clone();
        if let Some(value) = &mut new.value {
            new.modified = index;
            if !request.refresh {
                value.clone_from(&request.value);
            }
        }
        new.expires_ns = request.expires_ns;
        new.ttl_set = if new.expires_ns == 0 { 0 } else { index };
        let node = show(path, &new, request.time_ns);
        self.put(path, Some(new));
        let node = NodeExtern {
            modified: index,
            ..node
        };
        Change {
            prev: Some(show(path, &old, request.time_ns)),
            refresh: request.refresh,
            ..Change::plain(action, node)
        }
    }

    fn take_out(&mut self, path: &[u8], action: Action, now_ns: i64) -> Change {
        let state = self.now(path).expect("it was found").clone();
        let below = self.below(path, self.index);
        let removed: Vec<Bytes> = below.map(|(path, _)| path.clone()).collect();
        self.put(path, None);
        for path in &removed {
            self.put(path, None);
        }
        let prev = show(path, &state, now_ns);
        let node = NodeExtern {
            key: prev.key.clone(),
            dir: prev.dir,
            modified: self.index + 1,
            created: prev.created,
            ..NodeExtern::default()
        };
        Change {
            prev: Some(prev),
            removed,
            ..Change::plain(action, node)
        }
    }

    fn record(&mut self, change: Change) -> Arc<Event> {
        self.index += 1;
        let event = Arc::new(Event {
            action: change.action,
            node: change.node,
            prev: change.prev,
            index: self.index,
            refresh: change.refresh,
            removed: change.removed,
            encoding: Default::default(),
        });
        self.events.push(Some(Arc::clone(&event)));
        event
    }
}

impl Change {
    fn plain(action: Action, node: NodeExtern) -> Change {
        Change {
            action,
            node,
            prev: None,
            refresh: false,
            removed: Vec::new(),
        }
    }
}
