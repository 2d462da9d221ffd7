//! Changes of the model: one function for each of etcd's.

use bytes::Bytes;
use keelson_proto::internal::tree_request::Op;
use keelson_proto::internal::{TreeExpire, TreeRequest};

use super::read::show;
use super::{Event, Node, State, Tree, TreeError, code, prefixes, stem};

/// A change. It is recorded at the next index.
struct Change {
    action: &'static str,
    node: Node,
    prev: Option<Node>,
    refresh: bool,
    removed: Vec<Bytes>,
}

type Changed = Result<Change, TreeError>;

impl Tree {
    /// Carries out a request, and returns its event.
    ///
    /// # Errors
    /// etcd's error. The request changed nothing, not even the index.
    pub fn apply(&mut self, request: &TreeRequest) -> Result<Event, TreeError> {
        let path = &request.path[..];
        let change = match request.op() {
            Op::Set => self.set(path, request),
            Op::Create => self.create(path, request),
            Op::CreateInOrder => {
                let name = format!("{:020}", self.index + 1);
                let path = [&stem(path)[..], name.as_bytes()].concat();
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
            let change = self.take_out(&path, "expire", request.time_ns);
            self.record(change);
        }
    }

    fn set(&mut self, path: &[u8], request: &TreeRequest) -> Changed {
        let now_ns = request.time_ns;
        let before = match self.find(path, self.index) {
            Ok(state) => Some(state.clone()),
            Err(error) if error.code == code::KEY_NOT_FOUND && !request.refresh => None,
            Err(error) => return Err(error),
        };
        let mut value = request.value.clone();
        if let (Some(before), true) = (&before, request.refresh) {
            value = before.value.clone().unwrap_or_default();
        }
        let change = self.internal_create(path, request, value, true, "set")?;
        Ok(Change {
            prev: before.map(|state| show(path, &state, now_ns)),
            refresh: request.refresh,
            ..change
        })
    }

    fn create(&mut self, path: &[u8], request: &TreeRequest) -> Changed {
        let value = request.value.clone();
        self.internal_create(path, request, value, false, "create")
    }

    fn internal_create(
        &mut self,
        path: &[u8],
        request: &TreeRequest,
        value: Bytes,
        replace: bool,
        action: &'static str,
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
                Some(_) => return self.refuse(code::NOT_DIR, dir),
                None => missing.push(dir),
            }
        }
        match self.now(path) {
            Some(_) if !replace => return self.refuse(code::NODE_EXIST, path),
            Some(state) if state.is_dir() => return self.refuse(code::NOT_FILE, path),
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
            return self.refuse(code::NOT_FILE, path);
        }
        Ok(self.rewrite(path, state, request, "update"))
    }

    fn compare_and_swap(&mut self, path: &[u8], request: &TreeRequest) -> Changed {
        self.writable(path)?;
        let state = self.compare(path, request)?;
        Ok(self.rewrite(path, state, request, "compareAndSwap"))
    }

    fn compare_and_delete(&mut self, path: &[u8], request: &TreeRequest) -> Changed {
        self.compare(path, request)?;
        Ok(self.take_out(path, "compareAndDelete", request.time_ns))
    }

    fn delete(&mut self, path: &[u8], request: &TreeRequest) -> Changed {
        self.writable(path)?;
        let is_dir = self.find(path, self.index)?.is_dir();
        if is_dir && !request.dir && !request.recursive {
            return self.refuse(code::NOT_FILE, path);
        }
        if is_dir && !request.recursive && self.below(path, self.index).next().is_some() {
            return self.refuse(code::DIR_NOT_EMPTY, path);
        }
        Ok(self.take_out(path, "delete", request.time_ns))
    }

    fn writable(&self, path: &[u8]) -> Result<(), TreeError> {
        match path {
            b"/" | b"/0" | b"/1" => self.refuse(code::ROOT_READ_ONLY, b"/"),
            _ => Ok(()),
        }
    }

    fn compare(&self, path: &[u8], request: &TreeRequest) -> Result<State, TreeError> {
        let state = self.find(path, self.index)?;
        let Some(value) = &state.value else {
            return self.refuse(code::NOT_FILE, path);
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
            false => self.refuse(code::TEST_FAILED, causes.join(" ").as_bytes()),
        }
    }

    /// A directory keeps its own modifiedIndex, though the event shows a new one.
    fn rewrite(
        &mut self,
        path: &[u8],
        old: State,
        request: &TreeRequest,
        action: &'static str,
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
        let node = Node {
            modified: index,
            ..node
        };
        Change {
            prev: Some(show(path, &old, request.time_ns)),
            refresh: request.refresh,
            ..Change::plain(action, node)
        }
    }

    fn take_out(&mut self, path: &[u8], action: &'static str, now_ns: i64) -> Change {
        let state = self.now(path).expect("it was found").clone();
        let below = self.below(path, self.index);
        let mut removed: Vec<Bytes> = below.map(|(path, _)| path.clone()).collect();
        // Sorted by names: "/a/b" before "/a!", though "!" comes before "/".
        removed.sort_by(|one, two| {
            let names = |path: &Bytes| {
                let names = path.split(|byte| *byte == b'/');
                names.map(Vec::from).collect::<Vec<_>>()
            };
            names(one).cmp(&names(two))
        });
        self.put(path, None);
        for path in &removed {
            self.put(path, None);
        }
        let prev = show(path, &state, now_ns);
        let node = Node {
            key: prev.key.clone(),
            dir: prev.dir,
            modified: self.index + 1,
            created: prev.created,
            ..Node::default()
        };
        Change {
            prev: Some(prev),
            removed,
            ..Change::plain(action, node)
        }
    }

    fn record(&mut self, change: Change) -> Event {
        self.index += 1;
        let event = Event {
            action: change.action,
            node: change.node,
            prev: change.prev,
            index: self.index,
            refresh: change.refresh,
            removed: change.removed,
        };
        self.events.push(Some(event.clone()));
        event
    }
}

impl Change {
    fn plain(action: &'static str, node: Node) -> Change {
        Change {
            action,
            node,
            prev: None,
            refresh: false,
            removed: Vec::new(),
        }
    }
}
