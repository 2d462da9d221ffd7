//! The nodes of the tree: a slab, linked by number, so that any depth is possible.

use std::collections::BTreeMap;
use std::ops::Index;

use bytes::Bytes;

use super::path;

/// A node's number, local to this member: numbers of removed nodes are reused.
pub(super) type Id = u32;

/// "/".
pub(super) const ROOT: Id = 0;
/// The node under which etcd keeps its members.
const MEMBERS: Id = 1;
/// The root of the keys API.
pub(super) const KEYS: Id = 2;
/// These three nodes always exist, and have no rows.
pub(super) const FIXED: Id = 3;

/// A node.
#[derive(Debug)]
pub(super) struct ArenaNode {
    pub(super) parent: Id,
    pub(super) name: Bytes,
    pub(super) content: Content,
    pub(super) created: u64,
    pub(super) modified: u64,
    /// The expiry time in ns since 1970; 0 for none.
    pub(super) expires_ns: i64,
    /// The index at which the expiry was last set.
    pub(super) ttl_set: u64,
}

/// The content of a node.
#[derive(Debug)]
pub(super) enum Content {
    /// A file with its value.
    File(Bytes),
    /// A directory with its children by name.
    Dir(BTreeMap<Bytes, Id>),
}

impl Content {
    pub(super) fn dir() -> Content {
        Content::Dir(BTreeMap::new())
    }
}

impl ArenaNode {
    /// The children, if the node is a directory.
    pub(super) fn children(&self) -> Option<&BTreeMap<Bytes, Id>> {
        match &self.content {
            Content::Dir(children) => Some(children),
            Content::File(_) => None,
        }
    }

    /// The size of a file's value in bytes.
    pub(super) fn value_bytes(&self) -> usize {
        match &self.content {
            Content::Dir(_) => 0,
            Content::File(value) => value.len(),
        }
    }

    /// The approximate size of the node's row, in bytes.
    fn weight(&self) -> u64 {
        const NUMBERS_BYTES: usize = 32;
        (NUMBERS_BYTES + self.name.len() + self.value_bytes()) as u64
    }
}

#[derive(Default)]
struct Slot {
    entry: Option<ArenaNode>,
    /// Whether the number is in `dirty`: the node's row is out of date.
    dirty: bool,
}

/// All nodes.
pub(super) struct Arena {
    slots: Vec<Slot>,
    /// Free numbers, used from the end.
    free: Vec<Id>,
    /// The numbers whose rows are out of date, each once.
    dirty: Vec<Id>,
    /// The approximate size of those rows, in bytes.
    dirty_bytes: u64,
}

impl Arena {
    /// An arena with the fixed nodes.
    pub(super) fn new() -> Arena {
        let mut arena = Arena {
            slots: Vec::new(),
            free: Vec::new(),
            dirty: Vec::new(),
            dirty_bytes: 0,
        };
        let fixed = |name: &'static [u8]| ArenaNode {
            parent: ROOT,
            name: Bytes::from_static(name),
            content: Content::dir(),
            created: 0,
            modified: 0,
            expires_ns: 0,
            ttl_set: 0,
        };
        arena.slots.push(Slot {
            entry: Some(fixed(b"")),
            dirty: false,
        });
        assert_eq!(arena.insert(fixed(b"0")), MEMBERS);
        assert_eq!(arena.insert(fixed(b"1")), KEYS);
        arena
    }

    /// Restores nodes under their numbers, which are below `numbers`. The error describes the
    /// damage.
    pub(super) fn restore(nodes: Vec<(Id, ArenaNode)>, numbers: Id) -> Result<Arena, String> {
        let mut arena = Arena::new();
        let last = nodes.iter().map(|(id, _)| *id).max().unwrap_or_default();
        if !nodes.is_empty() && numbers <= last {
            return Err(format!("node {last} of {numbers}"));
        }
        let slots = FIXED.max(last + 1) as usize;
        arena.slots.resize_with(slots, Slot::default);
        let mut links = Vec::with_capacity(nodes.len());
        for (id, entry) in nodes {
            if arena.get(id).is_some() {
                return Err(format!("node {id} is there twice"));
            }
            links.push((entry.parent, entry.name.clone(), id));
            arena.slots[id as usize].entry = Some(entry);
        }
        for (parent, name, id) in links {
            arena.relink(parent, name, id)?;
        }
        let vacant = |id: &Id| arena.get(*id).is_none();
        let free = (FIXED..slots as Id).rev().filter(vacant).collect();
        arena.free = free;
        match arena.reachable() == arena.len() {
            true => Ok(arena),
            false => Err("some nodes hold each other".to_owned()),
        }
    }

    fn relink(&mut self, parent: Id, name: Bytes, id: Id) -> Result<(), String> {
        let slot = self.slots.get_mut(parent as usize);
        match slot.and_then(|slot| slot.entry.as_mut()) {
            Some(ArenaNode {
                content: Content::Dir(names),
                ..
            }) if !names.contains_key(&name) => {
                names.insert(name, id);
                Ok(())
            }
            _ => Err(format!("node {id} has no place in {parent}")),
        }
    }

    /// The number of nodes that are reachable from the root, without the fixed ones.
    fn reachable(&self) -> usize {
        let (mut met, mut open) = (0, vec![ROOT]);
        while let Some(id) = open.pop() {
            met += usize::from(FIXED <= id);
            let children = self[id].children().into_iter().flatten();
            open.extend(children.map(|(_, id)| *id));
        }
        met
    }

    /// An upper bound of all numbers in use.
    pub(super) fn numbers(&self) -> Id {
        self.slots.len() as Id
    }

    /// The number of nodes, without the fixed ones.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len() - FIXED as usize
    }

    /// The node with this number, if it exists.
    pub(super) fn get(&self, id: Id) -> Option<&ArenaNode> {
        self.slots.get(id as usize)?.entry.as_ref()
    }

    /// Changes a node, and marks its row as out of date.
    pub(super) fn change(&mut self, id: Id, change: impl FnOnce(&mut ArenaNode)) {
        let before = self.dirty_weight(id);
        change(self.entry_mut(id));
        self.mark_dirty(id, before);
    }

    /// The child of a directory with this name.
    pub(super) fn child(&self, dir: Id, name: &[u8]) -> Option<Id> {
        self[dir].children()?.get(name).copied()
    }

    /// Inserts a node under its parent, which must be a directory without a child of that name.
    pub(super) fn insert(&mut self, entry: ArenaNode) -> Id {
        let id = self.free.pop().unwrap_or(self.slots.len() as Id);
        self.link(&entry, id);
        self.place(id, entry);
        self.mark_dirty(id, 0);
        id
    }

    /// Removes a node. The children of a directory must be removed as well.
    pub(super) fn remove(&mut self, id: Id) -> ArenaNode {
        assert!(FIXED <= id, "the fixed nodes stay");
        let before = self.dirty_weight(id);
        let entry = self.slots[id as usize].entry.take();
        let entry = entry.expect("only a node that is there is removed");
        self.mark_dirty(id, before);
        self.free.push(id);
        let parent = self.slots.get_mut(entry.parent as usize);
        // A parent that was removed first has no children any more.
        if let Some(Content::Dir(names)) = parent
            .and_then(|slot| slot.entry.as_mut())
            .map(|parent| &mut parent.content)
        {
            names.remove(&entry.name);
        }
        entry
    }

    /// The whole path of a node.
    pub(super) fn path(&self, id: Id) -> Bytes {
        let climb = |id: &Id| (*id != ROOT).then(|| self[*id].parent);
        let mut way: Vec<Id> = std::iter::successors(Some(id), climb).collect();
        way.pop();
        let mut path = Vec::new();
        for id in way.into_iter().rev() {
            path::push(&mut path, &self[id].name);
        }
        match path.is_empty() {
            true => Bytes::from_static(b"/"),
            false => path.into(),
        }
    }

    /// Every node but the fixed ones, unordered.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Id, &ArenaNode)> {
        let slots = (0..).zip(&self.slots).skip(FIXED as usize);
        slots.filter_map(|(id, slot)| Some((id, slot.entry.as_ref()?)))
    }

    /// The numbers whose rows are out of date, including removed nodes.
    pub(super) fn dirty(&self) -> &[Id] {
        &self.dirty
    }

    /// The approximate size of those rows, in bytes.
    pub(super) fn dirty_bytes(&self) -> u64 {
        self.dirty_bytes
    }

    /// Marks all rows as up to date.
    pub(super) fn cleaned(&mut self) {
        for id in std::mem::take(&mut self.dirty) {
            self.slots[id as usize].dirty = false;
        }
        self.dirty_bytes = 0;
    }

    fn entry_mut(&mut self, id: Id) -> &mut ArenaNode {
        let entry = self.slots[id as usize].entry.as_mut();
        entry.expect("a node that is linked is there")
    }

    fn link(&mut self, entry: &ArenaNode, id: Id) {
        let Content::Dir(names) = &mut self.entry_mut(entry.parent).content else {
            unreachable!("only directories have children");
        };
        let before = names.insert(entry.name.clone(), id);
        assert_eq!(before, None, "a name is used once");
    }

    fn place(&mut self, id: Id, entry: ArenaNode) {
        if id as usize == self.slots.len() {
            self.slots.push(Slot::default());
        }
        let slot = &mut self.slots[id as usize].entry;
        assert!(slot.is_none(), "a number is used once");
        *slot = Some(entry);
    }

    /// The bytes of a node in `dirty_bytes`: 0 if its row is up to date, or to be deleted.
    fn dirty_weight(&self, id: Id) -> u64 {
        let slot = &self.slots[id as usize];
        let entry = slot.entry.as_ref().filter(|_| slot.dirty);
        entry.map_or(0, ArenaNode::weight)
    }

    /// Marks the node's row as out of date; `before` is its share of `dirty_bytes` before the
    /// change.
    fn mark_dirty(&mut self, id: Id, before: u64) {
        if id < FIXED {
            return;
        }
        let slot = &mut self.slots[id as usize];
        let weight = slot.entry.as_ref().map_or(0, ArenaNode::weight);
        self.dirty_bytes = self.dirty_bytes - before + weight;
        if !std::mem::replace(&mut slot.dirty, true) {
            self.dirty.push(id);
        }
    }
}

impl Index<Id> for Arena {
    type Output = ArenaNode;

    fn index(&self, id: Id) -> &ArenaNode {
        self.get(id).expect("a node that is linked is there")
    }
}
