//! A simple and slow model of the v2 tree: a map from whole paths to nodes.

use std::collections::BTreeMap;

use bytes::Bytes;
use keelson_proto::internal::tree_request::Op;
use keelson_proto::internal::{TreeExpire, TreeRequest};

use crate::tree::{Action, ErrorCode, Event, NodeExtern, TreeError};

/// 2000-01-01.
const LONG_AGO: i64 = 946_684_800_000_000_000;

#[derive(Clone)]
struct Item {
    /// None for a directory.
    value: Option<Bytes>,
    created: u64,
    modified: u64,
    /// 0: never.
    expires: i64,
    ttl_set: u64,
}

#[derive(Default)]
pub(super) struct Model {
    items: BTreeMap<String, Item>,
    pub(super) index: u64,
    /// Events by index; `None` for changes invisible to clients.
    events: BTreeMap<u64, Event>,
}

type Done = Result<Event, TreeError>;

impl Model {
    pub(super) fn new() -> Model {
        let mut model = Model::default();
        for path in ["/", "/0", "/1"] {
            model.items.insert(path.to_owned(), dir(0));
        }
        model
    }

    pub(super) fn touch(&mut self) {
        self.index += 1;
    }

    pub(super) fn apply(&mut self, request: &TreeRequest) -> Done {
        let path = String::from_utf8(request.path.to_vec()).unwrap();
        let event = match request.op() {
            Op::Set => self.set(&path, request),
            Op::Create => self.create(&path, request),
            Op::CreateInOrder => {
                let path = format!("{}/{:020}", path.trim_end_matches('/'), self.index + 1);
                self.create(&path, request)
            }
            Op::Update => self.update(&path, request),
            Op::CompareAndSwap => self.swap(&path, request),
            Op::Delete => self.delete(&path, request),
            Op::CompareAndDelete => {
                self.compare(&path, request)?;
                Ok(self.remove(&path, Action::CompareAndDelete, request.time_ns))
            }
        }?;
        Ok(self.keep(event))
    }

    pub(super) fn expire(&mut self, request: &TreeExpire) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let over = |item: &&Item| {
                let ends = item.expires != 0 && item.expires <= request.time_ns;
                ends && request.spared_index < item.ttl_set
            };
            let over = self.items.iter().filter(|(_, item)| over(item));
            let next = over.min_by_key(|(path, item)| (item.expires, path.to_owned()));
            let Some((path, _)) = next else {
                return events;
            };
            let path = path.clone();
            let event = self.remove(&path, Action::Expire, request.time_ns);
            events.push(self.keep(event));
        }
    }

    pub(super) fn next_expiry(&self, spared_index: u64) -> Option<i64> {
        let ends = self.items.values().filter(|item| item.expires != 0);
        let ends = ends.filter(|item| spared_index < item.ttl_set);
        ends.map(|item| item.expires).min()
    }

    pub(super) fn get(
        &self,
        path: &str,
        recursive: bool,
        now: i64,
    ) -> Result<NodeExtern, TreeError> {
        self.check_way(path)?;
        let mut node = self.node(path, now);
        let listed = if node.dir {
            self.children(path)
        } else {
            Vec::new()
        };
        for child in listed {
            let name = child.rsplit('/').next().unwrap();
            if name.starts_with('_') {
                continue;
            }
            match recursive {
                true => node.nodes.push(self.get(&child, true, now)?),
                false => node.nodes.push(self.node(&child, now)),
            }
        }
        Ok(node)
    }

    pub(super) fn scan(
        &self,
        path: &str,
        recursive: bool,
        since: u64,
    ) -> Result<Option<Event>, TreeError> {
        let oldest = match self.index {
            0 => 0,
            index => index.saturating_sub(999).max(1),
        };
        if 0 < since && since < oldest {
            let cause = format!("the requested history has been cleared [{oldest}/{since}]");
            return Err(self.error(ErrorCode::EventIndexCleared, &cause));
        }
        let tells = |event: &&Event| {
            let key = std::str::from_utf8(&event.node.key).unwrap();
            let ended = matches!(event.action, Action::Delete | Action::Expire) && event.node.dir;
            !event.refresh
                && (key == path || recursive && below(key, path) || ended && path.starts_with(key))
        };
        let since = if since == 0 { u64::MAX } else { since };
        let mut events = self.events.range(since..).map(|(_, event)| event);
        Ok(events.find(tells).cloned())
    }

    fn set(&mut self, path: &str, request: &TreeRequest) -> Done {
        let mut value = request.value.clone();
        let mut prev = None;
        match self.check_way(path) {
            Err(error) if error.code != ErrorCode::KeyNotFound || request.refresh => {
                return Err(error);
            }
            Err(_) => {}
            Ok(()) => {
                self.check_root(path)?;
                let old = &self.items[path];
                let Some(old) = &old.value else {
                    return Err(self.error(ErrorCode::NotFile, path));
                };
                if request.refresh {
                    value = old.clone();
                }
                prev = Some(self.node(path, request.time_ns));
            }
        }
        let made = self.make(path, value, Action::Set, request);
        let refresh = request.refresh;
        Ok(Event {
            prev,
            refresh,
            ..made
        })
    }

    fn create(&mut self, path: &str, request: &TreeRequest) -> Done {
        self.check_root(path)?;
        match self.check_way(path) {
            Ok(()) => Err(self.error(ErrorCode::NodeExist, path)),
            Err(error) if error.code != ErrorCode::KeyNotFound => Err(error),
            Err(_) => Ok(self.make(path, request.value.clone(), Action::Create, request)),
        }
    }

    fn update(&mut self, path: &str, request: &TreeRequest) -> Done {
        self.check_root(path)?;
        self.check_way(path)?;
        if self.items[path].value.is_none() && !request.value.is_empty() {
            return Err(self.error(ErrorCode::NotFile, path));
        }
        Ok(self.rewrite(path, Action::Update, request))
    }

    fn swap(&mut self, path: &str, request: &TreeRequest) -> Done {
        self.check_root(path)?;
        self.compare(path, request)?;
        Ok(self.rewrite(path, Action::CompareAndSwap, request))
    }

    fn delete(&mut self, path: &str, request: &TreeRequest) -> Done {
        self.check_root(path)?;
        self.check_way(path)?;
        if self.items[path].value.is_none() {
            if !request.dir && !request.recursive {
                return Err(self.error(ErrorCode::NotFile, path));
            }
            if !request.recursive && !self.children(path).is_empty() {
                return Err(self.error(ErrorCode::DirNotEmpty, path));
            }
        }
        Ok(self.remove(path, Action::Delete, request.time_ns))
    }

    fn compare(&self, path: &str, request: &TreeRequest) -> Result<(), TreeError> {
        self.check_way(path)?;
        let item = &self.items[path];
        let Some(value) = &item.value else {
            return Err(self.error(ErrorCode::NotFile, path));
        };
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let mut causes = Vec::new();
        if !request.prev_value.is_empty() && request.prev_value != value {
            causes.push(format!(
                "[{} != {}]",
                text(&request.prev_value),
                text(value)
            ));
        }
        if request.prev_index != 0 && request.prev_index != item.modified {
            causes.push(format!("[{} != {}]", request.prev_index, item.modified));
        }
        match causes.is_empty() {
            true => Ok(()),
            false => Err(self.error(ErrorCode::TestFailed, &causes.join(" "))),
        }
    }

    fn make(&mut self, path: &str, value: Bytes, action: Action, request: &TreeRequest) -> Event {
        let index = self.index + 1;
        for parent in ways(path) {
            self.items.entry(parent).or_insert(dir(index));
        }
        let expires = match request.expires_ns {
            early if early < LONG_AGO => 0,
            expires => expires,
        };
        let item = Item {
            value: (!request.dir).then_some(value),
            created: index,
            modified: index,
            expires,
            ttl_set: index,
        };
        self.items.insert(path.to_owned(), item);
        self.event(action, self.node(path, request.time_ns))
    }

    fn rewrite(&mut self, path: &str, action: Action, request: &TreeRequest) -> Event {
        let prev = Some(self.node(path, request.time_ns));
        let index = self.index + 1;
        let item = self.items.get_mut(path).unwrap();
        if let Some(value) = &mut item.value {
            item.modified = index;
            if !request.refresh {
                *value = request.value.clone();
            }
        }
        item.expires = request.expires_ns;
        item.ttl_set = index;
        let mut node = self.node(path, request.time_ns);
        node.modified = index;
        Event {
            prev,
            refresh: request.refresh,
            ..self.event(action, node)
        }
    }

    fn remove(&mut self, path: &str, action: Action, now: i64) -> Event {
        let prev = self.node(path, now);
        self.items.remove(path);
        let gone: Vec<String> = self.all_below(path);
        for path in &gone {
            self.items.remove(path);
        }
        let node = NodeExtern {
            key: prev.key.clone(),
            dir: prev.dir,
            created: prev.created,
            modified: self.index + 1,
            ..NodeExtern::default()
        };
        let mut removed: Vec<Bytes> = gone.into_iter().map(Bytes::from).collect();
        // Sorted by names: "/a/b" before "/a!", though "!" comes before "/".
        removed.sort_by(|one, two| {
            let names = |path: &Bytes| {
                path.split(|b| *b == b'/')
                    .map(Vec::from)
                    .collect::<Vec<_>>()
            };
            names(one).cmp(&names(two))
        });
        Event {
            prev: Some(prev),
            removed,
            ..self.event(action, node)
        }
    }

    fn keep(&mut self, event: Event) -> Event {
        self.index += 1;
        self.events.insert(self.index, event.clone());
        event
    }

    fn event(&self, action: Action, node: NodeExtern) -> Event {
        Event {
            action,
            node,
            prev: None,
            index: self.index + 1,
            refresh: false,
            removed: Vec::new(),
            encoding: Default::default(),
        }
    }

    fn check_root(&self, path: &str) -> Result<(), TreeError> {
        match ["/", "/0", "/1"].contains(&path) {
            true => Err(self.error(ErrorCode::RootReadOnly, "/")),
            false => Ok(()),
        }
    }

    /// Checks that a node exists at the path; if not, the error has the path where it ends.
    fn check_way(&self, path: &str) -> Result<(), TreeError> {
        let mut parent = "/".to_owned();
        for part in ways(path).into_iter().chain([path.to_owned()]).skip(1) {
            if self.items[&parent].value.is_some() {
                return Err(self.error(ErrorCode::NotDir, &parent));
            }
            if !self.items.contains_key(&part) {
                return Err(self.error(ErrorCode::KeyNotFound, &part));
            }
            parent = part;
        }
        Ok(())
    }

    fn all_below(&self, path: &str) -> Vec<String> {
        let paths = self.items.keys().filter(|other| below(other, path));
        paths.cloned().collect()
    }

    fn children(&self, path: &str) -> Vec<String> {
        let stem = path.trim_end_matches('/').len();
        let mut children = self.all_below(path);
        children.retain(|child| !child[stem + 1..].contains('/'));
        children
    }

    fn node(&self, path: &str, now: i64) -> NodeExtern {
        let item = &self.items[path];
        let left = item.expires.saturating_sub(now).max(0) as u64;
        NodeExtern {
            key: Bytes::copy_from_slice(path.as_bytes()),
            value: item.value.clone(),
            dir: item.value.is_none(),
            expires_ns: (item.expires != 0).then_some(item.expires),
            ttl: match item.expires {
                0 => 0,
                _ => left.div_ceil(1_000_000_000) as i64,
            },
            modified: item.modified,
            created: item.created,
            ..NodeExtern::default()
        }
    }

    fn error(&self, code: ErrorCode, cause: &str) -> TreeError {
        TreeError {
            code,
            cause: Bytes::copy_from_slice(cause.as_bytes()),
            index: self.index,
        }
    }
}

fn dir(index: u64) -> Item {
    Item {
        value: None,
        created: index,
        modified: index,
        expires: 0,
        ttl_set: 0,
    }
}

/// "/", "/a", "/a/b" for "/a/b/c"; nothing for "/".
fn ways(path: &str) -> Vec<String> {
    let slashes = path.match_indices('/').map(|(at, _)| at);
    let ways = slashes.map(|at| path[..at.max(1)].to_owned());
    ways.filter(|way| way != path).collect()
}

fn below(path: &str, dir: &str) -> bool {
    let rest = path.strip_prefix(dir.trim_end_matches('/'));
    path != "/" && path != dir && rest.is_some_and(|rest| rest.starts_with('/'))
}
