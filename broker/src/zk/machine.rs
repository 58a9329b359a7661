//! The znode machine [core]: ZooKeeper's data tree, sessions and one-shot watches, without I/O.
//!
//! A [`Command`] is the only way the tree changes; applied to the same state with the same time
//! it gives the same result, so that a journal of commands is the state. Invariants:
//!
//! - Z1: a command changes everything it says or nothing; one that changes something takes one
//!   zxid, whatever the number of its operations.
//! - Z2: every node but the root has a parent, and no parent is ephemeral.
//! - Z3: an ephemeral node's owner is an open session, and the session knows the node.
//! - Z4: a sequence number is the count of creations below the parent so far; it never repeats
//!   while the parent lives.
//! - Z5: a watch fires at most once, after the change it tells of.
//!
//! Source: ZooKeeper's `DataTree`, `PrepRequestProcessor`, `PathUtils`, `WatchManager`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

use super::{CreateMode, Error, MultiError, Op, Stat, WatchEvent};
use crate::types::Millis;

/// Names a session; the zxid that opened it, so never used twice.
pub type SessionId = i64;
/// Names a watch until it has fired.
pub type WatchId = u64;

/// What changes the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Opens a session, whose id is the zxid this takes.
    Open,
    /// Ends a session; its ephemerals and watches go with it.
    Close(SessionId),
    /// All operations or none, for a session.
    Write(SessionId, Vec<Op>),
}

/// Result of one operation of a [`Command::Write`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    Check,
    /// The final path.
    Create(String, Stat),
    Set(Stat),
    Delete,
}

/// What a session watches of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WatchKind {
    /// Creation, deletion and data: what `exists` and `get` watch.
    Data,
    /// The names of the children, and the node's deletion.
    Children,
}

/// A watch that fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fired {
    pub watch: WatchId,
    pub event: WatchEvent,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    data: Bytes,
    czxid: i64,
    mzxid: i64,
    ctime: Millis,
    mtime: Millis,
    version: i32,
    /// Creations below this node so far. The `cversion` that clients see counts deletions too.
    creations: i32,
    owner: SessionId,
    children: BTreeSet<String>,
}

impl Node {
    fn stat(&self) -> Stat {
        let children = i32::try_from(self.children.len()).unwrap_or(i32::MAX);
        Stat {
            czxid: self.czxid,
            mzxid: self.mzxid,
            ctime: self.ctime,
            mtime: self.mtime,
            version: self.version,
            cversion: self.creations.wrapping_mul(2).wrapping_sub(children),
            ephemeral_owner: self.owner,
            num_children: children,
        }
    }
}

/// One node as a snapshot holds it, in the order of paths: parents before children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeImage {
    pub path: String,
    pub data: Bytes,
    pub czxid: i64,
    pub mzxid: i64,
    pub ctime: Millis,
    pub mtime: Millis,
    pub version: i32,
    pub creations: i32,
    pub owner: SessionId,
}

/// A change made by an operation of a write, as it is taken back.
enum Undo {
    Create(String),
    Set {
        path: String,
        data: Bytes,
        mzxid: i64,
        mtime: Millis,
        version: i32,
    },
    Delete(String, Node),
}

/// A change that watches may tell of.
enum Change {
    Created(String),
    Deleted(String),
    Data(String),
}

/// The tree, its sessions and their watches.
#[derive(Debug)]
pub struct Machine {
    nodes: BTreeMap<String, Node>,
    zxid: i64,
    /// Ephemerals by open session.
    sessions: BTreeMap<SessionId, BTreeSet<String>>,
    watches: HashMap<(WatchKind, String), Vec<(SessionId, WatchId)>>,
    next_watch: WatchId,
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// A tree of nothing but the root.
    pub fn new() -> Self {
        let root = Node {
            data: Bytes::new(),
            czxid: 0,
            mzxid: 0,
            ctime: 0,
            mtime: 0,
            version: 0,
            creations: 0,
            owner: 0,
            children: BTreeSet::new(),
        };
        Self {
            nodes: BTreeMap::from([("/".to_owned(), root)]),
            zxid: 0,
            sessions: BTreeMap::new(),
            watches: HashMap::new(),
            next_watch: 1,
        }
    }

    /// The last change's number.
    pub fn zxid(&self) -> i64 {
        self.zxid
    }

    /// Open sessions, oldest first.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.sessions.keys().copied()
    }

    pub fn is_open(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    /// Number of nodes, the root included.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Applies a command. Watches that it triggers are pushed on `fired` in ZooKeeper's order.
    pub fn apply(
        &mut self,
        command: &Command,
        now: Millis,
        fired: &mut Vec<Fired>,
    ) -> Result<Vec<Applied>, MultiError> {
        match command {
            Command::Open => {
                self.zxid += 1;
                self.sessions.insert(self.zxid, BTreeSet::new());
                Ok(Vec::new())
            }
            Command::Close(session) => {
                self.close(*session, fired);
                Ok(Vec::new())
            }
            Command::Write(session, ops) => self.write(*session, ops, now, fired),
        }
    }

    pub fn get(&self, path: &str) -> Result<(Bytes, Stat), Error> {
        let node = self.node(path)?;
        Ok((node.data.clone(), node.stat()))
    }

    pub fn exists(&self, path: &str) -> Result<Option<Stat>, Error> {
        validate(path)?;
        Ok(self.nodes.get(path).map(Node::stat))
    }

    /// Names of the children, sorted.
    pub fn children(&self, path: &str) -> Result<Vec<String>, Error> {
        Ok(self.node(path)?.children.iter().cloned().collect())
    }

    /// Watches a path for an open session. Whether the node must exist is the caller's rule.
    pub fn watch(&mut self, session: SessionId, kind: WatchKind, path: &str) -> WatchId {
        let id = self.next_watch;
        self.next_watch += 1;
        self.watches
            .entry((kind, path.to_owned()))
            .or_default()
            .push((session, id));
        id
    }

    /// Forgets a watch that nobody waits for any more.
    pub fn unwatch(&mut self, kind: WatchKind, path: &str, id: WatchId) {
        let key = (kind, path.to_owned());
        if let Some(waiting) = self.watches.get_mut(&key) {
            waiting.retain(|(_, watch)| *watch != id);
            if waiting.is_empty() {
                self.watches.remove(&key);
            }
        }
    }

    /// Every node in the order of paths, for a snapshot. The root comes first.
    pub fn images(&self) -> impl Iterator<Item = NodeImage> {
        self.nodes.iter().map(|(path, node)| NodeImage {
            path: path.clone(),
            data: node.data.clone(),
            czxid: node.czxid,
            mzxid: node.mzxid,
            ctime: node.ctime,
            mtime: node.mtime,
            version: node.version,
            creations: node.creations,
            owner: node.owner,
        })
    }

    /// Rebuilds a machine from a snapshot. `None` when the images break Z2 or Z3.
    pub fn restore(
        zxid: i64,
        sessions: impl IntoIterator<Item = SessionId>,
        images: impl IntoIterator<Item = NodeImage>,
    ) -> Option<Self> {
        let mut machine = Self::new();
        machine.zxid = zxid;
        machine.sessions = sessions
            .into_iter()
            .map(|session| (session, BTreeSet::new()))
            .collect();
        for image in images {
            if image.path != "/" {
                validate(&image.path).ok()?;
                let (parent, name) = split(&image.path);
                let parent = machine.nodes.get_mut(parent)?;
                if parent.owner != 0 {
                    return None;
                }
                parent.children.insert(name.to_owned());
            }
            if image.owner != 0 {
                machine
                    .sessions
                    .get_mut(&image.owner)?
                    .insert(image.path.clone());
            }
            let children = match machine.nodes.remove(&image.path) {
                Some(node) => node.children,
                None => BTreeSet::new(),
            };
            machine.nodes.insert(
                image.path,
                Node {
                    data: image.data,
                    czxid: image.czxid,
                    mzxid: image.mzxid,
                    ctime: image.ctime,
                    mtime: image.mtime,
                    version: image.version,
                    creations: image.creations,
                    owner: image.owner,
                    children,
                },
            );
        }
        Some(machine)
    }

    fn node(&self, path: &str) -> Result<&Node, Error> {
        validate(path)?;
        self.nodes.get(path).ok_or_else(|| no_node(path))
    }

    fn close(&mut self, session: SessionId, fired: &mut Vec<Fired>) {
        let Some(ephemerals) = self.sessions.remove(&session) else {
            return;
        };
        self.zxid += 1;
        // Its own watches first: the session must not hear of the end of its own ephemerals.
        let mut lost = Vec::new();
        self.watches.retain(|_, waiting| {
            waiting.retain(|(owner, watch)| {
                let keep = *owner != session;
                if !keep {
                    lost.push(*watch);
                }
                keep
            });
            !waiting.is_empty()
        });
        lost.sort_unstable();
        fired.extend(lost.into_iter().map(|watch| Fired {
            watch,
            event: WatchEvent::Lost,
        }));
        for path in ephemerals {
            self.unlink(&path);
            self.trigger(Change::Deleted(path), fired);
        }
    }

    fn write(
        &mut self,
        session: SessionId,
        ops: &[Op],
        now: Millis,
        fired: &mut Vec<Fired>,
    ) -> Result<Vec<Applied>, MultiError> {
        if !self.is_open(session) {
            return Err(MultiError {
                index: None,
                error: Error::SessionExpired,
            });
        }
        let zxid = self.zxid + 1;
        let mut results = Vec::with_capacity(ops.len());
        let mut changes = Vec::new();
        let mut undo = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            match self.step(session, op, now, zxid, &mut changes, &mut undo) {
                Ok(applied) => results.push(applied),
                Err(error) => {
                    for undo in undo.into_iter().rev() {
                        self.undo(undo);
                    }
                    return Err(MultiError {
                        index: Some(index),
                        error,
                    });
                }
            }
        }
        if !changes.is_empty() {
            self.zxid = zxid;
            for change in changes {
                self.trigger(change, fired);
            }
        }
        Ok(results)
    }

    fn step(
        &mut self,
        session: SessionId,
        op: &Op,
        now: Millis,
        zxid: i64,
        changes: &mut Vec<Change>,
        undo: &mut Vec<Undo>,
    ) -> Result<Applied, Error> {
        match op {
            Op::Check { path, version } => {
                check_version(path, self.node(path)?, Some(*version))?;
                Ok(Applied::Check)
            }
            Op::Create { path, data, mode } => {
                let (path, stat) = self.create(session, path, data, *mode, now, zxid)?;
                undo.push(Undo::Create(path.clone()));
                changes.push(Change::Created(path.clone()));
                Ok(Applied::Create(path, stat))
            }
            Op::Set {
                path,
                data,
                version,
            } => {
                validate(path)?;
                let node = self.nodes.get_mut(path).ok_or_else(|| no_node(path))?;
                check_version(path, node, *version)?;
                undo.push(Undo::Set {
                    path: path.clone(),
                    data: std::mem::replace(&mut node.data, Bytes::copy_from_slice(data)),
                    mzxid: std::mem::replace(&mut node.mzxid, zxid),
                    mtime: std::mem::replace(&mut node.mtime, now),
                    version: node.version,
                });
                node.version = node.version.wrapping_add(1);
                changes.push(Change::Data(path.clone()));
                Ok(Applied::Set(node.stat()))
            }
            Op::Delete { path, version } => {
                let node = self.node(path)?;
                if path == "/" {
                    return Err(invalid(path));
                }
                check_version(path, node, *version)?;
                if !node.children.is_empty() {
                    return Err(Error::NotEmpty { path: path.clone() });
                }
                let node = self.unlink(path).ok_or_else(|| no_node(path))?;
                undo.push(Undo::Delete(path.clone(), node));
                changes.push(Change::Deleted(path.clone()));
                Ok(Applied::Delete)
            }
        }
    }

    fn create(
        &mut self,
        session: SessionId,
        path: &str,
        data: &Bytes,
        mode: CreateMode,
        now: Millis,
        zxid: i64,
    ) -> Result<(String, Stat), Error> {
        // ZooKeeper validates a sequential path with a digit appended, so that it may end in `/`.
        let sequential = mode == CreateMode::PersistentSequential;
        if sequential {
            validate(&format!("{path}1")).map_err(|_| invalid(path))?;
        } else if path == "/" {
            return Err(invalid(path));
        } else {
            validate(path)?;
        }
        let parent_path = split(path).0.to_owned();
        let parent = self
            .nodes
            .get_mut(&parent_path)
            .ok_or_else(|| no_node(path))?;
        let path = if sequential {
            format!("{path}{:010}", parent.creations)
        } else {
            path.to_owned()
        };
        let name = split(&path).1.to_owned();
        if parent.children.contains(&name) {
            return Err(Error::NodeExists { path });
        }
        if parent.owner != 0 {
            return Err(Error::NoChildrenForEphemerals { path });
        }
        parent.children.insert(name);
        parent.creations = parent.creations.wrapping_add(1);
        let owner = match mode {
            CreateMode::Ephemeral => session,
            CreateMode::Persistent | CreateMode::PersistentSequential => 0,
        };
        let node = Node {
            // A copy: the caller's bytes may be a slice of something large.
            data: Bytes::copy_from_slice(data),
            czxid: zxid,
            mzxid: zxid,
            ctime: now,
            mtime: now,
            version: 0,
            creations: 0,
            owner,
            children: BTreeSet::new(),
        };
        let stat = node.stat();
        self.nodes.insert(path.clone(), node);
        if owner != 0
            && let Some(ephemerals) = self.sessions.get_mut(&owner)
        {
            ephemerals.insert(path.clone());
        }
        Ok((path, stat))
    }

    /// Takes a node out of the tree, its parent and its session.
    fn unlink(&mut self, path: &str) -> Option<Node> {
        let node = self.nodes.remove(path)?;
        let (parent, name) = split(path);
        if let Some(parent) = self.nodes.get_mut(parent) {
            parent.children.remove(name);
        }
        if let Some(ephemerals) = self.sessions.get_mut(&node.owner) {
            ephemerals.remove(path);
        }
        Some(node)
    }

    fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Create(path) => {
                self.unlink(&path);
                if let Some(parent) = self.nodes.get_mut(split(&path).0) {
                    parent.creations = parent.creations.wrapping_sub(1);
                }
            }
            Undo::Set {
                path,
                data,
                mzxid,
                mtime,
                version,
            } => {
                if let Some(node) = self.nodes.get_mut(&path) {
                    node.data = data;
                    node.mzxid = mzxid;
                    node.mtime = mtime;
                    node.version = version;
                }
            }
            Undo::Delete(path, node) => {
                let (parent, name) = split(&path);
                if let Some(parent) = self.nodes.get_mut(parent) {
                    parent.children.insert(name.to_owned());
                }
                if let Some(ephemerals) = self.sessions.get_mut(&node.owner) {
                    ephemerals.insert(path.clone());
                }
                self.nodes.insert(path, node);
            }
        }
    }

    fn trigger(&mut self, change: Change, fired: &mut Vec<Fired>) {
        use WatchEvent::{ChildrenChanged, Created, DataChanged, Deleted};
        match change {
            Change::Created(path) => {
                let parent = split(&path).0.to_owned();
                self.fire(WatchKind::Data, path, Created, fired);
                self.fire(WatchKind::Children, parent, ChildrenChanged, fired);
            }
            Change::Deleted(path) => {
                let parent = split(&path).0.to_owned();
                self.fire(WatchKind::Data, path.clone(), Deleted, fired);
                self.fire(WatchKind::Children, path, Deleted, fired);
                self.fire(WatchKind::Children, parent, ChildrenChanged, fired);
            }
            Change::Data(path) => self.fire(WatchKind::Data, path, DataChanged, fired),
        }
    }

    fn fire(&mut self, kind: WatchKind, path: String, event: WatchEvent, fired: &mut Vec<Fired>) {
        if let Some(waiting) = self.watches.remove(&(kind, path)) {
            fired.extend(waiting.into_iter().map(|(_, watch)| Fired { watch, event }));
        }
    }
}

/// The parent's path and the node's name.
fn split(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((parent, name)) => (parent, name),
        None => ("/", path),
    }
}

fn check_version(path: &str, node: &Node, expected: Option<i32>) -> Result<(), Error> {
    match expected {
        Some(version) if version != -1 && version != node.version => Err(Error::BadVersion {
            path: path.to_owned(),
        }),
        _ => Ok(()),
    }
}

fn no_node(path: &str) -> Error {
    Error::NoNode {
        path: path.to_owned(),
    }
}

fn invalid(path: &str) -> Error {
    Error::InvalidPath {
        path: path.to_owned(),
    }
}

/// ZooKeeper's rules for paths (`PathUtils.validatePath`).
pub fn validate(path: &str) -> Result<(), Error> {
    // Characters above the basic plane are pairs of surrogates to Java, which it refuses too.
    let bad_char = |c| matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..);
    let good = path == "/"
        || (path.strip_prefix('/').is_some_and(|rest| {
            rest.split('/')
                .all(|name| !name.is_empty() && name != "." && name != "..")
        }) && !path.contains(bad_char));
    if good { Ok(()) } else { Err(invalid(path)) }
}

#[cfg(test)]
mod tests;
