//! The reference model of the v2 tree, with the product's types for answers.

use std::sync::Arc;

use bytes::Bytes;
use keelson_core::tree::{Action, ErrorCode, Event, NodeExtern, TreeError};
use keelson_model::tree::{self as model, State, code};
use keelson_proto::internal::{TreeExpire, TreeRequest};

pub use keelson_model::tree::HISTORY;

/// All states of the tree.
#[derive(Default)]
pub struct Tree {
    model: model::Tree,
    /// The event of every index, from 1 on.
    events: Vec<Option<Arc<Event>>>,
}

impl Tree {
    /// A tree with the nodes that always exist.
    pub fn new() -> Tree {
        Tree::default()
    }

    /// The model itself.
    pub fn model(&self) -> &model::Tree {
        &self.model
    }

    /// The index of the last change.
    pub fn index(&self) -> u64 {
        self.model.index()
    }

    /// Advances the index by a change that is not visible.
    pub fn touch(&mut self) {
        self.model.touch();
        self.events.push(None);
    }

    /// The event of that index, if it is visible to clients.
    pub fn event(&self, index: u64) -> Option<&Arc<Event>> {
        let at = usize::try_from(index.checked_sub(1)?).ok()?;
        self.events.get(at)?.as_ref()
    }

    /// Carries out a request.
    ///
    /// # Errors
    /// etcd's error.
    pub fn apply(&mut self, request: &TreeRequest) -> Result<Arc<Event>, TreeError> {
        let done = self.model.apply(request).map_err(tree_error)?;
        self.take_events();
        Ok(Arc::clone(self.event(done.index).expect("it is recorded")))
    }

    /// Expires every node whose time has come, as [`model::Tree::expire`].
    pub fn expire(&mut self, request: &TreeExpire) {
        self.model.expire(request);
        self.take_events();
    }

    fn take_events(&mut self) {
        for index in self.events.len() as u64 + 1..=self.model.index() {
            let event = self.model.event(index);
            self.events.push(event.map(|made| Arc::new(event_of(made))));
        }
    }

    /// The answer to a get whose X-Etcd-Index is `index`.
    ///
    /// # Errors
    /// etcd's error.
    pub fn get(
        &self,
        path: &[u8],
        recursive: bool,
        index: u64,
        now_ns: i64,
    ) -> Result<NodeExtern, TreeError> {
        let node = self.model.get(path, recursive, index, now_ns);
        node.map(node_of).map_err(tree_error)
    }

    /// The first event in the history of a member whose tree is at `index`.
    ///
    /// # Errors
    /// The history does not reach back to `since`.
    pub fn scan(
        &self,
        path: &[u8],
        recursive: bool,
        since: u64,
        index: u64,
    ) -> Result<Option<&Arc<Event>>, TreeError> {
        let found = self.model.scan(path, recursive, since, index);
        let found = found.map_err(tree_error)?;
        Ok(found.and_then(|event| self.event(event.index)))
    }

    /// The state of a path after that index.
    pub fn was(&self, path: &[u8], index: u64) -> Option<&State> {
        self.model.was(path, index)
    }
}

/// Whether a watcher of the path is sent the event as it happens.
pub fn notifies(event: &Event, path: &[u8], recursive: bool) -> bool {
    !event.refresh && model::concerns(&event.node.key, &event.removed, path, recursive)
}

fn event_of(event: &model::Event) -> Event {
    let action = match event.action {
        "set" => Action::Set,
        "create" => Action::Create,
        "update" => Action::Update,
        "compareAndSwap" => Action::CompareAndSwap,
        "delete" => Action::Delete,
        "compareAndDelete" => Action::CompareAndDelete,
        "expire" => Action::Expire,
        other => unreachable!("the model makes no event {other}"),
    };
    Event {
        action,
        node: node_of(event.node.clone()),
        prev: event.prev.clone().map(node_of),
        index: event.index,
        refresh: event.refresh,
        removed: event.removed.clone(),
        encoding: Default::default(),
    }
}

fn node_of(node: model::Node) -> NodeExtern {
    let nodes: Vec<NodeExtern> = node.nodes.into_iter().map(node_of).collect();
    NodeExtern {
        key: node.key,
        value: node.value,
        dir: node.dir,
        expires_ns: node.expires_ns,
        ttl: node.ttl,
        nodes: nodes.into(),
        modified: node.modified,
        created: node.created,
    }
}

fn tree_error(error: model::TreeError) -> TreeError {
    let code = match error.code {
        code::KEY_NOT_FOUND => ErrorCode::KeyNotFound,
        code::TEST_FAILED => ErrorCode::TestFailed,
        code::NOT_FILE => ErrorCode::NotFile,
        code::NOT_DIR => ErrorCode::NotDir,
        code::NODE_EXIST => ErrorCode::NodeExist,
        code::ROOT_READ_ONLY => ErrorCode::RootReadOnly,
        code::DIR_NOT_EMPTY => ErrorCode::DirNotEmpty,
        code::EVENT_INDEX_CLEARED => ErrorCode::EventIndexCleared,
        other => unreachable!("the model makes no error {other}"),
    };
    let cause: Bytes = error.cause;
    TreeError {
        code,
        cause,
        index: error.index,
    }
}
